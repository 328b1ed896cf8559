//! The runtime socket: HAProxy's commands and its kind of answers, within what its level allows.

use std::path::{Path, PathBuf};

use pilotfish::admin::haproxy::runtime::MAX_CONNECTIONS;
use pilotfish::config::{Config, RuntimeSocket, SocketLevel};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::exposition::Exposition;
use super::Table;
use crate::control::cluster::FakeCluster;
use crate::control::http::get;
use crate::control::postgres::Client;
use crate::control::served::{Served, config};
use crate::control::within;

struct Desk {
    served: Served,
    path: PathBuf,
    _folder: TempDir,
}

impl Desk {
    async fn open(cluster: &FakeCluster, level: SocketLevel) -> Desk {
        Desk::with(cluster, level, |_| {}).await
    }

    async fn with(cluster: &FakeCluster, level: SocketLevel, change: impl FnOnce(&mut Config)) -> Desk {
        let mut config = config(&[cluster]);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("haproxy.sock");
        config.admin.haproxy_socket = Some(RuntimeSocket { path: path.clone(), level, mode: Some(0o600) });
        change(&mut config);
        let served = Served::start(config);
        let all = cluster.nodes.len() - 1;
        let ready = |s: &Value| {
            let cluster = &s["clusters"][0];
            cluster["condition"] == "ok" && cluster["readers"].as_array().is_some_and(|r| r.len() == all)
        };
        served.until("a writer and readers", ready).await;
        Desk { served, path, _folder: folder }
    }

    async fn ask(&self, line: &str) -> String {
        ask(&self.path, format!("{line}\n").as_bytes()).await
    }

    async fn table(&self) -> Table {
        Table::parse(&self.ask("show stat").await)
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Table) -> bool) {
        let wait = async {
            while !wanted(&self.table().await) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        within(what, wait).await;
    }
}

async fn connect(path: &Path) -> UnixStream {
    UnixStream::connect(path).await.expect("a socket")
}

/// What is answered until the other side hangs up.
async fn ask(path: &Path, sent: &[u8]) -> String {
    let mut stream = connect(path).await;
    let answer = async {
        let _ = stream.write_all(sent).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    };
    within("an answer and its end", answer).await
}

/// What is answered up to the prompt.
async fn prompted(stream: &mut UnixStream, line: &str) -> String {
    let answer = async {
        stream.write_all(line.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        while !answer.ends_with("> ") {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.expect("an answer");
            assert_ne!(count, 0, "hung up after {answer:?}");
            answer.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
        }
        answer
    };
    within("a prompt", answer).await
}

#[tokio::test]
async fn whoever_looks_is_answered_as_by_haproxy() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let desk = Desk::open(&cluster, SocketLevel::User).await;
    let info = desk.ask("show info").await;
    assert!(info.starts_with("Name: pilotfish\nVersion: 2.6.0-pilotfish-"), "{info}");
    assert!(info.contains("\nMaxconn: 200\n") && info.ends_with("\n\n"), "{info}");
    assert!(desk.ask("show info typed").await.contains("\n8.Uptime_sec.1:MDP:u32:"));
    let figures: Value = serde_json::from_str(&desk.ask("show info json").await).expect("JSON");
    assert_eq!(figures[0]["value"], json!({"type": "str", "value": "pilotfish"}));
    assert_eq!(desk.ask("show backend").await, "# name\nprimary\nreplicas\n\n");
    let whole = desk.table().await;
    assert_eq!(whole.words("primary", "a", "status iid sid"), "UP 2 1");
    for (line, rows) in [
        ("show stat 2 4 -1", 3),
        ("show stat replicas 2 -1", 1),
        ("show stat -1 1 -1", 2),
        ("show stat 3 4 2", 1),
        ("show stat up", 7),
        // Fewer than three words ask for nothing in particular, as there.
        ("show stat nope", 10),
        ("show stat 2 4", 10),
        ("show stat 99 7 -1", 0),
        ("show stat primary y -1", 0),
    ] {
        assert_eq!(Table::parse(&desk.ask(line).await).0.len(), rows, "{line}");
    }
    assert!(desk.ask("show stat typed").await.contains("\nS.3.2.17.status.1:SGP:str:UP\n"));
    let state = desk.ask("show servers state primary").await;
    let lines: Vec<&str> = state.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, "1"), "{state}");
    let (names, first) = (lines[1].split(' ').count() - 1, lines[2].split(' ').count());
    assert_eq!(names, first, "{state}");
    assert!(lines[2].starts_with("2 primary 1 a 127."), "{state}");
    assert_eq!(desk.ask("show servers state nope").await, "Can't find backend.\n\n");
    let conn = desk.ask("show servers conn").await;
    assert!(conn.contains("\nreplicas/b 3/2 127."), "{conn}");
    let unknown = desk.ask("frobnicate").await;
    assert!(unknown.starts_with("Unknown command, but maybe one of the following ones is a better match:\n"));
    let (_reader, _) = Client::enter(desk.served.pool("replicas")).await;
    assert_eq!(desk.ask("show sess").await, "Permission denied\n\n");
    assert_eq!(desk.ask("set server primary/a state maint").await, "Permission denied\n\n");
    assert_eq!(desk.ask("operator").await, "Permission denied\n\n");
    let weights = desk.ask("get weight replicas/b; get weight x/y").await;
    assert_eq!(weights, "100 (initial 100)\n\nNo such backend.\n\n");
}

