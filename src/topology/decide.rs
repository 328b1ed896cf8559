//! Who may take which sessions, given everything that is known at one moment.
//!
//! The writer's seat holds one node or none. A node gets the seat by saying that it holds the leader lock, that it is
//! primary and that it runs or has just started, on a timeline not older than any that the cluster has had ([`Class::Writer`]). It loses
//! the seat by saying otherwise, or by another's better claim; by silence only among others that speak, and when
//! `leader_grace` is over. Whoever had the seat last is the *incumbent*: ties and silences are decided in its favour,
//! and its open sessions may live as long as nothing has shown that its reign is over (the *tenant* below).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::cluster::{Cluster, Hearsay, Tenure, Tracked};
use super::member::Operator;
use super::observation::{Class, Report};
use super::readers::ReaderPool;

/// Everything that follows from one moment's knowledge of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub condition: Condition,
    /// One sentence for people: why the condition is what it is.
    pub reason: String,
    /// Takes new writer sessions. At most one node, always.
    pub writer: Option<String>,
    /// The node whose open writer sessions may go on; on every other node they are cut.
    pub tenant: Option<String>,
    /// May take readers although it is no replica: the writer, or the leader of a standby cluster.
    pub fallback: Option<String>,
    /// Take new sessions of one pool of readers at least, sorted by name.
    pub readers: Vec<String>,
    /// One for each pool of readers.
    pub pools: Vec<ReaderPool>,
    /// Timeline of the last verified writer.
    pub timeline: Option<u32>,
    /// One for each member, sorted by name.
    pub verdicts: Vec<Verdict>,
    pub alarms: BTreeSet<Alarm>,
    /// Until when the nodes should be asked at the fast interval.
    pub fast_until: Option<Duration>,
    /// When time alone changes this decision.
    pub decide_again_at: Option<Duration>,
}

/// What is decided about one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub name: String,
    pub class: Class,
    /// What becomes of its open writer sessions.
    pub writers: Fate,
}

/// What becomes of the open sessions of one kind on one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// They go on.
    Keep,
    /// They are cut, because the node lost the role that they need.
    RoleLost,
    /// They are cut, because the node no longer belongs to the cluster.
    Gone,
    /// They are cut, because the node takes no more sessions of their kind and they are set not to outlive that.
    Withdrawn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// There is a verified writer.
    Ok,
    /// Nobody holds the lock.
    NoWriter,
    /// A node holds the lock and is about to take writes.
    Promoting,
    /// The lock's holder does not take writes: it stops, starts or has crashed.
    Leaving,
    /// Nodes contradict each other.
    Conflict,
    /// The writer, or every node, does not answer.
    Unreachable,
    /// Not enough has been heard yet to decide anything.
    Starting,
}

/// Something that an operator should look at, whatever is routed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// More than one node says that it is the running primary with the lock.
    TwoWriters(Vec<String>),
    /// Primary without the lock.
    OrphanPrimary(String),
    /// Another `database_system_identifier`.
    ForeignMember(String),
    /// Claims the lock on a timeline older than one that the cluster has already had.
    OldTimeline(String),
    /// The first answers do not agree on which cluster this is.
    NoIdentity,
}

impl Condition {
    pub const ALL: [Condition; 7] = [
        Condition::Ok,
        Condition::NoWriter,
        Condition::Promoting,
        Condition::Leaving,
        Condition::Conflict,
        Condition::Unreachable,
        Condition::Starting,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Ok => "ok",
            Condition::NoWriter => "no_writer",
            Condition::Promoting => "promoting",
            Condition::Leaving => "leaving",
            Condition::Conflict => "conflict",
            Condition::Unreachable => "unreachable",
            Condition::Starting => "starting",
        }
    }
}

impl Decision {
    /// Not enough has been heard yet for this to be more than a beginning.
    pub fn is_starting(&self) -> bool {
        self.condition == Condition::Starting
    }

    /// The pool of readers of that name.
    pub fn pool(&self, name: &str) -> Option<&ReaderPool> {
        self.pools.iter().find(|decided| decided.pool == name)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::TwoWriters(names) => write!(f, "{} all claim the leader lock", names.join(", ")),
            Alarm::OrphanPrimary(name) => write!(f, "{name} is primary without the leader lock"),
            Alarm::ForeignMember(name) => write!(f, "{name} belongs to another cluster"),
            Alarm::OldTimeline(name) => {
                write!(f, "{name} claims the leader lock on a timeline older than one already seen")
            }
            Alarm::NoIdentity => write!(f, "the endpoints belong to different clusters"),
        }
    }
}

