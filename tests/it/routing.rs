//! Who gets the next session: every strategy by weight, the near ones first, and none that is full.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::routing::pick::{Draw, pick};
use pilotfish::routing::{Backend, Balance, Candidate, Kind, Picked, PoolRoutes, Warming};
use pilotfish::stats::PoolStats;
use pilotfish::topology::Fate;

use crate::topology::dice::Dice;

const ALL: [Balance; 5] =
    [Balance::LeastConnections, Balance::RoundRobin, Balance::Random2, Balance::Source, Balance::First];

/// Members `a`, `b`, … with these weights and ranks, each with room for `limit`.
fn pool(members: &[(u16, u8)], limit: Option<usize>) -> PoolRoutes {
    let stats = PoolStats::new(1);
    stats.limit_members(None, limit);
    let name = |index: usize| String::from(char::from(b'a' + index as u8));
    let backend = |index: usize| Backend {
        name: Arc::from(name(index)),
        addresses: Arc::from([]),
        fate: Fate::Keep,
        obstacle: None,
        weight: 100,
        initial_weight: 100,
        stats: stats.member(&name(index)),
    };
    let candidate = |(backend, &(weight, rank)): (usize, &(u16, u8))| Candidate {
        weight,
        rank,
        ..Candidate::new(backend)
    };
    PoolRoutes {
        name: Arc::from("replicas"),
        kind: Kind::Replicas,
        backends: (0..members.len()).map(backend).collect(),
        candidates: members.iter().enumerate().map(candidate).collect(),
        fallback: None,
        vacancy: None,
    }
}

fn client(number: u64) -> IpAddr {
    IpAddr::from([10, (number >> 16) as u8, (number >> 8) as u8, number as u8])
}

fn draw(dice: &mut Dice, turn: u64) -> Draw<'static> {
    let random = ((dice.below(1 << 32) as u64) << 32) | dice.below(1 << 32) as u64;
    Draw { tried: &[], turn, random, client: client(turn).into() }
}

/// How many of so many sessions, none of which ends, each member gets.
fn shares(pool: &PoolRoutes, balance: Balance, sessions: u64) -> Vec<u64> {
    let mut dice = Dice::new(7);
    let mut open = Vec::new();
    for turn in 0..sessions {
        let Picked::Backend(index) = pick(pool, balance, draw(&mut dice, turn)) else { continue };
        open.extend(pool.backends[index].stats.activate(0));
    }
    pool.backends.iter().map(|backend| backend.stats.active()).collect()
}

#[test]
fn each_gets_its_share_by_weight() {
    for weights in [&[100, 100, 100][..], &[100, 50, 50], &[1, 2, 3], &[256, 1, 128], &[7, 100]] {
        let members: Vec<(u16, u8)> = weights.iter().map(|weight| (*weight, 0)).collect();
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        for balance in ALL {
            let sessions = 100 * total.min(60);
            let got = shares(&pool(&members, None), balance, sessions);
            for (index, weight) in weights.iter().enumerate() {
                let due = (sessions * u64::from(*weight)) as f64 / total as f64;
                let bound = match balance {
                    Balance::LeastConnections => 2.0,
                    Balance::RoundRobin => 2.0 + due * 0.02,
                    // Chance: some five deviations. Of two drawn, the less filled: near the share.
                    Balance::Random2 | Balance::Source => 5.0 * due.sqrt() + 5.0,
                    Balance::First => continue,
                };
                let off = (got[index] as f64 - due).abs();
                assert!(off <= bound, "{balance:?} {weights:?}: {got:?}, {due} due to {index}");
            }
        }
    }
}

#[test]
fn in_turn_means_that_equals_get_one_each_before_anyone_gets_two() {
    for count in 1..=7 {
        let pool = pool(&vec![(100, 0); count], None);
        let mut dice = Dice::new(1);
        for round in 0..5 {
            let mut seen: Vec<Picked> = (0..count as u64)
                .map(|turn| pick(&pool, Balance::RoundRobin, draw(&mut dice, round * count as u64 + turn)))
                .collect();
            seen.sort_by_key(|picked| format!("{picked:?}"));
            seen.dedup();
            assert_eq!(seen.len(), count, "round {round} of {count}");
        }
    }
}

