//! The program as its users meet it: arguments, exit codes, signals and log lines.

pub mod child;
mod console;
mod documents;
mod logs;
mod manager;
mod secrets;
mod standstill;
mod start;
mod terminal;
mod top;
mod upgrade;

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use rustix::process::{self, Pid, Signal};
use serde_json::Value;
use tokio::net::TcpStream;

use self::child::{File, Pilotfish, command, config, output};
use crate::control::cluster::FakeCluster;
use crate::control::fake::{Answer, Fake, own_address};
use crate::control::http::{get, status_until};
use crate::control::postgres::Client;
use crate::control::within;

const BAD: &str = "clusters:\n  - patroni: [a, a]\n    primry: off\n    protocol: udp\nworkers: many\n";

/// A port that is in use, so that whoever binds it fails.
fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((own_address(), 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn check_shows_what_it_understood_and_binds_nothing() {
    let (_listener, address) = taken();
    let text = format!(
        "clusters: [{{patroni: a, primary: {{listen: '{address}'}}}}]\nadmin: {{listen: '{address}'}}"
    );
    let file = File::new(&text.replacen("admin", "#", 1));
    let (code, shown, errors) = output(&["check", "--config", &file.path()]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(shown.contains("http://a:8008") && shown.contains(&address.to_string()), "{shown}");
    let again = File::new(&shown);
    assert_eq!(output(&["check", "-c", &again.path()]), (0, shown, String::new()));
    let (code, shown, errors) = output(&["check", "--patroni", "10.0.0.1:8008,db2"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(shown.contains("http://10.0.0.1:8008") && shown.contains("http://db2:8008"), "{shown}");
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_problems_before_anything_is_bound() {
    let (_listener, address) = taken();
    let file = File::new(&format!("{BAD}admin: {{listen: '{address}'}}\n"));
    let path = file.path();
    for subcommand in ["check", "run"] {
        let (code, shown, errors) = output(&[subcommand, "--config", &path]);
        assert_eq!((code, shown.as_str()), (78, ""), "{errors}");
        let places: Vec<&str> = errors
            .lines()
            .map(|line| line.strip_prefix(&format!("{path}:")).expect("the file first"))
            .map(|rest| rest.split(": ").next().expect("a place"))
            .collect();
        assert_eq!(places, ["2:18", "3:5", "4:15", "5:10"], "{errors}");
    }
    let (code, _, errors) = output(&["run", "--patroni", "a,b:0"]);
    assert_eq!((code, errors.starts_with("command line: --patroni: \"b:0\"")), (78, true), "{errors}");
    let (code, _, errors) = output(&["run", "--config", "/nonexistent/config.yaml"]);
    let said = "/nonexistent/config.yaml: cannot be read: No such file or directory";
    assert_eq!((code, errors.starts_with(said)), (78, true), "{errors}");
}

#[test]
fn help_version_and_wrong_arguments() {
    let (code, help, _) = output(&["--help"]);
    assert!(code == 0 && help.contains("run") && help.contains("check"), "{help}");
    let (code, help, _) = output(&["run", "--help"]);
    assert!(
        code == 0 && help.contains("--config <FILE>") && help.contains("--patroni <HOST:PORT>"),
        "{help}"
    );
    let version = format!("pilotfish {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(output(&["--version"]), (0, version, String::new()));
    for wrong in [&[][..], &["walk"], &["run", "--nonsense"], &["run", "--config", "f", "--patroni", "a"]] {
        let (code, shown, errors) = output(wrong);
        assert_eq!((code, shown.as_str()), (2, ""), "{wrong:?}: {errors}");
        assert!(errors.contains("Usage: pilotfish"), "{errors}");
    }
}

/// `pilotfish check | head -1` and the like.
#[test]
fn nobody_listening_to_what_it_says_is_no_fault() {
    let good = File::new("clusters: [{patroni: a}]");
    let bad = File::new(BAD);
    let deaf = || Stdio::from(std::io::pipe().expect("a pipe").1);
    for (file, expected) in [(&good, 0), (&bad, 78)] {
        let both = command(&["check", "--config", &file.path()]).stdout(deaf()).stderr(deaf()).status();
        assert_eq!(both.expect("the program starts").code(), Some(expected));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (_listener, address) = taken();
    let free = config(&cluster, "");
    let listen: Vec<&str> = free.lines().filter(|line| line.contains("listen:")).collect();
    for (line, what) in listen.iter().zip(["pool primary", "pool replicas", "the admin page"]) {
        let key = line.split("listen:").next().expect("a key");
        let pilotfish = Pilotfish::run(&free.replace(line, &format!("{key}listen: \"{address}\"}}")));
        assert_eq!(pilotfish.exit().await, 1);
        let error = pilotfish.line("an error", |line| line["level"] == "ERROR").await;
        let message = error["message"].as_str().expect("a message");
        let begin = format!("{what} cannot listen on {address}: Address already in use");
        assert!(message.starts_with(&begin) && message.contains("ss -ltnp"), "{message}");
        assert!(!pilotfish.lines().iter().any(|line| line.contains("listening")), "nothing was served");
    }
    assert_eq!(cluster.node("a").patroni.connections(), 0, "nobody was asked");
    // All defaults: taking one address of the default port is enough to make the whole of it fail.
    let _port = TcpListener::bind((own_address(), 5000)).expect("an address of its own");
    let (code, _, errors) = output(&["run", "--patroni", "10.255.255.1:8008,10.255.255.2"]);
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("pool primary cannot listen on 0.0.0.0:5000: Address already in use"),
        "{errors}"
    );
}

#[tokio::test]
async fn a_stop_waits_for_sessions_and_takes_no_new_ones() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, "drain_timeout: 10m"));
    let primary = pilotfish.pool("primary").await;
    let (mut client, _) = Client::enter(primary).await;
    pilotfish.signal(Signal::TERM);
    let stopping = pilotfish.says("stopping: no new connections are taken").await;
    assert_eq!((&stopping["sessions"], &stopping["patience_s"]), (&1.into(), &600.0.into()));
    let refused = async { while TcpStream::connect(primary).await.is_ok() {} };
    within("refused connections", refused).await;
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    let admin = pilotfish.admin().await;
    assert_eq!(get(admin, "/readyz").await.status, 503);
    drop(client);
    assert_eq!(pilotfish.exit().await, 0);
    let stopped = pilotfish.says("stopped").await;
    assert_eq!((&stopped["finished"], &stopped["cut"]), (&1.into(), &0.into()));
}

#[tokio::test]
async fn what_is_left_after_the_drain_timeout_is_cut_and_counted() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, "drain_timeout: 200ms"));
    let primary = pilotfish.pool("primary").await;
    let (first, _) = Client::enter(primary).await;
    let (second, _) = Client::enter(primary).await;
    pilotfish.signal(Signal::INT);
    let (first, second, code) = tokio::join!(first.end(), second.end(), pilotfish.exit());
    assert!(first.is_err() && second.is_err(), "a reset says that the end was not the server's: {first:?}");
    assert_eq!(code, 0);
    let stopped = pilotfish.says("stopped").await;
    assert_eq!((&stopped["finished"], &stopped["cut"]), (&0.into(), &2.into()));
    let ended = pilotfish.says("session ended").await;
    assert_eq!((&ended["cause"], &ended["side"]), (&"shutdown".into(), &"pilotfish".into()));
}

#[tokio::test]
async fn a_second_signal_cuts_at_once() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let pilotfish = Pilotfish::run(&config(&cluster, "drain_timeout: 10m"));
        let (client, _) = Client::enter(pilotfish.pool("primary").await).await;
        pilotfish.signal(first);
        pilotfish.says("stopping: no new connections are taken").await;
        pilotfish.signal(second);
        let (end, code) = tokio::join!(client.end(), pilotfish.exit());
        assert_eq!((end.is_err(), code), (true, 0));
        assert_eq!(pilotfish.says("stopped").await["cut"], 1);
    }
}

