//! Real proxies before and behind pilotfish: HAProxy says by the PROXY protocol who the client is, and is told so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use crate::balancer::{Balancer, Wishes};
use crate::cancel::{Sleeper, sleeping};
use crate::child::Beside;
use crate::cluster::{Cluster, NET};
use crate::haproxy::table;
use crate::program::Program;
use crate::session::Session;
use crate::wait::{seconds, until, until_true};

/// May come in, as may 127.0.0.1, which psql has.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
/// May not.
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78));

/// Of HAProxy before pilotfish: the doors that say who the client is.
const DOORS: [u16; 4] = [5010, 5011, 5012, 5013];
/// One that forgets to.
const FORGETFUL: u16 = 5014;
/// Those at an address that is not trusted, which may be a client itself.
const STRANGERS: [u16; 2] = [5015, 5016];
const READERS: u16 = 5017;
/// Of HAProxy on each member.
const BEHIND: u16 = 6543;

const PRIMARY: &str = "{listen: [\
    {address: 'HOST:5000', accept_proxy: [127.0.40.6], allow: [127.0.0.77, 127.0.0.1, 127.0.40.7]}, \
    {address: 'unix:DIR/.s.PGSQL.5000', accept_proxy: [unix], allow: [127.0.0.77, 127.0.0.1]}]}";
const REPLICAS: &str = "{listen: [{address: 'HOST:5001', accept_proxy: [127.0.40.6]}], port: 6543, send_proxy: v2, fallback: none}";
const _: () = assert!(NET.len() == "127.0.40".len());

const BEGIN: &str = "  log stdout format raw local0\ndefaults\n  mode tcp\n  log global\n  option tcplog\n  \
    option dontlognull\n  timeout client 30m\n  timeout connect 4s\n  timeout server 30m\n";

struct Haproxy {
    log: PathBuf,
    _process: Beside,
}

impl Haproxy {
    fn start(balancer: &Balancer, name: &str, text: &str) -> Haproxy {
        let [file, log] = ["cfg", "log"].map(|ending| balancer.path(&format!("{name}.{ending}")));
        std::fs::write(&file, text).expect("a configuration");
        let process =
            Beside::start("/usr/sbin/haproxy", &["-db", "-f", file.to_str().expect("a path")], &log);
        Haproxy { log, _process: process }
    }

    /// Before pilotfish, with checks of it.
    fn before(balancer: &Balancer) -> Haproxy {
        let socket = balancer.path("front.sock");
        let (tcp, unix) = (balancer.primary(), balancer.path(".s.PGSQL.5000"));
        let (trusted, stranger) = (format!("source {NET}.6"), format!("source {NET}.7"));
        let mut text = format!("global\n  stats socket {} level admin\n{BEGIN}", socket.display());
        let unix = format!("unix@{}", unix.display());
        for (port, server) in [
            (DOORS[0], format!("{tcp} {trusted} send-proxy check inter 100")),
            (DOORS[1], format!("{tcp} {trusted} send-proxy-v2 check inter 100")),
            (DOORS[2], format!("{unix} send-proxy check inter 100")),
            (DOORS[3], format!("{unix} send-proxy-v2 check inter 100")),
            (FORGETFUL, format!("{tcp} {trusted} check inter 100")),
            (STRANGERS[0], format!("{tcp} {stranger} send-proxy")),
            (STRANGERS[1], format!("{tcp} {stranger} send-proxy-v2")),
            (READERS, format!("{} {trusted} send-proxy-v2", balancer.replicas())),
        ] {
            text += &format!("listen p{port}\n  bind {NET}.6:{port}\n  server pilotfish {server}\n");
        }
        let haproxy = Haproxy::start(balancer, "front", &text);
        until_true("HAProxy has checked pilotfish", seconds(20), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
                && table(&socket).values().filter(|row| row["check_status"] == "L4OK").count()
                    == DOORS.len() + 1
        });
        haproxy
    }

    /// On each member, before its PostgreSQL.
    fn behind(cluster: &Cluster, balancer: &Balancer) -> Haproxy {
        let mut text = format!("global\n{BEGIN}");
        for member in cluster.names() {
            let postgresql = cluster.address_of(member);
            text += &format!(
                "listen {member}\n  bind {}:{BEHIND} accept-proxy\n  server postgresql {postgresql}\n",
                postgresql.ip()
            );
        }
        Haproxy::start(balancer, "behind", &text)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }
}

fn door(port: u16) -> SocketAddr {
    format!("{NET}.6:{port}").parse().expect("an address")
}

/// Addresses of the clients whose sessions ended so, from the log and sorted. `relaying` stands for every end of a session
/// that was on a member.
fn ended(balancer: &Balancer, cause: &str) -> Vec<String> {
    let log = balancer.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ends = lines.filter(|line| {
        let is_it = line["cause"] == cause || line["phase"] == cause;
        line["message"] == "session ended" && line["level"] != "DEBUG" && is_it
    });
    let mut clients: Vec<String> = ends.map(|end| address(&end["client"])).collect();
    clients.sort();
    clients
}