#[test]
fn source_is_stable_when_members_come_and_go_and_weights_change() {
    const CLIENTS: u64 = 10_000;
    let placed = |pool: &PoolRoutes| -> Vec<Picked> {
        let mut dice = Dice::new(3);
        (0..CLIENTS).map(|turn| pick(pool, Balance::Source, draw(&mut dice, turn))).collect()
    };
    let full = pool(&[(100, 0), (100, 0), (100, 0), (50, 0)], None);
    let before = placed(&full);
    let mut without = full.clone();
    without.candidates.retain(|candidate| candidate.backend != 1);
    for (was, is) in before.iter().zip(placed(&without)) {
        assert!(*was == is || *was == Picked::Backend(1), "{was:?} went to {is:?}");
    }
    assert_eq!(before, placed(&full), "back again, each has the clients that it had");
    // More weight for one draws clients to it and moves no others.
    let mut heavier = full.clone();
    heavier.candidates[3].weight = 100;
    let after = placed(&heavier);
    let moved = before.iter().zip(&after).filter(|(was, is)| was != is);
    assert!(moved.clone().all(|(_, is)| *is == Picked::Backend(3)));
    let share = moved.count() as f64 / CLIENTS as f64;
    // From 50 of 350 to 100 of 400.
    assert!((0.08..0.14).contains(&share), "{share}");
}

#[test]
fn the_near_ones_come_first_until_they_are_full() {
    for balance in ALL {
        let zones = pool(&[(100, 1), (100, 0), (100, 0), (100, 1)], Some(10));
        assert_eq!(shares(&zones, balance, 20), [0, 10, 10, 0], "{balance:?}");
        let spilled = shares(&pool(&[(100, 1), (100, 0)], Some(10)), balance, 15);
        assert_eq!(spilled, [5, 10], "{balance:?}");
        let mut gone = pool(&[(100, 1), (100, 0)], None);
        gone.candidates.remove(1);
        assert_eq!(shares(&gone, balance, 3), [3, 0], "{balance:?}");
    }
}

#[test]
fn first_fills_one_after_the_other_and_full_is_not_nobody() {
    let pool = pool(&[(1, 0), (256, 0), (100, 0)], Some(4));
    let mut dice = Dice::new(9);
    let mut open = Vec::new();
    let mut order = String::new();
    while let Picked::Backend(index) = pick(&pool, Balance::First, draw(&mut dice, 0)) {
        open.extend(pool.backends[index].stats.activate(0));
        order += &pool.backends[index].name;
    }
    assert_eq!(order, "aaaabbbbcccc");
    for balance in ALL {
        assert_eq!(pick(&pool, balance, draw(&mut dice, 0)), Picked::Full, "{balance:?}");
        let tried = Draw { tried: &[0, 1, 2], ..draw(&mut dice, 0) };
        assert_eq!(pick(&pool, balance, tried), Picked::Nobody, "{balance:?}");
    }
    // Who stands in for readers is asked only when there are none: a queue is no outage.
    let mut with_fallback = pool.clone();
    with_fallback.candidates.truncate(2);
    with_fallback.fallback = Some(2);
    assert_eq!(pick(&with_fallback, Balance::First, draw(&mut dice, 0)), Picked::Full);
    open.truncate(8);
    with_fallback.candidates.clear();
    assert_eq!(pick(&with_fallback, Balance::First, draw(&mut dice, 0)), Picked::Backend(2));
}

#[test]
fn after_a_return_the_weight_rises_with_time() {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut seen = BTreeMap::new();
    for percent in [0, 25, 50, 100, 300] {
        let mut routes = pool(&[(100, 0), (100, 0)], None);
        let since =
            Instant::now().checked_sub(MINUTE * percent / 100).expect("a machine that is up for minutes");
        routes.candidates[1].warming = Some(Warming { since, over: MINUTE });
        let got = shares(&routes, Balance::LeastConnections, 1000);
        seen.insert(percent, got[1]);
    }
    let within = |percent: u32, range: std::ops::RangeInclusive<u64>| {
        assert!(range.contains(&seen[&percent]), "{percent} %: {seen:?}");
    };
    within(0, 0..=20);
    within(25, 185..=220);
    within(50, 325..=350);
    within(100, 495..=505);
    within(300, 495..=505);
}
