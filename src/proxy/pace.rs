//! When is a transfer bulk?
//!
//! Bulk is what one side sends and sends while the other only listens: a COPY, a large result, a backup. It is worth
//! letting it gather in the kernel and moving it in large pieces. It is over when the other side speaks or little
//! comes any more.

/// What one side has to send without hearing a word before it is bulk. Much more than an answer that somebody waits
/// for: what gathers comes late, by [`COLLECT_EVERY`](super::engine::COLLECT_EVERY) at most.
pub const BULK_AFTER: usize = 4 * 1024 * 1024;
/// Moving less than this at a time is not worth the effort of moving it otherwise than by copying.
const SMALL_BYTES: usize = 16 * 1024;
/// Small moves in a row after which a bulk transfer is over.
const SMALL_MOVES: u8 = 3;

/// How one direction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many bytes have come since the other side spoke.
    Talks { streak: usize },
    /// Bulk; so many moves in a row were small.
    Pours { small_moves: u8 },
}

impl Default for Pace {
    fn default() -> Pace {
        Pace::Talks { streak: 0 }
    }
}

impl Pace {
    /// `bulk_after`: usually [`BULK_AFTER`].
    pub fn is_bulk(self, bulk_after: usize) -> bool {
        match self {
            Pace::Talks { streak } => streak >= bulk_after,
            Pace::Pours { .. } => true,
        }
    }

    /// After a move of so many bytes; none when there was nothing to move.
    pub fn after(self, bytes: usize, bulk_after: usize) -> Pace {
        let small_moves = match self {
            Pace::Talks { streak } if streak < bulk_after => {
                return Pace::Talks { streak: streak.saturating_add(bytes) };
            }
            _ if bytes >= SMALL_BYTES => 0,
            Pace::Pours { small_moves } => small_moves + 1,
            Pace::Talks { .. } => 1,
        };
        if small_moves < SMALL_MOVES { Pace::Pours { small_moves } } else { Pace::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_begins_with_a_long_streak_and_ends_with_little() {
        let play =
            |moves: &[usize]| moves.iter().fold(Pace::default(), |pace, &bytes| pace.after(bytes, 100));
        for (moves, is_bulk) in [
            (&[][..], false),
            (&[99], false),
            (&[50, 50], true),
            (&[100, SMALL_BYTES], true),
            (&[100, SMALL_BYTES, 0, 0], true),
            (&[100, SMALL_BYTES, 0, 0, SMALL_BYTES, 0, 1], true),
            (&[100, SMALL_BYTES, 0, SMALL_BYTES - 1, 1], false),
            (&[100, 1, 1, 1, 99], false),
            (&[100, 1, 1, 1, 100], true),
        ] {
            assert_eq!(play(moves).is_bulk(100), is_bulk, "{moves:?}");
        }
    }
}
