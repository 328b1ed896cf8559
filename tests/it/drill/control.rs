//! pilotfish's control in the drill: it asks over a network that delays and loses, and lets the real core decide.

use std::sync::Arc;
use std::time::Duration;

use pilotfish::routing::{ClusterId, PoolRules, Publisher, Routes, Site, Table};
use pilotfish::topology::health::Thresholds;
use pilotfish::topology::{Cluster, Decision, Member, Observation, Settings, SilenceKind};

use super::Rule;
use super::clients::Town;
use super::world::{Ms, NODES, TTL};
use crate::topology::witness::claims;
use crate::topology::{member, silent};

const INTERVAL: Ms = 300;
const FAST_INTERVAL: Ms = 100;
const TIMEOUT: Ms = 500;
const HEARSAY_EVERY: Ms = 600;
/// Until a worker has seen a new table, at most.
const WORKER_LAG: usize = 4;

pub struct Control {
    core: Cluster,
    checks: [Check; NODES.len()],
    routes: Routes,
    pool: PoolRules,
    publisher: Publisher,
    decision: Option<Decision>,
    hearsay_due: Ms,
    /// When the worker acts on the newest table.
    enforced_at: Option<Ms>,
    /// Since when the newest table is in force.
    in_force_since: Ms,
    removed: Option<Rule>,
}

/// The asking of one node: one request at a time.
#[derive(Default)]
struct Check {
    due: Ms,
    started: Ms,
    /// When the node looks, and when its answer arrives.
    under_way: Option<(Ms, Ms)>,
    answer: Option<Observation>,
}

impl Control {
    pub fn new(publisher: Publisher, pool: PoolRules, removed: Option<Rule>) -> Control {
        let thresholds = Thresholds { fall: 3, rise: 2 };
        let leader_grace = Duration::from_millis(TTL);
        let settings = Settings { thresholds, leader_grace, pools: Vec::new() };
        let members: Vec<Member> = NODES.iter().map(|name| member(name, name)).collect();
        Control {
            core: Cluster::new(settings, members),
            checks: Default::default(),
            routes: Routes::default(),
            pool,
            publisher,
            decision: None,
            hearsay_due: HEARSAY_EVERY,
            enforced_at: None,
            in_force_since: 0,
            removed,
        }
    }

    /// When something happens here next.
    pub fn due(&self) -> Ms {
        let of_check = |check: &Check| match (check.under_way, &check.answer) {
            (Some((sampled, _)), None) => sampled,
            (Some((_, arrives)), Some(_)) => arrives,
            (None, _) => check.due,
        };
        let checks = self.checks.iter().map(of_check);
        let again = self.decision.as_ref().and_then(|decision| decision.decide_again_at).map(millis);
        checks.chain(self.enforced_at).chain(again).chain([self.hearsay_due]).min().unwrap_or_default()
    }

    pub fn act(&mut self, town: &Town) {
        let now = town.now();
        self.hear_troubles(town);
        let mut news =
            self.decision.as_ref().and_then(|d| d.decide_again_at).is_some_and(|at| millis(at) <= now);
        for i in 0..NODES.len() {
            news |= self.follow_check(town, now, i);
        }
        if self.hearsay_due <= now {
            self.hearsay_due = now + HEARSAY_EVERY;
            let mut state = town.state();
            let teller = state.dice.below(NODES.len());
            if let Some(hearsay) = state.world.hearsay(teller, now) {
                self.core.hear_of_leader(hearsay);
                news = true;
            }
        }
        if news {
            self.decide(town, now);
        }
        if self.enforced_at.is_some_and(|at| at <= now) {
            self.enforced_at = None;
            self.in_force_since = now;
            town.state().ledger.cut += town.shard.enforce(&town.board.cell.load()) as u64;
            if self.removed != Some(Rule::WakeUp) {
                town.board.changed.notify_waiters();
            }
        }
    }