#[tokio::test]
async fn lines_semicolons_and_prompts_are_as_haproxys() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let desk = Desk::open(&cluster, SocketLevel::Admin).await;
    let version = desk.ask("show version").await;
    assert_eq!(desk.ask("show version;show cli level").await, format!("{version}admin\n\n"));
    assert_eq!(desk.ask("show version;quit;show version").await, version);
    assert_eq!(ask(&desk.path, b"show version\nshow version\n").await, [&*version, &version].concat());
    let mut stream = connect(&desk.path).await;
    assert_eq!(prompted(&mut stream, "prompt\n").await, "\n> ");
    assert_eq!(prompted(&mut stream, "show version\n").await, format!("{version}> "));
    assert_eq!(prompted(&mut stream, "operator\n").await, "\n> ");
    assert_eq!(prompted(&mut stream, "show cli level\n").await, "operator\n\n> ");
    assert_eq!(prompted(&mut stream, "disable server replicas/b\n").await, "Permission denied\n\n> ");
    assert!(prompted(&mut stream, "\n").await.starts_with("Unknown command. Please enter one of"));
    stream.write_all(b"quit\n").await.expect("it listens");
    let mut rest = Vec::new();
    within("the end", stream.read_to_end(&mut rest)).await.expect("an end");
    assert_eq!(rest, b"");
    let line = |bytes: usize| format!("show version {}\n", "x".repeat(bytes - "show version \n".len()));
    let limit = 16 * 1024 - 1;
    assert_eq!(ask(&desk.path, line(limit).as_bytes()).await, version, "the longest that HAProxy takes");
    for long in [line(limit + 1), line(20_000), line(32_000), "x".repeat(40_000)] {
        let answer = ask(&desk.path, long.as_bytes()).await;
        assert!(answer.is_empty() || answer == "The command is too long.\n\n", "{answer}");
    }
    assert_eq!(desk.ask(&vec!["show version"; 1000].join(";")).await, version.repeat(1000));
    // A client that says nothing keeps nobody out.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(connect(&desk.path).await);
    }
    assert_eq!(desk.ask("show version").await, version);
}

