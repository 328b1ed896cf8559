//! Who may read: each pool of readers asks something else of its members.
//!
//! The intuition: a reader of a pool is a running replica of this cluster that has what the pool asks for. Good news is
//! believed slowly and bad news at once: a reader is out at its first answer that does not fit, and back after `rise`
//! good ones. No news is neither: it takes `fall` silent checks in a row before a reader is out for silence. A member
//! that has never been out is in at its first good answer, so that a start takes one round of checks.
//!
//! What one member is to one pool is its [`Standing`] there; a replica that lies too far behind for one pool may well
//! serve another.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::{Cluster, Tracked};
use super::decide::Fate;
use super::health::{Health, Thresholds};
use super::member::Operator;
use super::observation::{Class, Report, SyncState};

/// What one pool of readers asks of its members, and what becomes of those that no longer fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReaderRules {
    /// The pool's name, unique in its cluster.
    pub pool: String,
    /// Bytes of WAL that a reader may lie behind; `None` is no limit.
    pub max_lag: Option<u64>,
    pub require: Require,
    /// The writer is one of the readers, or the leader of a standby cluster, whatever `max_lag` and `require.sync` say.
    pub include_primary: bool,
    /// It reads while nobody else can.
    pub fallback: bool,
    pub cuts: ReaderCuts,
}

/// What a member has to be, beside a running replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Require {
    /// One of these; empty is any.
    pub sync: Vec<SyncState>,
    /// Patroni tags with the values that they must have, as Patroni shows them.
    pub tags: Vec<(String, String)>,
}

/// For which causes the open sessions of a reader that takes no new ones are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderCuts {
    pub promoted: bool,
    pub lagging: bool,
    pub noloadbalance: bool,
    pub drained: bool,
    /// Silent, and no longer named by the cluster.
    pub gone: bool,
}

/// What is decided about one pool of readers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReaderPool {
    pub pool: String,
    /// Take new sessions, sorted by name.
    pub readers: Vec<String>,
    /// Takes them while there is no reader, if the pool allows it.
    pub fallback: Option<String>,
    /// One for each member, by name.
    pub verdicts: BTreeMap<String, ReaderVerdict>,
}

/// What is decided about one member in one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderVerdict {
    /// What becomes of its open sessions.
    pub fate: Fate,
    /// Why it takes no new ones; `None` if it does.
    pub unfit: Option<Unfit>,
    /// Since when it takes them again, if it was out before.
    pub back_since: Option<Duration>,
}

/// Why a member takes no new sessions of a pool of readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// An operator has taken it out.
    Operator,
    /// It is no running replica, or of another cluster.
    Class,
    /// It does not answer.
    Silent,
    /// Tagged `noloadbalance`.
    Noloadbalance,
    /// Further behind than `max_lag`.
    Lagging,
    /// Of another sync state than required.
    Sync,
    /// Without a tag that is required.
    Tags,
    /// A dial failed, and it has not answered since.
    Suspect,
    /// Good again, but not yet for `rise` checks; or not heard yet.
    Returning,
}

impl Default for ReaderCuts {
    fn default() -> ReaderCuts {
        ReaderCuts { promoted: false, lagging: false, noloadbalance: false, drained: false, gone: true }
    }
}

impl Unfit {
    /// The word in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfit::Operator => "operator",
            Unfit::Class => "class",
            Unfit::Silent => "silent",
            Unfit::Noloadbalance => "noloadbalance",
            Unfit::Lagging => "lagging",
            Unfit::Sync => "sync",
            Unfit::Tags => "tags",
            Unfit::Suspect => "suspect",
            Unfit::Returning => "returning",
        }
    }

    /// The same for people: the end of a sentence that begins with the member.
    pub fn in_words(self) -> &'static str {
        match self {
            Unfit::Operator => "is taken out by an operator",
            Unfit::Class => "is no running replica",
            Unfit::Silent => "does not answer",
            Unfit::Noloadbalance => "has the tag noloadbalance",
            Unfit::Lagging => "lies further behind than max_lag",
            Unfit::Sync => "is of another sync state than required",
            Unfit::Tags => "lacks a required tag",
            Unfit::Suspect => "refused a session and has not answered since",
            Unfit::Returning => "is not trusted yet",
        }
    }
}