    /// Once the worker has acted on the newest table, it must be obeyed.
    pub fn check(&self, town: &Town) {
        if self.enforced_at.is_some() {
            return;
        }
        town.check_wake_ups(self.in_force_since);
        if self.in_force_since == town.now() {
            let seats = town.seats();
            town.state().ledger.sessions(town.now(), seats);
        }
    }

    fn hear_troubles(&mut self, town: &Town) {
        for i in std::mem::take(&mut town.state().troubles) {
            self.core.suspect(NODES[i]);
            let check = &mut self.checks[i];
            check.due = check.due.min(check.started + FAST_INTERVAL);
        }
    }

    /// Says whether an answer has come, or its absence.
    fn follow_check(&mut self, town: &Town, now: Ms, i: usize) -> bool {
        let pace = self.pace();
        let check = &mut self.checks[i];
        let mut state = town.state();
        match (check.under_way, check.answer.take()) {
            (None, _) if check.due <= now => {
                let delay = state.dice.pick(&[2, 2, 4, 4, 8, 20, 60, 300, 700]);
                check.started = now;
                check.under_way = Some((now + delay / 2, now + delay.min(TIMEOUT)));
                false
            }
            (Some((sampled, arrives)), None) if sampled <= now => {
                let answer = state.world.answer(i);
                let lost = arrives - check.started >= TIMEOUT || state.dice.chance(2);
                let answer = if lost { silent(SilenceKind::Timeout) } else { answer };
                if answer == silent(SilenceKind::Timeout) {
                    check.under_way = Some((sampled, check.started + TIMEOUT));
                }
                check.answer = Some(answer);
                false
            }
            (Some((_, arrives)), Some(answer)) if arrives <= now => {
                check.under_way = None;
                check.due = (check.started + pace).max(now);
                state.ledger.hear(now, i, &answer);
                drop(state);
                self.observe(now, i, answer);
                true
            }
            (_, answer) => {
                check.answer = answer;
                false
            }
        }
    }

    fn observe(&mut self, now: Ms, i: usize, answer: Observation) {
        let denies = matches!(&answer, Observation::Answered(report) if !claims(report));
        let ignored = self.removed == Some(Rule::Denial) && denies && self.core.is_incumbent(NODES[i]);
        let answer = if ignored { silent(SilenceKind::Timeout) } else { answer };
        self.core.observe(Duration::from_millis(now), NODES[i], answer);
    }

    fn pace(&self) -> Ms {
        let fast = self.decision.as_ref().is_none_or(|decision| decision.fast_until.is_some());
        if fast { FAST_INTERVAL } else { INTERVAL }
    }

    fn decide(&mut self, town: &Town, now: Ms) {
        if self.removed == Some(Rule::Timeline) {
            self.core.reset_history(Duration::from_millis(now));
        }
        let decision = self.core.decide(Duration::from_millis(now));
        let pools = std::slice::from_ref(&self.pool);
        let mut routes = Routes::new(
            Arc::from("drill"),
            self.routes.epoch,
            &decision,
            pools,
            std::time::Instant::now(),
            |_, _| nowhere(),
        );
        let reason = decision.reason.clone();
        self.decision = Some(decision);
        if routes == self.routes {
            return;
        }
        routes.epoch += 1;
        self.routes = routes.clone();
        let pool = &routes.pools[0];
        let writer = pool.candidates.first().map(|candidate| &*pool.backends[candidate.backend].name);
        let writer = writer.and_then(|name| NODES.iter().position(|node| *node == name));
        let mut state = town.state();
        state.ledger.routed(now, writer, &reason);
        self.publisher.publish(Table::new(routes.epoch, [(ClusterId::default(), Arc::new(routes))]));
        self.enforced_at = Some(now + state.dice.below(WORKER_LAG) as Ms);
    }
}

fn nowhere<'a>() -> Site<'a> {
    Site { addresses: Arc::from([]), tags: &[], obstacle: None }
}

/// Rounded up: what is due then is not due before.
fn millis(at: Duration) -> Ms {
    at.as_nanos().div_ceil(1_000_000) as Ms
}
