//! Waiting for what is to become true, and telling how long things took.

use std::fmt::Debug;
use std::io::Write;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see. Past the deadline the test fails with what was seen instead.
#[track_caller]
pub fn until<T, E: Debug>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) if begun.elapsed() > within => {
                panic!("{what}: not after {within:?}, but {instead:#?}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The same for a plain condition.
#[track_caller]
pub fn until_true(what: &str, within: Duration, mut look: impl FnMut() -> bool) {
    until(what, within, || if look() { Ok(()) } else { Err("not yet") });
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One line for people, past the capture of the tests' output: what happened, and how long each part of it took.
pub fn tell(event: &str, parts: &[(&str, Duration)]) {
    let parts: Vec<String> =
        parts.iter().map(|(what, took)| format!("{what} {} ms", took.as_millis())).collect();
    // Nobody there to read it: then nobody misses it.
    let _ = writeln!(std::io::stderr(), "\n    {event}: {}", parts.join(", "));
}
