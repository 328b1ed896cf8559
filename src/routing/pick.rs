//! Which backend takes this session?
//!
//! Pure: a pool's routes, the strategy, what was tried already and one random number go in, an index comes out. Of those
//! that have room, the nearest are looked at, and among them the strategy decides by weight. A primary pool has nothing to
//! choose.

use std::net::IpAddr;
use std::time::Instant;

use super::pool::{Backend, Candidate, PoolRoutes};
use crate::stats::Origin;

/// How a pool spreads its sessions over those that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The one with the fewest sessions of this pool for its weight; ties at random.
    #[default]
    LeastConnections,
    /// In turn, each as often as its weight says.
    RoundRobin,
    /// The less filled of two at random: nearly as even as the first, and without herds.
    Random2,
    /// By the client's origin (weighted rendezvous hashing): the same reader as long as it serves, and only the sessions
    /// of a reader that went are spread anew.
    Source,
    /// The first by name that has room.
    First,
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
    pub client: Origin,
}

/// What a pick comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// The index of a backend that has room.
    Backend(usize),
    /// There are some to choose from, and all of them are full.
    Full,
    /// Nobody takes this session.
    Nobody,
}

/// One that may be chosen, with its weight of this moment.
#[derive(Debug, Clone, Copy)]
struct Choice {
    backend: usize,
    weight: u64,
}

/// The backend for a new session, if any may take it.
pub fn pick(pool: &PoolRoutes, balance: Balance, draw: Draw<'_>) -> Picked {
    let untried = |index: usize| !draw.tried.contains(&index);
    let has_room = |index: usize| pool.backends[index].stats.has_room();
    let able = || pool.candidates.iter().filter(|candidate| untried(candidate.backend));
    let open = || able().filter(|candidate| has_room(candidate.backend));
    let Some(nearest) = open().map(|candidate| candidate.rank).min() else {
        return match pool.fallback.filter(|&index| untried(index)) {
            _ if able().next().is_some() => Picked::Full,
            Some(index) if has_room(index) => Picked::Backend(index),
            Some(_) => Picked::Full,
            None => Picked::Nobody,
        };
    };
    let near = open().filter(|candidate| candidate.rank == nearest);
    let choices: Vec<Choice> = near.map(Choice::of).collect();
    spread(pool, &choices, balance, draw).map_or(Picked::Nobody, Picked::Backend)
}

fn spread(pool: &PoolRoutes, choices: &[Choice], balance: Balance, draw: Draw<'_>) -> Option<usize> {
    let count = choices.len();
    if count <= 1 {
        return choices.first().map(|choice| choice.backend);
    }
    let stats = |choice: &Choice| &pool.backends[choice.backend].stats;
    // With the new session, so that of two empty ones the heavier is chosen.
    let filled = |choice: &Choice| (stats(choice).active() + 1, choice.weight);
    let chosen = match balance {
        Balance::First => choices.iter().min_by_key(|choice| choice.backend)?,
        Balance::RoundRobin => in_turn(choices, draw.turn)?,
        Balance::LeastConnections => {
            // Start at a random one, so that the first of equals differs from pick to pick.
            let start = (draw.random % count as u64) as usize;
            let from_start = choices[start..].iter().chain(&choices[..start]);
            let filled = from_start.map(|choice| (choice, filled(choice)));
            filled.min_by(|(_, a), (_, b)| compare(*a, *b))?.0
        }
        Balance::Random2 => {
            let first = drawn(choices, None, draw.random)?;
            let second = drawn(choices, Some(first), draw.random >> 32)?;
            let (first, second) = (&choices[first], &choices[second]);
            if compare(filled(second), filled(first)).is_lt() { second } else { first }
        }
        Balance::Source => {
            let drawn =
                |choice: &Choice| affinity(draw.client, &pool.backends[choice.backend], choice.weight);
            let drawn = choices.iter().map(|choice| (choice, drawn(choice)));
            drawn.max_by(|(_, a), (_, b)| a.total_cmp(b))?.0
        }
    };
    Some(chosen.backend)
}

impl Choice {
    fn of(candidate: &Candidate) -> Choice {
        Choice { backend: candidate.backend, weight: candidate.weight_at(Instant::now) }
    }
}

/// Compares sessions for each unit of weight, without dividing.
fn compare((a, of_a): (u64, u64), (b, of_b): (u64, u64)) -> std::cmp::Ordering {
    (u128::from(a) * u128::from(of_b)).cmp(&(u128::from(b) * u128::from(of_a)))
}

/// Each as often as its weight says within one round of all weights, and as far apart as can be.
fn in_turn(choices: &[Choice], turn: u64) -> Option<&Choice> {
    let common = choices.iter().fold(0, |common, choice| divisor(common, choice.weight)).max(1);
    let total: u64 = choices.iter().map(|choice| choice.weight / common).sum();
    // A step near the golden ratio spreads best; without a divisor in common with the round it comes to every place.
    let golden = (total as f64 * 0.618_033_988_75) as u64;
    let step = (golden.max(1)..).find(|&step| divisor(step, total) == 1)?;
    let mut place = (u128::from(turn) * u128::from(step) % u128::from(total.max(1))) as u64;
    choices.iter().find(|choice| {
        let share = choice.weight / common;
        let here = place < share;
        place = place.saturating_sub(share);
        here
    })
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// One at random, by weight.
fn drawn(choices: &[Choice], but: Option<usize>, random: u64) -> Option<usize> {
    let others = || choices.iter().enumerate().filter(|(place, _)| Some(*place) != but);
    let total: u64 = others().map(|(_, choice)| choice.weight).sum();
    let mut rest = ((random & u64::from(u32::MAX)) * total) >> 32;
    others().find_map(|(place, choice)| {
        let here = rest < choice.weight;
        rest = rest.saturating_sub(choice.weight);
        here.then_some(place)
    })
}

/// How much a client and a backend are drawn to each other, the more the more weight it has: each gets the largest of as
/// many clients as its weight says (weighted rendezvous hashing). FNV-1a over both, finished so that neighbouring
/// addresses spread.
fn affinity(client: Origin, backend: &Backend, weight: u64) -> f64 {
    let origin = match client {
        Origin::Ip(IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
        Origin::Ip(IpAddr::V6(v6)) => v6.octets(),
        // Within the multicast addresses, which no client has.
        Origin::Uid(uid) => (u128::MAX << 32 | u128::from(uid)).to_be_bytes(),
    };
    let bytes = origin.iter().chain(backend.name.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let mixed = mixed ^ (mixed >> 33);
    // Between 0 and 1, neither included.
    let share = ((mixed >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    weight as f64 / -share.ln()
}
