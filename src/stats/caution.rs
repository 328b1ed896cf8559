//! A member that has just ended a session of its own accord may be about to end them all.
//!
//! A server that shuts down hangs up on every session first; its check, which is asked for at once, says so some
//! milliseconds later. New sessions wait for that answer before they dial it: over TLS its refusal could no longer be
//! hidden from the client. Servers also end sessions for reasons of their own, so the pause comes no more than once
//! a second, and it ends without an answer too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Without an answer no new session is dialled for so long: several times what a check takes on a busy machine.
const PAUSE: Duration = Duration::from_millis(250);
/// From the begin of one pause to that of the next, at least.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Caution {
    epoch: Instant,
    /// When the last pause began, in microseconds since the epoch; 0 for never.
    began_us: AtomicU64,
    /// When the member was asked for the last answer that came, the same way.
    asked_us: AtomicU64,
}

impl Default for Caution {
    fn default() -> Caution {
        Caution { epoch: Instant::now(), began_us: AtomicU64::new(0), asked_us: AtomicU64::new(0) }
    }
}

impl Caution {
    /// The member has ended a session; says whether a new pause begins by that.
    pub fn raise(&self) -> bool {
        self.raise_at(self.epoch.elapsed())
    }

    /// The member has answered a check that began then; an answer to an older one says nothing of a pause.
    pub fn answered(&self, asked: Instant) {
        self.answered_at(asked.saturating_duration_since(self.epoch));
    }

    /// How long new sessions should still wait; usually not at all.
    pub fn remaining(&self) -> Option<Duration> {
        match self.began_us.load(Relaxed) {
            0 => None,
            _ => self.remaining_at(self.epoch.elapsed()),
        }
    }

    fn raise_at(&self, now: Duration) -> bool {
        let began = Duration::from_micros(self.began_us.load(Relaxed));
        let begins = began.is_zero() || now >= began + EVERY;
        if begins {
            self.began_us.store(micros(now).max(1), Relaxed);
        }
        begins
    }

    fn answered_at(&self, asked: Duration) {
        self.asked_us.fetch_max(micros(asked), Relaxed);
    }

    fn remaining_at(&self, now: Duration) -> Option<Duration> {
        let (began, asked) = (self.began_us.load(Relaxed), self.asked_us.load(Relaxed));
        let rest = (Duration::from_micros(began) + PAUSE).checked_sub(now);
        rest.filter(|rest| !rest.is_zero() && asked < began)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_short_and_rare() {
        let at = Duration::from_millis;
        let caution = Caution::default();
        assert_eq!(caution.remaining(), None);
        assert!(caution.raise_at(at(100)));
        assert_eq!(caution.remaining_at(at(120)), Some(at(230)));
        assert_eq!(caution.remaining_at(at(350)), None);
        assert!(!caution.raise_at(at(900)));
        assert_eq!(caution.remaining_at(at(900)), None);
        assert!(caution.raise_at(at(1100)));
        assert_eq!(caution.remaining_at(at(1100)), Some(PAUSE));
    }

    #[test]
    fn an_answer_to_a_check_that_began_since_ends_the_pause() {
        let at = Duration::from_millis;
        let caution = Caution::default();
        assert!(caution.raise_at(at(100)));
        caution.answered_at(at(99));
        assert_eq!(caution.remaining_at(at(110)), Some(at(240)), "asked before, it may not know yet");
        caution.answered_at(at(101));
        assert_eq!(caution.remaining_at(at(110)), None);
        assert!(caution.raise_at(at(1200)));
        assert_eq!(caution.remaining_at(at(1210)), Some(at(240)), "a new pause wants a new answer");
    }
}
