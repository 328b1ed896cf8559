//! What was made for HAProxy goes on working: exporters, collectd, Ansible; and HAProxy itself beside pilotfish, before the
//! same cluster, says the same.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use pilotfish::proxy::ClientAddress;
use pilotfish::proxy::tcplog::Line;
use serde_json::Value;

use crate::balancer::{Balancer, authorization};
use crate::child::Beside;
use crate::cluster::{Cluster, NET};
use crate::session::Session;
use crate::wait::{seconds, until, until_true};

/// What is answered to a line on a runtime socket.
pub fn ask(socket: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a runtime socket");
    stream.set_read_timeout(Some(seconds(20))).expect("a timeout");
    stream.write_all(format!("{line}\n").as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and its end");
    answer
}

/// The rows of `show stat` by proxy and server.
pub type Table = BTreeMap<String, HashMap<String, String>>;

pub fn table(socket: &Path) -> Table {
    rows(&ask(socket, "show stat"))
}

pub fn rows(text: &str) -> Table {
    // HAProxy's page puts the length of each piece between.
    let mut lines = text.lines().filter(|line| line.contains(','));
    let names: Vec<&str> = lines.next().expect("a heading").trim_start_matches("# ").split(',').collect();
    let row = |line: &str| {
        let row: HashMap<String, String> = names
            .iter()
            .zip(line.split(','))
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect();
        (format!("{}/{}", row["pxname"], row["svname"]), row)
    };
    lines.map(row).collect()
}

/// Answer of an HTTP server, without its head.
pub fn fetch(address: SocketAddr, path: &str, login: Option<&str>) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(seconds(10)))?;
    let login = login.map(|login| format!("Authorization: {}\r\n", authorization(login))).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{login}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn prometheus_haproxy_exporter_reads_the_csv() {
    let cluster = Cluster::healthy();
    let (balancer, leader) = (Balancer::start(cluster), cluster.leader());
    let listen: SocketAddr = format!("{NET}.5:9101").parse().expect("an address");
    let scraped = format!("--haproxy.scrape-uri=http://{}/;csv", balancer.admin());
    let listens = format!("--web.listen-address={listen}");
    let log = balancer.path("exporter.log");
    let _exporter = Beside::start("prometheus-haproxy-exporter", &[&scraped, &listens], &log);
    let page = until("the exporter has scraped", seconds(20), || match fetch(listen, "/metrics", None) {
        Ok(page) if page.contains("haproxy_up 1") => Ok(page),
        other => Err(other),
    });
    let has = |line: &str| assert!(page.lines().any(|known| known == line), "{line}\n{page}");
    has("haproxy_exporter_csv_parse_failures_total 0");
    has(&format!("haproxy_server_up{{backend=\"primary\",server=\"{leader}\"}} 1"));
    has("haproxy_backend_up{backend=\"primary\"} 1");
    for replica in cluster.others(&[&leader]) {
        has(&format!("haproxy_server_up{{backend=\"primary\",server=\"{replica}\"}} 0"));
        has(&format!("haproxy_server_up{{backend=\"replicas\",server=\"{replica}\"}} 1"));
    }
    assert!(page.contains("haproxy_frontend_current_sessions{frontend=\"replicas\"} 0"), "{page}");
}

