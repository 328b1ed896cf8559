//! Does a member understand the PROXY protocol header that it is sent?
//!
//! One that does not takes it for its own protocol. PostgreSQL reads a length from its first four bytes, finds it invalid
//! and closes without a word; pgbouncer says `protocol_violation`. But a server that is about to stop hangs up as well, so
//! it takes several in a row, and none that it has answered in between.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// So many in a row are no accident.
const ENOUGH: u32 = 3;

#[derive(Debug, Default)]
pub struct Misread(AtomicU32);

impl Misread {
    /// The member has hung up on a header; says whether that makes it likely that it does not understand it.
    pub fn hung_up(&self) -> bool {
        let add = |count: u32| Some(count.saturating_add(1));
        let before = self.0.fetch_update(Relaxed, Relaxed, add).unwrap_or_else(|before| before);
        before.saturating_add(1) == ENOUGH
    }

    /// It has answered behind one; says whether that was unlikely.
    pub fn answered(&self) -> bool {
        self.0.load(Relaxed) > 0 && self.0.swap(0, Relaxed) >= ENOUGH
    }

    pub fn is_likely(&self) -> bool {
        self.0.load(Relaxed) >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_are_told_once_and_an_answer_ends_it() {
        // `x` hung up, `a` answered; what is told: `!` likely, `.` nothing, `+` no more.
        for (seen, told) in
            [("xx", ".."), ("xxx", "..!"), ("xxaxx", "....."), ("xxxxxa", "..!..+"), ("axxxaa", "...!+.")]
        {
            let misread = Misread::default();
            let step = |what: char| match what {
                'x' if misread.hung_up() => '!',
                'a' if misread.answered() => '+',
                _ => '.',
            };
            assert_eq!(seen.chars().map(step).collect::<String>(), told, "{seen}");
        }
    }
}