/// Without its port.
fn address(client: &Value) -> String {
    let client = client.as_str().unwrap_or_default();
    client.rsplit_once(':').map_or(client, |(address, _)| address).to_owned()
}

#[test]
fn the_client_before_haproxy_is_the_one_that_is_shown_and_allowed() {
    let cluster = Cluster::healthy();
    let leader = cluster.leader();
    let wishes = Wishes { primary: Some(PRIMARY), ..Wishes::default() };
    let balancer = Balancer::with(cluster, wishes);
    let _haproxy = Haproxy::before(&balancer);
    for (number, port) in DOORS.into_iter().enumerate() {
        let at = door(port);
        let session = Session::open_from(CLIENT, at).expect("a session");
        assert_eq!(session.server(), cluster.address_of(&leader).ip().to_string(), "at {at}");
        let shown: Vec<String> =
            balancer.sessions("primary").iter().map(|session| address(&session["client"])).collect();
        assert_eq!(shown, ["127.0.0.77"], "at {at}");
        Session::open_from(OTHER, at).expect_err("not allowed");
        session.close();
        for mode in ["disable", "require"] {
            assert_eq!(
                Program::psql(cluster, at, mode).arguments(["-c", "SELECT 7"]).succeeds(),
                "7",
                "at {at}"
            );
        }
        let sleeper = Sleeper::start(cluster, at, "disable", number);
        let on = [leader.clone()];
        until_true("it sleeps", seconds(20), || sleeping(cluster, &on).len() == 1);
        let said = sleeper.interrupt();
        assert!(said.contains("ERROR:  canceling statement due to user request"), "at {at}: {said}");
        until_true("the session is over", seconds(10), || balancer.sessions("primary").is_empty());
    }
    // A trusted proxy has to say who the client is, and nobody else may.
    for port in [FORGETFUL].into_iter().chain(STRANGERS) {
        Program::psql(cluster, door(port), "disable").arguments(["-c", "SELECT 7"]).fails();
    }
    const ENDS: [&str; 5] = ["relaying", "cancel", "client_denied", "proxy_header", "client_garbage"];
    let all = until("every end is in the log", seconds(10), || {
        let all = ENDS.map(|cause| ended(&balancer, cause));
        if all.iter().map(Vec::len).sum::<usize>() >= DOORS.len() * 6 + 3 { Ok(all) } else { Err(all) }
    });
    let [served, cancelled, denied, forgotten, refused] = all;
    // At each door psql twice and once asleep, and the client with an address of its own.
    assert_eq!(served, [&["127.0.0.1"; 3 * DOORS.len()][..], &["127.0.0.77"; DOORS.len()]].concat());
    assert_eq!(cancelled, ["127.0.0.1"; DOORS.len()]);
    // HAProxy's own checks are none of them.
    assert_eq!(denied, ["127.0.0.78"; DOORS.len()]);
    assert_eq!(forgotten, [format!("{NET}.6")]);
    assert_eq!(refused, [format!("{NET}.7"), format!("{NET}.7")]);
    let why = "a PROXY protocol header from an address that is not in accept_proxy";
    assert_eq!(balancer.log().matches(why).count(), STRANGERS.len());
}

#[test]
fn haproxy_on_each_member_is_told_who_the_client_is() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(
        cluster,
        Wishes { primary: Some(PRIMARY), replicas: Some(REPLICAS), ..Wishes::default() },
    );
    balancer.wait_routes("replicas", &[]);
    let behind = Haproxy::behind(cluster, &balancer);
    let replicas = cluster.others(&[&cluster.leader()]);
    balancer.wait_routes("replicas", &[&replicas[0], &replicas[1]]);
    let _before = Haproxy::before(&balancer);
    let mut expected = Vec::new();
    // Straight to pilotfish, and by way of one more proxy.
    for (client, at) in [(CLIENT, balancer.replicas()), (OTHER, door(READERS))] {
        let session = Session::open_from(client, at).expect("a session");
        let on = cluster.member_at(&session.server()).to_owned();
        assert!(replicas.contains(&on), "{on}");
        session.close();
        expected.push((format!("{client}:"), format!("] {on} {on}/postgresql ")));
        assert_eq!(Program::psql(cluster, at, "require").arguments(["-c", "SELECT 7"]).succeeds(), "7");
        let sleeper = Sleeper::start(cluster, at, "require", usize::from(at.port()));
        until_true("it sleeps", seconds(20), || sleeping(cluster, &replicas).len() == 1);
        let said = sleeper.interrupt();
        assert!(said.contains("ERROR:  canceling statement due to user request"), "at {at}: {said}");
    }
    until("HAProxy's log has both clients", seconds(10), || {
        let log = behind.log();
        let has = |(client, on): &(String, String)| {
            log.lines().any(|line| line.starts_with(client.as_str()) && line.contains(on.as_str()))
        };
        if expected.iter().all(has) { Ok(()) } else { Err(log) }
    });
    // With `option dontlognull`, what pilotfish asks the port each second leaves no line there.
    let log = behind.log();
    assert!(!log.contains("PROXY protocol"), "{log}");
}