#[test]
fn collectds_plugin_reads_the_runtime_socket() {
    let cluster = Cluster::healthy();
    let (balancer, leader) = (Balancer::start(cluster), cluster.leader());
    let session = Session::open(balancer.primary()).expect("a session");
    // collectd writes below no folder whose name begins with a dot, as the balancer's does.
    let values = tempfile::Builder::new().prefix("collectd").tempdir().expect("a folder");
    let (values, log) = (values.path(), balancer.path("collectd.log"));
    let packages = std::fs::read_dir(cluster.in_environment("lib")).expect("the environment");
    let python = packages.flatten().next().expect("a Python").path().join("site-packages");
    let text = format!(
        "Hostname \"e2e\"\nInterval 1\nBaseDir \"{base}\"\nPIDFile \"{base}/collectd.pid\"\n\
         TypesDB \"/usr/share/collectd/types.db\"\n\
         LoadPlugin csv\n<Plugin csv>\n  DataDir \"{values}\"\n</Plugin>\n\
         <LoadPlugin python>\n  Globals true\n</LoadPlugin>\n\
         <Plugin python>\n  ModulePath \"{python}\"\n  Import \"collectd_haproxy\"\n\
         <Module haproxy>\n    Socket \"{socket}\"\n  </Module>\n</Plugin>\n",
        base = balancer.path("").display(),
        values = values.display(),
        python = python.display(),
        socket = balancer.runtime_socket().display(),
    );
    let configuration = balancer.path("collectd.conf");
    std::fs::write(&configuration, text).expect("a configuration");
    let arguments = ["-f", "-C", configuration.to_str().expect("a path")];
    let mut collectd = Beside::start("collectd", &arguments, &log);
    let newest = |row: &str, kind: &str| -> Option<f64> {
        let folder = std::fs::read_dir(values.join("e2e").join(format!("haproxy-{row}"))).ok()?;
        let mut files = folder.flatten().map(|entry| entry.path());
        let file = files
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)))?;
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().last()?.split(',').nth(1)?.parse().ok()
    };
    until("collectd has the session of the leader", seconds(30), || {
        assert!(collectd.runs(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
        let current = newest(&format!("primary.{leader}"), "gauge-current_session_count");
        let up = newest("haproxy", "gauge-max_connections").is_some();
        if current == Some(1.0) && up { Ok(()) } else { Err((current, up)) }
    });
    drop(session);
}

/// Ansible's HAProxy module with these arguments, in a home of its own: whether it succeeded, and what it said.
pub fn ansible(cluster: &Cluster, home: &Path, socket: &Path, arguments: &str) -> (bool, Value) {
    let python = cluster.in_environment("bin/python");
    let output = Command::new("timeout")
        .arg("120")
        .arg(cluster.in_environment("bin/ansible"))
        .args(["localhost", "-c", "local", "-m", "haproxy", "-e"])
        .arg(format!("ansible_python_interpreter={}", python.display()))
        .args(["-a", &format!("socket={} wait=yes wait_interval=1 {arguments}", socket.display())])
        .env("ANSIBLE_LIBRARY", cluster.in_environment("library"))
        .env("ANSIBLE_LOCAL_TEMP", home)
        .env("HOME", home)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("ansible: deploy/setup clients");
    let told = String::from_utf8_lossy(&output.stdout);
    let result = told.find('{').and_then(|start| serde_json::from_str::<Value>(&told[start..]).ok());
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), result.unwrap_or_else(|| Value::String(format!("{told}\n{errors}"))))
}

#[test]
fn ansibles_module_drains_disables_and_enables() {
    let cluster = Cluster::healthy();
    let (balancer, leader) = (Balancer::start(cluster), cluster.leader());
    let replica = cluster.others(&[&leader]).remove(0);
    let status = || table(&balancer.runtime_socket())[&format!("replicas/{replica}")]["status"].clone();
    let session = Session::open(balancer.replicas()).expect("a session");
    let ansible =
        |arguments: &str| ansible(cluster, &balancer.path("ansible"), &balancer.runtime_socket(), arguments);
    for (arguments, expected) in [
        (format!("state=drain host={replica} backend=replicas"), "DRAIN"),
        (format!("state=enabled host={replica} backend=replicas"), "UP"),
        (format!("state=disabled host={replica} backend=replicas shutdown_sessions=yes"), "MAINT"),
        (format!("state=enabled host={replica} backend=replicas health=yes agent=yes"), "UP"),
    ] {
        let (succeeded, told) = ansible(&arguments);
        assert!(succeeded && told["changed"] == true, "{arguments}: {told:#}");
        assert_eq!(told["state_after"][0]["status"], expected, "{arguments}: {told:#}");
        assert_eq!(status(), expected, "{arguments}");
    }
    let log = balancer.log();
    assert!(
        log.contains("an operator set the state of a member") && log.contains("haproxy socket, uid "),
        "{log}"
    );
    let (succeeded, told) = ansible("state=drain host=nobody backend=replicas fail_on_not_found=yes");
    assert!(!succeeded, "{told:#}");
    drop(session);
}

