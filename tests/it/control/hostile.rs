//! Nodes that answer what Patroni never would: each is understood as what it is, and harms nobody else.

use std::time::{Duration, Instant};

use pilotfish::control::{Check, ClusterPicture};
use pilotfish::routing::Candidate;
use pilotfish::topology::Class;
use serde_json::json;

use super::cluster::FakeCluster;
use super::fake::{Answer, Fake};
use super::rig::{Rig, Watch, condition, often};
use super::{PATIENCE, within};

/// An answer, and what is made of it.
struct Case {
    what: &'static str,
    answer: Answer,
    class: &'static str,
    /// The status, or how the error begins.
    check: Result<u16, &'static str>,
}

impl Case {
    fn takes_patience(&self) -> bool {
        self.check.is_err_and(|error| error.starts_with("timeout"))
    }

    fn fits(&self, check: &Check) -> bool {
        match (self.check, &check.silence) {
            (Ok(status), None) => check.status == Some(status),
            (Err(begin), Some(silence)) => {
                let error = format!("{}: {}", silence.kind.as_str(), silence.detail);
                // Fit for a table cell and a log line, whatever came.
                assert!(error.len() < 300 && !error.contains(char::is_control), "{}: {error}", self.what);
                error.starts_with(begin)
            }
            _ => false,
        }
    }
}

fn silent(what: &'static str, answer: Answer, error: &'static str) -> Case {
    Case { what, answer, class: "silent", check: Err(error) }
}

/// Answers that are no report at all.
fn garbage() -> Vec<Case> {
    let ok = |body: &[u8]| Answer::http("200 OK", &["Content-Type: application/json"], body);
    let gzip: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xabV*.I,IU\xb2R**\xcd\xcb\xcb\xccK\xaf\x05\0\0\0\0\0";
    let not_json = "not_patroni: the answer is not Patroni's JSON: expected value at line 1 column 1";
    let too_long = "too_large: the answer is longer than 65536 bytes";
    vec![
        silent("HTML", ok(b"<!doctype html><title>It works</title>"), not_json),
        silent("no body", ok(b""), "not_patroni: the answer is not Patroni's JSON: EOF while parsing"),
        silent("10 MB", ok(&vec![b' '; 10_000_000]), too_long),
        silent("no end", Answer::Endless([b"HTTP/1.0 200 OK\r\n\r\n", &[b' '; 9999][..]].concat()), too_long),
        silent(
            "half a body",
            ok(br#"{"state": "runni"#),
            "not_patroni: the answer is not Patroni's JSON: EOF while",
        ),
        silent(
            "less than was said",
            Answer::http("200 OK", &["Content-Length: 99"], b"{\"state\": "),
            "not_patroni: end of file before message length reached",
        ),
        silent("gzip", Answer::http("200 OK", &["Content-Encoding: gzip"], gzip), not_json),
        silent(
            "an error",
            Answer::Json(500, "{}".into()),
            "not_patroni: answered with status 500, which Patroni does",
        ),
        silent("not HTTP", Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "not_patroni: "),
        silent(
            "huge headers",
            Answer::http("200 OK", &[&format!("X: {}", "x".repeat(2 << 20))], b"{}"),
            "not_patroni: ",
        ),
        silent("many headers", Answer::http("200 OK", &["X: x"; 5000], b"{}"), "not_patroni: "),
        silent("never", Answer::Never, "timeout: no answer in time"),
        silent("reset", Answer::Reset, "reset: Connection reset by peer"),
        silent("hangs up", Answer::Bytes(Vec::new()), "reset: "),
        silent("to be continued", Answer::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), "timeout: "),
    ]
}

