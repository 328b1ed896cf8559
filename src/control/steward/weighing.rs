//! How much of a pool's sessions members are to get, and whether those that are named for it are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Steward;

/// By pool: what `weights` names and is no member of the cluster.
pub type Strangers = BTreeMap<Arc<str>, Vec<String>>;

impl Steward {
    /// Says whether there is such a member and such a pool.
    pub fn weigh(&mut self, pool: Option<&str>, member: &str, weight: Option<u16>) -> bool {
        if self.core.member(member).is_none() {
            return false;
        }
        let mut known = false;
        for rules in self.pools.iter_mut().filter(|rules| pool.is_none_or(|pool| *rules.name == *pool)) {
            rules.weights.set(member, weight);
            known = true;
        }
        known
    }

    /// A name in `weights` that no member has is a slip of the pen, or the member has been renamed: its weight would be the
    /// default one without a word. Only the cluster knows its members' names, so it is said here and not when the
    /// configuration is read.
    pub(super) fn look_for_strangers(&mut self) {
        if !self.discovered {
            return;
        }
        let mut strangers = Strangers::new();
        for rules in &self.pools {
            let unknown = rules.weights.named.keys().filter(|name| self.core.member(name).is_none());
            let unknown: Vec<String> = unknown.cloned().collect();
            if !unknown.is_empty() {
                strangers.insert(Arc::clone(&rules.name), unknown);
            }
        }
        for (pool, names) in strangers.iter().filter(|(pool, names)| self.strangers.get(*pool) != Some(names))
        {
            tracing::warn!(
                cluster = &*self.name,
                pool = &**pool,
                names = names.join(","),
                "weights names members that the cluster does not have"
            );
        }
        self.strangers = strangers;
    }
}
