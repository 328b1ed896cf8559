//! What is really so: one lock, three servers, and Patronis that look after them, in milliseconds since the start.
//!
//! A year in a life of a cluster, lived in seconds: `ttl` and all intervals are a tenth of the real ones, and something
//! goes wrong every few seconds. Each node goes by its own clock, which may be set back or forward.

use pilotfish::topology::{Hearsay, Observation, Report, Role, SilenceKind};

use crate::topology::dice::Dice;
use crate::topology::silent;

pub type Ms = u64;

pub const NODES: [&str; 3] = ["a", "b", "c"];
pub const TTL: Ms = 3_000;
const LOOP_WAIT: Ms = 1_000;
/// Replicas watch the lock: they notice soon when it is free.
const WATCH: Ms = 100;
const TICK: Ms = 20;
const POSITION: u64 = 1_000;

pub struct World {
    now: Ms,
    lock: Option<Lock>,
    timeline: u32,
    dcs_up: bool,
    pub nodes: Vec<Node>,
}

struct Lock {
    holder: usize,
    expires: Ms,
}

pub struct Node {
    pub patroni: Life,
    server: Server,
    /// Processes that do not run although they are there: connections are taken and nothing is said.
    pub server_frozen: bool,
    in_recovery: bool,
    timeline: u32,
    /// Until when Patroni believes that it holds the lock, by its own clock.
    lease_until: Ms,
    /// How far its clock is ahead of the true time, which begins late enough for it to be behind.
    clock_ahead: Ms,
    next_loop: Ms,
    promoted_at: Option<Ms>,
    /// Its leader was told to hand the lock over.
    pub leaves: bool,
    pub reaches_dcs: bool,
    /// pilotfish reaches its REST API.
    pub is_heard: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Runs,
    Frozen,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Runs,
    Stops(Ms),
    Gone,
    Starts(Ms),
}

/// What becomes of a connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    Served,
    Refused,
    NoAnswer,
}

/// Clocks may be set back by as much without running below zero.
const CLOCKS_START: Ms = 10 * TTL;

impl World {
    pub fn new(dice: &mut Dice) -> World {
        let node = |i: usize| Node {
            patroni: Life::Runs,
            server: Server::Runs,
            server_frozen: false,
            in_recovery: i > 0,
            timeline: 1,
            lease_until: if i == 0 { CLOCKS_START + TTL } else { 0 },
            clock_ahead: CLOCKS_START,
            next_loop: dice.below(LOOP_WAIT as usize) as Ms,
            promoted_at: None,
            leaves: false,
            reaches_dcs: true,
            is_heard: true,
        };
        let lock = Some(Lock { holder: 0, expires: TTL });
        World { now: 0, lock, timeline: 1, dcs_up: true, nodes: (0..NODES.len()).map(node).collect() }
    }

    /// Lives on until `now`.
    pub fn advance(&mut self, now: Ms, dice: &mut Dice) {
        while self.now + TICK <= now {
            self.now += TICK;
            self.lock.take_if(|lock| lock.expires <= self.now);
            for i in 0..self.nodes.len() {
                self.serve(i);
                if self.nodes[i].patroni == Life::Runs && self.nodes[i].next_loop <= self.now {
                    self.look_after(i, dice);
                }
            }
        }
    }

    pub fn toggle_dcs(&mut self) {
        self.dcs_up = !self.dcs_up;
    }

    pub fn holder(&self) -> Option<usize> {
        self.lock.as_ref().map(|lock| lock.holder)
    }

    /// The postmaster, or all of it, is gone at once.
    pub fn crash(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        (node.server, node.server_frozen, node.promoted_at) = (Server::Gone, false, None);
    }

    pub fn set_clock(&mut self, i: usize, back: bool, by: Ms) {
        let ahead = &mut self.nodes[i].clock_ahead;
        *ahead = if back { ahead.saturating_sub(by) } else { *ahead + by };
    }

    fn clock(&self, i: usize) -> Ms {
        self.now + self.nodes[i].clock_ahead
    }

    fn leads(&self, i: usize) -> bool {
        let node = &self.nodes[i];
        node.server == Server::Runs && !node.in_recovery
    }

    /// What a server does by itself, unless it is frozen.
    fn serve(&mut self, i: usize) {
        let now = self.now;
        let handed_over = self.nodes[i].leaves && self.holder() == Some(i);
        let node = &mut self.nodes[i];
        if node.server_frozen {
            return;
        }
        match node.server {
            Server::Stops(at) if at <= now => {
                (node.server, node.in_recovery, node.leaves) = (Server::Gone, true, false);
                if handed_over {
                    (node.lease_until, self.lock) = (0, None);
                }
            }
            Server::Starts(at) if at <= now => node.server = Server::Runs,
            Server::Runs if node.promoted_at.is_some_and(|at| at <= now) => {
                self.timeline += 1;
                (node.in_recovery, node.timeline, node.promoted_at) = (false, self.timeline, None);
            }
            _ => {}
        }
    }

