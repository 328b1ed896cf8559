//! The routes of one pool: every member that its sessions can be on, and those that take new ones.

use std::net::SocketAddr;
use std::sync::Arc;

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
}

/// A backend that takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the backend.
    pub backend: usize,
}

/// A member as a session of one pool sees it.
#[derive(Debug, Clone)]
pub struct Backend {
    pub name: Arc<str>,
    /// Where to dial, in order of preference; empty while the name has not resolved.
    pub addresses: Arc<[SocketAddr]>,
    /// What becomes of the pool's open sessions on it.
    pub fate: Fate,
    pub stats: Arc<MemberStats>,
}

impl PoolRules {
    /// A pool that asks for nothing special.
    pub fn new(name: &str, kind: Kind, stats: &Arc<PoolStats>) -> PoolRules {
        PoolRules { name: Arc::from(name), kind, stats: Arc::clone(stats) }
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

/// Two backends are equal when sessions would notice no difference: counters do not matter.
impl PartialEq for Backend {
    fn eq(&self, other: &Backend) -> bool {
        (&self.name, &self.addresses, self.fate) == (&other.name, &other.addresses, other.fate)
    }
}

impl PoolRoutes {
    /// `addresses` tells where a member can be dialled.
    pub fn new(
        rules: &PoolRules,
        decision: &Decision,
        addresses: impl Fn(&str) -> Arc<[SocketAddr]>,
    ) -> PoolRoutes {
        let decided = decision.pool(&rules.name).filter(|_| rules.kind == Kind::Replicas);
        let fate = |name: &str, writers: Fate| match (rules.kind, decided) {
            (Kind::Primary, _) => writers,
            (Kind::Replicas, decided) => {
                decided.and_then(|pool| pool.verdicts.get(name)).map_or(Fate::Keep, |verdict| verdict.fate)
            }
        };
        let backends = decision.verdicts.iter().map(|verdict| Backend {
            name: Arc::from(verdict.name.as_str()),
            addresses: addresses(&verdict.name),
            fate: fate(&verdict.name, verdict.writers),
            stats: rules.stats.member(&verdict.name),
        });
        let backends: Vec<Backend> = backends.collect();
        let index = |name: &String| backends.iter().position(|backend| *backend.name == **name);
        let (takers, fallback) = match rules.kind {
            Kind::Primary => (decision.writer.as_slice(), None),
            Kind::Replicas => (
                decided.map_or(&[][..], |pool| &pool.readers),
                decided.and_then(|pool| pool.fallback.as_ref()).and_then(index),
            ),
        };
        let candidates = takers.iter().filter_map(index).map(|backend| Candidate { backend }).collect();
        PoolRoutes { name: Arc::clone(&rules.name), kind: rules.kind, backends, candidates, fallback }
    }

    /// Whether a new session may go to this backend.
    pub fn allows(&self, index: usize) -> bool {
        self.fallback == Some(index) || self.candidates.iter().any(|candidate| candidate.backend == index)
    }

    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| &*backend.name == name)
    }
}
