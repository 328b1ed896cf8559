//! The one place where history is made: once a second everything is looked at.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Sources;
use super::history::{ClusterSample, MemberSample, PoolSample, STEP};
use crate::control::ClusterPicture;
use crate::routing::Kind;
use crate::stats::Phase;

/// Sessions are counted by age this many samples apart: it means looking at each of them.
const CENSUS_EVERY: usize = 15;

/// Samples until it is dropped.
pub async fn run(sources: &Sources) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = Instant::now();
    let mut number = 0;
    loop {
        ticks.tick().await;
        let samples = samples(sources, number % CENSUS_EVERY == 0);
        let elapsed = last.elapsed();
        last = Instant::now();
        sources.live.history.lock().unwrap_or_else(PoisonError::into_inner).take(elapsed, &samples);
        sources.live.haproxy.look(sources);
        number += 1;
    }
}

/// Everything as it is now, in the order of the configuration.
pub fn samples(sources: &Sources, with_census: bool) -> Vec<ClusterSample> {
    let clusters = sources.pictures.all();
    // Only after a failover can a session be older than one.
    let census = with_census && clusters.iter().any(|cluster| cluster.failovers > 0);
    let rows = if census { sources.workers.rows() } else { Vec::new() };
    let now = sources.pictures.now();
    let served = sources.served.load();
    let sample = |picture: &std::sync::Arc<ClusterPicture>| {
        let reign = picture.writer_since.filter(|_| picture.failovers > 0);
        let reign = reign.map(|since| now.saturating_sub(since));
        let mut outdated: HashMap<&str, usize> = HashMap::new();
        let pools = || served.pools.iter().filter(|source| source.pool.options.cluster == picture.id);
        let readers = pools().filter(|source| source.pool.options.kind == Kind::Replicas);
        let readers: Vec<&str> = readers.map(|source| &*source.pool.options.name).collect();
        for row in &rows {
            let old = reign.is_some_and(|reign| row.age > reign) && row.phase == Phase::Relaying;
            if let Some(member) = row.member.as_deref().filter(|_| old && readers.contains(&&*row.pool))
                && *row.cluster == *picture.name
            {
                *outdated.entry(member).or_default() += 1;
            }
        }
        let member = |member: &crate::control::MemberPicture| MemberSample {
            name: member.member.name.clone(),
            lag_bytes: member.lag_bytes,
            class_since: member.class_since,
            check: answered(member.checks.last.as_ref()),
            outdated_sessions: with_census.then(|| outdated.get(&*member.member.name).copied().unwrap_or(0)),
        };
        let pool = |source: &super::PoolSource| PoolSample {
            name: source.pool.options.name.to_string(),
            held: source.pool.stats.held(),
            members: source.pool.stats.members(),
        };
        ClusterSample {
            id: picture.id,
            pools: pools().map(pool).collect(),
            members: picture.members.iter().map(member).collect(),
        }
    };
    clusters.iter().map(sample).collect()
}

/// How long the check took, if an answer came: a timeout says nothing about how slow a node is.
fn answered(check: Option<&crate::control::Check>) -> Option<Duration> {
    check.filter(|check| check.silence.is_none()).map(|check| check.took)
}
