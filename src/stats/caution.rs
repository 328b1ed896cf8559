//! A member that has just ended a session of its own accord may be about to end them all.
//!
//! A server that shuts down hangs up on every session first; its check, which is asked for at once, says so some
//! milliseconds later. New sessions wait that long before they dial it: over TLS its refusal could no longer be
//! hidden from the client. Servers also end sessions for reasons of their own, so the pause comes no more than once
//! a second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Several times what a check takes, in which no new session is dialled.
const PAUSE: Duration = Duration::from_millis(50);
/// From the begin of one pause to that of the next, at least.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Caution {
    epoch: Instant,
    /// When the last pause began, in microseconds since the epoch; 0 for never.
    began_us: AtomicU64,
}

impl Default for Caution {
    fn default() -> Caution {
        Caution { epoch: Instant::now(), began_us: AtomicU64::new(0) }
    }
}

impl Caution {
    /// The member has ended a session; says whether a new pause begins by that.
    pub fn raise(&self) -> bool {
        self.raise_at(self.epoch.elapsed())
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
            self.began_us.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX).max(1), Relaxed);
        }
        begins
    }

    fn remaining_at(&self, now: Duration) -> Option<Duration> {
        let began = Duration::from_micros(self.began_us.load(Relaxed));
        (began + PAUSE).checked_sub(now).filter(|rest| !rest.is_zero())
    }
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
        assert_eq!(caution.remaining_at(at(120)), Some(at(30)));
        assert_eq!(caution.remaining_at(at(150)), None);
        assert!(!caution.raise_at(at(900)));
        assert_eq!(caution.remaining_at(at(900)), None);
        assert!(caution.raise_at(at(1100)));
        assert_eq!(caution.remaining_at(at(1100)), Some(PAUSE));
    }
}