    /// One loop of Patroni.
    fn look_after(&mut self, i: usize, dice: &mut Dice) {
        let (now, clock) = (self.now, self.clock(i));
        self.nodes[i].next_loop = now + LOOP_WAIT / 2 + dice.below(LOOP_WAIT as usize / 2) as Ms;
        if !(self.dcs_up && self.nodes[i].reaches_dcs) {
            // Its lease would end before the next look but one.
            if self.leads(i) && clock + LOOP_WAIT >= self.nodes[i].lease_until {
                self.demote(i, dice);
            }
            return;
        }
        match self.holder() {
            Some(holder) if holder == i => self.rule(i, dice),
            Some(holder) => self.follow(i, holder, dice),
            None => self.stand(i, dice),
        }
    }

    /// Holds the lock: keeps it, and its server as what the lock asks for.
    fn rule(&mut self, i: usize, dice: &mut Dice) {
        let (now, clock) = (self.now, self.clock(i));
        if self.nodes[i].leaves {
            if self.nodes[i].server == Server::Runs {
                self.nodes[i].server = Server::Stops(now + 50 + dice.below(500) as Ms);
            }
            return;
        }
        self.lock = Some(Lock { holder: i, expires: now + TTL });
        let node = &mut self.nodes[i];
        node.lease_until = clock + TTL;
        match node.server {
            Server::Gone => node.server = Server::Starts(now + 100 + dice.below(900) as Ms),
            Server::Runs if node.in_recovery && node.promoted_at.is_none() => {
                node.promoted_at = Some(now + 50 + dice.below(800) as Ms);
            }
            _ => {}
        }
    }

    fn follow(&mut self, i: usize, holder: usize, dice: &mut Dice) {
        let leader = self.leads(holder).then(|| self.nodes[holder].timeline);
        let now = self.now;
        if self.leads(i) {
            return self.demote(i, dice);
        }
        let node = &mut self.nodes[i];
        (node.lease_until, node.leaves) = (0, false);
        match node.server {
            Server::Gone => {
                (node.server, node.in_recovery) = (Server::Starts(now + 100 + dice.below(900) as Ms), true);
            }
            Server::Runs => node.timeline = leader.unwrap_or(node.timeline),
            _ => {}
        }
    }

    /// Nobody holds the lock.
    fn stand(&mut self, i: usize, dice: &mut Dice) {
        let now = self.now;
        if self.leads(i) {
            return self.demote(i, dice);
        }
        let node = &mut self.nodes[i];
        node.next_loop = now + WATCH;
        match node.server {
            Server::Gone => {
                (node.server, node.in_recovery) = (Server::Starts(now + 100 + dice.below(900) as Ms), true);
            }
            Server::Runs if node.timeline == self.timeline && dice.chance(60) => self.rule(i, dice),
            _ => {}
        }
    }

    fn demote(&mut self, i: usize, dice: &mut Dice) {
        self.nodes[i].server = Server::Stops(self.now + 20 + dice.below(400) as Ms);
    }

    /// What a client finds that connects now.
    pub fn dial(&self, i: usize) -> Dial {
        match self.nodes[i].server {
            _ if self.nodes[i].server_frozen => Dial::NoAnswer,
            Server::Runs => Dial::Served,
            _ => Dial::Refused,
        }
    }

    /// What `GET /leader` would be answered now.
    pub fn answer(&self, i: usize) -> Observation {
        let node = &self.nodes[i];
        match node.patroni {
            Life::Dead => return silent(SilenceKind::Refused),
            Life::Frozen => return silent(SilenceKind::Timeout),
            Life::Runs if !node.is_heard => return silent(SilenceKind::Timeout),
            Life::Runs => {}
        }
        let answers = node.server == Server::Runs && !node.server_frozen;
        let fed = self.holder().is_some_and(|holder| holder != i && self.leads(holder));
        let state = match node.server {
            Server::Runs if node.server_frozen => "unknown",
            Server::Runs => "running",
            Server::Stops(_) => "stopping",
            Server::Gone => "crashed",
            Server::Starts(_) => "starting",
        };
        Observation::Answered(Report {
            status: if self.clock(i) < node.lease_until { 200 } else { 503 },
            role: if node.in_recovery { Role::Replica } else { Role::Primary },
            state: state.into(),
            timeline: answers.then_some(node.timeline),
            system_identifier: Some("ours".into()),
            wal_position: answers.then_some(POSITION),
            replication_state: (answers && node.in_recovery && fed).then(|| "streaming".into()),
            cluster_unlocked: self.lock.is_none(),
            ..Report::default()
        })
    }

    /// Whom a node that reaches the DCS reads there.
    pub fn hearsay(&self, i: usize, asked_at: Ms) -> Option<Hearsay> {
        let node = &self.nodes[i];
        let knows = node.patroni == Life::Runs && node.is_heard && node.reaches_dcs && self.dcs_up;
        let leader = NODES[self.holder().filter(|_| knows)?].to_owned();
        Some(Hearsay { leader, asked_at: std::time::Duration::from_millis(asked_at) })
    }
}
