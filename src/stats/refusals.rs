//! Does a member take the sessions that are sent there? Its dials tell, whatever its Patroni says.
//!
//! A dial that fails says no, and a session that comes through says yes. Without anybody who waits a no is soon forgotten:
//! nobody would come who could take it back.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// While nobody waits, a dial that failed counts for so long. Who waits dials again much sooner.
const KEPT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Refusals {
    /// There are some: sessions that come through look no further.
    any: AtomicBool,
    run: Mutex<Option<Run>>,
}

/// Dials that failed, one after the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    since: Instant,
    last: Instant,
}

impl Refusals {
    /// A dial has failed, or the server could not serve; `others_wait` for it too.
    pub fn failed(&self, others_wait: bool) {
        self.failed_at(Instant::now(), others_wait);
    }

    /// A session has come through.
    pub fn served(&self) {
        if self.any.load(Relaxed) {
            *self.run() = None;
            self.any.store(false, Relaxed);
        }
    }

    /// Since when no session came through although some were sent; `None` if that is not so, or not known any more.
    pub fn since(&self, anybody_waits: bool) -> Option<Instant> {
        self.since_at(Instant::now(), anybody_waits)
    }

    fn run(&self) -> std::sync::MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_at(&self, now: Instant, others_wait: bool) {
        let since = self.since_at(now, others_wait).unwrap_or(now);
        *self.run() = Some(Run { since, last: now });
        self.any.store(true, Relaxed);
    }

    fn since_at(&self, now: Instant, anybody_waits: bool) -> Option<Instant> {
        let run = *self.run();
        let counts = |run: &Run| anybody_waits || now.saturating_duration_since(run.last) < KEPT;
        run.filter(counts).map(|run| run.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_until_a_session_comes_through_or_nobody_waits_any_more() {
        let (begun, refusals) = (Instant::now(), Refusals::default());
        let at = |seconds| begun + Duration::from_secs(seconds);
        refusals.served();
        assert_eq!(refusals.since_at(at(0), true), None);
        refusals.failed_at(at(1), false);
        refusals.failed_at(at(3), true);
        assert_eq!(refusals.since_at(at(4), false), Some(at(1)));
        assert_eq!(refusals.since_at(at(8), false), None, "nobody has asked for long");
        assert_eq!(refusals.since_at(at(40), true), Some(at(1)), "somebody still waits");
        refusals.failed_at(at(41), false);
        assert_eq!(refusals.since_at(at(42), false), Some(at(41)), "what was forgotten does not come back");
        refusals.served();
        assert_eq!(refusals.since_at(at(42), true), None);
    }
}