impl Require {
    fn unmet(&self, report: &Report) -> Option<Unfit> {
        if !self.sync.is_empty() && !self.sync.contains(&report.sync) {
            return Some(Unfit::Sync);
        }
        self.lacks_tag(report).then_some(Unfit::Tags)
    }

    fn lacks_tag(&self, report: &Report) -> bool {
        self.tags.iter().any(|wanted| !report.tags.contains(wanted))
    }
}

/// What one member is to one pool, as far as its checks go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    good_streak: u32,
    been_out: bool,
    serving: bool,
    back_since: Option<Duration>,
    lagging: bool,
    /// What was required and not there at the last answer.
    unmet: Option<Unfit>,
}

impl Standing {
    /// Takes in a check that `health` has recorded. `class` is the member's class by it, lag aside.
    pub fn record(
        &mut self,
        now: Duration,
        class: Class,
        health: &Health,
        rules: &ReaderRules,
        thresholds: Thresholds,
    ) {
        if let Some(report) = health.report() {
            self.measure(health.lag_bytes(), rules.max_lag);
            self.unmet = rules.require.unmet(report);
        }
        match class {
            Class::Reader if !self.lagging && self.unmet.is_none() => self.good_check(now, thresholds.rise),
            Class::Silent if health.silent_streak() < thresholds.fall => self.good_streak = 0,
            _ => self.put_out(),
        }
    }

    fn good_check(&mut self, now: Duration, rise: u32) {
        self.good_streak = self.good_streak.saturating_add(1);
        if !self.serving && self.been_out && self.good_streak >= rise {
            self.back_since = Some(now);
        }
        self.serving |= !self.been_out || self.good_streak >= rise;
    }

    /// Takes no readers until it has been good again, `rise` times in a row.
    pub fn put_out(&mut self) {
        self.serving = false;
        self.been_out = true;
        self.good_streak = 0;
        self.back_since = None;
    }

    /// Out above the limit, back at three quarters of it: a replica at the edge does not flap in and out.
    fn measure(&mut self, lag: Option<u64>, limit: Option<u64>) {
        match (lag, limit) {
            (_, None) => self.lagging = false,
            (Some(lag), Some(limit)) if lag > limit => self.lagging = true,
            (Some(lag), Some(limit)) if lag <= limit / 4 * 3 => self.lagging = false,
            _ => {}
        }
    }

    pub fn is_serving(&self) -> bool {
        self.serving
    }

    pub fn is_lagging(&self) -> bool {
        self.lagging
    }

    /// Why the member takes no readers here, as far as it is about the member itself.
    fn unfit(&self, m: &Tracked) -> Option<Unfit> {
        if m.operator != Operator::Ready {
            return Some(Unfit::Operator);
        }
        // Unknown and serving: it has not been asked since pilotfish stood still.
        if matches!(m.class, Class::Reader | Class::Silent | Class::Unknown) && self.serving {
            return m.health.is_suspect().then_some(Unfit::Suspect);
        }
        Some(match m.class {
            Class::Reader | Class::Standby if self.lagging => Unfit::Lagging,
            Class::Standby => Unfit::Noloadbalance,
            Class::Reader => self.unmet.unwrap_or(Unfit::Returning),
            Class::Unknown => Unfit::Returning,
            Class::Silent => Unfit::Silent,
            _ => Unfit::Class,
        })
    }
}

/// Decides one pool. `leader` takes writes, or leads a standby cluster, and may be sent readers.
pub(super) fn decide(cluster: &Cluster, rules: &ReaderRules, leader: Option<&String>) -> ReaderPool {
    let includes = |m: &Tracked| {
        let tagged = m.health.last_report().is_some_and(|report| !rules.require.lacks_tag(report));
        rules.include_primary && leader == Some(&m.member.name) && tagged
    };
    let unknown = Standing::default();
    let judged: Vec<(&Tracked, &Standing, Option<Unfit>)> = cluster
        .tracked()
        .map(|m| {
            let standing = m.standing(&rules.pool).unwrap_or(&unknown);
            (m, standing, standing.unfit(m).filter(|_| !includes(m)))
        })
        .collect();
    let fit = judged.iter().filter(|(_, _, unfit)| unfit.is_none());
    let readers: Vec<String> = fit.map(|(m, _, _)| m.member.name.clone()).collect();
    let verdict = |&(m, standing, unfit): &(&Tracked, &Standing, Option<Unfit>)| {
        let fate = fate(m, standing, rules, unfit.is_none(), &readers);
        (m.member.name.clone(), ReaderVerdict { fate, unfit, back_since: standing.back_since })
    };
    let verdicts = judged.iter().map(verdict).collect();
    let fallback = leader.filter(|_| rules.fallback).cloned();
    ReaderPool { pool: rules.pool.clone(), readers, fallback, verdicts }
}

