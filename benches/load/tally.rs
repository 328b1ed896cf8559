//! How long things took, and what is told of that.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Durations in nanoseconds; longer than four seconds counts as that.
#[derive(Debug)]
pub struct Tally {
    nanos: Vec<u32>,
    since: Instant,
}

impl Tally {
    pub fn begin() -> Tally {
        Tally { nanos: Vec::with_capacity(1 << 20), since: Instant::now() }
    }

    pub fn add(&mut self, took: Duration) {
        self.nanos.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Count, rate and percentiles of what was added since the beginning.
    pub fn told(mut self) -> Value {
        let seconds = self.since.elapsed().as_secs_f64();
        self.nanos.sort_unstable();
        let count = self.nanos.len();
        let percentile = |share: f64| {
            let place = ((count as f64 * share) as usize).min(count.saturating_sub(1));
            self.nanos.get(place).map(|&nanos| f64::from(nanos) / 1e3)
        };
        json!({
            "count": count, "seconds": seconds, "per_s": count as f64 / seconds,
            "p50_us": percentile(0.50), "p99_us": percentile(0.99), "max_us": percentile(1.0),
        })
    }
}
