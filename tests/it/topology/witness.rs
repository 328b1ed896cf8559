//! What was said and done, as far as the oracle needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotfish::topology::{Observation, Operator, Report, Role};

use super::script::{Placed, Step, name};

#[derive(Default)]
pub struct Witness {
    /// In no order; a node is known by its place, which stays when it is named otherwise.
    pub nodes: Vec<Node>,
    pub identity: Option<String>,
    /// When a word of ours last broke a silence of all.
    silence_broken_at: Duration,
    /// Names that an operator has taken out of service, whether their nodes are there or not.
    wishes: BTreeMap<&'static str, Operator>,
}

#[derive(Default)]
pub struct Node {
    pub place: usize,
    pub name: &'static str,
    pub operator: Operator,
    /// Its last check.
    pub last: Option<Observation>,
    /// Its last answer, however long ago.
    pub word: Option<Report>,
    pub answered_at: Duration,
    /// It has answered since pilotfish last stood still.
    pub is_of_now: bool,
    pub silences: u32,
    pub good_in_a_row: u32,
    pub suspect: bool,
}

impl Witness {
    pub fn note(&mut self, now: Duration, step: &Step) {
        match step {
            Step::Heard(place, observation) => self.hear(now, *place, observation),
            Step::Suspect(place) => self.change(*place, |node| node.suspect = true),
            Step::Operator(place, wish) => self.operate(*place, *wish),
            Step::Members(members) => self.settle_members(members),
            Step::Reset => self.forget(),
            Step::StoodStill => self.wake(),
            Step::Grace(_) | Step::Nothing => {}
        }
    }

    fn change(&mut self, place: usize, change: impl FnOnce(&mut Node)) {
        self.nodes.iter_mut().find(|node| node.place == place).map(change);
    }

    fn operate(&mut self, place: usize, wish: Operator) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.place == place) else { return };
        node.operator = wish;
        match wish {
            Operator::Ready => self.wishes.remove(node.name),
            _ => self.wishes.insert(node.name, wish),
        };
    }

    fn hear(&mut self, now: Duration, place: usize, observation: &Observation) {
        if self.all_silent() {
            self.silence_broken_at = now;
        }
        let identity = self.identity.take();
        self.change(place, |node| {
            node.last = Some(observation.clone());
            let Observation::Answered(report) = observation else {
                node.silences += 1;
                node.good_in_a_row = 0;
                return;
            };
            let good = reads(report) && !is_foreign(report, &identity);
            node.good_in_a_row = if good { node.good_in_a_row + 1 } else { 0 };
            node.silences = 0;
            (node.answered_at, node.is_of_now) = (now, true);
            node.suspect = false;
            node.word = Some(report.clone());
        });
        self.identity = identity;
    }

    pub fn settle_members(&mut self, members: &[Placed]) {
        let mut old = std::mem::take(&mut self.nodes);
        for &(place, which) in members {
            let known = old.iter().position(|node| node.place == place);
            let node = known.map_or_else(Node::default, |i| old.swap_remove(i));
            let name = name((place, which));
            // What was wanted of a node under one name is wanted under its next, unless that one has a wish already.
            if node.name != name
                && let Some(wish) = self.wishes.remove(node.name)
            {
                self.wishes.entry(name).or_insert(wish);
            }
            let operator = self.wishes.get(name).copied().unwrap_or_default();
            self.nodes.push(Node { place, name, operator, ..node });
        }
    }

    /// What a node said before it was known to be a stranger was not good.
    pub fn identify(&mut self, identity: Option<&str>) {
        self.identity = identity.map(String::from);
        let ours = &self.identity;
        let foreign = |node: &&mut Node| node.word.as_ref().is_some_and(|word| is_foreign(word, ours));
        self.nodes.iter_mut().filter(foreign).for_each(|node| node.good_in_a_row = 0);
    }

    /// What silent nodes said belongs to the history that the operator has declared void.
    fn forget(&mut self) {
        self.identity = None;
        for node in self.nodes.iter_mut().filter(|node| node.said().is_none()) {
            *node = Node { place: node.place, name: node.name, operator: node.operator, ..Node::default() };
        }
    }

    /// What was said before is history; who is a stranger stays one.
    fn wake(&mut self) {
        let ours = &self.identity;
        let is_stranger = |node: &Node| node.said().is_some_and(|report| is_foreign(report, ours));
        self.nodes
            .iter_mut()
            .filter(|node| !is_stranger(node))
            .for_each(|node| (node.last, node.is_of_now) = (None, false));
    }

    /// Nobody of our cluster speaks.
    pub fn all_silent(&self) -> bool {
        self.answers().next().is_none()
    }

    /// How long the silence of one node has meant something: others spoke meanwhile.
    pub fn meaningful_silence(&self, now: Duration, node: &Node) -> Duration {
        if self.all_silent() {
            return Duration::ZERO;
        }
        now - node.answered_at.max(self.silence_broken_at)
    }

    pub fn all_asked(&self) -> bool {
        self.nodes.iter().all(|node| node.last.is_some())
    }

    pub fn is_foreign(&self, report: &Report) -> bool {
        is_foreign(report, &self.identity)
    }

    /// The last checks that were answered by nodes of our cluster.
    pub fn answers(&self) -> impl Iterator<Item = (usize, &Report)> {
        let answers = self.nodes.iter().filter_map(|node| Some((node.place, node.said()?)));
        answers.filter(|(_, report)| !self.is_foreign(report))
    }

    pub fn at(&self, place: usize) -> Option<&Node> {
        self.nodes.iter().find(|node| node.place == place)
    }

    pub fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl Node {
    pub fn said(&self) -> Option<&Report> {
        match &self.last {
            Some(Observation::Answered(report)) => Some(report),
            _ => None,
        }
    }
}

fn is_foreign(report: &Report, ours: &Option<String>) -> bool {
    ours.is_some() && report.system_identifier.is_some() && report.system_identifier != *ours
}

/// Holds the lock, is primary, and runs or has just told its timeline while it starts.
pub fn claims(report: &Report) -> bool {
    let runs = match report.state.as_str() {
        "running" => true,
        "starting" => report.timeline.is_some(),
        _ => false,
    };
    report.status == 200 && report.role == Role::Primary && runs
}

/// Holds the lock, but its server is not there: it stops, starts or has crashed.
pub fn is_away(report: &Report) -> bool {
    report.status == 200 && report.role != Role::Replica && report.state != "running" && !claims(report)
}

pub fn is_promoting(report: &Report) -> bool {
    report.status == 200 && report.role == Role::Replica
}

pub fn leads_standby(report: &Report) -> bool {
    report.status == 200 && report.role == Role::StandbyLeader && report.state == "running"
}

/// Lost the lock in maintenance mode, and is still what it was.
pub fn is_paused_primary(report: &Report) -> bool {
    report.status == 503 && report.pause && report.role == Role::Primary && report.state == "running"
}

/// As far as its own word goes, writers may be there.
pub fn serves_writers(report: &Report) -> bool {
    claims(report) || is_paused_primary(report)
}

pub fn reads(report: &Report) -> bool {
    report.status == 503 && report.role == Role::Replica && report.state == "running" && !report.noloadbalance
}

/// A running replica, whether it takes readers or not, that is fed by a leader.
pub fn streams(report: &Report) -> bool {
    let replica = report.status == 503 && report.role == Role::Replica && report.state == "running";
    replica && report.replication_state.as_deref() == Some("streaming")
}
