//! The history as it is shown: the shape of `/api/v1/history`.
//!
//! Each series is a list, oldest first, that ends now; `null` is a moment at which nothing was known. `1s` reaches back
//! five minutes; `15s` reaches back an hour, each value standing for 15 seconds: the greatest of a state, the mean of a
//! rate, the sum of a count.

use std::sync::PoisonError;

use serde::Serialize;

use super::Sources;
use super::history::{ClusterHistory, MemberHistory, PoolHistory};
use super::ring::Series;

#[derive(Debug, Clone, Serialize)]
pub struct PastView {
    pub clusters: Vec<ClusterPast>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClusterPast {
    pub name: String,
    pub pools: Vec<PoolPast>,
    pub members: Vec<MemberPast>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PoolPast {
    pub name: String,
    pub sessions: SeriesView,
    pub held: SeriesView,
    pub sessions_per_s: SeriesView,
    pub bytes_in_per_s: SeriesView,
    pub bytes_out_per_s: SeriesView,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberPast {
    pub name: String,
    pub sessions: SeriesView,
    pub bytes_per_s: SeriesView,
    pub lag_bytes: SeriesView,
    /// Changes of class.
    pub flips: SeriesView,
}

#[derive(Debug, Clone, Serialize)]
pub struct SeriesView {
    #[serde(rename = "1s")]
    pub fine: Vec<Option<f64>>,
    #[serde(rename = "15s")]
    pub coarse: Vec<Option<f64>>,
}

/// All that is remembered.
pub fn past(sources: &Sources) -> PastView {
    let history = sources.live.history.lock().unwrap_or_else(PoisonError::into_inner);
    let pictures = sources.pictures.all();
    let known = pictures.iter().filter_map(|picture| Some((picture, history.cluster(picture.id)?)));
    PastView { clusters: known.map(|(picture, history)| cluster(&picture.name, history)).collect() }
}

fn cluster(name: &str, history: &ClusterHistory) -> ClusterPast {
    let pool = |pool: &PoolHistory| PoolPast {
        name: pool.name.clone(),
        sessions: series(&pool.sessions),
        held: series(&pool.held),
        sessions_per_s: series(&pool.started_per_s),
        bytes_in_per_s: series(&pool.bytes_in_per_s),
        bytes_out_per_s: series(&pool.bytes_out_per_s),
    };
    let member = |(name, member): (&String, &MemberHistory)| MemberPast {
        name: name.clone(),
        sessions: series(&member.sessions),
        bytes_per_s: series(&member.bytes_per_s),
        lag_bytes: series(&member.lag_bytes),
        flips: series(&member.flips),
    };
    ClusterPast {
        name: name.to_owned(),
        pools: history.pools.iter().map(pool).collect(),
        members: history.members.iter().map(member).collect(),
    }
}

fn series(series: &Series) -> SeriesView {
    let known = |value: f64| value.is_finite().then_some((value * 10.0).round() / 10.0);
    SeriesView { fine: series.fine().map(known).collect(), coarse: series.coarse().map(known).collect() }
}
