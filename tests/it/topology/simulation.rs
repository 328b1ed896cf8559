//! A small Patroni cluster that lives fast: what it says is plausible, and goes wrong all the time.
//!
//! One lock, a timeline that grows with each promotion, and nodes that fall silent, stop, crash, start again, follow
//! late, or go on claiming a lock that has moved on.

use pilotfish::topology::{Observation, Report, Role, SilenceKind};

use super::dice::Dice;
use super::silent;

const SILENCES: [SilenceKind; 4] =
    [SilenceKind::Timeout, SilenceKind::Refused, SilenceKind::Reset, SilenceKind::NotPatroni];
/// Positions are of no account to the random traces: they set no limit of lag.
const POSITION: u64 = 67_108_864;

pub struct Simulation {
    lock: Option<usize>,
    timeline: u32,
    paused: bool,
    /// The one who asks cannot reach anybody.
    cut_off: bool,
    nodes: Vec<Node>,
}

struct Node {
    role: Role,
    state: &'static str,
    timeline: u32,
    streaming: bool,
    /// Its lease outlives its lock: it still answers 200.
    stale_lease: bool,
    silent: bool,
    noloadbalance: bool,
    identity: Option<&'static str>,
}

impl Simulation {
    /// Node 0 leads, unless the dice say that nobody does yet.
    pub fn new(dice: &mut Dice, size: usize) -> Simulation {
        let timeline = 1 + dice.below(3) as u32;
        // Old servers do not state which cluster they are of; a few endpoints belong to another.
        let ours = if dice.chance(10) { None } else { Some("ours") };
        let mut node = |i: usize| Node {
            role: if i == 0 { Role::Primary } else { Role::Replica },
            state: "running",
            timeline,
            streaming: i > 0,
            stale_lease: false,
            silent: dice.chance(5),
            noloadbalance: dice.chance(5),
            identity: if dice.chance(4) { Some("theirs") } else { ours },
        };
        let nodes = (0..size).map(&mut node).collect();
        let lock = dice.chance(90).then_some(0);
        Simulation { lock, timeline, paused: dice.chance(10), cut_off: false, nodes }
    }

    /// Something happens, or nothing does.
    pub fn live(&mut self, dice: &mut Dice) {
        let i = dice.below(self.nodes.len());
        match dice.below(100) {
            0..6 => self.nodes[i].silent = !self.nodes[i].silent && dice.chance(60),
            6..10 => self.lose_lock(dice),
            10..14 => self.crash_or_stop(dice, i),
            14..30 => self.elect(i),
            30..50 => self.promote(),
            50..65 => self.follow(i),
            65..90 => self.progress(i),
            90..92 => self.paused ^= true,
            92..94 => self.cut_off = !self.cut_off && dice.chance(40),
            _ => self.end_lease(i),
        }
    }

    /// The holder gave it up, or its ttl is over; it may not know yet.
    fn lose_lock(&mut self, dice: &mut Dice) {
        if let Some(holder) = self.lock.take() {
            self.nodes[holder].stale_lease = dice.chance(30);
        }
    }

    fn elect(&mut self, i: usize) {
        let node = &self.nodes[i];
        if self.lock.is_none() && node.state == "running" && node.role == Role::Replica {
            self.lock = Some(i);
        }
    }

    fn promote(&mut self) {
        let Some(holder) = self.lock else { return };
        let node = &mut self.nodes[holder];
        if node.role == Role::Replica && node.state == "running" {
            self.timeline += 1;
            node.role = Role::Primary;
            node.timeline = self.timeline;
            node.streaming = false;
        }
    }

    fn follow(&mut self, i: usize) {
        let timeline = self.timeline;
        let node = &mut self.nodes[i];
        if node.role == Role::Replica {
            node.timeline = timeline;
            node.streaming = node.state == "running";
        }
    }

    /// What has begun goes on: a stopping server is demoted, a stopped one starts, a starting one runs.
    fn progress(&mut self, i: usize) {
        let leads = self.lock == Some(i);
        let node = &mut self.nodes[i];
        node.state = match node.state {
            "stopping" => {
                node.role = Role::Other("demoted".into());
                node.stale_lease = false;
                "stopped"
            }
            "stopped" | "crashed" => {
                node.role = if leads { Role::Primary } else { Role::Replica };
                "starting"
            }
            _ => "running",
        };
        if leads && node.state == "stopped" {
            self.lock = None;
        }
    }

    fn crash_or_stop(&mut self, dice: &mut Dice, i: usize) {
        let node = &mut self.nodes[i];
        node.state = dice.pick(&["stopping", "crashed"]);
        node.streaming = false;
    }

    /// A primary without the lock is demoted, unless the cluster is paused.
    fn end_lease(&mut self, i: usize) {
        let leads = self.lock == Some(i);
        let node = &mut self.nodes[i];
        node.stale_lease = false;
        if !leads && node.role == Role::Primary && !self.paused {
            node.state = "stopping";
        }
    }

    /// What a node says to a check.
    pub fn answer(&self, dice: &mut Dice, i: usize) -> Observation {
        let node = &self.nodes[i];
        if node.silent || self.cut_off {
            return silent(dice.pick(&SILENCES));
        }
        let running = node.state == "running";
        // Shortly after a promotion, a primary cannot tell its timeline; one that starts can before it is said to run.
        let starts = node.state == "starting" && dice.chance(40);
        let tells_timeline = (running && !(node.role == Role::Primary && dice.chance(10))) || starts;
        Observation::Answered(Report {
            status: if self.lock == Some(i) || node.stale_lease { 200 } else { 503 },
            role: node.role.clone(),
            state: node.state.into(),
            timeline: tells_timeline.then_some(node.timeline),
            system_identifier: node.identity.map(String::from),
            wal_position: running.then_some(POSITION),
            replication_state: (node.streaming && running).then(|| "streaming".into()),
            pause: self.paused,
            cluster_unlocked: self.lock.is_none(),
            noloadbalance: node.noloadbalance,
            ..Report::default()
        })
    }
}

/// An answer that no Patroni may ever give: any status with any role, state, timeline and identity.
pub fn nonsense(dice: &mut Dice) -> Observation {
    if dice.chance(15) {
        return silent(dice.pick(&SILENCES));
    }
    let states = ["running", "running", "running", "stopping", "starting", "crashed", "", "dancing"];
    let roles = ["primary", "primary", "replica", "replica", "standby_leader", "demoted", "", "regent"];
    let identity = dice.pick(&[Some("ours"), Some("ours"), Some("ours"), Some("theirs"), None]);
    Observation::Answered(Report {
        status: dice.pick(&[200, 503]),
        role: Role::parse(dice.pick(&roles)),
        state: dice.pick(&states).into(),
        timeline: dice.pick(&[None, Some(1), Some(2), Some(3), Some(4)]),
        system_identifier: identity.map(String::from),
        wal_position: dice.pick(&[None, Some(0), Some(POSITION)]),
        replication_state: dice
            .pick(&[None, Some("streaming"), Some("in archive recovery")])
            .map(String::from),
        pause: dice.chance(20),
        cluster_unlocked: dice.chance(20),
        noloadbalance: dice.chance(10),
        ..Report::default()
    })
}
