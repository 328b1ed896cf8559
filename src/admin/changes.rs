//! What has come of reloads and upgrades, and what they have left: as it is shown.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::actions::PastReloads;
use super::upgrade::{Draining, PastUpgrades};
use super::view::seconds;
use super::{LeavingPool, Sources};

/// What has come of reloads since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReloadsView {
    pub applied: u64,
    pub rejected: u64,
    pub last_ago_s: Option<f64>,
    /// Why the last one was rejected; empty when it was not.
    pub problems: Vec<String>,
    /// Pools that a reload has taken out, while somebody is still there.
    pub draining: Vec<LeavingView>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct LeavingView {
    pub cluster: String,
    pub pool: String,
    /// Clients that wait included.
    pub sessions: usize,
    /// What is open then is cut.
    pub cut_in_s: f64,
}

/// What has come of upgrades, over all processes that took the place of one another.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UpgradesView {
    pub done: u64,
    pub failed: u64,
    pub last_ago_s: Option<f64>,
    /// Why the last one failed; `null` when it did not.
    pub problem: Option<String>,
    /// Processes whose places were taken, while they drain; the one before this one is the last.
    pub draining: Vec<DrainingView>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct DrainingView {
    pub pid: u32,
    pub sessions: usize,
    /// What is open then is cut.
    pub cut_in_s: f64,
}

pub(super) fn reloads(sources: &Sources, leaving: &[LeavingPool]) -> ReloadsView {
    let PastReloads { applied, rejected, last_at, problems, .. } = sources.reload.past();
    let last_ago_s = last_at.and_then(ago_s);
    let view = |LeavingPool { cluster, pool, until }: &LeavingPool| {
        let cut_in_s = left_s(*until);
        let (cluster, pool, sessions) =
            (cluster.clone(), pool.options.name.to_string(), pool.stats.clients());
        LeavingView { cluster, pool, sessions, cut_in_s }
    };
    let draining = leaving.iter().map(view).filter(|leaving| leaving.sessions > 0).collect();
    ReloadsView { applied, rejected, last_ago_s, problems, draining }
}

pub(super) fn upgrades(sources: &Sources) -> UpgradesView {
    let PastUpgrades { done, failed, last_at, problem } = sources.upgrade.past();
    let last_ago_s = last_at.and_then(ago_s);
    let view = |Draining { pid, sessions, until }| {
        let cut_in_s = left_s(until);
        DrainingView { pid, sessions, cut_in_s }
    };
    let draining = sources.upgrade.draining().into_iter().map(view).collect();
    UpgradesView { done, failed, last_ago_s, problem, draining }
}

/// `None`: the clock was set back since.
fn ago_s(at: SystemTime) -> Option<f64> {
    at.elapsed().ok().map(seconds)
}

fn left_s(until: Instant) -> f64 {
    seconds(until.saturating_duration_since(Instant::now()))
}
