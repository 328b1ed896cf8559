//! The routes of one pool: every member that its sessions can be on, and those that take new ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::vacancy::{Bar, Vacancy};
use super::weights::Weights;
use crate::stats::{MemberStats, PoolStats};
use crate::topology::{Decision, Fate};

/// What a pool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sessions to the writer.
    Primary,
    /// Sessions to the readers.
    Replicas,
}

/// How a pool's routes are made from the decisions about its cluster.
#[derive(Debug, Clone)]
pub struct PoolRules {
    /// Unique in its cluster, and the one by which a decision names a pool of readers.
    pub name: Arc<str>,
    pub kind: Kind,
    pub stats: Arc<PoolStats>,
    pub weights: Weights,
    /// The members with this tag of this value come first.
    pub zone: Option<(String, String)>,
    /// After a return the weight rises over this time.
    pub slow_start: Duration,
    /// Where members are dialled in place of PostgreSQL's port.
    pub port: Option<u16>,
}

/// What a pool's routes need to know of a member beside the decision.
#[derive(Debug, Clone)]
pub struct Site<'a> {
    /// Where to dial.
    pub addresses: Arc<[SocketAddr]>,
    /// Patroni's tags.
    pub tags: &'a [(String, String)],
    /// Why it cannot be reached there, as far as is known.
    pub obstacle: Option<Bar>,
}

/// Where one pool's sessions go.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRoutes {
    pub name: Arc<str>,
    pub kind: Kind,
    /// Every member of the cluster, sorted by name.
    pub backends: Vec<Backend>,
    /// Take new sessions.
    pub candidates: Vec<Candidate>,
    /// Index of the backend that takes sessions when no candidate can.
    pub fallback: Option<usize>,
    /// Why nobody takes new sessions, if nobody does.
    pub vacancy: Option<Vacancy>,
}

/// A backend that takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the backend.
    pub backend: usize,
    /// How many sessions it is to get compared with the others, 1 to 256.
    pub weight: u16,
    /// The lower ones come first, as long as they have room.
    pub rank: u8,
    /// It has come back, and its weight rises from then on.
    pub warming: Option<Warming>,
}

/// A weight that rises with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warming {
    pub since: Instant,
    pub over: Duration,
}

impl Warming {
    /// How much of the weight counts at that time, in percent; `None` once it is all of it.
    pub fn percent_at(&self, now: Instant) -> Option<u8> {
        let share = now.saturating_duration_since(self.since).as_secs_f64() / self.over.as_secs_f64();
        (share < 1.0).then_some((share * 100.0) as u8)
    }
}

/// A weight is shared out this finely while it rises.
const GRAIN: u64 = 256;

/// A member as a session of one pool sees it.
#[derive(Debug, Clone)]
pub struct Backend {
    pub name: Arc<str>,
    /// Where to dial, in order of preference; empty while the name has not resolved.
    pub addresses: Arc<[SocketAddr]>,
    /// What becomes of the pool's open sessions on it.
    pub fate: Fate,
    /// Why it takes no new ones although its role is right.
    pub obstacle: Option<Bar>,
    /// The weight that it has among the candidates, or would have.
    pub weight: u16,
    /// The same, had no operator set another.
    pub initial_weight: u16,
    pub stats: Arc<MemberStats>,
}

impl PoolRules {
    /// A pool that asks for nothing special.
    pub fn new(name: &str, kind: Kind, stats: &Arc<PoolStats>) -> PoolRules {
        PoolRules {
            name: Arc::from(name),
            kind,
            stats: Arc::clone(stats),
            weights: Weights::default(),
            zone: None,
            slow_start: Duration::ZERO,
            port: None,
        }
    }

    fn rank(&self, tags: &[(String, String)]) -> u8 {
        self.zone.as_ref().map_or(0, |zone| u8::from(!tags.contains(zone)))
    }
}

impl Candidate {
    /// One of the default weight, near by.
    pub fn new(backend: usize) -> Candidate {
        Candidate { backend, weight: super::weights::DEFAULT_WEIGHT, rank: 0, warming: None }
    }

    /// The weight at that time, in [`GRAIN`]ths and never nothing. The clock is not read without need.
    pub(super) fn weight_at(&self, now: impl FnOnce() -> Instant) -> u64 {
        let whole = u64::from(self.weight) * GRAIN;
        let Some(Warming { since, over }) = self.warming else { return whole };
        let share = now().saturating_duration_since(since).as_secs_f64() / over.as_secs_f64();
        ((whole as f64 * share.min(1.0)) as u64).max(1)
    }
}

