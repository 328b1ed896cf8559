//! A cluster that is served otherwise from now on, by people who know it as well as before.

use std::sync::Arc;
use std::time::Duration;

use super::{DEFAULT_TTL, DISCOVERY_EVERY, Steward, StewardOptions};
use crate::control::controller::ClusterOptions;
use crate::control::discovery::Discovery;
use crate::control::patroni::Patroni;
use crate::routing::{ClusterId, Kind, PoolRules};
use crate::stats::PoolStats;
use crate::topology::roster;

impl Steward {
    /// Takes these options in place of its own. What is known of the cluster stays: who led since when, its timelines, what
    /// operators want. Whoever is asked in another way is asked anew; what comes of it all is seen at the next decision.
    pub fn renew(&mut self, now: Duration, options: ClusterOptions) {
        let ClusterOptions { steward: options, patroni, pools } = options;
        let grace = options.leader_grace.or(self.ttl).unwrap_or(DEFAULT_TTL);
        self.core.set_leader_grace(grace);
        self.core.set_rules(now, options.thresholds, options.readers.clone());
        if options.name != self.options.name {
            let name = options.name.clone().or_else(|| self.scope.clone());
            self.name = Arc::from(name.unwrap_or_else(|| provisional_name(self.id)));
        }
        let before = std::mem::take(&mut self.pools);
        self.pools = pools;
        for rules in &mut self.pools {
            if let Some(before) = before.iter().find(|before| before.name == rules.name) {
                rules.weights = std::mem::take(&mut rules.weights).after(&before.weights);
            }
        }
        self.of_writers = of_writers(&self.pools);
        let are_others =
            options.seeds.iter().map(|seed| &seed.api).ne(self.seeds.all().iter().map(|seed| &seed.api));
        if are_others {
            self.seeds.replace(options.seeds.clone());
        }
        if are_others && !self.discovered {
            self.core.replace_members(now, roster::provisional(self.seeds.all()));
        }
        self.ask_as(options, patroni);
        self.follow_members(Duration::ZERO);
        self.discovery.poke();
    }

    fn ask_as(&mut self, options: StewardOptions, patroni: Patroni) {
        let pace =
            |options: &StewardOptions| [options.interval, options.fast_interval, options.connect_timeout];
        let is_alike = pace(&options) == pace(&self.options) && patroni.is(&self.patroni);
        self.ports.set_pace(pace(&options), options.thresholds, &self.inbox);
        (self.options, self.patroni) = (options, patroni);
        if is_alike {
            return;
        }
        self.pollers.clear();
        let every = self.options.interval * DISCOVERY_EVERY;
        let (patroni, names, inbox) = (self.patroni.clone(), self.names.clone(), self.inbox.clone());
        self.discovery = Discovery::start(self.id, every, patroni, names, inbox);
    }
}

/// What a cluster is called that has not told its name yet.
pub(super) fn provisional_name(id: ClusterId) -> String {
    format!("cluster{}", id.0 + 1)
}

/// The counters of the pool that follows the writer; without one there is nobody to count.
pub(super) fn of_writers(pools: &[PoolRules]) -> Arc<PoolStats> {
    let primary = pools.iter().find(|rules| rules.kind == Kind::Primary);
    primary.map_or_else(|| Arc::new(PoolStats::new(0)), |rules| Arc::clone(&rules.stats))
}