#[tokio::test]
async fn states_are_set_for_the_member_and_the_writer_is_not_hit_by_the_way() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let desk = Desk::open(&cluster, SocketLevel::Admin).await;
    assert_eq!(desk.ask("set server replicas/b state drain").await, "\n");
    desk.until("b drained", |rows| rows.get("replicas", "b", "status") == "DRAIN").await;
    let rows = desk.table().await;
    assert_eq!(rows.words("replicas", "b", "check_status check_code"), "L7OK 200");
    assert_eq!(rows.words("primary", "b", "status check_status"), "DOWN L7STS");
    assert_eq!(rows.words("replicas", "BACKEND", "status act"), "UP 1");
    assert!(desk.ask("show servers state replicas").await.contains(" b 127."));
    assert_eq!(desk.ask("disable server replicas/b").await, "\n");
    desk.until("b in maintenance", |rows| rows.words("replicas", "b", "status check_status") == "MAINT ")
        .await;
    let no_maint = Table::parse(&desk.ask("show stat no-maint").await);
    assert!(no_maint.0.values().all(|row| row["status"] != "MAINT"));
    assert_eq!(desk.ask("enable server replicas/b").await, "\n");
    desk.until("b back", |rows| rows.get("replicas", "b", "status") == "UP").await;
    let refused = desk.ask("set server replicas/a state maint").await;
    assert!(refused.starts_with("a is the writer and does not serve replicas;"), "{refused}");
    assert_eq!(desk.table().await.get("primary", "a", "status"), "UP");
    let told = desk.ask("set server primary/a state drain").await;
    assert!(told.contains("new writers wait"), "{told}");
    desk.until("no writer", |rows| rows.words("primary", "BACKEND", "status act") == "DOWN 0").await;
    assert_eq!(desk.table().await.get("primary", "a", "status"), "DRAIN");
    assert_eq!(desk.ask("set server primary/a state ready").await, "\n");
    desk.until("the writer back", |rows| rows.get("primary", "a", "status") == "UP").await;
    for (line, answer) in [
        ("set server primary/a state gone", "'set server <srv> state' expects 'ready', 'drain' and 'maint'."),
        ("set server primary state ready", "Require 'backend/server'."),
        ("set server nope/a state ready", "No such backend."),
        ("enable server primary/nope", "No such server."),
        ("set server primary/a weight 300", "Absolute weight can only be between 0 and 256 inclusive."),
        ("set maxconn server primary/a", "Require <maxconn>."),
        ("set maxconn frontend nope 5", "No such frontend."),
        ("set maxconn server primary/a 99999999999", "maxconn is 10000000 at most, or 0 for none."),
        ("set maxconn frontend primary 10000001", "maxconn is 10000000 at most, or 0 for none."),
        (
            "set maxconn global 4",
            "The limit of the process comes from the configuration; set max_sessions and reload.",
        ),
        ("shutdown session", "Session pointer expected (use 'show sess')."),
        ("shutdown session 0xfff", "No such session (use 'show sess')."),
        ("show env HOME", "Variable not found"),
        // These are what HAProxy 2.6 answers to the same words.
        ("show stat nope 4 -1", "No such proxy."),
        ("show stat x y z", "No such proxy."),
        ("show errors nope", "No such proxy."),
        ("show resolvers nope", "Can't find that resolvers section"),
        ("set timeout cli", "Expects an integer value."),
        ("set timeout cli x", "Invalid timeout value."),
        ("set weight primary/a", "Require <weight> or <weight%>."),
        ("set weight primary/a 5x", "Trailing garbage in weight string"),
        ("set server primary/a agent up", "agent checks are not enabled on this server."),
        ("enable agent primary/a", "Agent was not configured on this server, cannot enable."),
        ("get weight", "Require 'backend/server'."),
        ("get weight primary/nope", "No such server."),
    ] {
        assert_eq!(desk.ask(line).await, format!("{answer}\n\n"), "{line}");
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_and_counters_begin_anew() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let desk = Desk::open(&cluster, SocketLevel::Admin).await;
    let (mut writer, _) = Client::enter(desk.served.pool("primary")).await;
    let (reader, on) = Client::enter(desk.served.pool("replicas")).await;
    assert_eq!(on, "a");
    desk.until("both sessions", |rows| rows.get("replicas", "a", "stot") == "1").await;
    assert_eq!(desk.ask("shutdown sessions server replicas/a").await, "\n");
    assert!(reader.end().await.is_err(), "a reset says that the end was not the server's");
    assert_eq!(writer.ask("still").await.expect("an open session"), "a:still");
    let sessions = desk.ask("show sess").await;
    let (id, line) = sessions.split_once(": ").expect("a session");
    assert!(
        line.starts_with("proto=tcpv4 src=127.") && line.contains("fe=primary be=primary srv=a age=0s"),
        "{line}"
    );
    assert_eq!(desk.ask(&format!("show sess {id}")).await.lines().count(), 2);
    assert_eq!(desk.ask("clear counters all").await, "\n");
    assert_eq!(desk.table().await.words("primary", "a", "scur smax stot"), "1 1 0");
    let metrics = get(desk.served.admin, "/metrics").await.body;
    let own = r#"pilotfish_sessions_total{cluster="demo",pool="primary",member="a"} 1"#;
    assert!(metrics.contains(own), "our own counters go on: {metrics}");
    assert_eq!(desk.ask(&format!("shutdown session {id}")).await, "\n");
    assert!(writer.end().await.is_err());
    desk.until("its end", |rows| rows.get("primary", "a", "scur") == "0").await;
    assert_eq!(desk.ask("show sess").await, "\n");
}

