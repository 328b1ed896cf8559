//! Who is shown the login of `patroni.auth`: nodes that ask for it, and nobody else.

use std::time::Duration;

use pilotfish::control::{Credentials, Names, Password, Patroni, PatroniOptions};
use pilotfish::topology::{Observation, SilenceKind};
use serde_json::json;

use super::cluster::FakeCluster;
use super::fake::{Answer, Fake, own_address};
use super::rig::{Lines, Rig, often};
use super::within;
use crate::process::child::Pilotfish;

const REPORT: &str = r#"{"state": "running", "role": "replica"}"#;
const LOGIN: &str = "pilotfish:hunter2";

fn options(password: &str, login_needs_tls: bool) -> PatroniOptions {
    let password = Password::Known(password.to_owned());
    let credentials =
        Credentials { username: Some("pilotfish".to_owned()), password, ..Credentials::default() };
    PatroniOptions { timeout: Duration::from_secs(5), credentials, login_needs_tls }
}

fn patroni(options: PatroniOptions) -> Patroni {
    // Once in a process; whoever comes later finds it set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Patroni::new(options, Names::default()).expect("no files to be wrong")
}

/// What comes of a check: `answered`, or why not.
async fn told(patroni: &Patroni, node: &Fake) -> String {
    match within("an answer", patroni.leader(&node.api())).await {
        Observation::Answered(_) => "answered".to_owned(),
        Observation::Silent(silence) => format!("{}: {}", silence.kind.as_str(), silence.detail),
    }
}

/// Of each request whether it showed a login.
fn logins(node: &Fake) -> Vec<bool> {
    node.requests("/leader").iter().map(|request| request.header("authorization").is_some()).collect()
}

fn replica() -> Answer {
    Answer::Json(503, REPORT.to_owned())
}

#[tokio::test]
async fn a_node_that_does_not_ask_is_shown_nothing() {
    let (node, patroni) = (Fake::start().await, patroni(options("hunter2", false)));
    node.answer("/leader", replica());
    assert_eq!(told(&patroni, &node).await, "answered");
    assert_eq!(told(&patroni, &node).await, "answered");
    assert_eq!(logins(&node), [false, false]);
}

#[tokio::test]
async fn who_asks_is_shown_it_and_remembered_until_it_is_no_member() {
    let (node, other) = (Fake::start().await, Fake::start().await);
    let patroni = patroni(options("hunter2", false));
    node.answer("/leader", replica().for_login(LOGIN));
    other.answer("/leader", replica());
    for _ in 0..3 {
        assert_eq!(told(&patroni, &node).await, "answered");
        assert_eq!(told(&patroni, &other).await, "answered");
    }
    assert_eq!(logins(&node), [false, true, true, true], "asked once");
    assert_eq!(logins(&other), [false, false, false], "that one node asks says nothing of another");
    patroni.forget(&node.api());
    assert_eq!(told(&patroni, &node).await, "answered");
    assert_eq!(logins(&node)[4..], [false, true]);
}

#[tokio::test]
async fn no_login_in_the_clear_where_tls_is_wanted_nor_in_answer_to_another_question() {
    let secret = "login: it wants a login, which goes to https nodes only, since patroni.endpoints has such (status 401)";
    let other = "login: it wants a login of another kind than HTTP basic (status 401)";
    let none = "login: it wants a login, and patroni.auth has none (status 401)";
    let asks = |kind: &str| Answer::http("401 Unauthorized", &[&format!("WWW-Authenticate: {kind}")], b"");
    for (what, options, answer, says) in [
        ("seeds of https", options("hunter2", true), replica().for_login(LOGIN), secret),
        ("a token", options("hunter2", false), asks("Bearer realm=\"basic\""), other),
        ("nothing", options("hunter2", false), Answer::http("401 Unauthorized", &[], b""), other),
        (
            "no login",
            PatroniOptions { timeout: Duration::from_secs(5), ..PatroniOptions::default() },
            asks("Basic"),
            none,
        ),
    ] {
        let (node, patroni) = (Fake::start().await, patroni(options));
        node.answer("/leader", answer);
        for _ in 0..2 {
            assert_eq!(told(&patroni, &node).await, says, "{what}");
        }
        assert_eq!(logins(&node), [false, false], "{what}");
    }
}

#[tokio::test]
async fn both_requests_of_a_check_share_its_time() {
    let node = Fake::start().await;
    let slow = Duration::from_millis(400);
    let challenge = Answer::http("401 Unauthorized", &["WWW-Authenticate: Basic"], b"");
    node.answer("/leader", challenge.after(slow));
    let patroni = patroni(PatroniOptions { timeout: slow * 3 / 2, ..options("hunter2", false) });
    let began = std::time::Instant::now();
    assert_eq!(told(&patroni, &node).await, "timeout: no answer in time");
    assert!(began.elapsed() < slow * 2, "{:?}", began.elapsed());
    assert_eq!(logins(&node), [false, true]);
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_once_and_so_is_its_end() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let report = cluster.report("b", json!({"role": "replica"})).to_string();
    let b = &cluster.node("b").patroni;
    b.answer("/leader", Answer::Json(503, report).for_login("pilotfish:changed"));
    let mut watch = often(cluster.seeds());
    watch.credentials = options("hunter2", false).credentials;
    let rig = Rig::start(vec![watch]);
    let is_refused = |picture: &pilotfish::control::ClusterPicture| {
        let b = picture.members.iter().find(|member| member.member.name == "b");
        let last = b.and_then(|b| b.checks.last.as_ref());
        last.and_then(|check| check.silence.as_ref()).is_some_and(|why| why.kind == SilenceKind::Login)
    };
    rig.until("a refusal", is_refused).await;
    b.asked("/leader", 3).await;
    let refused = "no login at Patroni";
    assert_eq!(lines.containing(refused), 1);
    assert_eq!(lines.containing("it refuses the login of patroni.auth (status 401)"), 2, "with the flip");
    assert_eq!(lines.containing("hunter2"), 0);
    cluster.lead("a");
    rig.settled("a", &["b"]).await;
    assert_eq!((lines.containing(refused), lines.containing("login at Patroni again")), (1, 1));
}

#[tokio::test]
async fn one_endpoint_of_https_keeps_the_login_of_the_program_from_nodes_of_http() {
    let (node, https) = (Fake::start().await, own_address());
    node.answer("/leader", replica().for_login(LOGIN));
    for (endpoints, says) in
        [(format!("{}, \"https://{https}:8008\"", node.api()), "goes to https nodes only"), (node.api(), "")]
    {
        let before = node.requests("/leader").len();
        let config = format!(
            "clusters:\n  - patroni: {{endpoints: [{endpoints}], interval: 100ms, auth: {{username: pilotfish, \
             password_env: SECRET}}}}\n    primary: {{listen: \"{https}:0\"}}\n    replicas: off\nadmin: off\n"
        );
        let pilotfish = Pilotfish::run_with(&config, |command| {
            command.env("SECRET", "hunter2");
        });
        let of_node =
            |line: &serde_json::Value| line["message"] == "member changed" && line["class"] != "unknown";
        let is_node = |line: &serde_json::Value| node.api().ends_with(line["member"].as_str().unwrap_or("?"));
        let line = pilotfish.line("the node", |line| of_node(line) && is_node(line)).await;
        assert!(line["why"].as_str().unwrap_or_default().contains(says), "{line}");
        assert_eq!(logins(&node)[before..].iter().any(|shown| *shown), says.is_empty());
    }
}
