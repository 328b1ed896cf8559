//! Which backend takes this session?
//!
//! Pure: the routes, the strategy, what was tried already and one random number go in, an index comes out. The
//! primary pool has nothing to choose; the replica pool spreads sessions over the readers.

use std::net::IpAddr;

use super::table::{Backend, Routes};

/// How the replica pool spreads sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The reader with the fewest sessions of this pool; ties at random.
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

/// What a pool is for, and so which backends it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Writer,
    Reader {
        balance: Balance,
        /// Use the primary when no reader is left.
        fallback: bool,
    },
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
pub fn pick(routes: &Routes, choice: Choice, draw: Draw<'_>) -> Option<usize> {
    let untried = |index: &usize| !draw.tried.contains(index);
    match choice {
        Choice::Writer => routes.writer.filter(untried),
        Choice::Reader { balance, fallback } => {
            let readers: Vec<usize> = routes.readers.iter().copied().filter(untried).collect();
            let fallback = || routes.fallback.filter(|_| fallback).filter(untried);
            spread(routes, &readers, balance, draw).or_else(fallback)
        }
    }
}

fn spread(routes: &Routes, readers: &[usize], balance: Balance, draw: Draw<'_>) -> Option<usize> {
    let count = readers.len() as u64;
    if count <= 1 {
        return readers.first().copied();
    }
    let filled = |index: usize| routes.backends[index].replica_stats.active();
    let at = |position: u64| readers[(position % count) as usize];
    Some(match balance {
        Balance::RoundRobin => at(draw.turn),
        Balance::LeastConnections => {
            // Start at a random reader, so that the first of equals differs from pick to pick.
            let candidates = (0..count).map(|offset| at((draw.random % count) + offset));
            candidates.min_by_key(|&index| filled(index))?
        }
        Balance::Random2 => {
            let first = draw.random % count;
            let second = first + 1 + (draw.random >> 32) % (count - 1);
            std::cmp::min_by_key(at(first), at(second), |&index| filled(index))
        }
        Balance::Source => {
            *readers.iter().max_by_key(|&&index| affinity(draw.client, &routes.backends[index]))?
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
    use crate::stats::PoolStats;
    use crate::topology::Fate;
    use std::sync::Arc;

    fn routes(names: &[&str]) -> Routes {
        let pool = PoolStats::new(1);
        let backend = |name: &&str| Backend {
            name: Arc::from(*name),
            addresses: Arc::from([]),
            writers: Fate::Keep,
            readers: Fate::Keep,
            primary_stats: pool.member(name),
            replica_stats: pool.member(name),
        };
        let backends: Vec<Backend> = names.iter().map(backend).collect();
        Routes {
            writer: Some(0),
            fallback: Some(0),
            readers: (1..names.len()).collect(),
            backends,
            ..Routes::default()
        }
    }

    fn draw(turn: u64, client: u8) -> Draw<'static> {
        let random = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Draw { tried: &[], turn, random, client: IpAddr::from([10, 0, 0, client]) }
    }

    fn reader(balance: Balance) -> Choice {
        Choice::Reader { balance, fallback: true }
    }

    #[test]
    fn writers_go_to_the_writer_or_nowhere() {
        let mut routes = routes(&["a", "b"]);
        assert_eq!(pick(&routes, Choice::Writer, draw(0, 1)), Some(0));
        assert_eq!(pick(&routes, Choice::Writer, Draw { tried: &[0], ..draw(0, 1) }), None);
        routes.writer = None;
        assert_eq!(pick(&routes, Choice::Writer, draw(0, 1)), None);
    }

    #[test]
    fn the_primary_reads_only_when_no_reader_is_left_and_only_if_allowed() {
        let routes = routes(&["a", "b"]);
        let none_left = Draw { tried: &[1], ..draw(0, 1) };
        assert_eq!(pick(&routes, reader(Balance::default()), none_left), Some(0));
        let strict = Choice::Reader { balance: Balance::default(), fallback: false };
        assert_eq!(pick(&routes, strict, none_left), None);
    }

    #[test]
    fn every_strategy_uses_every_reader() {
        let routes = routes(&["a", "b", "c", "d"]);
        for balance in [Balance::LeastConnections, Balance::RoundRobin, Balance::Random2, Balance::Source] {
            let mut sessions = Vec::new();
            for turn in 0..60 {
                let picked = pick(&routes, reader(balance), draw(turn, turn as u8)).expect("a reader");
                sessions.push(routes.backends[picked].replica_stats.activate(0));
            }
            let active: Vec<u64> = routes.backends.iter().map(|b| b.replica_stats.active()).collect();
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
        without.readers.retain(|&index| index != 2);
        for client in 0..=255 {
            let before = pick(&full, reader(Balance::Source), draw(0, client));
            let after = pick(&without, reader(Balance::Source), draw(0, client));
            assert!(before == after || before == Some(2), "client {client}: {before:?} to {after:?}");
        }
    }
}