/// A former reader keeps its sessions unless the cause by which it takes no more is set to cut them.
fn fate(m: &Tracked, standing: &Standing, rules: &ReaderRules, reads: bool, readers: &[String]) -> Fate {
    let cuts = rules.cuts;
    let tagged = m.health.report().is_some_and(|report| report.noloadbalance);
    let serving = standing.serving && !m.health.is_suspect();
    let withdrawn = match m.class {
        // The leader stands in for readers only while there are none.
        Class::Writer | Class::Promoting => cuts.promoted && !reads && !readers.is_empty(),
        Class::Standby | Class::Reader => {
            (cuts.noloadbalance && tagged) || (cuts.lagging && standing.lagging)
        }
        _ => false,
    };
    match m.class {
        Class::Foreign => Fate::Gone,
        Class::Silent if cuts.gone && !m.listed && !serving => Fate::Gone,
        _ if withdrawn || (cuts.drained && m.operator != Operator::Ready) => Fate::Withdrawn,
        _ => Fate::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::observation::{Observation, Role, Silence, SilenceKind};

    const THRESHOLDS: Thresholds = Thresholds { fall: 3, rise: 2 };

    fn rules() -> ReaderRules {
        ReaderRules { max_lag: Some(100), ..ReaderRules::default() }
    }

    /// `g` good reader, `n` negative answer, `s` silence; digits: a good reader with that many tens of bytes of lag.
    fn serving_after(checks: &str) -> String {
        let (mut health, mut standing) = (Health::default(), Standing::default());
        let step = |check: char| {
            let report = |state: &str, lag: u64| {
                let position = Some(1000 - lag);
                let state = state.to_owned();
                Report {
                    status: 503,
                    role: Role::Replica,
                    state,
                    wal_position: position,
                    ..Report::default()
                }
            };
            let observation = match check {
                's' => {
                    let detail = String::new();
                    Observation::Silent(Silence { kind: SilenceKind::Timeout, detail })
                }
                'n' => Observation::Answered(report("stopped", 0)),
                'g' => Observation::Answered(report("running", 0)),
                tens => {
                    let tens = u64::from(tens.to_digit(36).expect("a digit"));
                    Observation::Answered(report("running", tens * 10))
                }
            };
            let class = match &observation {
                Observation::Answered(report) => report.class(),
                Observation::Silent(_) => Class::Silent,
            };
            health.record(Duration::ZERO, observation, class, Some(1000));
            standing.record(Duration::ZERO, class, &health, &rules(), THRESHOLDS);
            if standing.is_serving() { '+' } else { '-' }
        };
        checks.chars().map(step).collect()
    }

    #[test]
    fn negative_at_once_silence_after_fall_back_after_rise() {
        for (checks, serving) in [
            ("g", "+"),
            ("gng", "+--"),
            ("gngg", "+--+"),
            ("gss", "+++"),
            ("gsss", "+++-"),
            ("gsssg", "+++--"),
            ("gsssgg", "+++--+"),
            ("gssgss", "++++++"),
            ("sg", "-+"),
            ("sssgg", "----+"),
            ("ngsg", "----"),
        ] {
            assert_eq!(serving_after(checks), serving, "checks {checks}");
        }
    }

    #[test]
    fn a_reader_at_the_edge_of_the_lag_limit_does_not_flap() {
        for (checks, serving) in [
            ("0a", "++"),
            ("0b", "+-"),
            // 80 and 100 are within the limit but above three quarters of it: still out.
            ("0b8a8", "+----"),
            ("0b77", "+--+"),
        ] {
            assert_eq!(serving_after(checks), serving, "checks {checks}");
        }
    }
}
