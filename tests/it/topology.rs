//! The pure core, tested as data: answers go in, decisions come out, and time is a number.
//!
//! [`classes`] takes single answers. [`rules`], [`reign`], [`readers`] and [`deadlines`] tell a small story for each
//! rule. [`traces`] replays what a real cluster said. [`random`] makes up what no cluster would say and asks
//! [`oracle`], which restates the rules in its own words, about every decision. [`pools`] has several pools of readers over the same members.

mod classes;
mod deadlines;
pub mod dice;
mod oracle;
mod pools;
pub mod random;
mod readers;
mod reign;
mod rules;
pub mod script;
mod simulation;
mod story;
mod traces;
pub mod witness;

use std::time::Duration;

use pilotfish::topology::health::Thresholds;
use pilotfish::topology::{
    Alarm, Decision, Member, Observation, ReaderRules, Settings, Silence, SilenceKind,
};

/// Patroni's default `ttl` for the grace, pilotfish's own defaults for the rest; one pool of readers.
fn settings(max_lag: Option<u64>) -> Settings {
    let pool = ReaderRules { max_lag, fallback: true, ..ReaderRules::default() };
    let thresholds = Thresholds { fall: 3, rise: 2 };
    Settings { thresholds, leader_grace: Duration::from_secs(30), pools: vec![pool] }
}

/// A member whose REST API is known by `at`.
pub fn member(name: &str, at: &str) -> Member {
    Member { name: name.into(), host: at.into(), port: 5432, api: format!("http://{at}:8008") }
}

pub fn silent(kind: SilenceKind) -> Observation {
    Observation::Silent(Silence { kind, detail: "made up".into() })
}

/// What a decision comes to, in one line: writer, tenant, readers, condition, and the alarms if there are any. `-` is
/// nobody; with no reader at all the fallback stands in brackets.
fn outcome(decision: &Decision) -> String {
    let or_nobody = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
    let readers = match (&decision.fallback, decision.readers.join(",")) {
        (Some(fallback), none) if none.is_empty() => format!("({fallback})"),
        (None, none) if none.is_empty() => "-".into(),
        (_, some) => some,
    };
    let condition = decision.condition.as_str().to_owned();
    let mut words = vec![or_nobody(&decision.writer), or_nobody(&decision.tenant), readers, condition];
    words.extend(decision.alarms.iter().map(|alarm| match alarm {
        Alarm::TwoWriters(names) => format!("two_writers:{}", names.join(",")),
        Alarm::OrphanPrimary(name) => format!("orphan_primary:{name}"),
        Alarm::ForeignMember(name) => format!("foreign_member:{name}"),
        Alarm::OldTimeline(name) => format!("old_timeline:{name}"),
        Alarm::NoIdentity => "no_identity".into(),
    }));
    words.join(" ")
}

/// A line of a table without its comment, its columns one space apart.
fn columns(line: &str) -> String {
    let text = line.split('#').next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
