//! Why does nobody take a pool's new sessions?
//!
//! A pool with nobody in it looks the same to its clients whatever the cause: they wait. So the cause is found in one
//! place, when the routes are made, and the page, the API, the log and the refusals say it in the same words. What keeps
//! one member out is its [`Bar`]; what the bars of all members come to is the pool's [`Vacancy`].
//!
//! Pure: a decision and the members' bars go in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::pool::{Backend, Kind};
use crate::topology::{Class, Condition, Decision, ReaderPool, Unfit};

/// So many members are named with what keeps them out; more would not be read.
const MOST_NAMED: usize = 4;

/// Why one member takes no new sessions of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    /// By what it is, or since an operator wants it so.
    Unfit(Unfit),
    /// The port that the pool has for itself is dead there.
    Port { port: u16, problem: Arc<str> },
    /// A dial would come back to this process: the address is that of a listener of its own.
    OwnListener { address: SocketAddr },
    /// Whether that port takes connections is not known: it has not answered yet, or it has refused a session.
    PortAsked { port: u16 },
    /// It has the weight 0.
    Weight,
}

/// What keeps everybody out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Not enough has been heard yet, or is heard anew.
    Unknown,
    /// The cluster has no writer.
    NoWriter,
    /// The pool's own port is dead on those that would take its sessions.
    Port,
    /// Those that would take its sessions are said to be where this process itself listens.
    OwnListener,
    /// Those that would take its sessions have the weight 0.
    Weight,
    /// An operator has taken them out.
    Drained,
    /// No member is a running replica.
    NoReplica,
    /// There are replicas, and none has what the pool asks for.
    Unfit,
}

/// A pool that sends its sessions to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacancy {
    pub cause: Cause,
    /// For people: a sentence without its capital and its full stop.
    pub reason: String,
}

impl Bar {
    /// What keeps a member out, if anything does. Its port comes after what it is: nobody would be sent there.
    pub fn of(unfit: Option<Unfit>, obstacle: Option<&Bar>, has_no_weight: bool) -> Option<Bar> {
        let unfit = unfit.map(Bar::Unfit);
        unfit.or_else(|| obstacle.cloned()).or_else(|| has_no_weight.then_some(Bar::Weight))
    }

    /// The word in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Bar::Unfit(unfit) => unfit.as_str(),
            Bar::Port { .. } | Bar::PortAsked { .. } => "port",
            Bar::OwnListener { .. } => "own_listener",
            Bar::Weight => "weight",
        }
    }
}

/// The end of a sentence that begins with the member.
impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::Unfit(unfit) => f.write_str(unfit.in_words()),
            Bar::Port { port, problem } => write!(f, "takes no connections at port {port}: {problem}"),
            Bar::PortAsked { port } => write!(f, "is being asked at port {port}"),
            Bar::OwnListener { address } => {
                write!(f, "is not dialled: its address {address} is this balancer's own listener")
            }
            Bar::Weight => f.write_str("has the weight 0"),
        }
    }
}

impl Cause {
    /// The word in the API and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Unknown => "unknown",
            Cause::NoWriter => "no_writer",
            Cause::Port => "port",
            Cause::OwnListener => "own_listener",
            Cause::Weight => "weight",
            Cause::Drained => "drained",
            Cause::NoReplica => "no_replica",
            Cause::Unfit => "unfit",
        }
    }
}

impl Vacancy {
    /// Of a pool that nothing has been decided about.
    pub fn undecided() -> Vacancy {
        Vacancy { cause: Cause::Unknown, reason: "not every node has been asked yet".to_owned() }
    }

    /// Why a pool has nobody. `decided`: what is decided of it, if it is one of readers.
    pub fn of(
        decision: &Decision,
        kind: Kind,
        decided: Option<&ReaderPool>,
        backends: &[Backend],
    ) -> Vacancy {
        let of_cluster = |cause| Vacancy { cause, reason: decision.reason.clone() };
        let bar = |name: &str, unfit: Option<Unfit>| {
            let backend = backends.iter().find(|backend| *backend.name == *name);
            let has_no_weight = backend.is_some_and(|backend| backend.weight == 0);
            Bar::of(unfit, backend.and_then(|backend| backend.obstacle.as_ref()), has_no_weight)
        };
        let bars: Vec<(&str, Bar)> = match (kind, &decision.writer, decided) {
            _ if decision.is_starting() => return of_cluster(Cause::Unknown),
            // Only an operator keeps a writer from a cluster that is well.
            (Kind::Primary, None, _) if decision.condition == Condition::Ok => {
                return of_cluster(Cause::Drained);
            }
            (Kind::Primary, None, _) => return of_cluster(Cause::NoWriter),
            (Kind::Primary, Some(writer), _) => {
                bar(writer, None).map(|bar| (writer.as_str(), bar)).into_iter().collect()
            }
            (Kind::Replicas, _, None) => return Vacancy::undecided(),
            (Kind::Replicas, _, Some(decided)) => {
                let stands_in = |name: &String| decided.fallback.as_ref() == Some(name);
                let verdicts = decided.verdicts.iter();
                let unfit = verdicts.map(|(name, v)| (name, v.unfit.filter(|_| !stands_in(name))));
                unfit.filter_map(|(name, unfit)| Some((name.as_str(), bar(name, unfit)?))).collect()
            }
        };
        // Whoever has not been asked yet may turn out to be a replica. The writer is known.
        let any_unknown = || decision.verdicts.iter().any(|verdict| verdict.class == Class::Unknown);
        let is_unknown = kind == Kind::Replicas && any_unknown();
        Vacancy { cause: cause(&bars, is_unknown), reason: reason(&bars) }
    }
}