/// As HAProxy: N% is of the initial weight, and so 100% restores it.
#[tokio::test]
async fn a_percentage_is_of_the_weight_that_the_configuration_gives() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let weigh = |config: &mut Config| {
        config.clusters[0].replicas[0].weights = vec![("b".to_owned(), 200)];
    };
    let desk = Desk::with(&cluster, SocketLevel::Admin, weigh).await;
    assert_eq!(desk.ask("get weight replicas/b").await, "200 (initial 200)\n\n");
    for (percent, weight) in [("50%", "100"), ("100%", "200"), ("150%", "256")] {
        assert_eq!(desk.ask(&format!("set weight replicas/b {percent}")).await, "\n");
        desk.until(percent, |rows| rows.get("replicas", "b", "weight") == weight).await;
        assert_eq!(desk.ask("get weight replicas/b").await, format!("{weight} (initial 200)\n\n"));
        let state = desk.ask("show servers state replicas").await;
        let b: Vec<&str> = state.lines().nth(3).expect("two members").split(' ').collect();
        assert_eq!((b[3], b[7], b[8]), ("b", weight, "200"), "{state}");
    }
}

#[tokio::test]
async fn weights_and_limits_are_set_for_one_pool() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let desk = Desk::open(&cluster, SocketLevel::Admin).await;
    assert_eq!(desk.ask("set server replicas/b weight 50%").await, "\n");
    desk.until("the weight", |rows| rows.get("replicas", "b", "weight") == "50").await;
    assert_eq!(desk.table().await.words("replicas", "BACKEND", "weight act"), "150 2");
    assert_eq!(desk.ask("get weight replicas/b").await, "50 (initial 100)\n\n");
    let state = desk.ask("show servers state replicas").await;
    let b: Vec<&str> = state.lines().nth(3).expect("three members").split(' ').collect();
    assert_eq!((b[3], b[7], b[8]), ("b", "50", "100"), "{state}");
    assert_eq!(desk.ask("set weight replicas/b 0").await, "\n");
    desk.until("b without weight", |rows| rows.words("replicas", "BACKEND", "weight act") == "100 1").await;
    assert_eq!(desk.table().await.words("replicas", "b", "status check_status"), "DRAIN L7OK");
    for _ in 0..3 {
        assert_eq!(Client::enter(desk.served.pool("replicas")).await.1, "c");
    }
    assert_eq!(desk.ask("set maxconn server primary/a 7").await, "\n");
    assert_eq!(desk.ask("set maxconn frontend primary 9").await, "\n");
    let rows = desk.table().await;
    let slim = |proxy, server| rows.get(proxy, server, "slim").to_owned();
    assert_eq!((slim("primary", "a"), slim("primary", "FRONTEND")), ("7".to_owned(), "9".to_owned()));
    // Nobody queues for a member that may have any number.
    assert_eq!([rows.get("primary", "a", "qlimit"), rows.get("replicas", "c", "qlimit")], ["1000", ""]);
    let page = Exposition::parse(&get(desk.served.admin, "/metrics?names=haproxy").await.body);
    let of_a = [("proxy", "primary"), ("server", "a")];
    assert_eq!(page.value("haproxy_server_queue_limit", &of_a), 1000.0);
    assert_eq!((slim("replicas", "c"), slim("replicas", "FRONTEND")), (String::new(), "200".to_owned()));
    assert_eq!(desk.ask("set maxconn server primary/a 0").await, "\n");
    assert_eq!(desk.table().await.get("primary", "a", "slim"), "");
}

