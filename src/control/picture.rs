//! What control knows, for those who only look: the page, the API, the metrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::incident::{Incident, Totals};
use super::steward::Strangers;
use crate::routing::{ClusterId, Routes};
use crate::stats::Histogram;
use crate::topology::{Class, Decision, Member, Operator, Report, Silence};

/// One cluster at one moment.
#[derive(Debug, Clone)]
pub struct ClusterPicture {
    pub id: ClusterId,
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
    /// Whom operators have taken out, by name, those who are away too.
    pub wishes: BTreeMap<String, Operator>,
    /// Losses of the writer, newest first; the first may still last.
    pub incidents: Vec<Arc<Incident>>,
    pub incident_totals: Totals,
    /// Why the last attempt to read `/cluster` failed.
    pub discovery_problem: Option<String>,
    /// What the weights of each pool name and is no member.
    pub strangers: Strangers,
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
    /// Those without an answer.
    pub failures: u64,
}

impl Checks {
    pub fn add(&mut self, check: Check) {
        self.seconds.observe(check.took);
        self.failures += u64::from(check.silence.is_some());
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
    shown: Arc<Mutex<Shown>>,
    changes: watch::Sender<u64>,
}

/// In the order of the configuration. A cluster that only drains is not among them.
#[derive(Debug, Default)]
struct Shown {
    clusters: Vec<Arc<ClusterPicture>>,
    places: HashMap<ClusterId, usize>,
}

impl Shown {
    fn of(clusters: impl IntoIterator<Item = ClusterPicture>) -> Shown {
        let clusters: Vec<_> = clusters.into_iter().map(Arc::new).collect();
        let places = clusters.iter().enumerate().map(|(place, picture)| (picture.id, place)).collect();
        Shown { clusters, places }
    }
}

impl Pictures {
    /// `started` is what the durations in the pictures count from.
    pub fn new(started: Instant, clusters: impl IntoIterator<Item = ClusterPicture>) -> Pictures {
        let shown = Arc::new(Mutex::new(Shown::of(clusters)));
        Pictures { started, shown, changes: watch::Sender::new(0) }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These and no others from now on, in their order.
    pub(super) fn show(&self, clusters: impl IntoIterator<Item = ClusterPicture>) {
        *self.shown() = Shown::of(clusters);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Nothing happens if it is not among those that are shown.
    pub(super) fn replace(&self, picture: ClusterPicture) {
        let mut shown = self.shown();
        if let Some(&place) = shown.places.get(&picture.id) {
            shown.clusters[place] = Arc::new(picture);
        }
        drop(shown);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The time by which the pictures age: they are replaced only when something happens.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// In the order of the configuration.
    pub fn all(&self) -> Vec<Arc<ClusterPicture>> {
        self.shown().clusters.clone()
    }

    /// `None`: it has gone.
    pub fn one(&self, cluster: ClusterId) -> Option<Arc<ClusterPicture>> {
        let shown = self.shown();
        shown.places.get(&cluster).map(|&place| Arc::clone(&shown.clusters[place]))
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