/// The writer's seat at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub writer: Option<String>,
    pub tenant: Option<String>,
    pub condition: Condition,
    pub reason: String,
    /// Who has proved just now that the seat is its own, and on which timeline. Without this a tenure goes on as long
    /// as there is a tenant.
    pub proved: Option<(String, Option<u32>)>,
    /// A doubt about the only claim, kept so that its bound can be told.
    pub doubted: bool,
    pub decide_again_at: Option<Duration>,
}

impl Seat {
    fn empty(condition: Condition, reason: impl Into<String>) -> Seat {
        Seat {
            writer: None,
            tenant: None,
            condition,
            reason: reason.into(),
            proved: None,
            doubted: false,
            decide_again_at: None,
        }
    }
}

/// Fills the writer's seat.
pub(super) fn seat(cluster: &Cluster, now: Duration) -> Seat {
    if !cluster.is_settled() {
        return Seat::empty(Condition::Starting, "not every node has been asked yet");
    }
    let claims: Vec<&Tracked> = cluster.of_class(Class::Writer).collect();
    let verified: Vec<&Tracked> = claims.iter().copied().filter(|m| cluster.is_verified(m)).collect();
    let Some(newest) = verified.iter().map(|m| cluster.timeline_of(m)).max() else {
        return vacant(cluster, now, &claims);
    };
    let newest_claims: Vec<&Tracked> =
        verified.into_iter().filter(|m| cluster.timeline_of(m) == newest).collect();
    let incumbent = newest_claims.iter().find(|m| cluster.is_incumbent(&m.member.name));
    let winner = match (newest_claims.as_slice(), incumbent) {
        ([only], _) => *only,
        (_, Some(incumbent)) => incumbent,
        _ => {
            let names = names(&newest_claims);
            let reason = format!("{names} claim the leader lock on the same timeline; none is trusted");
            return Seat::empty(Condition::Conflict, reason);
        }
    };
    taken(cluster, now, winner, &claims)
}

/// One claim has won; it gets the seat unless fresh evidence from others speaks against it.
fn taken(cluster: &Cluster, now: Duration, winner: &Tracked, claims: &[&Tracked]) -> Seat {
    let name = winner.member.name.clone();
    if let Some((condition, reason)) = doubt(cluster, winner) {
        let bound = cluster.doubted_since().unwrap_or(now) + cluster.settings().leader_grace;
        if now < bound {
            return Seat {
                tenant: cluster.is_incumbent(&name).then_some(name),
                doubted: true,
                decide_again_at: Some(bound),
                ..Seat::empty(condition, reason)
            };
        }
    }
    let rivals: Vec<&Tracked> = claims.iter().copied().filter(|m| m.member.name != name).collect();
    let (condition, reason) = if rivals.is_empty() {
        (Condition::Ok, format!("{name} holds the leader lock and takes writes"))
    } else {
        let rivals = names(&rivals);
        (Condition::Conflict, format!("{name} is the writer, but {rivals} claims the leader lock too"))
    };
    let timeline = winner.health.report().and_then(|report| report.timeline);
    Seat {
        writer: Some(name.clone()),
        tenant: Some(name.clone()),
        proved: Some((name, timeline)),
        // Still doubted past the bound: the same doubt must not start anew.
        doubted: cluster.doubted_since().is_some() && doubt(cluster, winner).is_some(),
        ..Seat::empty(condition, reason)
    }
}

