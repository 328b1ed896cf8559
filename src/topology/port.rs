//! One port of one member, beside PostgreSQL's own: is anybody there?
//!
//! As with readers: a refusal counts at once, silence after `fall` checks in a row, and it takes `rise` good ones to be
//! back. A port that has never been found dead is open at its first good check.

use super::health::Thresholds;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knock {
    Open,
    /// Nobody listens there.
    Refused(String),
    /// No answer, or none that says anything of the member.
    Silent(String),
}

/// The memory of one port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortHealth {
    open: bool,
    been_dead: bool,
    good_streak: u32,
    silent_streak: u32,
    problem: Option<String>,
}

impl PortHealth {
    /// Takes in one check; says whether anything has changed for sessions.
    pub fn record(&mut self, knock: Knock, thresholds: Thresholds) -> bool {
        let was_open = self.open;
        match knock {
            Knock::Open => {
                self.silent_streak = 0;
                self.good_streak = self.good_streak.saturating_add(1);
                self.open |= !self.been_dead || self.good_streak >= thresholds.rise;
                self.problem.take_if(|_| self.open);
            }
            Knock::Refused(problem) => self.die(problem),
            Knock::Silent(problem) => {
                self.good_streak = 0;
                self.silent_streak = self.silent_streak.saturating_add(1);
                if self.silent_streak >= thresholds.fall {
                    self.die(problem);
                }
            }
        }
        self.open != was_open
    }

    /// A session was refused there: to be asked at once, and until then nobody is sent there.
    pub fn suspect(&mut self, problem: &str) -> bool {
        let was_open = self.open;
        self.open = false;
        self.problem.get_or_insert_with(|| problem.to_owned());
        was_open
    }

    fn die(&mut self, problem: String) {
        (self.open, self.been_dead, self.good_streak) = (false, true, 0);
        self.problem = Some(problem);
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Why it is not.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_at_once_silent_after_fall_and_back_after_rise() {
        // `o` open, `r` refused, `s` silent, `x` a session was refused there.
        for (checks, open) in [
            ("o", "+"),
            ("oro", "+--"),
            ("oroo", "+--+"),
            ("osso", "++++"),
            ("osssoo", "+++--+"),
            ("so", "-+"),
            ("ssso", "----"),
            ("oxo", "+-+"),
            ("oxroo", "+---+"),
        ] {
            let mut port = PortHealth::default();
            let thresholds = Thresholds { fall: 3, rise: 2 };
            let step = |check: char| {
                match check {
                    'o' => port.record(Knock::Open, thresholds),
                    'r' => port.record(Knock::Refused("refused".into()), thresholds),
                    's' => port.record(Knock::Silent("silent".into()), thresholds),
                    _ => port.suspect("a session was refused"),
                };
                assert!(!port.is_open() || port.problem().is_none(), "{port:?}");
                if port.is_open() { '+' } else { '-' }
            };
            assert_eq!(checks.chars().map(step).collect::<String>(), open, "checks {checks}");
        }
    }
}