#[test]
fn socat_ends_with_the_answer() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let line = format!(
        "echo 'show info;show stat' | socat -t 20 stdio UNIX-CONNECT:{}",
        balancer.runtime_socket().display()
    );
    let output = Command::new("timeout").args(["30", "sh", "-c", &line]).output().expect("socat");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.starts_with("Name: pilotfish\n") && told.contains("\n# pxname,"),
        "{told}"
    );
}

/// The pools of Patroni's template.
pub fn pools(cluster: &Cluster, host: &str) -> String {
    let mut text = String::new();
    for (name, port, path) in [("primary", 5000, "/primary"), ("replicas", 5001, "/replica")] {
        text += &format!(
            "listen {name}\n  bind {host}:{port}\n  option httpchk HEAD {path}\n  http-check expect status 200\n  \
             default-server inter 500 fall 3 rise 1 on-marked-down shutdown-sessions\n"
        );
        for member in cluster.names() {
            let (address, check) = (cluster.address_of(member), cluster.patroni_of(member).port());
            text += &format!("  server {member} {address} maxconn 100 check port {check}\n");
        }
    }
    text
}

/// HAProxy with Patroni's template, in front of the same cluster.
struct Haproxy {
    socket: PathBuf,
    _process: Beside,
}

fn haproxy(cluster: &Cluster, balancer: &Balancer) -> Haproxy {
    let socket = balancer.path("the-real.sock");
    let mut text = format!(
        "global\n  maxconn 100\n  stats socket {} level admin\ndefaults\n  mode tcp\n  retries 2\n  \
         timeout client 30m\n  timeout connect 4s\n  timeout server 30m\n  timeout check 5s\n",
        socket.display()
    );
    text += &pools(cluster, &format!("{NET}.6"));
    let configuration = balancer.path("haproxy.cfg");
    std::fs::write(&configuration, text).expect("a configuration");
    let arguments = ["-db", "-f", configuration.to_str().expect("a path")];
    let process = Beside::start("/usr/sbin/haproxy", &arguments, &balancer.path("haproxy.log"));
    until_true("HAProxy listens", seconds(10), || UnixStream::connect(&socket).is_ok());
    Haproxy { socket, _process: process }
}

/// What both say of each row: the words that scripts look for.
pub fn words(table: &Table) -> BTreeMap<String, String> {
    const COLUMNS: [&str; 7] = ["status", "check_status", "check_code", "check_desc", "type", "act", "bck"];
    let of = |row: &HashMap<String, String>| {
        COLUMNS.map(|column| if column == "act" && row["type"] == "0" { "" } else { &*row[column] }).join(" ")
    };
    table.iter().map(|(name, row)| (name.clone(), of(row))).collect()
}

#[test]
fn haproxy_itself_says_the_same() {
    let cluster = Cluster::healthy();
    let (balancer, leader) = (Balancer::start(cluster), cluster.leader());
    let haproxy = haproxy(cluster, &balancer);
    let (ours, theirs) = (balancer.runtime_socket(), &*haproxy.socket);
    let both_say_the_same = |when: &str| {
        until(&format!("both say the same {when}"), seconds(20), || {
            let (ours, theirs) = (words(&table(&ours)), words(&table(theirs)));
            if ours == theirs { Ok(()) } else { Err((ours, theirs)) }
        });
    };
    both_say_the_same("of a healthy cluster");
    let heading =
        |socket: &Path| ask(socket, "show stat").lines().next().map(str::to_owned).expect("a heading");
    let theirs_begin = heading(theirs).split(",-,").next().map(|begin| format!("{begin},"));
    assert_eq!(Some(heading(&ours)), theirs_begin, "the columns up to those of HAProxy's modules");
    let replica = cluster.others(&[&leader]).remove(0);
    for state in ["drain", "maint", "ready"] {
        let line = format!("set server replicas/{replica} state {state}");
        // A state is the member's here, so it is set for both pools there.
        assert_eq!(ask(&ours, &line), ask(theirs, &line), "{line}");
        ask(theirs, &format!("set server primary/{replica} state {state}"));
        both_say_the_same(&format!("in state {state}"));
    }
    same_answers(&ours, theirs, &leader);
}

