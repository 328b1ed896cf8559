//! Whose turn it is on a processor that the admin side shares with sessions: theirs.
//!
//! To run at a lower priority is not enough: what a crowd asks for is done in slices, and one takes longer than a ping.

use std::future::poll_fn;
use std::pin::pin;

use rustix::process;

/// How much nicer than the rest its thread is (nice(7)), so that sessions have three times its share of a busy processor. Linux
/// makes who gives up a turn wait the longer the nicer it is: at 5 a page comes 8 ms later beside a busy worker, at 15 84 ms.
const NICER: i32 = 5;
const NICEST: i32 = 19;

/// Lets all other threads go first, from now on. Those that this one starts are as nice.
pub fn give_way() {
    // On Linux, "this process" is the calling thread alone (setpriority(2), "C library/kernel differences").
    let nicer = |nice| process::setpriority_process(None, NICEST.min(nice + NICER));
    if let Err(error) = process::getpriority_process(None).and_then(nicer) {
        tracing::debug!(%error, "the admin thread competes with those of sessions");
    }
}

/// Lets whoever waits for this processor have it now. Linux does not interrupt a thread within its slice of some milliseconds for
/// one that wakes up, however nice it is (since 6.6), and a crowd that keeps this one busy would cost a session that long.
pub fn give_turn() {
    std::thread::yield_now();
}

/// The same work; a turn is given before each step.
pub async fn turn_by_turn<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        give_turn();
        work.as_mut().poll(context)
    })
    .await
}
