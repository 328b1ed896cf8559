//! What pilotfish remembers of one member between two checks: its last word, and how long it has said nothing.
//!
//! What a pool of readers makes of it is in [`readers`](super::readers).

use std::time::Duration;

use super::observation::{Class, Observation, Report};

/// How many checks in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Silent checks after which a reader is out.
    pub fall: u32,
    /// Good checks after which a reader that was out is back.
    pub rise: u32,
}

/// The memory of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    last: Option<Observation>,
    /// The last report, kept through silence: what the node was when it still spoke.
    last_report: Option<Report>,
    answered_at: Option<Duration>,
    silent_streak: u32,
    suspect: bool,
    lag_bytes: Option<u64>,
}

impl Health {
    /// Takes in one check. `class` is the member's class by this observation, lag aside; `leader_position` the
    /// newest WAL position seen on the leader.
    pub fn record(
        &mut self,
        now: Duration,
        observation: Observation,
        class: Class,
        leader_position: Option<u64>,
    ) {
        match &observation {
            Observation::Silent(_) => self.silent_streak = self.silent_streak.saturating_add(1),
            Observation::Answered(report) => {
                self.silent_streak = 0;
                self.answered_at = Some(now);
                self.suspect = false;
                self.lag_bytes = match (class, report.wal_position, leader_position) {
                    (Class::Reader | Class::Standby, Some(own), Some(leader)) => {
                        Some(leader.saturating_sub(own))
                    }
                    _ => None,
                };
                self.last_report = Some(report.clone());
            }
        }
        self.last = Some(observation);
    }

    /// What it said last is of another time: it is as one that was not asked yet, but what it was then stays known.
    pub fn outdate(&mut self) {
        (self.last, self.answered_at) = (None, None);
    }

    /// A dial was refused or timed out: not to be trusted until its next answer.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// How many checks in a row brought nothing.
    pub fn silent_streak(&self) -> u32 {
        self.silent_streak
    }

    /// Bytes of WAL behind the leader; `None` for a leader and while either position is unknown.
    pub fn lag_bytes(&self) -> Option<u64> {
        self.lag_bytes
    }

    pub fn last(&self) -> Option<&Observation> {
        self.last.as_ref()
    }

    /// The last report that came, however long ago.
    pub fn last_report(&self) -> Option<&Report> {
        self.last_report.as_ref()
    }

    /// The report of the last check, if it was answered.
    pub fn report(&self) -> Option<&Report> {
        match &self.last {
            Some(Observation::Answered(report)) => Some(report),
            _ => None,
        }
    }

    /// When the node last answered; `None` also for one that has not since pilotfish itself stood still.
    pub fn answered_at(&self) -> Option<Duration> {
        self.answered_at
    }
}
