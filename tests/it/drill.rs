//! Failover drills: the decision, the table and the hold together, on a clock that nobody waits for.
//!
//! A made-up cluster ([`world`]) goes through a few seconds of [`faults`]. Control ([`control`]) hears of it late, twice
//! delayed or not at all, and lets the real core decide; clients ([`clients`]) look for the writer with the real hold, and
//! the real list of sessions is cut by the real tables. A [`ledger`] says what must hold: no new session on a node whose
//! last word was no, on an older timeline, or beside another writer; sessions on one node only; nobody held past the limit;
//! nobody asleep while there is a writer.
//!
//! `PILOTFISH_TRACES` is how many drills, `PILOTFISH_SEED` the seed of the first. `make test-nightly` runs a million.

mod clients;
mod control;
mod faults;
mod ledger;
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pilotfish::proxy::hold::{Board, Stop};
use pilotfish::proxy::sessions::Session;
use pilotfish::proxy::{ClientAddress, Pool, PoolOptions, SessionLimits};
use pilotfish::routing::cell::cell;
use pilotfish::routing::{ClusterId, Kind, PoolRules, Table};
use pilotfish::stats::PoolStats;
use tokio::time::sleep_until;

use self::clients::Town;
use self::control::Control;
use self::faults::Planned;
use self::ledger::Ledger;
use self::world::{Ms, World};
use crate::topology::dice::Dice;
use crate::topology::random::number;

const TRACES: u64 = 100_000;
const LENGTH: Ms = 12_000;
const HOLD: Duration = Duration::from_millis(4_500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const MAX_HELD: usize = 12;
const QUEUE_TIMEOUT: Duration = Duration::from_millis(3_000);
const MAX_QUEUED: usize = 8;

/// A rule that a drill can do without, to show that it would be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A denial acts at once. Without it, the incumbent's is taken for silence.
    Denial,
    /// Never back to an older timeline.
    Timeline,
    /// After the dial the table is looked at once more.
    SecondLook,
    /// Each new table wakes who waits.
    WakeUp,
}

#[test]
fn nobody_is_misled_lost_or_kept_waiting_for_too_long() {
    let drills = number("PILOTFISH_TRACES").unwrap_or(TRACES);
    let first = number("PILOTFISH_SEED").unwrap_or(1);
    println!("{drills} drills from PILOTFISH_SEED={first}");
    let (mut handed_over, mut held, mut cut) = (0, 0, 0);
    for seed in first..first.saturating_add(drills) {
        let ledger = drill(seed, None);
        if let Err(complaint) = ledger.verdict() {
            panic!("PILOTFISH_SEED={seed} PILOTFISH_TRACES=1 plays it again: {complaint}");
        }
        handed_over += ledger.handed_over;
        held += ledger.held;
        cut += ledger.cut;
    }
    println!("{handed_over} sessions, {held} clients held, {cut} sessions cut");
    assert!(drills < 10 || (handed_over > drills && held > drills && cut > drills), "little happened");
}

/// Each of these rules is needed: without it a drill goes wrong, and in the way that the rule prevents.
#[test]
fn without_any_one_rule_a_drill_goes_wrong() {
    const ENOUGH: u64 = 5_000;
    for (rule, expected) in [
        (Rule::Denial, "whose last word was no"),
        (Rule::Timeline, "whose timeline is over"),
        (Rule::SecondLook, "whose last word was no"),
        (Rule::WakeUp, "was not woken"),
    ] {
        let wrong = |seed| drill(seed, Some(rule)).verdict().err().filter(|told| told.contains(expected));
        let found = (1..=ENOUGH).find_map(|seed| Some((seed, wrong(seed)?)));
        let (seed, told) = found.unwrap_or_else(|| panic!("{ENOUGH} drills went well without {rule:?}"));
        println!("without {rule:?}, drill {seed}: {}", told.lines().next().unwrap_or_default());
    }
}

/// Plays one drill to its end, or until something is wrong.
fn drill(seed: u64, removed: Option<Rule>) -> Ledger {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(play(seed, removed))
}