/// Fresh evidence that the lock has moved on although `claimant` still says that it holds it: its lease may
/// outlive the lock by Patroni's `ttl`, which is why the doubt is bounded by `leader_grace`. The evidence is another
/// node that is being promoted, the DCS naming another leader, or a replica that streams a newer timeline.
fn doubt(cluster: &Cluster, claimant: &Tracked) -> Option<(Condition, String)> {
    let name = &claimant.member.name;
    if let Some(promoting) = cluster.of_class(Class::Promoting).next() {
        let other = &promoting.member.name;
        return Some((
            Condition::Promoting,
            format!("{other} has taken the leader lock while {name} claims it"),
        ));
    }
    // Asked after the claim was made, or after the silent claimant last spoke.
    let spoke_at = match claimant.class {
        Class::Silent => claimant.health.answered_at().unwrap_or_default(),
        _ => claimant.class_since,
    };
    let newer = |hearsay: &&Hearsay| hearsay.asked_at > spoke_at && hearsay.leader != *name;
    if let Some(Hearsay { leader, .. }) = cluster.hearsay().filter(newer) {
        return Some((Condition::Conflict, format!("the DCS names {leader} as the leader, not {name}")));
    }
    let timeline = cluster.timeline_of(claimant);
    let follower = cluster.tracked().find(|m| {
        let report = m.health.report();
        matches!(m.class, Class::Reader | Class::Standby)
            && report.is_some_and(|r| r.replication_state.as_deref() == Some("streaming"))
            && report.and_then(|r| r.timeline).is_some_and(|t| t > timeline)
    })?;
    let other = &follower.member.name;
    Some((Condition::Conflict, format!("{other} already follows a timeline newer than that of {name}")))
}

/// Nobody has a verified claim: is the incumbent still to be used, and what do people need to know?
fn vacant(cluster: &Cluster, now: Duration, claims: &[&Tracked]) -> Seat {
    if let Some((tenure, incumbent)) = cluster.incumbent()
        && !lock_moved_on(cluster, incumbent)
        && let Some(seat) = reign(cluster, now, tenure, incumbent)
    {
        return seat;
    }
    let (condition, reason) = vacancy(cluster, claims);
    Seat::empty(condition, reason)
}

/// Another node holds the lock, though it does not take writes itself. A claim to take them was refused before.
fn lock_moved_on(cluster: &Cluster, incumbent: &Tracked) -> bool {
    let others = cluster.tracked().filter(|m| m.member.name != incumbent.member.name);
    others.map(|m| m.class).any(|class| class.claims_lock() && class != Class::Writer)
}

/// The incumbent without a verified claim: `Some` while its reign is not over.
fn reign(cluster: &Cluster, now: Duration, tenure: &Tenure, incumbent: &Tracked) -> Option<Seat> {
    let name = incumbent.member.name.clone();
    match incumbent.class {
        Class::Leaving => {
            let state = incumbent.health.report().map_or("", |report| &report.state);
            let reason = format!("{name} holds the leader lock, but its PostgreSQL is {state}");
            Some(Seat { tenant: Some(name), ..Seat::empty(Condition::Leaving, reason) })
        }
        Class::Silent | Class::Unknown => {
            // Patroni's own store still names it: as good as an answer.
            let vouched = cluster.hearsay().filter(|hearsay| hearsay.leader == name).map(|h| h.asked_at);
            let answered = incumbent.health.answered_at().unwrap_or(tenure.since);
            let heard = vouched.map_or(answered, |vouched| vouched.max(answered));
            // Only a silence among others that speak says anything.
            let counted_from = heard.max(cluster.blind_until());
            let until = (!cluster.is_blind()).then(|| counted_from + cluster.settings().leader_grace);
            if until.is_some_and(|until| now >= until) {
                return None;
            }
            // Silence takes back nothing that was said before it, neither by the incumbent nor by others.
            let took_writes = incumbent.health.last_report().is_some_and(Report::takes_writes);
            // Nothing, since pilotfish itself stood still.
            let is_of_now = incumbent.health.answered_at().is_some() || vouched.is_some();
            let used = took_writes && is_of_now && doubt(cluster, incumbent).is_none();
            let reason = if !is_of_now {
                format!("pilotfish itself stood still, and nothing was heard of {name} since")
            } else if used && until.is_none() {
                format!("no node answers; {name} is used until one does")
            } else if used {
                format!("{name} does not answer; it is used until another node leads or its grace is over")
            } else {
                format!("{name} does not answer, and it was about to be no writer any more")
            };
            let is_asked = is_of_now || incumbent.class == Class::Silent;
            let condition = if is_asked { Condition::Unreachable } else { Condition::Starting };
            Some(Seat {
                writer: used.then(|| name.clone()),
                tenant: Some(name),
                decide_again_at: until,
                ..Seat::empty(condition, reason)
            })
        }
        Class::Orphan if cluster.is_verified(incumbent) && doubt(cluster, incumbent).is_none() => {
            let report = incumbent.health.report().filter(|report| report.is_paused_primary())?;
            let reason =
                format!("{name} lost the leader lock, but the cluster is paused and it still takes writes");
            Some(Seat {
                writer: Some(name.clone()),
                tenant: Some(name.clone()),
                proved: Some((name, report.timeline)),
                ..Seat::empty(Condition::Ok, reason)
            })
        }
        _ => None,
    }
}

