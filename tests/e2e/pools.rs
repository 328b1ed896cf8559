//! Several pools of readers on the real cluster: a node that is kept for reports, a pgbouncer that dies and comes back, and
//! a queue in front of one that has room for few.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::balancer::{Balancer, Wishes};
use crate::cluster::Cluster;
use crate::session::Session;
use crate::tags::Tags;
use crate::wait::{seconds, until_true};

const PGBOUNCER_PORT: u16 = 6432;
const POOLS: &str = "[{listen: 'HOST:5001'}, \
    {name: reporting, listen: 'HOST:5002', require: {tags: {reporting: true}}, max_lag: 4MiB, fallback: none}, \
    {name: pooled, listen: 'HOST:5003', port: 6432, fallback: none, max_sessions_per_member: 2}]";

#[test]
fn reports_go_to_their_node_and_a_pooler_has_a_port_a_check_and_a_queue() {
    let cluster = Cluster::healthy();
    let leader = cluster.leader();
    let [pooled, reporting] = &cluster.others(&[&leader])[..] else { panic!("two replicas") };
    let _tags = Tags::set(cluster, reporting, json!({"reporting": true}));
    let balancer = Balancer::with(cluster, Wishes { replicas: Some(POOLS), ..Wishes::default() });
    let routes = |pool: &str, to: &[&str]| balancer.wait_routes(pool, to);
    let host = |name: &str| cluster.address_of(name).ip().to_string();

    routes("reporting", &[reporting]);
    routes("pooled", &[]);
    for _ in 0..3 {
        assert_eq!(Session::open(balancer.at(5002)).expect("a report").server(), host(reporting));
    }
    falls_behind(cluster, &leader, reporting, || {
        routes("reporting", &[]);
        assert!(balancer.readers().contains(reporting), "the pool without a limit has it still");
    });
    routes("reporting", &[reporting]);

    let mut bouncer = Bouncer::start(cluster.address_of(pooled));
    routes("pooled", &[pooled]);
    let at = balancer.at(5003);
    let [first, second] = [(); 2].map(|()| Session::open(at).expect("a session by pgbouncer"));
    assert_eq!([first.server(), second.server()], [host(pooled), host(pooled)]);
    let third = std::thread::spawn(move || Session::open(at).map(|session| session.server()));
    let queued = || balancer.pool("pooled")["queued"].as_u64();
    until_true("the third waits for room", seconds(10), || queued() == Some(1));
    first.close();
    assert_eq!(third.join().expect("no panic"), Ok(host(pooled)));
    assert_eq!(queued(), Some(0));
    drop(second);

    bouncer.kill();
    routes("pooled", &[]);
    let members = balancer.pool("pooled")["members"].clone();
    let dead = members.as_array().into_iter().flatten().find(|member| member["name"] == **pooled);
    assert_eq!(dead.expect("the node")["unfit"], "port", "{members}");
    assert!(balancer.routable("replicas").contains(pooled), "its node serves the other pools");
    let _bouncer = Bouncer::start(cluster.address_of(pooled));
    routes("pooled", &[pooled]);
    assert_eq!(Session::open(at).expect("a session").server(), host(pooled));
}

const POOLERS: &str = "[{listen: 'HOST:5001', fallback: none}, \
    {name: pooled, listen: 'HOST:5003', port: 6432, fallback: none}]";

#[test]
fn dead_poolers_take_their_nodes_out_of_their_pools_only_and_clients_wait_for_the_first_that_comes_back() {
    let cluster = Cluster::healthy();
    let leader = cluster.leader();
    let replicas = cluster.others(&[&leader]);
    let [one, other] = &replicas[..] else { panic!("two replicas") };
    let (primary, replicas) = (Some("{listen: 'HOST:5000', port: 6432}"), Some(POOLERS));
    let balancer = Balancer::with(cluster, Wishes { primary, replicas, ..Wishes::default() });
    let host = |name: &str| cluster.address_of(name).ip().to_string();
    let start = |name: &str| Bouncer::start(cluster.address_of(name));
    let [mut of_leader, mut of_one, mut of_other] = [start(&leader), start(one), start(other)];
    balancer.wait_routes("primary", &[&leader]);
    balancer.wait_routes("pooled", &[one, other]);
    let held = |pool: &str| {
        let at = if pool == "primary" { balancer.primary() } else { balancer.at(5003) };
        let session = std::thread::spawn(move || Session::open(at).map(|session| session.server()));
        until_true("the client waits", seconds(10), || balancer.pool(pool)["held"] == 1);
        session
    };

    of_leader.kill();
    balancer.wait_routes("primary", &[]);
    let writer = held("primary");
    assert_eq!((balancer.condition(), balancer.writer()), ("ok".to_owned(), Some(leader.clone())));
    balancer.wait_routes("pooled", &[one, other]);
    of_one.kill();
    balancer.wait_routes("pooled", &[other]);
    for _ in 0..3 {
        assert_eq!(Session::open(balancer.at(5003)).expect("a session").server(), host(other));
    }
    of_other.kill();
    balancer.wait_routes("pooled", &[]);
    balancer.wait_routes("replicas", &[one, other]);
    assert_ne!(Session::open(balancer.replicas()).expect("past the poolers").server(), host(&leader));
    let reader = held("pooled");

    let _back = [start(&leader), start(one)];
    assert_eq!(writer.join().expect("no panic"), Ok(host(&leader)));
    assert_eq!(reader.join().expect("no panic"), Ok(host(one)));
}

/// A transaction on the replica stands in the way of a DROP that it has to replay: WAL piles up behind that.
fn falls_behind(cluster: &Cluster, leader: &str, replica: &String, meanwhile: impl FnOnce()) {
    let on_leader = cluster.session_on(leader);
    on_leader.value("CREATE TABLE IF NOT EXISTS piling (t text)");
    cluster.wait_replicated(leader, std::slice::from_ref(replica));
    let in_the_way = cluster.session_on(replica);
    in_the_way.rows("BEGIN; SELECT count(*) FROM piling").expect("a transaction on the replica");
    on_leader.value("DROP TABLE piling");
    on_leader.value("CREATE TABLE piling AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 9000) i");
    meanwhile();
    in_the_way.value("ROLLBACK");
    on_leader.value("DROP TABLE piling");
}

/// A pgbouncer beside one server.
struct Bouncer {
    child: Child,
    _directory: TempDir,
}

impl Bouncer {
    fn start(server: SocketAddr) -> Bouncer {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("a directory that pgbouncer may read");
        std::fs::write(path("users"), "\"app\" \"\"\n").expect("its users");
        let (host, port) = (server.ip(), server.port());
        let users = path("users");
        let configuration = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = {host}\n\
             listen_port = {PGBOUNCER_PORT}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = session\n",
            users.display()
        );
        std::fs::write(path("pgbouncer.ini"), configuration).expect("its configuration");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if rustix::process::geteuid().is_root() {
            // It does not run as root.
            command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
        }
        let child = command
            .args(["env", "PATH=/usr/sbin:/usr/bin:/bin", "pgbouncer", "--quiet"])
            .arg(path("pgbouncer.ini"))
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv, of util-linux");
        let mut bouncer = Bouncer { child, _directory: directory };
        until_true("pgbouncer listens", seconds(10), || {
            assert_eq!(bouncer.child.try_wait().expect("our child"), None, "pgbouncer has ended");
            TcpStream::connect(SocketAddr::new(host, PGBOUNCER_PORT)).is_ok()
        });
        bouncer
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.kill();
    }
}
