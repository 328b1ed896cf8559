//! What it was like a moment ago: a short memory of counts and rates, for pictures and for findings.
//!
//! One sample a second, kept for five minutes, and folded into one for each 15 seconds, kept for an hour. The memory is
//! fixed: a pool costs 11 KiB and a member 9 KiB, so ten clusters of five nodes stay below 700 KiB. A gap is a value too:
//! NaN inside, `null` in JSON.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::ring::{Fold, Series};
use crate::routing::ClusterId;
use crate::stats::MemberCounts;

/// Between two samples.
pub const STEP: Duration = Duration::from_secs(1);
/// How fast a displayed rate follows: the weight of the newest second.
const SMOOTHING: f64 = 0.5;

/// All clusters.
#[derive(Debug, Default)]
pub struct History {
    clusters: HashMap<ClusterId, ClusterHistory>,
}

#[derive(Debug, Default)]
pub struct ClusterHistory {
    pub pools: Vec<PoolHistory>,
    pub members: BTreeMap<String, MemberHistory>,
}

#[derive(Debug)]
pub struct PoolHistory {
    pub name: String,
    pub sessions: Series,
    pub held: Series,
    pub started_per_s: Series,
    pub bytes_in_per_s: Series,
    pub bytes_out_per_s: Series,
    pub rates: Rates,
    /// By member.
    pub links: BTreeMap<String, Rates>,
}

#[derive(Debug)]
pub struct MemberHistory {
    pub sessions: Series,
    pub bytes_per_s: Series,
    pub lag_bytes: Series,
    /// Changes of class.
    pub flips: Series,
    /// Of the checks, smoothed.
    pub check_ms: Option<f64>,
    /// Reader sessions that are older than the writer's time in office, at the last count.
    pub outdated_sessions: usize,
    pub rates: Rates,
    class_since: Option<Duration>,
}

/// What grows by the second, smoothed over a few of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub sessions_per_s: f64,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    last: Option<MemberCounts>,
}

/// Everything that is sampled of one cluster at one moment.
#[derive(Debug, Clone, Default)]
pub struct ClusterSample {
    pub id: ClusterId,
    pub pools: Vec<PoolSample>,
    pub members: Vec<MemberSample>,
}

#[derive(Debug, Clone, Default)]
pub struct PoolSample {
    pub name: String,
    pub held: usize,
    pub members: Vec<(String, MemberCounts)>,
}

#[derive(Debug, Clone, Default)]
pub struct MemberSample {
    pub name: String,
    pub lag_bytes: Option<u64>,
    /// When its class last changed.
    pub class_since: Duration,
    pub check: Option<Duration>,
    /// `None`: not counted this time.
    pub outdated_sessions: Option<usize>,
}

impl History {
    /// Takes in one sample of everything, `elapsed` after the one before.
    pub fn take(&mut self, elapsed: Duration, samples: &[ClusterSample]) {
        // Who has gone is forgotten.
        let sampled: HashSet<ClusterId> = samples.iter().map(|sample| sample.id).collect();
        self.clusters.retain(|id, _| sampled.contains(id));
        for sample in samples {
            let cluster = self.clusters.entry(sample.id).or_default();
            cluster.take(elapsed.as_secs_f64().max(1e-3), sample);
        }
    }

    pub fn cluster(&self, id: ClusterId) -> Option<&ClusterHistory> {
        self.clusters.get(&id)
    }
}

impl ClusterHistory {
    fn take(&mut self, seconds: f64, sample: &ClusterSample) {
        self.pools.retain(|kept| sample.pools.iter().any(|pool| pool.name == kept.name));
        for pool in &sample.pools {
            match self.pools.iter_mut().find(|kept| kept.name == pool.name) {
                Some(kept) => kept.take(seconds, pool),
                None => self.pools.push(PoolHistory::of(seconds, pool)),
            }
        }
        // Who is no member any more is forgotten: names must not pile up.
        self.members.retain(|name, _| sample.members.iter().any(|member| member.name == *name));
        for member in &sample.members {
            let counts = sample.pools.iter().filter_map(|pool| {
                pool.members.iter().find(|(name, _)| *name == member.name).map(|(_, counts)| *counts)
            });
            let counts = counts.fold(MemberCounts::default(), sum);
            let kept = self.members.entry(member.name.clone()).or_insert_with(MemberHistory::new);
            kept.take(seconds, member, counts);
        }
    }
}

