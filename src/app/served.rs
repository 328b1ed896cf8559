//! The clusters that are served, with their pools, and what is left of those that went.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::LAST_WORDS;
use super::clusters::{self, Blueprint};
use super::plan::Known;
use crate::admin::LeavingPool;
use crate::config;
use crate::control::{ClusterOptions, ClusterPicture, Patroni};
use crate::proxy::{Pool, Workers};
use crate::routing::{ClusterId, PoolRules};
use crate::topology::ReaderRules;

/// Whoever was accepted at the last moment is counted by then.
const AT_LEAST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Served {
    pub id: ClusterId,
    pub config: config::Cluster,
    pub patroni: Patroni,
    pub pools: Vec<ServedPool>,
    /// Its cluster goes on being watched, so that a role that is lost ends their sessions too.
    pub leaving: Vec<Leaving>,
    /// Some of these have gone, which control does not know yet.
    pub is_news: bool,
}

#[derive(Debug, Clone)]
pub(super) struct ServedPool {
    pub pool: Arc<Pool>,
    pub rules: PoolRules,
    /// Of a pool of readers.
    pub readers: Option<ReaderRules>,
}

/// A pool that takes no new sessions.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    pub pool: ServedPool,
    since: Instant,
    /// What is open then is cut.
    until: Instant,
    /// Another pool has its name: nobody would tell its sessions of a lost role.
    replaced: bool,
    /// Whom it holds has been told that it is over.
    told: Option<Instant>,
}

impl Served {
    /// `before` is what was served of the same cluster. Its pools go on, with all that is counted of them; those that are not
    /// wished any more leave within `patience`.
    pub fn new(
        id: ClusterId,
        config: &config::Cluster,
        patroni: Patroni,
        workers: usize,
        before: Option<Served>,
        patience: Duration,
    ) -> Served {
        let mut known = before.map_or_else(Vec::new, |before| before.leave(patience).leaving);
        let pools = clusters::pools(id, config, workers).into_iter().map(|blueprint| {
            let place = known.iter().position(|known| known.pool.is(&blueprint));
            ServedPool::new(blueprint, place.map(|place| known.swap_remove(place).pool))
        });
        let pools: Vec<ServedPool> = pools.collect();
        for leaving in &mut known {
            leaving.replaced = pools.iter().any(|pool| pool.rules.name == leaving.pool.rules.name);
        }
        Served { id, config: config.clone(), patroni, pools, leaving: known, is_news: false }
    }

    /// All its pools leave, as far as they do not yet.
    pub fn leave(mut self, patience: Duration) -> Served {
        let since = Instant::now();
        let leave = |pool| Leaving { pool, since, until: since + patience, replaced: false, told: None };
        self.leaving.extend(self.pools.drain(..).map(leave));
        self
    }

    /// It is served in just this way.
    pub fn is(&self, config: &config::Cluster, patroni: &Patroni) -> bool {
        !self.pools.is_empty() && self.config == *config && self.patroni.is(patroni)
    }

    /// How control serves it: the pools that leave are decided for too.
    pub fn options(&self) -> ClusterOptions {
        let mut steward = clusters::steward(&self.config);
        let leaving = || self.leaving.iter().filter(|leaving| !leaving.replaced).map(|leaving| &leaving.pool);
        steward.readers.extend(leaving().filter_map(|pool| pool.readers.clone()));
        let pools = self.pools.iter().chain(leaving()).map(|pool| pool.rules.clone()).collect();
        ClusterOptions { steward, patroni: self.patroni.clone(), pools }
    }

    /// What a new configuration is compared with. `picture` tells the members that were found.
    pub fn known(&self, picture: Option<&ClusterPicture>) -> Known {
        let endpoints = self.config.patroni.endpoints.iter().map(ToString::to_string);
        let members = picture.iter().flat_map(|picture| &picture.members);
        let nodes = endpoints.chain(members.map(|member| member.member.api.clone())).collect();
        Known { id: self.id, name: self.config.name.clone(), nodes }
    }

    /// What is to be shown of the pools that leave.
    pub fn leaving_pools(&self, name: String) -> impl Iterator<Item = LeavingPool> {
        self.leaving.iter().map(move |leaving| LeavingPool {
            cluster: name.clone(),
            pool: Arc::clone(&leaving.pool.pool),
            until: leaving.until,
        })
    }

    /// Nothing is left of it.
    pub fn has_drained(&self) -> bool {
        self.pools.is_empty() && self.leaving.is_empty()
    }

    /// Those that leave too.
    pub fn all_pools(&self) -> impl Iterator<Item = &ServedPool> {
        self.pools.iter().chain(self.leaving.iter().map(|leaving| &leaving.pool))
    }

    pub fn pool(&self, name: &str) -> Option<&ServedPool> {
        self.pools.iter().find(|pool| *pool.rules.name == *name)
    }
}

impl ServedPool {
    fn new(Blueprint { options, rules, readers }: Blueprint, before: Option<ServedPool>) -> ServedPool {
        let Some(before) = before else {
            let pool = Arc::new(Pool::new(options, Arc::clone(&rules.stats)));
            return ServedPool { pool, rules, readers };
        };
        let rules = PoolRules { stats: Arc::clone(&before.rules.stats), ..rules };
        let is_alike = before.pool.options == options && !before.pool.is_over();
        let pool = if is_alike { before.pool } else { Arc::new(before.pool.renewed(options)) };
        ServedPool { pool, rules, readers }
    }

    /// Whether it goes on as this one.
    fn is(&self, blueprint: &Blueprint) -> bool {
        (&self.rules.name, self.rules.kind) == (&blueprint.rules.name, blueprint.rules.kind)
    }
}

impl Leaving {
    /// Nobody is there any more. Cuts who is there too long; whom it holds is told first.
    pub fn has_gone(&mut self, now: Instant, workers: &Workers) -> bool {
        let stats = &self.pool.rules.stats;
        if stats.clients() == 0 {
            return now >= self.since + AT_LEAST;
        }
        if self.replaced || now >= self.until {
            let told = *self.told.get_or_insert(now);
            self.pool.pool.send_held_away();
            let cut = workers.cut_pool(stats, now >= told + LAST_WORDS);
            let pool = &*self.pool.rules.name;
            if cut > 0 {
                tracing::info!(pool, cut, "sessions of a pool that went were cut");
            }
        }
        false
    }
}
