//! What pilotfish remembers of one member between two checks.
//!
//! Good news is believed slowly and bad news at once: a reader is out at its first negative answer, and back after
//! `rise` good ones. No news is neither: it takes `fall` silent checks in a row before a reader is out for silence.
//! A member that has never been out is in at its first good answer, so that a start takes one round of checks.

use std::time::Duration;

use super::observation::{Class, Observation, Report};

/// How many checks in a row it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Silent checks after which a reader is out.
    pub fall: u32,
    /// Good checks after which a reader that was out is back.
    pub rise: u32,
    /// Bytes of WAL that a reader may lie behind; `None` is no limit.
    pub max_lag: Option<u64>,
}

/// The memory of one member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    last: Option<Observation>,
    /// The last report, kept through silence: what the node was when it still spoke.
    last_report: Option<Report>,
    answered_at: Option<Duration>,
    silent_streak: u32,
    good_streak: u32,
    been_out: bool,
    serving: bool,
    suspect: bool,
    lagging: bool,
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
        thresholds: &Thresholds,
    ) {
        match &observation {
            Observation::Silent(_) => self.silent_streak = self.silent_streak.saturating_add(1),
            Observation::Answered(report) => {
                self.silent_streak = 0;
                self.answered_at = Some(now);
                self.suspect = false;
                self.measure_lag(report, class, leader_position, thresholds.max_lag);
                self.last_report = Some(report.clone());
            }
        }
        self.last = Some(observation);
        match class {
            Class::Reader if !self.lagging => self.good_check(thresholds.rise),
            Class::Silent if self.silent_streak < thresholds.fall => self.good_streak = 0,
            _ => self.put_out(),
        }
    }

    fn good_check(&mut self, rise: u32) {
        self.good_streak = self.good_streak.saturating_add(1);
        if !self.been_out || self.good_streak >= rise {
            self.serving = true;
        }
    }

    /// Takes no readers until it has been good again, `rise` times in a row.
    pub fn put_out(&mut self) {
        self.serving = false;
        self.been_out = true;
        self.good_streak = 0;
    }

    /// Out above the limit, back at three quarters of it: a replica at the edge does not flap in and out.
    fn measure_lag(&mut self, report: &Report, class: Class, leader: Option<u64>, limit: Option<u64>) {
        self.lag_bytes = match (class, report.wal_position, leader) {
            (Class::Reader | Class::Standby, Some(own), Some(leader)) => Some(leader.saturating_sub(own)),
            _ => None,
        };
        match (self.lag_bytes, limit) {
            (_, None) => self.lagging = false,
            (Some(lag), Some(limit)) if lag > limit => self.lagging = true,
            (Some(lag), Some(limit)) if lag <= limit / 4 * 3 => self.lagging = false,
            _ => {}
        }
    }

    /// A dial was refused or timed out: not to be trusted until its next answer.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// May take readers as far as its own record goes.
    pub fn is_serving(&self) -> bool {
        self.serving && !self.suspect
    }

    pub fn is_lagging(&self) -> bool {
        self.lagging
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

    /// When the node last answered.
    pub fn answered_at(&self) -> Option<Duration> {
        self.answered_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::observation::{Role, Silence, SilenceKind};

    const RULES: Thresholds = Thresholds { fall: 3, rise: 2, max_lag: Some(100) };

    /// `g` good reader, `n` negative answer, `s` silence; digits: a good reader with that many tens of bytes of lag.
    fn serving_after(checks: &str) -> String {
        let mut health = Health::default();
        let step = |check: char| {
            let report = |state: &str, lag: u64| {
                let position = Some(1000 - lag);
                let state = state.to_owned();
                Report {
                    status: 503,
                    role: Role::Replica,
                    state,
                    wal_position: position,
                    ..Report::default()
                }
            };
            let observation = match check {
                's' => {
                    let detail = String::new();
                    Observation::Silent(Silence { kind: SilenceKind::Timeout, detail })
                }
                'n' => Observation::Answered(report("stopped", 0)),
                'g' => Observation::Answered(report("running", 0)),
                tens => {
                    let tens = u64::from(tens.to_digit(36).expect("a digit"));
                    Observation::Answered(report("running", tens * 10))
                }
            };
            let class = match &observation {
                Observation::Answered(report) => report.class(),
                Observation::Silent(_) => Class::Silent,
            };
            health.record(Duration::ZERO, observation, class, Some(1000), &RULES);
            if health.is_serving() { '+' } else { '-' }
        };
        checks.chars().map(step).collect()
    }

    #[test]
    fn negative_at_once_silence_after_fall_back_after_rise() {
        for (checks, serving) in [
            ("g", "+"),
            ("gng", "+--"),
            ("gngg", "+--+"),
            ("gss", "+++"),
            ("gsss", "+++-"),
            ("gsssg", "+++--"),
            ("gsssgg", "+++--+"),
            ("gssgss", "++++++"),
            ("sg", "-+"),
            ("sssgg", "----+"),
            ("ngsg", "----"),
        ] {
            assert_eq!(serving_after(checks), serving, "checks {checks}");
        }
    }

    #[test]
    fn a_reader_at_the_edge_of_the_lag_limit_does_not_flap() {
        for (checks, serving) in [
            ("0a", "++"),
            ("0b", "+-"),
            // 80 and 100 are within the limit but above three quarters of it: still out.
            ("0b8a8", "+----"),
            ("0b77", "+--+"),
        ] {
            assert_eq!(serving_after(checks), serving, "checks {checks}");
        }
    }

    #[test]
    fn a_suspect_serves_nobody_until_it_answers() {
        let mut health = Health::default();
        let report =
            Report { role: Role::Replica, state: "running".into(), status: 503, ..Report::default() };
        let answer = Observation::Answered(report);
        health.record(Duration::ZERO, answer.clone(), Class::Reader, None, &RULES);
        health.suspect();
        assert!(!health.is_serving());
        health.record(Duration::ZERO, answer, Class::Reader, None, &RULES);
        assert!(health.is_serving());
    }
}
