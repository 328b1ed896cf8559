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
    /// Found to be, by its checks.
    dead: bool,
    been_dead: bool,
    good_streak: u32,
    silent_streak: u32,
    problem: Option<String>,
    /// What was last said of it: whether it is open.
    told: Option<bool>,
}

impl PortHealth {
    /// Takes in one check; says whether the port is another than was said before: open, or dead. A suspicion that is not
    /// borne out is none.
    pub fn record(&mut self, knock: Knock, thresholds: Thresholds) -> bool {
        match knock {
            Knock::Open => {
                self.silent_streak = 0;
                self.good_streak = self.good_streak.saturating_add(1);
                self.open |= !self.been_dead || self.good_streak >= thresholds.rise;
                self.dead &= !self.open;
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
        if !self.open && !self.dead {
            return false;
        }
        self.told.replace(self.open) != Some(self.open)
    }

    /// A session was refused there: to be asked at once, and until then nobody is sent there.
    pub fn suspect(&mut self, problem: &str) -> bool {
        let was_open = self.open;
        self.open = false;
        self.problem.get_or_insert_with(|| problem.to_owned());
        was_open
    }

    fn die(&mut self, problem: String) {
        (self.open, self.dead, self.been_dead, self.good_streak) = (false, true, true, 0);
        self.problem = Some(problem);
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Not open, and not for want of an answer alone: its checks have found nobody there.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Why it is not open.
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
                assert!(!port.is_open() || !port.is_dead(), "{port:?}");
                if port.is_open() { '+' } else { '-' }
            };
            assert_eq!(checks.chars().map(step).collect::<String>(), open, "checks {checks}");
        }
    }

    #[test]
    fn it_is_news_that_a_port_is_open_or_dead_and_a_suspicion_is_none() {
        for (checks, news) in [
            ("o", "+"),
            ("oo", "+."),
            // Dead from the start.
            ("rr", "-."),
            ("sss", "..-"),
            ("oroo", "+-.+"),
            // Sessions find out before the check does.
            ("oxr", "+.-"),
            ("oxo", "+.."),
            ("orooxs", "+-.+.."),
        ] {
            let mut port = PortHealth::default();
            let thresholds = Thresholds { fall: 3, rise: 2 };
            let step = |check: char| {
                let is_news = match check {
                    'o' => port.record(Knock::Open, thresholds),
                    'r' => port.record(Knock::Refused("refused".into()), thresholds),
                    's' => port.record(Knock::Silent("silent".into()), thresholds),
                    _ => {
                        port.suspect("a session was refused");
                        false
                    }
                };
                match (is_news, port.is_open()) {
                    (false, _) => '.',
                    (true, true) => '+',
                    (true, false) => '-',
                }
            };
            assert_eq!(checks.chars().map(step).collect::<String>(), news, "checks {checks}");
        }
    }
}
