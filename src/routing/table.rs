//! The table: everything that a data worker needs to place a session, fixed for its lifetime.

use std::net::SocketAddr;
use std::sync::Arc;

use super::pick::Choice;
use crate::stats::{MemberStats, PoolStats};
use crate::topology::{Condition, Decision, Fate, Verdict};

/// The routes of all clusters at one epoch.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// Counts the published tables; 0 is the empty one before the first decision.
    pub epoch: u64,
    /// In the order of the configuration; a cluster that is not decided yet has routes that lead nowhere.
    pub clusters: Vec<Arc<Routes>>,
}

/// The routes of one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    /// The cluster's name, for logs and for clients.
    pub cluster: Arc<str>,
    /// The cluster's own count of its tables.
    pub epoch: u64,
    pub condition: Condition,
    /// One sentence for people, and for clients that could not be served.
    pub reason: String,
    /// Sorted by name.
    pub backends: Vec<Backend>,
    /// Index of the backend that takes new writers.
    pub writer: Option<usize>,
    /// Indices of the backends that take new readers.
    pub readers: Vec<usize>,
    /// Index of the backend that takes readers when there is no other.
    pub fallback: Option<usize>,
}

/// A member as a session sees it.
#[derive(Debug, Clone)]
pub struct Backend {
    pub name: Arc<str>,
    /// Where to dial, in order of preference; empty while the name has not resolved.
    pub addresses: Arc<[SocketAddr]>,
    /// What becomes of its open writer sessions.
    pub writers: Fate,
    /// What becomes of its open reader sessions.
    pub readers: Fate,
    /// Counters in the primary pool.
    pub primary_stats: Arc<MemberStats>,
    /// Counters in the replica pool.
    pub replica_stats: Arc<MemberStats>,
}

impl Backend {
    /// Whether a session of this cluster can be there: not on a member of another cluster, say.
    pub fn may_have_sessions(&self) -> bool {
        let kept = self.writers == Fate::Keep || self.readers == Fate::Keep;
        kept && !self.addresses.is_empty()
    }

    /// The counters of the pool that makes this kind of choice.
    pub fn stats_of(&self, choice: Choice) -> &Arc<MemberStats> {
        match choice {
            Choice::Writer => &self.primary_stats,
            Choice::Reader { .. } => &self.replica_stats,
        }
    }
}

/// Two backends are equal when sessions would notice no difference: counters do not matter.
impl PartialEq for Backend {
    fn eq(&self, other: &Backend) -> bool {
        (&self.name, &self.addresses, self.writers, self.readers)
            == (&other.name, &other.addresses, other.writers, other.readers)
    }
}

/// The two pools' counters, for the backends of a new table.
#[derive(Debug, Clone)]
pub struct ClusterStats {
    pub primary: Arc<PoolStats>,
    pub replicas: Arc<PoolStats>,
}

impl ClusterStats {
    pub fn new(workers: usize) -> ClusterStats {
        ClusterStats {
            primary: Arc::new(PoolStats::new(workers)),
            replicas: Arc::new(PoolStats::new(workers)),
        }
    }
}

impl Default for Routes {
    fn default() -> Routes {
        Routes {
            cluster: Arc::from(""),
            epoch: 0,
            condition: Condition::Starting,
            reason: "pilotfish has just started and knows no member yet".to_owned(),
            backends: Vec::new(),
            writer: None,
            readers: Vec::new(),
            fallback: None,
        }
    }
}

impl Routes {
    /// Turns a decision into routes. `addresses` tells where a member can be dialled.
    pub fn new(
        cluster: Arc<str>,
        epoch: u64,
        decision: &Decision,
        stats: &ClusterStats,
        addresses: impl Fn(&str) -> Arc<[SocketAddr]>,
    ) -> Routes {
        let backend = |verdict: &Verdict| Backend {
            name: Arc::from(verdict.name.as_str()),
            addresses: addresses(&verdict.name),
            writers: verdict.writers,
            readers: verdict.readers,
            primary_stats: stats.primary.member(&verdict.name),
            replica_stats: stats.replicas.member(&verdict.name),
        };
        let backends: Vec<Backend> = decision.verdicts.iter().map(backend).collect();
        let index = |name: &String| backends.iter().position(|backend| *backend.name == **name);
        Routes {
            cluster,
            epoch,
            condition: decision.condition,
            reason: decision.reason.clone(),
            writer: decision.writer.as_ref().and_then(index),
            readers: decision.readers.iter().filter_map(index).collect(),
            fallback: decision.fallback.as_ref().and_then(index),
            backends,
        }
    }

    /// Whether a new session of a pool that makes this kind of choice may go to this backend.
    pub fn allows(&self, choice: Choice, index: usize) -> bool {
        match choice {
            Choice::Writer => self.writer == Some(index),
            Choice::Reader { fallback, .. } => {
                self.readers.contains(&index) || (fallback && self.fallback == Some(index))
            }
        }
    }

    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| &*backend.name == name)
    }
}
