//! A histogram of durations with fixed bounds, cheap enough to be written for every session.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds in seconds: from a dial on loopback to the longest hold that people set.
pub const BOUNDS_SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 45.0, 120.0];

#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than the bounds: the last counts what lies above them all.
    buckets: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram's state at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// `(upper bound in seconds, observations at or below it)`, cumulative.
    pub cumulative: Vec<(f64, u64)>,
    pub count: u64,
    pub sum_seconds: f64,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket =
            BOUNDS_SECONDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS_SECONDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(BOUNDS_SECONDS.len());
        for (bound, bucket) in BOUNDS_SECONDS.into_iter().zip(&self.buckets) {
            count += bucket.load(Relaxed);
            cumulative.push((bound, count));
        }
        count += self.buckets[BOUNDS_SECONDS.len()].load(Relaxed);
        Snapshot { cumulative, count, sum_seconds: self.sum_us.load(Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_every_bound_at_or_above_it() {
        let histogram = Histogram::default();
        for ms in [1, 3, 500_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let snapshot = histogram.snapshot();
        let at = |bound: f64| snapshot.cumulative.iter().find(|(b, _)| *b == bound).map(|(_, count)| *count);
        assert_eq!((at(0.000_5), at(0.001), at(0.005), at(120.0)), (Some(0), Some(1), Some(2), Some(2)));
        assert_eq!((snapshot.count, snapshot.sum_seconds), (3, 500.004));
    }
}
