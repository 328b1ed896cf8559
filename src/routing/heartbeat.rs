//! Does control still turn? Without it a table grows old, and nobody sees it.
//!
//! A whole process can be made to stand still: by SIGSTOP, by a cgroup's freezer, by a machine that sleeps. When it goes
//! on, its workers may come before control, and the table that they find names the writer of then. So control leaves a
//! sign of each of its turns, workers look at it before they send a writer session anywhere, and control learns by the
//! same sign that what it knows is of before.
//!
//! The clock is CLOCK_BOOTTIME, which counts the sleep of a machine too (clock_gettime(2)). A virtual machine that is
//! paused with all its clocks cannot tell that it was.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Without anything to do control turns this often.
pub const BEAT: Duration = Duration::from_millis(500);
/// Longer than this between two turns, and what was known before counts no more. Several beats, so that a busy machine
/// is not taken for one that stood still; should it be, a writer session waits for the answers of one round of checks.
pub const STOOD_STILL: Duration = Duration::from_secs(3);

/// The sign of the last turn.
#[derive(Debug, Default)]
pub struct Heartbeat {
    /// When it was, in microseconds of the clock; 0 where nobody turns, as behind a table made by hand.
    turned_us: AtomicU64,
}

impl Heartbeat {
    /// A turn begins. Whatever is to be published by reason of [`Heartbeat::stood_still`] must be by now.
    pub fn beat(&self) {
        self.beat_at(now());
    }

    /// How long the last turn is ago, if that is longer than [`STOOD_STILL`].
    pub fn stood_still(&self) -> Option<Duration> {
        self.stood_still_at(now())
    }

    fn beat_at(&self, now: Duration) {
        self.turned_us.store(micros(now).max(1), Release);
    }

    fn stood_still_at(&self, now: Duration) -> Option<Duration> {
        let turned = match self.turned_us.load(Acquire) {
            0 => return None,
            turned => Duration::from_micros(turned),
        };
        now.checked_sub(turned).filter(|&gap| gap > STOOD_STILL)
    }
}

/// Since the machine has started, its sleep included.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_time_between_two_turns_is_a_standstill() {
        let at = Duration::from_millis;
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.stood_still_at(at(100_000)), None, "nobody turns");
        heartbeat.beat_at(at(100_000));
        for (now, gap) in [
            (99_000, None),
            (100_000, None),
            (103_000, None),
            (103_001, Some(3_001)),
            (143_000, Some(43_000)),
        ] {
            assert_eq!(heartbeat.stood_still_at(at(now)), gap.map(at), "{now}");
        }
        heartbeat.beat_at(at(143_000));
        assert_eq!(heartbeat.stood_still_at(at(143_001)), None);
    }

    #[test]
    fn the_clock_goes_on() {
        let heartbeat = Heartbeat::default();
        heartbeat.beat();
        assert_eq!(heartbeat.stood_still(), None);
        assert!(now() > Duration::ZERO);
    }
}