/// It stops the writes as a drained writer does, so as much is said.
#[tokio::test]
async fn a_writer_without_weight_is_drained_and_that_is_said() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let desk = Desk::open(&cluster, SocketLevel::Admin).await;
    assert_eq!(desk.ask("set weight primary/b 0").await, "\n", "b does not write");
    assert_eq!(desk.ask("set weight replicas/a 0").await, "\n", "nor does a in this pool");
    for (line, weight) in [("set weight primary/a", 100), ("set server primary/a weight", 256)] {
        let told = desk.ask(&format!("{line} 0")).await;
        assert!(told.starts_with("a is the writer: new writers of primary wait"), "{told}");
        let drained =
            |rows: &Table| rows.words("primary", "a", "status weight check_status") == "DRAIN 0 L7OK";
        desk.until("a drained", drained).await;
        assert_eq!(desk.table().await.words("primary", "BACKEND", "status act"), "DOWN 0");
        assert_eq!(desk.table().await.words("primary", "b", "status"), "DOWN", "it would not write anyhow");
        assert_eq!(desk.ask(&format!("{line} {weight}")).await, "\n");
        desk.until("a back", |rows| rows.words("primary", "a", "status") == "UP").await;
    }
}

/// A pool may have pgbouncer's port on the members, and another pool of the same members not.
#[tokio::test]
async fn where_a_member_is_dialled_is_the_pools_own_port() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let desk = Desk::with(&cluster, SocketLevel::User, |config| {
        config.clusters[0].primary.as_mut().expect("it is there").port = Some(6432);
    });
    let desk = desk.await;
    let own = cluster.node("a").server.address;
    let table = desk.table().await;
    assert_eq!(table.get("primary", "a", "addr"), format!("{}:6432", own.ip()));
    assert_eq!(table.get("replicas", "a", "addr"), own.to_string());
    for (pool, port) in [("primary", 6432), ("replicas", own.port())] {
        let state = desk.ask(&format!("show servers state {pool}")).await;
        let a: Vec<&str> = state.lines().nth(2).expect("two members").split(' ').collect();
        assert_eq!([a[3], a[4], a[18]], ["a", &own.ip().to_string(), &port.to_string()], "{state}");
        let conn = desk.ask(&format!("show servers conn {pool}")).await;
        assert!(conn.contains(&format!(" {} {port} - 0 ", own.ip())), "{conn}");
    }
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_waits_and_nobody_is_cut() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let desk = Desk::open(&cluster, SocketLevel::User).await;
    let version = desk.ask("show version").await;
    let mut inside = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = connect(&desk.path).await;
        // Without this they would have to go after 10 s.
        prompted(&mut stream, "set timeout cli 1h; prompt\n").await;
        inside.push(stream);
    }
    let mut waits = connect(&desk.path).await;
    waits.write_all(b"show version\n").await.expect("the backlog takes it");
    for stream in &mut inside {
        assert_eq!(prompted(stream, "show version\n").await, format!("{version}> "));
    }
    let mut bytes = [0; 64];
    let error = waits.try_read(&mut bytes).expect_err("not before somebody goes");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(inside.pop());
    let mut answer = String::new();
    within("an answer", waits.read_to_string(&mut answer)).await.expect("text");
    assert_eq!(answer, version);
}
