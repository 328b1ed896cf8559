//! What a real cluster said, replayed: `tests/traces` and its README tell what was recorded.
//!
//! A trace holds a line for each *change* of a node's answer. Between two of them the node says the same again: it is
//! asked 50 ms after its last answer, and the answer takes as long as the last one took, so that streaks and graces
//! run as they did. An answer counts from the moment it is there, not from the question.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pilotfish::control::patroni;
use pilotfish::topology::{Cluster, Observation, Settings, SilenceKind};
use serde_json::Value;

use super::{columns, member, outcome, settings, silent};

/// How long a node is left alone between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(50);
/// Traces begin before zero, fake time does not.
const ZERO: Duration = Duration::from_secs(10);
/// How long everybody goes on saying the same after the last recorded change.
const EPILOGUE: Duration = Duration::from_secs(5);

#[test]
fn recorded_failures_are_decided_as_expected() {
    let expectations = files(".expected");
    for trace in files(".jsonl") {
        let name = stem(&trace);
        let of_trace = expectations.iter().filter(|path| stem(path) == name);
        assert!(of_trace.count() > 0, "{name} has no .expected beside it");
    }
    let surprises: Vec<String> = expectations.iter().filter_map(|path| surprise(path)).collect();
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// What an expectation says, what was decided instead.
fn surprise(expectation: &Path) -> Option<String> {
    let text = fs::read_to_string(expectation).expect("readable expectations");
    let mut lines = text.lines().map(columns).filter(|line| !line.is_empty());
    let grace = lines.next().and_then(|line| line.strip_prefix("leader_grace ")?.parse().ok());
    let leader_grace = Duration::from_secs(grace.expect("leader_grace and its seconds on the first line"));
    let expected: Vec<(Duration, String)> = lines.map(|line| moment(&line)).collect();
    let (begin, _) = *expected.first().expect("a first moment");

    let trace = expectation.with_file_name(format!("{}.jsonl", stem(expectation)));
    let mut decided = changes(&answers(&trace), Settings { leader_grace, ..settings(None) });
    let in_force = decided.iter().rposition(|&(at, _)| at <= begin).expect("something decided by then");
    decided.drain(..in_force);
    decided[0].0 = begin;

    let listed = |moments: &[(Duration, String)]| {
        let line = |(at, outcome): &(Duration, String)| {
            format!("  {:8.4} {outcome}\n", at.as_secs_f64() - ZERO.as_secs_f64())
        };
        moments.iter().map(line).collect::<String>()
    };
    let name = expectation.file_name().expect("a file").to_string_lossy();
    (decided != expected)
        .then(|| format!("{name}: expected\n{}decided\n{}", listed(&expected), listed(&decided)))
}

/// `2.8866 patroni2 patroni2 patroni3 ok`: from when on, what.
fn moment(line: &str) -> (Duration, String) {
    let (at, outcome) = line.split_once(' ').expect("a time and what is decided then");
    (fake_time(at.parse().expect("a time in seconds")), outcome.to_owned())
}

/// Every answer at its time, and every change of what is decided.
fn changes(answers: &[Answer], settings: Settings) -> Vec<(Duration, String)> {
    let names: BTreeSet<&str> = answers.iter().map(|answer| answer.node.as_str()).collect();
    let members = names.iter().map(|name| member(name, name)).collect();
    let mut cluster = Cluster::new(settings, members);
    let mut changes: Vec<(Duration, String)> = Vec::new();
    let mut again_at = None;
    let mut decide = |cluster: &mut Cluster, now: Duration| {
        let decision = cluster.decide(now);
        let outcome = outcome(&decision);
        if changes.last().is_none_or(|(_, last)| *last != outcome) {
            changes.push((now, outcome));
        }
        assert!(
            decision.decide_again_at.is_none_or(|at| at > now),
            "asks for a moment that is over: {decision:?}"
        );
        decision.decide_again_at
    };
    for answer in answers {
        while let Some(at) = again_at.filter(|&at| at < answer.at) {
            again_at = decide(&mut cluster, at);
        }
        cluster.observe(answer.at, &answer.node, answer.observation.clone());
        again_at = decide(&mut cluster, answer.at);
    }
    changes
}

#[derive(Clone)]
struct Answer {
    /// When it was there.
    at: Duration,
    took: Duration,
    node: String,
    observation: Observation,
}

/// The recorded answers and, between them, the same again.
fn answers(trace: &Path) -> Vec<Answer> {
    let text = fs::read_to_string(trace).expect("a readable trace");
    let recorded: Vec<Answer> = text.lines().filter_map(recorded).collect();
    let end = recorded.iter().map(|answer| answer.at).max().expect("an answer") + EPILOGUE;
    let mut answers = Vec::new();
    for (i, answer) in recorded.iter().enumerate() {
        let next = recorded[i + 1..].iter().find(|later| later.node == answer.node);
        let until = next.map_or(end, |next| next.at - next.took);
        let mut again = answer.clone();
        answers.push(again.clone());
        again.at += PAUSE + again.took;
        while again.at <= until {
            answers.push(again.clone());
            again.at += PAUSE + again.took;
        }
    }
    answers.sort_by_key(|answer| answer.at);
    answers
}

/// One line of a trace; `None` if it tells what was done to the cluster.
fn recorded(line: &str) -> Option<Answer> {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    if line.get("event").is_some() {
        return None;
    }
    let seconds = |key: &str| line[key].as_f64().expect("a time in seconds");
    let observation = match line["error"].as_str() {
        Some("TimeoutError") => silent(SilenceKind::Timeout),
        Some("ConnectionRefusedError") => silent(SilenceKind::Refused),
        Some("ConnectionResetError") => silent(SilenceKind::Reset),
        Some(other) => panic!("unknown error in a trace: {other}"),
        None => {
            let status = line["status"].as_u64().and_then(|status| status.try_into().ok());
            let body = line["body"].to_string();
            let report = patroni::report(status.expect("a status"), body.as_bytes());
            Observation::Answered(report.expect("a real answer can be read"))
        }
    };
    Some(Answer {
        at: fake_time(seconds("t") + seconds("took")),
        took: fake_time(seconds("took")) - ZERO,
        node: line["node"].as_str().expect("a node").to_owned(),
        observation,
    })
}

/// Traces are exact to a tenth of a millisecond.
fn fake_time(seconds: f64) -> Duration {
    let tenths = ((seconds + ZERO.as_secs_f64()) * 10_000.0).round();
    Duration::from_micros(tenths as u64 * 100)
}

fn files(suffix: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let entries = fs::read_dir(directory).expect("tests/traces");
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    paths.sort();
    assert!(!paths.is_empty(), "tests/traces has no {suffix}");
    paths
}

/// `node-killed` of `node-killed.jsonl` and of `node-killed.short-grace.expected`.
fn stem(path: &Path) -> String {
    let name = path.file_name().expect("a file").to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}