/// What is nearest to being mended comes first.
fn cause(bars: &[(&str, Bar)], is_unknown: bool) -> Cause {
    let any = |wanted: fn(&Bar) -> bool| bars.iter().any(|(_, bar)| wanted(bar));
    let mut of_replicas = bars.iter().filter(|(_, bar)| *bar != Bar::Unfit(Unfit::Class)).peekable();
    if is_unknown || any(|bar| matches!(bar, Bar::PortAsked { .. })) {
        Cause::Unknown
    } else if any(|bar| matches!(bar, Bar::Port { .. })) {
        Cause::Port
    } else if any(|bar| matches!(bar, Bar::OwnListener { .. })) {
        Cause::OwnListener
    } else if any(|bar| *bar == Bar::Weight) {
        Cause::Weight
    } else if of_replicas.peek().is_none() {
        Cause::NoReplica
    } else if of_replicas.all(|(_, bar)| *bar == Bar::Unfit(Unfit::Operator)) {
        Cause::Drained
    } else {
        Cause::Unfit
    }
}

/// What keeps each out. That the leader is no replica goes without saying.
fn reason(bars: &[(&str, Bar)]) -> String {
    let told = bars.iter().filter(|(_, bar)| *bar != Bar::Unfit(Unfit::Class));
    let mut told: Vec<String> = told.map(|(name, bar)| format!("{name} {bar}")).collect();
    if told.is_empty() {
        return "no member is a running replica".to_owned();
    }
    let more = told.len().saturating_sub(MOST_NAMED);
    told.truncate(MOST_NAMED);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r` no replica, `o` an operator, `l` lagging, `p` a dead port, `?` a port that is being asked, `b` the
    /// balancer's own address, `w` no weight.
    fn bars(of: &str) -> Vec<(String, Bar)> {
        let bar = |letter| match letter {
            'r' => Bar::Unfit(Unfit::Class),
            'o' => Bar::Unfit(Unfit::Operator),
            'l' => Bar::Unfit(Unfit::Lagging),
            'p' => Bar::Port { port: 6432, problem: Arc::from("refused") },
            '?' => Bar::PortAsked { port: 6432 },
            'b' => Bar::OwnListener { address: ([10, 0, 0, 9], 5000).into() },
            _ => Bar::Weight,
        };
        ('a'..).map(String::from).zip(of.chars().map(bar)).collect()
    }

    #[test]
    fn what_is_nearest_to_being_mended_is_the_cause() {
        for (of, found, said) in [
            ("", Cause::NoReplica, "no member is a running replica"),
            ("rr", Cause::NoReplica, "no member is a running replica"),
            ("ro", Cause::Drained, "b is taken out by an operator"),
            ("rol", Cause::Unfit, "b is taken out by an operator; c lies further behind than max_lag"),
            ("p", Cause::Port, "a takes no connections at port 6432: refused"),
            (
                "rpo",
                Cause::Port,
                "b takes no connections at port 6432: refused; c is taken out by an operator",
            ),
            (
                "rp?",
                Cause::Unknown,
                "b takes no connections at port 6432: refused; c is being asked at port 6432",
            ),
            (
                "rbw",
                Cause::OwnListener,
                "b is not dialled: its address 10.0.0.9:5000 is this balancer's own listener; c has the weight 0",
            ),
            ("rwl", Cause::Weight, "b has the weight 0; c lies further behind than max_lag"),
            (
                "oooooo",
                Cause::Drained,
                "a is taken out by an operator; b is taken out by an operator; c is taken out by an operator; \
                 d is taken out by an operator; and 2 more",
            ),
        ] {
            let bars = bars(of);
            let bars: Vec<(&str, Bar)> =
                bars.iter().map(|(name, bar)| (name.as_str(), bar.clone())).collect();
            assert_eq!((cause(&bars, false), reason(&bars).as_str()), (found, said), "{of}");
            assert_eq!(cause(&bars, true), Cause::Unknown, "{of}: somebody has not been asked yet");
        }
    }
}
