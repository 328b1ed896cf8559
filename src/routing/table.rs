//! The table: everything that a data worker needs to place a session, fixed for its lifetime.

use std::sync::Arc;
use std::time::Instant;

use super::pool::{PoolRoutes, PoolRules, Site};
use crate::topology::{Condition, Decision};

/// A cluster in this process. Never given twice: whoever still has the number of one that went finds none, and never
/// another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

/// The routes of all clusters at one epoch.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// Counts the published tables; 0 is the empty one before the first decision.
    pub epoch: u64,
    /// Sorted. A cluster that is not decided yet has routes that lead nowhere.
    clusters: Vec<(ClusterId, Arc<Routes>)>,
}

impl Table {
    pub fn new(epoch: u64, clusters: impl IntoIterator<Item = (ClusterId, Arc<Routes>)>) -> Table {
        let mut table = Table { epoch, clusters: Vec::new() };
        clusters.into_iter().for_each(|(id, routes)| table.set(id, routes));
        table
    }

    /// `None`: the cluster has gone, or has not come yet.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Routes>> {
        self.place(id).ok().map(|place| &self.clusters[place].1)
    }

    pub fn set(&mut self, id: ClusterId, routes: Arc<Routes>) {
        match self.place(id) {
            Ok(place) => self.clusters[place].1 = routes,
            Err(place) => self.clusters.insert(place, (id, routes)),
        }
    }

    pub fn remove(&mut self, id: ClusterId) {
        if let Ok(place) = self.place(id) {
            self.clusters.remove(place);
        }
    }

    fn place(&self, id: ClusterId) -> Result<usize, usize> {
        self.clusters.binary_search_by_key(&id, |(known, _)| *known)
    }
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
    /// Told apart by their names, which is how a pool finds its own.
    pub pools: Vec<PoolRoutes>,
}

impl Default for Routes {
    fn default() -> Routes {
        Routes {
            cluster: Arc::from(""),
            epoch: 0,
            condition: Condition::Starting,
            reason: "pilotfish has just started and knows no member yet".to_owned(),
            pools: Vec::new(),
        }
    }
}

impl Routes {
    /// Turns a decision into routes. `site` tells what there is to know of a member for a pool; `started`, what the decision
    /// counts its times from.
    pub fn new<'a>(
        cluster: Arc<str>,
        epoch: u64,
        decision: &Decision,
        pools: &[PoolRules],
        started: Instant,
        site: impl Fn(&str, &PoolRules) -> Site<'a>,
    ) -> Routes {
        let routes = |rules: &PoolRules| PoolRoutes::new(rules, decision, started, &site);
        Routes {
            cluster,
            epoch,
            condition: decision.condition,
            reason: decision.reason.clone(),
            pools: pools.iter().map(routes).collect(),
        }
    }

    /// The routes of the pool of that name; none before the first decision.
    pub fn pool(&self, name: &str) -> Option<&PoolRoutes> {
        self.pools.iter().find(|pool| &*pool.name == name)
    }
}