/// Commands that both answer alike, word for word or in their shape.
fn same_answers(ours: &Path, theirs: &Path, leader: &str) {
    for line in [
        "show backend".to_owned(),
        "show cli level".to_owned(),
        "show servers state nope".to_owned(),
        "set server primary".to_owned(),
        "set server nope/x state ready".to_owned(),
        "set server primary/nope state ready".to_owned(),
        format!("set server primary/{leader} state gone"),
        "enable server primary".to_owned(),
        format!("enable agent primary/{leader}"),
        "shutdown session".to_owned(),
        "shutdown session 0x1".to_owned(),
        format!("shutdown sessions server primary/{leader}"),
        "set maxconn frontend nope 5".to_owned(),
        "show env NOPE".to_owned(),
        "show table nope".to_owned(),
        "clear counters".to_owned(),
        "operator;show cli level;disable server primary/x".to_owned(),
        "user;show sess".to_owned(),
    ] {
        assert_eq!(ask(ours, &line), ask(theirs, &line), "{line}");
    }
    let first = |socket, line| ask(socket, line).lines().next().map(str::to_owned);
    for line in ["frobnicate", "show servers", "", "help", "show servers conn"] {
        let (ours, theirs) = (first(ours, line), first(theirs, line));
        // Only the number of threads differs.
        let plain = |line: Option<String>| line.map(|line| line.split('[').next().map(str::to_owned));
        assert_eq!(plain(ours), plain(theirs), "{line:?}");
    }
    let state = |socket| -> Vec<Vec<String>> {
        let text = ask(socket, "show servers state");
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    };
    let (mine, its) = (state(ours), state(theirs));
    assert_eq!(
        (&mine[0], &mine[1], mine.len()),
        (&its[0], &its[1], its.len()),
        "the headings, and a line each"
    );
    // Names, address, states, the check's outcome and the ports: the same words in the same places.
    for (mine, its) in mine[2..].iter().zip(&its[2..]) {
        assert_eq!(mine.len(), its.len());
        for place in [1, 2, 3, 4, 5, 6, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23] {
            assert_eq!(mine[place], its[place], "word {place} of {mine:?} and {its:?}");
        }
    }
    let names = |socket| -> Vec<String> {
        let text = ask(socket, "show info");
        text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_owned()).collect()
    };
    let (mine, mut its) = (names(ours), names(theirs).into_iter());
    assert!(
        mine.iter().all(|name| its.any(|known| known == *name)),
        "ours are some of theirs, in their order: {mine:?}"
    );
}

/// Of lines of `option tcplog` halog knows the date only, HAProxy's own among them; and it must know it of ours.
#[test]
fn halog_reads_our_lines_as_it_reads_haproxys() {
    let line = |port: u16, second: u64, cause| Line {
        client: ClientAddress::of(SocketAddr::from(([10, 0, 0, 1], port))),
        accepted_at: UNIX_EPOCH + Duration::from_secs(1_795_745_700 + second),
        pool: "primary",
        member: Some("a"),
        waited_ms: Some(1),
        dialled_ms: Some(0),
        total_ms: 12,
        bytes_out: 1,
        termination: ['-', '-'],
        open: [1, 1, 0, 0],
        retries: 0,
        queue_place: 0,
        cause,
    };
    let lines = [line(43050, 0, None), line(43096, 2, Some("operator")), line(43864, 7, None)];
    let logged: String =
        lines.iter().map(|line| format!("Nov 27 02:41:48 localhost pilotfish[77]: {line}\n")).collect();
    let mut halog = Command::new("halog")
        .args(["-ac", "1", "-ad", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("halog comes with haproxy");
    halog.stdin.take().expect("a pipe").write_all(logged.as_bytes()).expect("it reads");
    let said = halog.wait_with_output().expect("an end");
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(told.contains("3 lines in") && told.contains(" 0 parsing errors"), "{told}");
    // The gaps before the second and the third, in ms.
    let gaps = String::from_utf8_lossy(&said.stdout);
    let gaps: Vec<&str> = gaps.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(gaps, ["2000", "5000"], "{said:?}");
}