impl PoolHistory {
    /// One that begins with this sample.
    fn of(seconds: f64, sample: &PoolSample) -> PoolHistory {
        let mut begun = PoolHistory {
            name: sample.name.clone(),
            sessions: Series::new(Fold::Greatest),
            held: Series::new(Fold::Greatest),
            started_per_s: Series::new(Fold::Mean),
            bytes_in_per_s: Series::new(Fold::Mean),
            bytes_out_per_s: Series::new(Fold::Mean),
            rates: Rates::default(),
            links: BTreeMap::new(),
        };
        begun.take(seconds, sample);
        begun
    }

    fn take(&mut self, seconds: f64, sample: &PoolSample) {
        let counts = sample.members.iter().map(|(_, counts)| *counts).fold(MemberCounts::default(), sum);
        let [started, bytes_in, bytes_out] = self.rates.follow(seconds, counts);
        self.sessions.push(counts.active as f64);
        self.held.push(sample.held as f64);
        self.started_per_s.push(started);
        self.bytes_in_per_s.push(bytes_in);
        self.bytes_out_per_s.push(bytes_out);
        self.links.retain(|name, _| sample.members.iter().any(|(member, _)| member == name));
        for (name, counts) in &sample.members {
            self.links.entry(name.clone()).or_default().follow(seconds, *counts);
        }
    }

    /// Sessions that began within the last five minutes, as far as it was watched.
    pub fn started_lately(&self) -> f64 {
        self.started_per_s.fine().filter(|rate| rate.is_finite()).sum()
    }
}

impl MemberHistory {
    fn new() -> MemberHistory {
        MemberHistory {
            sessions: Series::new(Fold::Greatest),
            bytes_per_s: Series::new(Fold::Mean),
            lag_bytes: Series::new(Fold::Greatest),
            flips: Series::new(Fold::Sum),
            check_ms: None,
            outdated_sessions: 0,
            rates: Rates::default(),
            class_since: None,
        }
    }

    fn take(&mut self, seconds: f64, sample: &MemberSample, counts: MemberCounts) {
        let [_, bytes_in, bytes_out] = self.rates.follow(seconds, counts);
        self.sessions.push(counts.active as f64);
        self.bytes_per_s.push(bytes_in + bytes_out);
        self.lag_bytes.push(sample.lag_bytes.map_or(f64::NAN, |lag| lag as f64));
        let flipped = self.class_since.is_some_and(|since| since != sample.class_since);
        self.flips.push(f64::from(u8::from(flipped)));
        self.class_since = Some(sample.class_since);
        if let Some(took) = sample.check.map(|took| took.as_secs_f64() * 1e3) {
            let before = self.check_ms.unwrap_or(took);
            self.check_ms = Some(before + SMOOTHING * (took - before));
        }
        if let Some(count) = sample.outdated_sessions {
            self.outdated_sessions = count;
        }
    }

    /// How often its class changed within the last five minutes.
    pub fn flips_lately(&self) -> usize {
        self.flips.fine().filter(|flips| flips.is_finite()).sum::<f64>() as usize
    }

    /// Its lag a minute ago.
    pub fn lag_before(&self) -> Option<u64> {
        let lag = self.lag_bytes.ago(60)?;
        lag.is_finite().then_some(lag as u64)
    }
}

impl Rates {
    /// The rates of this step: sessions, bytes in, bytes out; NaN the first time.
    fn follow(&mut self, seconds: f64, counts: MemberCounts) -> [f64; 3] {
        let Some(last) = self.last.replace(counts) else { return [f64::NAN; 3] };
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = [
            rate(counts.total, last.total),
            rate(counts.bytes_in, last.bytes_in),
            rate(counts.bytes_out, last.bytes_out),
        ];
        let smooth = |kept: &mut f64, rate: f64| {
            *kept += SMOOTHING * (rate - *kept);
            // What is left of a rate that has stopped is not shown for minutes.
            if *kept < 0.01 {
                *kept = 0.0;
            }
        };
        smooth(&mut self.sessions_per_s, rates[0]);
        smooth(&mut self.bytes_in_per_s, rates[1]);
        smooth(&mut self.bytes_out_per_s, rates[2]);
        rates
    }

    pub fn bytes_per_s(&self) -> f64 {
        self.bytes_in_per_s + self.bytes_out_per_s
    }
}

pub(super) fn sum(a: MemberCounts, b: MemberCounts) -> MemberCounts {
    MemberCounts {
        active: a.active + b.active,
        total: a.total + b.total,
        bytes_in: a.bytes_in + b.bytes_in,
        bytes_out: a.bytes_out + b.bytes_out,
        failed_dials: a.failed_dials + b.failed_dials,
    }
}
