//! What HAProxy's figures need that pilotfish does not count where it happens: since when something is up, how often it
//! went down, the most at one time, the newest rate.
//!
//! Looked at once a second. So a change is known to a second, and what came and went between two looks is not in the
//! maxima.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::super::PoolKey;

/// One memory for each pool.
#[derive(Debug, Default)]
pub struct Memory {
    pools: HashMap<PoolKey, PoolMemory>,
    /// The connections of all fronts.
    pub process: Mark,
    looked_at: Option<Duration>,
}

#[derive(Debug, Default)]
pub struct PoolMemory {
    pub frontend: Mark,
    pub backend: Mark,
    pub servers: BTreeMap<String, ServerMemory>,
}

#[derive(Debug, Default)]
pub struct ServerMemory {
    /// HAProxy's number of the server in its pool: kept for as long as it is a member.
    pub id: u32,
    pub mark: Mark,
}

/// What is kept of one row.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Mark {
    up: Option<bool>,
    changed_at: Duration,
    downs: u64,
    down_for: Duration,
    pub most: u64,
    pub most_queued: u64,
    pub rate: u64,
    pub highest_rate: u64,
    total: Option<u64>,
    last_session_at: Option<Duration>,
}

/// One row as it is at a look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub up: bool,
    pub current: u64,
    pub queued: u64,
    /// Sessions that have begun, ever.
    pub total: u64,
}

/// One pool as it is at a look.
#[derive(Debug, Default, Clone)]
pub struct PoolLook {
    pub frontend: Look,
    pub backend: Look,
    pub servers: Vec<(String, Look)>,
}

impl Memory {
    /// Takes in a look at all pools. `now` counts from the start of the process.
    pub fn take(&mut self, now: Duration, pools: &[(PoolKey, PoolLook)]) {
        let elapsed = self.looked_at.replace(now).map(|before| now.saturating_sub(before));
        let at = Moment { now, elapsed };
        let looked_at: HashSet<&PoolKey> = pools.iter().map(|(key, _)| key).collect();
        // Pools that have gone are forgotten too.
        self.pools.retain(|key, _| looked_at.contains(key));
        let total = pools.iter().map(|(_, pool)| pool.frontend.total).sum();
        self.process.take(at, Look { up: true, total, ..Look::default() });
        for (key, look) in pools {
            self.pools.entry(key.clone()).or_default().take(at, look);
        }
    }

    pub fn pool(&self, key: &PoolKey) -> Option<&PoolMemory> {
        self.pools.get(key)
    }

    /// Forgets the maxima.
    pub fn clear_maxima(&mut self) {
        self.process.highest_rate = 0;
        for pool in self.pools.values_mut() {
            let servers = pool.servers.values_mut().map(|server| &mut server.mark);
            for mark in servers.chain([&mut pool.frontend, &mut pool.backend]) {
                (mark.most, mark.most_queued, mark.highest_rate) = (0, 0, 0);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Moment {
    now: Duration,
    /// Since the look before.
    elapsed: Option<Duration>,
}

impl PoolMemory {
    fn take(&mut self, at: Moment, look: &PoolLook) {
        self.frontend.take(at, look.frontend);
        self.backend.take(at, look.backend);
        // Who is no member any more is forgotten: names must not pile up.
        self.servers.retain(|name, _| look.servers.iter().any(|(known, _)| known == name));
        for (name, look) in &look.servers {
            if !self.servers.contains_key(name) {
                let taken = |id: &u32| self.servers.values().any(|server| server.id == *id);
                let id = (1..).find(|id| !taken(id)).unwrap_or(u32::MAX);
                self.servers.insert(name.clone(), ServerMemory { id, mark: Mark::default() });
            }
            if let Some(server) = self.servers.get_mut(name) {
                server.mark.take(at, *look);
            }
        }
    }
}

impl Mark {
    fn take(&mut self, Moment { now, elapsed }: Moment, look: Look) {
        if self.up == Some(false) {
            self.down_for += elapsed.unwrap_or_default();
        }
        if self.up.is_some_and(|up| up != look.up) {
            self.changed_at = now;
            self.downs += u64::from(!look.up);
        }
        self.up = Some(look.up);
        self.most = self.most.max(look.current);
        self.most_queued = self.most_queued.max(look.queued);
        let before = self.total.replace(look.total);
        let grown = look.total.saturating_sub(before.unwrap_or(0));
        if grown > 0 {
            self.last_session_at = Some(now);
        }
        if let (Some(_), Some(elapsed)) = (before, elapsed) {
            self.rate = (grown as f64 / elapsed.as_secs_f64().max(1e-3)).round() as u64;
            self.highest_rate = self.highest_rate.max(self.rate);
        }
    }

    /// How often it went down.
    pub fn downs(&self) -> u64 {
        self.downs
    }

    /// Since it last went up or down; since the start, if it never did.
    pub fn unchanged_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.changed_at)
    }

    /// How long it was down, in all.
    pub fn down_for(&self) -> Duration {
        self.down_for
    }

    /// Since the last session began.
    pub fn idle_for(&self, now: Duration) -> Option<Duration> {
        self.last_session_at.map(|at| now.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::ClusterId;

    fn key() -> PoolKey {
        (ClusterId(0), "primary".into())
    }

    fn look(up: bool, current: u64, total: u64) -> PoolLook {
        let server = Look { up, current, queued: 0, total };
        PoolLook { servers: vec![("a".to_owned(), server)], ..PoolLook::default() }
    }

    #[test]
    fn a_mark_knows_since_when_how_often_and_how_long() {
        let mut memory = Memory::default();
        let second = Duration::from_secs;
        // Down at the start, up, down, up: what was before the first look is not a change.
        for (at, up, current, total) in
            [(1, false, 0, 0), (3, true, 5, 9), (4, false, 2, 9), (9, true, 1, 10)]
        {
            memory.take(second(at), &[(key(), look(up, current, total))]);
        }
        let mark = &memory.pool(&key()).unwrap().servers["a"].mark;
        assert_eq!(
            (mark.downs(), mark.down_for(), mark.unchanged_for(second(11))),
            (1, second(7), second(2))
        );
        assert_eq!((mark.most, mark.rate, mark.highest_rate), (5, 0, 5));
        assert_eq!(mark.idle_for(second(11)), Some(second(2)));
        memory.clear_maxima();
        let mark = &memory.pool(&key()).unwrap().servers["a"].mark;
        assert_eq!((mark.most, mark.highest_rate, mark.downs()), (0, 0, 1));
    }

    #[test]
    fn a_server_keeps_its_number_and_leaves_it_to_the_next_when_it_goes() {
        let mut memory = Memory::default();
        let mut numbers = |names: &[&str]| {
            let servers = names.iter().map(|name| ((*name).to_owned(), Look::default())).collect();
            memory.take(Duration::ZERO, &[(key(), PoolLook { servers, ..PoolLook::default() })]);
            let servers = &memory.pool(&key()).unwrap().servers;
            servers.iter().map(|(name, server)| format!("{name}{}", server.id)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(numbers(&["b", "c"]), "b1 c2");
        assert_eq!(numbers(&["a", "b", "c"]), "a3 b1 c2");
        assert_eq!(numbers(&["a", "c", "d"]), "a3 c2 d1");
    }
}