#[tokio::test]
async fn a_hangup_reloads_and_ends_nothing() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, ""));
    let (mut client, _) = Client::enter(pilotfish.pool("primary").await).await;
    // Whatever is asked of it, the control plane goes on asking its nodes.
    // A thread has its name once it runs, which an answer shows.
    assert_eq!(get(pilotfish.admin().await, "/livez").await.status, 200);
    assert!(pilotfish.threads().contains(&"admin".to_owned()), "{:?}", pilotfish.threads());
    pilotfish.signal(Signal::HUP);
    let reloaded = pilotfish.says("the configuration was reloaded").await;
    assert_eq!(["user", "applied", "needs_restart"].map(|name| reloaded[name].clone()), ["SIGHUP", "", ""]);
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    drop(client);
    pilotfish.signal(Signal::TERM);
    assert_eq!(pilotfish.exit().await, 0);
}

/// Answers as large as can be, again and again; and a proxy that every other program would use.
#[tokio::test]
async fn hostile_nodes_take_no_memory_and_a_proxy_in_the_environment_is_none_of_ours() {
    let proxy = Fake::start().await;
    let cluster = FakeCluster::start("demo", &["a", "b", "c", "d", "e"]).await;
    let megabyte = vec![b'x'; 1 << 20];
    let hostile = [
        ("b", Answer::Endless([b"HTTP/1.0 200 OK\r\n\r\n", &megabyte[..]].concat())),
        ("c", Answer::http("200 OK", &[], &[b'['; 60_000])),
        ("d", Answer::http("200 OK", &[&format!("X: {}", "x".repeat(1 << 20))], b"{}")),
        ("e", Answer::http("200 OK", &["Content-Length: 99999999999"], &[b' '; 60_000])),
    ];
    let pilotfish = Pilotfish::run_with(&config(&cluster, ""), |command| {
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, proxy.api());
        }
    });
    let (mut client, _) = Client::enter(pilotfish.pool("primary").await).await;
    let admin = pilotfish.admin().await;
    let before = pilotfish.memory_kb();
    for (name, answer) in hostile {
        cluster.node(name).patroni.answer("/leader", answer.clone());
        cluster.node(name).patroni.answer("/cluster", answer);
    }
    let asked = cluster.nodes.iter().map(|node| node.patroni.asked("/leader", 15));
    for asked in asked.collect::<Vec<_>>() {
        asked.await;
    }
    assert_eq!(get(admin, "/readyz").await.status, 200);
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    let grown = pilotfish.memory_kb().saturating_sub(before);
    assert!(grown < 16 * 1024, "grown by {grown} kB");
    assert_eq!(proxy.connections(), 0);
    for node in &cluster.nodes {
        assert_eq!(node.patroni.most_at_once("/leader"), 1, "{}", node.name);
    }
}

