//! Does a member understand the PROXY protocol header that it is sent?
//!
//! One that does not takes it for its own protocol. PostgreSQL reads a length from its first four bytes, finds it invalid
//! and closes without a word; pgbouncer says `protocol_violation`. But a server that is about to stop hangs up as well, so
//! it takes several in a row, and none that it has answered in between. A verdict ages: when no sessions come any more,
//! nobody would notice that the member has been mended.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// So many in a row are no accident.
const ENOUGH: u32 = 3;
/// For so long after the last one they count.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Misread {
    epoch: Instant,
    count: AtomicU32,
    /// When it hung up last, in milliseconds since the epoch.
    last_ms: AtomicU64,
}

impl Default for Misread {
    fn default() -> Misread {
        Misread { epoch: Instant::now(), count: AtomicU32::new(0), last_ms: AtomicU64::new(0) }
    }
}

impl Misread {
    /// The member has hung up on a header; says whether that makes it likely that it does not understand it.
    pub fn hung_up(&self) -> bool {
        self.hung_up_at(self.epoch.elapsed())
    }

    /// It has answered behind one; says whether that was unlikely.
    pub fn answered(&self) -> bool {
        self.count.load(Relaxed) > 0 && self.count.swap(0, Relaxed) >= ENOUGH
    }

    /// Whether it has hung up on several in a row, the last of them not long ago.
    pub fn is_likely(&self) -> bool {
        self.is_likely_at(self.epoch.elapsed())
    }

    fn hung_up_at(&self, now: Duration) -> bool {
        let is_old = self.is_old(now);
        self.last_ms.fetch_max(millis(now), Relaxed);
        let add = |count: u32| Some(if is_old { 1 } else { count.saturating_add(1) });
        let before = self.count.fetch_update(Relaxed, Relaxed, add).unwrap_or_else(|before| before);
        !is_old && before.saturating_add(1) == ENOUGH
    }

    fn is_likely_at(&self, now: Duration) -> bool {
        self.count.load(Relaxed) >= ENOUGH && !self.is_old(now)
    }

    fn is_old(&self, now: Duration) -> bool {
        now.saturating_sub(Duration::from_millis(self.last_ms.load(Relaxed))) > MEMORY
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_are_told_once_and_an_answer_or_time_ends_it() {
        // `x` hung up, `a` answered, `_` time passes; what is told: `!` likely, `.` nothing, `+` no more. And whether it is
        // likely at the end.
        for (seen, told, likely) in [
            ("xx", "..", false),
            ("xxx", "..!", true),
            ("xxaxx", ".....", false),
            ("xxxxxa", "..!..+", false),
            ("axxxaa", "...!+.", false),
            ("xxx_", "..!.", false),
            ("xx_x", "....", false),
            ("_xxx", "...!", true),
            ("xxx_xxx", "..!...!", true),
        ] {
            let (misread, mut now) = (Misread::default(), Duration::ZERO);
            let step = |what: char| match what {
                'x' if misread.hung_up_at(now) => '!',
                'a' if misread.answered() => '+',
                '_' => {
                    now += MEMORY + Duration::from_millis(1);
                    '.'
                }
                _ => '.',
            };
            assert_eq!(seen.chars().map(step).collect::<String>(), told, "{seen}");
            assert_eq!(misread.is_likely_at(now), likely, "{seen}");
        }
    }
}
