//! What control knows, for those who only look: the page, the API, the metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::incident::{Incident, Totals};
use crate::routing::Routes;
use crate::stats::Histogram;
use crate::topology::{Class, Decision, Member, Operator, Report, Silence};

/// One cluster at one moment.
#[derive(Debug, Clone)]
pub struct ClusterPicture {
    pub name: Arc<str>,
    /// Counts the cluster's tables; 0 before the first.
    pub epoch: u64,
    /// Where sessions go: what has come of the decision for each pool.
    pub routes: Arc<Routes>,
    /// `None` until the first decision.
    pub decision: Option<Decision>,
    /// Since when the writer has been the writer.
    pub writer_since: Option<Duration>,
    /// The writer, or who was it last.
    pub last_writer: Option<String>,
    /// How often a writer was followed by another since the start.
    pub failovers: u64,
    pub members: Vec<MemberPicture>,
    /// Losses of the writer, newest first; the first may still last.
    pub incidents: Vec<Arc<Incident>>,
    pub incident_totals: Totals,
    /// Why the last attempt to read `/cluster` failed.
    pub discovery_problem: Option<String>,
}

#[derive(Debug, Clone)]
pub struct MemberPicture {
    pub member: Member,
    pub operator: Operator,
    pub class: Class,
    pub class_since: Duration,
    /// The last report, which may be older than the last check.
    pub report: Option<Report>,
    pub lag_bytes: Option<u64>,
    pub checks: Checks,
    /// Where it is dialled; empty when its host name does not resolve.
    pub addresses: Arc<[std::net::SocketAddr]>,
}

/// What the checks of one member have come to.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    pub last: Option<Check>,
    /// How long they took, those without an answer too.
    pub seconds: Arc<Histogram>,
}

impl Checks {
    pub fn add(&mut self, check: Check) {
        self.seconds.observe(check.took);
        self.last = Some(check);
    }
}

/// One check of one member.
#[derive(Debug, Clone)]
pub struct Check {
    pub at: Duration,
    pub took: Duration,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    pub silence: Option<Silence>,
}

/// The newest picture of every cluster; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pictures {
    started: Instant,
    clusters: Arc<[Mutex<Arc<ClusterPicture>>]>,
    changes: watch::Sender<u64>,
}

impl Pictures {
    /// `started` is what the durations in the pictures count from.
    pub fn new(started: Instant, clusters: impl IntoIterator<Item = ClusterPicture>) -> Pictures {
        let clusters = clusters.into_iter().map(|picture| Mutex::new(Arc::new(picture))).collect();
        Pictures { started, clusters, changes: watch::Sender::new(0) }
    }

    pub(super) fn replace(&self, cluster: usize, picture: ClusterPicture) {
        *self.clusters[cluster].lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(picture);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The time by which the pictures age: they are replaced only when something happens.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// In the order of the configuration.
    pub fn all(&self) -> Vec<Arc<ClusterPicture>> {
        let newest = |slot: &Mutex<Arc<ClusterPicture>>| {
            Arc::clone(&slot.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.clusters.iter().map(newest).collect()
    }

    /// The cluster at this place of the configuration.
    pub fn one(&self, cluster: usize) -> Arc<ClusterPicture> {
        Arc::clone(&self.clusters[cluster].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every cluster has been decided at least once.
    pub fn is_ready(&self) -> bool {
        self.all().iter().all(|cluster| cluster.decision.is_some())
    }

    /// Counts replaced pictures.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
