//! What it writes to standard error.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::child::{Pilotfish, config};
use crate::control::cluster::FakeCluster;
use crate::control::fake::Answer;
use crate::control::http::status_until;
use crate::control::postgres::Client;

#[tokio::test]
async fn every_line_is_json_and_a_session_has_one_that_says_how_it_was() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, ""));
    pilotfish.says("routes changed").await;
    let (mut client, _) = Client::enter(pilotfish.pool("primary").await).await;
    client.ask("12345").await.expect("an open session");
    drop(client);
    let ended = pilotfish.says("session ended").await;
    pilotfish.signal(Signal::TERM);
    assert_eq!(pilotfish.exit().await, 0);
    for line in pilotfish.lines() {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
        assert!(line["level"] == "INFO", "nothing went wrong: {line}");
    }
    let told = |name: &str| ended[name].clone();
    assert_eq!(["cluster", "pool", "member", "cause"].map(told), ["demo", "primary", "a", "client_closed"]);
    assert_eq!(["side", "phase"].map(told), ["client", "relaying"]);
    let backend = cluster.node("a").server.address.to_string();
    assert_eq!((told("backend"), told("bytes_in")), (json!(backend), json!("who12345".len())));
    assert!(told("bytes_out").as_u64() > told("bytes_in").as_u64(), "{ended}");
    for name in ["client", "backend_local"] {
        assert!(
            told(name).as_str().is_some_and(|a| a.parse::<std::net::SocketAddr>().is_ok()),
            "{name}: {ended}"
        );
    }
    for name in ["held_ms", "connect_ms", "duration_ms"] {
        assert!(told(name).is_number(), "{name}: {ended}");
    }
}

#[tokio::test]
async fn a_failover_can_be_read_from_the_log() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, ""));
    let primary = pilotfish.pool("primary").await;
    let (client, _) = Client::enter(primary).await;
    let routed = async |condition: &str| {
        let wanted = |line: &Value| line["message"] == "routes changed" && line["condition"] == condition;
        pilotfish.line(condition, wanted).await
    };
    let first = routed("ok").await;
    assert_eq!(
        (&first["writer"], &first["writer_before"], &first["cluster"]),
        (&json!("a"), &json!("-"), &json!("demo"))
    );

    cluster.say("a", 503, json!({"state": "stopped"}));
    let lost = routed("no_writer").await;
    assert_eq!((&lost["writer"], &lost["writer_before"]), (&json!("-"), &json!("a")));
    let changed = |line: &Value| line["message"] == "member changed" && line["class"] == "down";
    let changed = pilotfish.line("a change of a", changed).await;
    assert_eq!(["member", "before", "state"].map(|name| changed[name].clone()), ["a", "writer", "stopped"]);
    assert!(client.end().await.is_err());
    let cut = pilotfish.says("session ended").await;
    assert_eq!(["cause", "side", "member"].map(|name| cut[name].clone()), ["role_lost", "pilotfish", "a"]);

    let mut held = Client::knock(primary).await;
    cluster.say("b", 200, json!({}));
    routed("promoting").await;
    cluster.promote("b");
    let wanted = |line: &Value| line["message"] == "routes changed" && line["writer"] == "b";
    let back = pilotfish.line("the new writer", wanted).await;
    assert_eq!((&back["condition"], &back["timeline"]), (&json!("ok"), &json!(2)));
    assert_eq!(held.welcome().await, "b");
    drop(held);
    let ended = pilotfish
        .line("the end of the held one", |line| line["member"] == "b" && line["cause"].is_string())
        .await;
    assert!(ended["held_ms"].as_u64().is_some_and(|ms| ms > 0), "{ended}");
}

#[tokio::test]
async fn a_client_that_came_before_the_cluster_was_known_is_logged_with_its_name() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let node = cluster.node("a");
    node.patroni.answer("/leader", Answer::http("500 Not yet", &[], b""));
    let pilotfish = Pilotfish::run(&config(&cluster, ""));
    let mut client = Client::knock(pilotfish.pool("primary").await).await;
    let held = |status: &Value| status["clusters"][0]["pools"][0]["held"] == 1;
    status_until(pilotfish.admin().await, "a held client", held).await;
    cluster.lead("a");
    client.welcome().await;
    drop(client);
    assert_eq!(pilotfish.says("session ended").await["cluster"], "demo");
}

#[tokio::test]
async fn text_has_no_colours_where_there_is_no_terminal() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, "log: {format: text, level: debug}"));
    let listening = async {
        while !pilotfish.lines().iter().any(|line| line.contains("routes changed")) {
            tokio::task::yield_now().await;
        }
    };
    crate::control::within("a log line", listening).await;
    pilotfish.signal(Signal::TERM);
    assert_eq!(pilotfish.exit().await, 0);
    let lines = pilotfish.lines();
    assert!(lines.iter().all(|line| !line.contains('\u{1b}') && !line.starts_with('{')), "{lines:#?}");
    let routed = lines.iter().find(|line| line.contains("routes changed")).expect("a line");
    assert!(routed.contains(" INFO ") && routed.contains("writer=\"a\""), "{routed}");
}

