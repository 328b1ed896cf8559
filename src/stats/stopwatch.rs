//! When did it happen first?
//!
//! Control arms the watch, the first of many data workers to pass stops it, and all others pay for one relaxed load.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Not armed, or already stopped.
const IDLE: u64 = 0;
const ARMED: u64 = 1;

#[derive(Debug, Default)]
pub struct Stopwatch {
    state: AtomicU64,
    run: Mutex<Run>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Run {
    armed_at: Option<Instant>,
    stopped_after: Option<Duration>,
}

impl Stopwatch {
    pub fn arm(&self) {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        *run = Run { armed_at: Some(Instant::now()), stopped_after: None };
        self.state.store(ARMED, Relaxed);
    }

    /// Stops the watch if it runs.
    pub fn stop(&self) {
        if self.state.load(Relaxed) == IDLE || self.state.swap(IDLE, Relaxed) == IDLE {
            return;
        }
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.stopped_after = run.armed_at.map(|armed| armed.elapsed());
    }

    /// How long it ran, once it was stopped.
    pub fn stopped_after(&self) -> Option<Duration> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).stopped_after
    }
}

#[cfg(test)]
mod tests {
    use super::Stopwatch;

    #[test]
    fn only_the_first_stop_after_arming_counts() {
        let watch = Stopwatch::default();
        watch.stop();
        assert_eq!(watch.stopped_after(), None);
        watch.arm();
        assert_eq!(watch.stopped_after(), None);
        watch.stop();
        let first = watch.stopped_after();
        watch.stop();
        assert!(first.is_some() && watch.stopped_after() == first);
    }
}
