//! A member among those of its cluster: what it said, and what that makes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Settings;
use super::health::Health;
use super::member::{Member, Operator};
use super::observation::Class;
use super::readers::Standing;

/// A member and what is known of it.
#[derive(Debug, Clone)]
pub struct Tracked {
    pub member: Member,
    pub operator: Operator,
    pub health: Health,
    pub class: Class,
    /// Since when it has been of this class.
    pub class_since: Duration,
    /// The cluster's last word on its members named it.
    pub listed: bool,
    /// By the names of the pools of readers.
    pub(super) standings: BTreeMap<String, Standing>,
}

impl Tracked {
    pub(super) fn new(member: Member, now: Duration) -> Tracked {
        let health = Health::default();
        let operator = Operator::default();
        let standings = BTreeMap::new();
        Tracked { member, operator, health, class: Class::Unknown, class_since: now, listed: true, standings }
    }

    /// What it is to a pool of readers; `None` while it has not been asked.
    pub fn standing(&self, pool: &str) -> Option<&Standing> {
        self.standings.get(pool)
    }

    /// What its last check makes of it, for each pool of readers and in all.
    pub(super) fn judge(
        &mut self,
        now: Duration,
        class: Class,
        Settings { thresholds, pools, .. }: &Settings,
    ) {
        let mut lagging = class == Class::Reader && !pools.is_empty();
        for rules in pools {
            let standing = self.standings.entry(rules.pool.clone()).or_default();
            standing.record(now, class, &self.health, rules, *thresholds);
            lagging &= standing.is_lagging();
        }
        self.reclassify(now, if lagging { Class::Standby } else { class });
    }

    pub(super) fn reclassify(&mut self, now: Duration, class: Class) {
        if self.class != class {
            self.class = class;
            self.class_since = now;
        }
    }
}