/// A log reader that has stalled costs lines, never a session, and not the end either.
#[tokio::test]
async fn a_full_pipe_that_nobody_reads_blocks_nothing() {
    const SESSIONS: usize = 250;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let address = crate::control::fake::own_address();
    // The log cannot tell the port: an address of its own has every port free.
    let text = config(&cluster, "log: {level: debug}");
    let listen = text.lines().find(|line| line.contains("primary")).expect("a pool");
    let text = text.replace(listen, &format!("    primary: {{listen: \"{address}:5000\"}}"));
    let pilotfish = Pilotfish::run_with(&text, |command| {
        command.stderr(Stdio::from(writer));
    });
    let up = async {
        while tokio::net::TcpStream::connect((address, 5000)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    crate::control::within("a listener", up).await;
    let mut first = Client::enter((address, 5000).into()).await.0;
    for _ in 0..SESSIONS {
        assert_eq!(Client::enter((address, 5000).into()).await.1, "a");
    }
    assert_eq!(first.ask("still").await.expect("an open session"), "a:still");
    drop(first);
    pilotfish.signal(Signal::TERM);
    assert_eq!(pilotfish.exit().await, 0);
    // It was full: what a pipe holds is less than what there was to say.
    let held = std::io::read_to_string(reader).expect("text").len();
    assert!((60_000..=66_000).contains(&held), "{held} bytes");
}

/// The fields of HAProxy's `option tcplog`, each as it must look.
fn tcplog(line: &str) -> Option<Vec<String>> {
    let (client, rest) = line.split_once(" [")?;
    let (date, rest) = rest.split_once("] ")?;
    let fields: Vec<String> = [client, date].into_iter().chain(rest.split(' ')).map(str::to_owned).collect();
    (9..=10).contains(&fields.len()).then_some(fields)
}

#[tokio::test]
async fn the_ends_of_sessions_may_be_lines_as_haproxys() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, "log: {format: tcplog}"));
    let primary = pilotfish
        .text_line("the listener", |line| {
            let rest = line.split_once("pool=\"primary\" listen=\"")?.1;
            rest.split('"').next()?.parse().ok()
        })
        .await;
    pilotfish.text_line("routes", |line| line.contains("routes changed").then_some(())).await;
    let (mut client, _) = Client::enter(primary).await;
    client.ask("12345").await.expect("an open session");
    drop(client);
    let fields = pilotfish.text_line("a session's line", tcplog).await;
    let client: std::net::SocketAddr = fields[0].parse().expect("an address");
    assert!(client.ip().is_loopback());
    // As in HAProxy's documentation: 25/Nov/2026:01:15:40.123
    assert!(fields[1].len() == 24 && fields[1].matches([':', '/', '.']).count() == 6, "{fields:?}");
    assert_eq!(fields[2..4], ["primary", "primary/a"]);
    let times: Vec<u64> = fields[4].split('/').map(|time| time.parse().expect("milliseconds")).collect();
    assert!(times.len() == 3 && times[0] + times[1] <= times[2] + 1, "{fields:?}");
    assert!(fields[5].parse::<u64>().is_ok_and(|bytes| bytes > 5), "{fields:?}");
    assert_eq!(fields[6..], ["--", "1/1/0/0/0", "0/0"]);
    assert!(!pilotfish.lines().iter().any(|line| line.contains("session ended")));
}

/// Who is refused at the door has no routes yet, but the log knows whose door it was.
#[tokio::test]
async fn who_is_refused_is_told_with_the_cluster_and_why() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    for (format, door, cause) in [
        ("json", "allow: [192.0.2.1]", "client_denied"),
        ("json", "accept_proxy: [127.0.0.0/8]", "proxy_header"),
        ("tcplog", "allow: [192.0.2.1]", "client_denied"),
    ] {
        let text = config(&cluster, &format!("log: {{format: {format}}}"));
        let begin = text.find("listen: \"").expect("a pool") + "listen: ".len();
        let address = text[begin..].split('}').next().expect("its end").to_owned();
        let text = text.replacen(&address, &format!("{{address: {address}, {door}}}"), 1);
        let pilotfish = Pilotfish::run(&text);
        let primary: SocketAddr = pilotfish
            .text_line("the listener", |line| {
                let is_it = line.contains("primary") && line.contains("listen");
                line.split(['"', ' ']).filter(|_| is_it).find_map(|word| word.parse().ok())
            })
            .await;
        pilotfish.text_line("routes", |line| line.contains("routes changed").then_some(())).await;
        let wanted = match format {
            "json" => [format!("\"cause\":\"{cause}\""), "\"cluster\":\"demo\"".to_owned()],
            _ => [" primary primary/<NOSRV> -1/-1/".to_owned(), format!(" PR 1/1/0/0/0 0/0 cause={cause}")],
        };
        let is_it = |line: &str| wanted.iter().all(|words| line.contains(words)).then_some(());
        // The first ones may come before the worker knows the cluster.
        tokio::select! {
            () = pilotfish.text_line(cause, is_it) => {}
            () = knocks(primary) => {}
        }
    }
}

/// Somebody who is turned away and comes again, for ever.
async fn knocks(address: SocketAddr) {
    loop {
        let mut stream = TcpStream::connect(address).await.expect("a door");
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
