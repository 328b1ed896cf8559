//! Which backend takes this session?
//!
//! Pure: a pool's routes, the strategy, what was tried already and one random number go in, an index comes out. A
//! primary pool has nothing to choose; a pool of readers spreads its sessions over them.

use std::net::IpAddr;

use super::pool::{Backend, PoolRoutes};

/// How a pool spreads its sessions over those that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The one with the fewest sessions of this pool; ties at random.
    #[default]
    LeastConnections,
    /// In turn.
    RoundRobin,
    /// The less filled of two at random: nearly as even as the first, and without herds.
    Random2,
    /// By the client's address (rendezvous hashing): the same reader as long as it serves, and only the sessions of
    /// a reader that went are spread anew.
    Source,
}

/// What one pick may look at beside the routes.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Backends (by index) that this session has already failed to reach in this round.
    pub tried: &'a [usize],
    /// Counts the pool's picks, for strategies that go in turn.
    pub turn: u64,
    /// Uniformly random bits.
    pub random: u64,
    pub client: IpAddr,
}

/// The backend for a new session, if any may take it.
pub fn pick(pool: &PoolRoutes, balance: Balance, draw: Draw<'_>) -> Option<usize> {
    let untried = |index: &usize| !draw.tried.contains(index);
    let candidates = pool.candidates.iter().map(|candidate| candidate.backend);
    let candidates: Vec<usize> = candidates.filter(untried).collect();
    spread(pool, &candidates, balance, draw).or_else(|| pool.fallback.filter(untried))
}

fn spread(pool: &PoolRoutes, candidates: &[usize], balance: Balance, draw: Draw<'_>) -> Option<usize> {
    let count = candidates.len() as u64;
    if count <= 1 {
        return candidates.first().copied();
    }
    let filled = |index: usize| pool.backends[index].stats.active();
    let at = |position: u64| candidates[(position % count) as usize];
    Some(match balance {
        Balance::RoundRobin => at(draw.turn),
        Balance::LeastConnections => {
            // Start at a random one, so that the first of equals differs from pick to pick.
            let candidates = (0..count).map(|offset| at((draw.random % count) + offset));
            candidates.min_by_key(|&index| filled(index))?
        }
        Balance::Random2 => {
            let first = draw.random % count;
            let second = first + 1 + (draw.random >> 32) % (count - 1);
            std::cmp::min_by_key(at(first), at(second), |&index| filled(index))
        }
        Balance::Source => {
            *candidates.iter().max_by_key(|&&index| affinity(draw.client, &pool.backends[index]))?
        }
    })
}

/// How much a client and a backend are drawn to each other (rendezvous hashing): FNV-1a over both, finished with
/// an avalanche step so that neighbouring addresses spread.
fn affinity(client: IpAddr, backend: &Backend) -> u64 {
    let address = match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let bytes = address.iter().chain(backend.name.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Candidate, Kind};
    use crate::stats::PoolStats;
    use crate::topology::Fate;
    use std::sync::Arc;

    /// The first of the names stands in for the others.
    fn routes(names: &[&str]) -> PoolRoutes {
        let pool = PoolStats::new(1);
        let backend = |name: &&str| Backend {
            name: Arc::from(*name),
            addresses: Arc::from([]),
            fate: Fate::Keep,
            stats: pool.member(name),
        };
        PoolRoutes {
            name: Arc::from("replicas"),
            kind: Kind::Replicas,
            backends: names.iter().map(backend).collect(),
            candidates: (1..names.len()).map(|backend| Candidate { backend }).collect(),
            fallback: Some(0),
        }
    }

    fn draw(turn: u64, client: u8) -> Draw<'static> {
        let random = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Draw { tried: &[], turn, random, client: IpAddr::from([10, 0, 0, client]) }
    }

    #[test]
    fn the_primary_reads_only_when_no_reader_is_left_and_only_if_allowed() {
        let mut routes = routes(&["a", "b"]);
        let none_left = Draw { tried: &[1], ..draw(0, 1) };
        assert_eq!(pick(&routes, Balance::default(), draw(0, 1)), Some(1));
        assert_eq!(pick(&routes, Balance::default(), none_left), Some(0));
        routes.fallback = None;
        assert_eq!(pick(&routes, Balance::default(), none_left), None);
    }

    #[test]
    fn every_strategy_uses_every_reader() {
        let routes = routes(&["a", "b", "c", "d"]);
        for balance in [Balance::LeastConnections, Balance::RoundRobin, Balance::Random2, Balance::Source] {
            let mut sessions = Vec::new();
            for turn in 0..60 {
                let picked = pick(&routes, balance, draw(turn, turn as u8)).expect("a reader");
                sessions.push(routes.backends[picked].stats.activate(0));
            }
            let active: Vec<u64> = routes.backends.iter().map(|b| b.stats.active()).collect();
            assert_eq!(active[0], 0, "{balance:?} spared the primary");
            let even = matches!(balance, Balance::LeastConnections | Balance::RoundRobin);
            let least = if even { 20 } else { 8 };
            assert!(active[1..].iter().all(|&n| n >= least), "{balance:?}: {active:?}");
        }
    }

    #[test]
    fn source_moves_only_the_clients_of_a_reader_that_went() {
        let full = routes(&["a", "b", "c", "d"]);
        let mut without = full.clone();
        without.candidates.retain(|candidate| candidate.backend != 2);
        for client in 0..=255 {
            let before = pick(&full, Balance::Source, draw(0, client));
            let after = pick(&without, Balance::Source, draw(0, client));
            assert!(before == after || before == Some(2), "client {client}: {before:?} to {after:?}");
        }
    }
}