impl Kind {
    /// The word in the API, and the class of what is drawn of the pool.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Primary => "primary",
            Kind::Replicas => "replicas",
        }
    }
}

impl Backend {
    /// Whether a session of the pool can be there.
    pub fn may_have_sessions(&self) -> bool {
        self.fate == Fate::Keep && !self.addresses.is_empty()
    }
}

/// Two backends are equal when nobody would notice a difference: counters do not matter.
impl PartialEq for Backend {
    fn eq(&self, other: &Backend) -> bool {
        let felt = |of: &Backend| (of.fate, of.weight, of.initial_weight);
        (&self.name, &self.addresses, &self.obstacle, felt(self))
            == (&other.name, &other.addresses, &other.obstacle, felt(other))
    }
}

impl PoolRoutes {
    /// `site` tells what there is to know of a member for this pool; `started`, what the decision counts its times from.
    pub fn new<'a>(
        rules: &PoolRules,
        decision: &Decision,
        started: Instant,
        site: impl Fn(&str, &PoolRules) -> Site<'a>,
    ) -> PoolRoutes {
        let decided = decision.pool(&rules.name).filter(|_| rules.kind == Kind::Replicas);
        let fate = |name: &str, writers: Fate| match (rules.kind, decided) {
            (Kind::Primary, _) => writers,
            (Kind::Replicas, decided) => {
                decided.and_then(|pool| pool.verdicts.get(name)).map_or(Fate::Keep, |verdict| verdict.fate)
            }
        };
        let sites: Vec<Site> = decision.verdicts.iter().map(|verdict| site(&verdict.name, rules)).collect();
        let backends = decision.verdicts.iter().zip(&sites).map(|(verdict, site)| Backend {
            name: Arc::from(verdict.name.as_str()),
            addresses: Arc::clone(&site.addresses),
            fate: fate(&verdict.name, verdict.writers),
            obstacle: site.obstacle.clone(),
            weight: rules.weights.of(&verdict.name, site.tags),
            initial_weight: rules.weights.without_operator(&verdict.name, site.tags),
            stats: rules.stats.member(&verdict.name),
        });
        let backends: Vec<Backend> = backends.collect();
        let index = |name: &String| {
            let index = backends.iter().position(|backend| *backend.name == **name)?;
            sites[index].obstacle.is_none().then_some(index)
        };
        let (takers, fallback) = match rules.kind {
            Kind::Primary => (decision.writer.as_slice(), None),
            Kind::Replicas => (
                decided.map_or(&[][..], |pool| &pool.readers),
                decided.and_then(|pool| pool.fallback.as_ref()).and_then(index),
            ),
        };
        let warming = |name: &str| {
            let back_since = decided?.verdicts.get(name)?.back_since?;
            let over = rules.slow_start;
            (!over.is_zero()).then(|| Warming { since: started + back_since, over })
        };
        let candidate = |backend: usize| Candidate {
            backend,
            weight: backends[backend].weight,
            rank: rules.rank(sites[backend].tags),
            warming: warming(&backends[backend].name),
        };
        let candidates = takers.iter().filter_map(index).map(candidate);
        let candidates: Vec<Candidate> = candidates.filter(|candidate| candidate.weight > 0).collect();
        let is_vacant = candidates.is_empty() && fallback.is_none();
        let vacancy = is_vacant.then(|| Vacancy::of(decision, rules.kind, decided, &backends));
        let name = Arc::clone(&rules.name);
        PoolRoutes { name, kind: rules.kind, backends, candidates, fallback, vacancy }
    }

    /// Whether a new session may go to this backend.
    pub fn allows(&self, index: usize) -> bool {
        self.fallback == Some(index) || self.candidates.iter().any(|candidate| candidate.backend == index)
    }

    /// Who takes new sessions: the candidates, or without them the one that stands in.
    pub fn takers(&self) -> impl Iterator<Item = &Backend> {
        let fallback = self.fallback.filter(|_| self.candidates.is_empty());
        let candidates = self.candidates.iter().map(|candidate| candidate.backend);
        candidates.chain(fallback).map(|index| &self.backends[index])
    }

    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| &*backend.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_weight_is_told_in_percent_until_it_has_risen() {
        let since = Instant::now();
        let warming = Warming { since, over: Duration::from_secs(60) };
        for (seconds, percent) in [(0, Some(0)), (15, Some(25)), (59, Some(98)), (60, None), (600, None)] {
            assert_eq!(warming.percent_at(since + Duration::from_secs(seconds)), percent, "{seconds} s");
        }
    }
}