/// JSON that is no report, or one of a node in a strange state.
fn reports(cluster: &FakeCluster) -> Vec<Case> {
    let with = |changes| cluster.report("b", changes).to_string();
    let edited = |from: &str, to: &str| Answer::Json(503, with(json!({})).replace(from, to));
    let deep = format!(r#""tags":{{"a":{}"#, "[".repeat(20_000));
    let long = "x".repeat(50_000);
    let said = |what, status, changes, class| Case {
        what,
        answer: Answer::Json(status, with(changes)),
        class,
        check: Ok(status),
    };
    vec![
        silent(
            "deep",
            edited(r#""state""#, &format!(r#"{deep},"state""#)),
            "not_patroni: the answer is not Patroni's JSON: recursion",
        ),
        silent(
            "infinite",
            edited(r#""timeline":1"#, r#""timeline":1e999999"#),
            "not_patroni: the answer is not Patroni's",
        ),
        silent(
            "text for a number",
            edited(r#""timeline":1"#, &format!(r#""timeline":"{long}""#)),
            "not_patroni: the answer",
        ),
        silent("a long state", Answer::Json(503, with(json!({"state": long}))), "not_patroni: "),
        silent("a strange role", Answer::Json(503, with(json!({"role": "a\u{1b}[31m"}))), "not_patroni: "),
        silent(
            "no state",
            edited(r#""state""#, r#""status""#),
            "not_patroni: the answer is not Patroni's JSON: missing",
        ),
        silent("a list", Answer::Json(503, "[]".into()), "not_patroni: the answer is not Patroni's JSON: "),
        silent(
            "one byte a second",
            Answer::Drip(with(json!({})).into(), Duration::from_secs(1)),
            "timeout: no answer",
        ),
        said("leader and replica", 200, json!({}), "promoting"),
        said("an unknown role", 503, json!({"role": "potato"}), "down"),
        said("an unknown state", 503, json!({"state": "on fire"}), "down"),
        said("another cluster", 503, json!({"database_system_identifier": "1"}), "foreign"),
        said(
            "another cluster's leader",
            200,
            json!({"database_system_identifier": "1", "role": "primary"}),
            "foreign",
        ),
        said("a primary without the lock", 503, json!({"role": "primary"}), "orphan"),
    ]
}

#[tokio::test]
async fn every_strange_answer_is_known_for_what_it_is() {
    let calm = FakeCluster::start("calm", &["a", "b"]).await;
    let cases: Vec<Case> = garbage().into_iter().chain(reports(&calm)).collect();
    let mut clusters = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let cluster = FakeCluster::start(&format!("case{index}"), &["a", "b", "c"]).await;
        cluster.node("b").patroni.answer("/leader", case.answer.clone());
        clusters.push(cluster);
    }
    let watch = |(cluster, impatient): (&FakeCluster, bool)| Watch {
        timeout: if impatient { Duration::from_secs(1) } else { PATIENCE },
        ..often(cluster.seeds())
    };
    let watched = clusters.iter().zip(cases.iter().map(Case::takes_patience));
    let rig = Rig::start(std::iter::once((&calm, false)).chain(watched).map(watch).collect());
    let before = rig.settled("a", &["b"]).await;
    for (index, (case, cluster)) in cases.iter().zip(&clusters).enumerate() {
        let known = |picture: &ClusterPicture| {
            let [a, b, _] = &picture.members[..] else { return false };
            let settled = picture.decision.is_some() && a.class == Class::Writer;
            settled
                && b.class.as_str() == case.class
                && b.checks.last.as_ref().is_some_and(|check| case.fits(check))
        };
        rig.until_of(index + 1, case.what, known).await;
        let most = cluster.node("b").patroni.most_at_once("/leader");
        assert_eq!(most, 1, "{}: {most} requests at once", case.what);
    }

    let after = rig.picture(0);
    assert_eq!(
        (condition(&after), after.epoch),
        (Some("ok"), before.epoch),
        "the calm cluster noticed something"
    );
    for (before, after) in before.members.iter().zip(&after.members) {
        assert_eq!(before.class_since, after.class_since);
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let target = Fake::start().await;
    for path in ["/leader", "/cluster"] {
        target.answer(path, Answer::Json(200, "{}".to_owned()));
    }
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let cluster = FakeCluster::start("demo", &["a", "b"]).await;
        let there = Answer::http(status, &[&format!("Location: {}/leader", target.api())], b"");
        cluster.node("b").patroni.answer("/leader", there.clone());
        cluster.node("a").patroni.answer("/cluster", there);
        let rig = Rig::watch(cluster.seeds());
        let told = |picture: &ClusterPicture| {
            let check = picture.members.iter().find(|m| m.class.as_str() == "silent")?.checks.last.clone()?;
            Some((check.silence?.detail, picture.discovery_problem.clone()?))
        };
        let picture = rig.until("a redirect", |picture| told(picture).is_some()).await;
        let (detail, problem) = told(&picture).expect("both");
        assert_eq!(detail, format!("answered with status {}, which Patroni does not use here", &status[..3]));
        assert!(
            problem.ends_with(&format!("/cluster was answered with status {}", &status[..3])),
            "{problem}"
        );
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_ttl_that_cannot_be_is_not_believed() {
    for ttl in [json!(u64::MAX), json!(0), json!("30"), json!(-1), json!(null)] {
        let cluster = FakeCluster::start("demo", &["a", "b"]).await;
        cluster.configure(json!({ "ttl": ttl }));
        let mut watch = often(cluster.seeds());
        watch.steward.leader_grace = None;
        let rig = Rig::start(vec![watch]);
        rig.settled("a", &["b"]).await;
        cluster.node("a").patroni.asked("/config", 1).await;
        cluster.node("a").patroni.stop().await;
        rig.until("a silent leader", |picture| condition(picture) == Some("unreachable")).await;
        cluster.node("a").patroni.resume().await;
        let settled = rig.settled("a", &["b"]);
        within("control to go on", settled).await;
    }
}

#[tokio::test]
async fn the_ttl_of_the_cluster_is_how_long_a_silent_leader_stays() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    cluster.configure(json!({"ttl": 1, "loop_wait": 10}));
    let mut watch = often(cluster.seeds());
    watch.steward.leader_grace = None;
    let rig = Rig::start(vec![watch]);
    rig.settled("a", &["b"]).await;
    cluster.node("a").patroni.asked("/config", 1).await;
    cluster.node("a").patroni.stop().await;
    rig.until("a silent leader", |picture| condition(picture) == Some("unreachable")).await;
    let silent = Instant::now();
    let routes = rig.routes(0);
    let primary = routes.pool("primary").expect("a pool");
    assert_eq!(primary.candidates, [Candidate::new(0)], "while it is silent and alone, it is still dialled");
    rig.until("the end of its grace", |picture| condition(picture) == Some("no_writer")).await;
    let grace = silent.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&grace), "{grace:?}");
}