#[tokio::test]
async fn a_stop_is_not_kept_waiting_by_a_node_that_never_answers() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    cluster.node("a").patroni.answer("/leader", Answer::Never);
    let pilotfish = Pilotfish::run(&config(&cluster, "").replace("timeout: 3s", "timeout: 1m"));
    let primary = pilotfish.pool("primary").await;
    let held = Client::knock(primary).await;
    let admin = pilotfish.admin().await;
    let waits = |status: &Value| status["clusters"][0]["pools"][0]["held"] == 1;
    status_until(admin, "a held client", waits).await;
    pilotfish.signal(Signal::TERM);
    let (told, code) = tokio::join!(held.end(), pilotfish.exit());
    let told = String::from_utf8_lossy(&told.expect("an orderly end")).into_owned();
    assert!(told.contains("57P03") && told.contains("this load balancer is stopping"), "{told:?}");
    assert_eq!(code, 0);
}

/// On one processor a session would wait for a page to be drawn, milliseconds.
#[tokio::test]
async fn the_thread_of_the_admin_side_lets_all_others_go_first() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, ""));
    assert_eq!(get(pilotfish.admin().await, "/livez").await.status, 200);
    let nice = |name: &str| {
        let thread = Pid::from_raw(pilotfish.thread(name));
        process::getpriority_process(thread).expect("a thread that runs")
    };
    let (admin, own) = (nice("admin"), process::getpriority_process(None).expect("a thread that runs"));
    assert_eq!(admin, 19.min(own + 5));
    assert_eq!(pilotfish.threads().iter().filter(|name| nice(name) != own).collect::<Vec<_>>(), ["admin"]);
}

/// As in an image with nothing but the program.
#[tokio::test]
async fn a_system_without_certificate_authorities_can_still_ask_over_http() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let text =
        config(&cluster, "").replace("endpoints: [", &format!("endpoints: [https://{}:1, ", own_address()));
    let pilotfish = Pilotfish::run_with(&text, |command| {
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    });
    let (_client, on) = Client::enter(pilotfish.pool("primary").await).await;
    assert_eq!(on, "a");
    let warnings: Vec<String> = pilotfish.lines().into_iter().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("give their authorities in tls.ca"), "{warnings:#?}");
}

#[test]
fn a_file_for_tls_that_holds_nothing_of_use_is_named() {
    let file = File::new("");
    let listen = own_address();
    let tls = File::new(&format!(
        "clusters:\n  - patroni: {{endpoints: 'https://a', tls: {{ca: {}}}}}\n    primary: {{listen: '{listen}:0'}}\n    \
         replicas: off\nadmin: off",
        file.path()
    ));
    let (code, _, errors) = output(&["run", "--config", &tls.path()]);
    assert!(code == 1 && errors.contains("the file in tls.ca holds no certificate"), "{code}: {errors}");
}