fn vacancy(cluster: &Cluster, claims: &[&Tracked]) -> (Condition, String) {
    if let Some(m) = cluster.of_class(Class::Promoting).next() {
        return (Condition::Promoting, format!("{} is being promoted", m.member.name));
    }
    if let Some(m) = cluster.of_class(Class::Leaving).next() {
        let state = m.health.report().map_or("", |report| &report.state);
        let reason = format!("{} holds the leader lock, but its PostgreSQL is {state}", m.member.name);
        return (Condition::Leaving, reason);
    }
    if cluster.lacks_identity() {
        return (Condition::Conflict, "the endpoints belong to different clusters".to_owned());
    }
    let outdated: Vec<&Tracked> = claims.iter().copied().filter(|m| cluster.is_outdated(m)).collect();
    if !outdated.is_empty() {
        let reason = format!(
            "{} claims the leader lock on a timeline older than one seen before (if the cluster was restored: restart pilotfish)",
            names(&outdated)
        );
        return (Condition::Conflict, reason);
    }
    if !claims.is_empty() {
        return (Condition::Promoting, format!("{} has not told its timeline yet", names(claims)));
    }
    if cluster.tracked().all(|m| matches!(m.class, Class::Silent | Class::Unknown)) {
        return (Condition::Unreachable, "no node answers".to_owned());
    }
    if cluster.tracked().all(|m| matches!(m.class, Class::Foreign | Class::Silent)) {
        let reason = "every node that answers belongs to another cluster than before (if it was made anew: restart pilotfish)";
        return (Condition::NoWriter, reason.to_owned());
    }
    if let Some(m) = cluster.of_class(Class::StandbyLeader).next() {
        return (Condition::NoWriter, format!("a standby cluster, led by {}", m.member.name));
    }
    (Condition::NoWriter, "no node holds the leader lock".to_owned())
}

/// Who may read although it is no replica.
pub(super) fn fallback(cluster: &Cluster, writer: Option<&String>) -> Option<String> {
    let ready = |m: &&Tracked| m.operator == Operator::Ready;
    let standby_leader = cluster.of_class(Class::StandbyLeader).find(ready).map(|m| m.member.name.clone());
    writer.cloned().or(standby_leader)
}

/// What becomes of each member's open writer sessions.
pub(super) fn verdicts(cluster: &Cluster, tenant: Option<&String>) -> Vec<Verdict> {
    let verdict = |m: &Tracked| {
        let name = m.member.name.clone();
        let seated = tenant == Some(&name);
        let writers = if seated { Fate::Keep } else { Fate::RoleLost };
        Verdict { name, class: m.class, writers }
    };
    cluster.tracked().map(verdict).collect()
}

/// What an operator should look at.
pub(super) fn alarms(cluster: &Cluster) -> BTreeSet<Alarm> {
    let mut alarms = BTreeSet::new();
    let claims: Vec<&Tracked> = cluster.of_class(Class::Writer).collect();
    if claims.len() > 1 {
        alarms.insert(Alarm::TwoWriters(claims.iter().map(|m| m.member.name.clone()).collect()));
    }
    for m in cluster.tracked().filter(|m| m.operator != Operator::Maint) {
        let name = m.member.name.clone();
        match m.class {
            Class::Orphan => alarms.insert(Alarm::OrphanPrimary(name)),
            Class::Foreign => alarms.insert(Alarm::ForeignMember(name)),
            Class::Writer if cluster.is_outdated(m) => alarms.insert(Alarm::OldTimeline(name)),
            _ => false,
        };
    }
    if cluster.lacks_identity() {
        alarms.insert(Alarm::NoIdentity);
    }
    alarms
}

fn names(members: &[&Tracked]) -> String {
    members.iter().map(|m| m.member.name.as_str()).collect::<Vec<_>>().join(" and ")
}