async fn play(seed: u64, removed: Option<Rule>) -> Ledger {
    let mut dice = Dice::new(seed);
    let plan = faults::plan(&mut dice, LENGTH);
    let mut arrivals = arrivals(&mut dice);
    let world = World::new(&mut dice);
    let stats = Arc::new(PoolStats::new(1));
    let rules = PoolRules::new(&options(None).name, Kind::Primary, &stats);
    // Two drills in three have members that may be full.
    let per_member = dice.pick(&[None, Some(2), Some(6)]);
    let (publisher, cell) = cell(Table::new(0, [(ClusterId::default(), Arc::default())]));
    let pool = Arc::new(Pool::new(options(per_member), stats));
    let board = Board::new(cell, Stop::default());
    let mut control = Control::new(publisher, rules, removed);
    let town = Arc::new(Town::new(board, pool, world, dice, removed));
    let mut turns = turns(&plan);
    loop {
        let next =
            [turns.last().map(|turn| turn.0), arrivals.last().copied(), Some(control.due()), Some(LENGTH)];
        let next = next.into_iter().flatten().min().unwrap_or(LENGTH).max(town.now());
        sleep_until(town.started + Duration::from_millis(next)).await;
        {
            let mut state = town.state();
            let state = &mut *state;
            state.world.advance(next, &mut state.dice);
            while let Some((_, turn)) = turns.pop_if(|turn| turn.0 <= next) {
                state.ledger.tell(next, || format!("{turn:?}"));
                match turn {
                    Turn::Begins(planned) => faults::begin(&mut state.world, planned.fault),
                    Turn::Ends(planned) => faults::end(&mut state.world, planned.fault),
                }
            }
        }
        while arrivals.pop_if(|at| *at <= next).is_some() {
            arrive(&town);
        }
        control.act(&town);
        // Tasks that were woken or cut get their turn before anything is judged.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        control.check(&town);
        if town.pool.stats.held() > MAX_HELD {
            town.state().ledger.complain(next, "more clients held than allowed".to_owned());
        }
        town.check_queue(per_member);
        if next >= LENGTH || !town.state().ledger.is_fine() {
            return std::mem::take(&mut town.state().ledger);
        }
    }
}

fn options(per_member: Option<usize>) -> PoolOptions {
    PoolOptions {
        hold: HOLD,
        max_held: MAX_HELD,
        connect_timeout: CONNECT_TIMEOUT,
        limits: SessionLimits {
            per_member,
            queue_timeout: QUEUE_TIMEOUT,
            queued: MAX_QUEUED,
            ..SessionLimits::default()
        },
        ..PoolOptions::new(ClusterId::default(), "primary", Kind::Primary)
    }
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Begins(Planned),
    Ends(Planned),
}

/// Last first.
fn turns(plan: &[Planned]) -> Vec<(Ms, Turn)> {
    let both =
        |planned: &Planned| [(planned.begins, Turn::Begins(*planned)), (planned.ends, Turn::Ends(*planned))];
    let mut turns: Vec<_> = plan.iter().flat_map(both).collect();
    turns.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    turns
}

/// When clients come, last first: some all the time, and now and then many at once.
fn arrivals(dice: &mut Dice) -> Vec<Ms> {
    let mut arrivals: Vec<Ms> = (0..20).map(|_| dice.below(LENGTH as usize) as Ms).collect();
    let rush = dice.below(LENGTH as usize) as Ms;
    arrivals.extend((0..dice.below(16) as Ms).map(|number| rush + number / 4));
    arrivals.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    arrivals
}

fn arrive(town: &Arc<Town>) {
    let patience = {
        let dice = &mut town.state().dice;
        dice.chance(20).then(|| dice.below(3_000) as Ms)
    };
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let id = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let client = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    let mut ending = town.shard.enter(Session::new(id, 0, ClientAddress::Ip(client), Arc::clone(&town.pool)));
    let session = Arc::clone(&ending.session);
    session.waits(Arc::from("drill"));
    let (of_task, theirs) = (Arc::clone(&session), Arc::clone(town));
    let task = tokio::spawn(async move {
        let end = clients::live(theirs, of_task, patience).await;
        ending.set(end);
    });
    session.runs_in(task.abort_handle());
}
