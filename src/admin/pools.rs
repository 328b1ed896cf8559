//! One pool as it is shown: a part of the status.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::PoolSource;
use super::history::{PoolHistory, Rates};
use super::view::{seconds, tenths};
use crate::routing::{Backend, Bar, Cause, Kind, PoolRoutes, Vacancy};
use crate::stats::{MemberCounts, PoolStats};
use crate::topology::Decision;

#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolView {
    pub name: String,
    /// `primary` or `replicas`.
    pub kind: &'static str,
    pub listen: Vec<String>,
    pub routable: Vec<String>,
    /// The routable member stands in for readers that are not there.
    pub fallback_in_use: bool,
    /// Why nobody is routable, if nobody is.
    pub vacancy: Option<VacancyView>,
    /// What `weights` names and is no member.
    pub unknown_weights: Vec<String>,
    /// Connected clients, held ones among them.
    pub clients: usize,
    pub sessions: u64,
    pub held: usize,
    /// How long the client has waited that has waited longest.
    pub oldest_wait_s: Option<f64>,
    /// Of a primary pool: how long the dials of its writer have failed, no session having come through since.
    pub refused_for_s: Option<f64>,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub sessions_per_s: f64,
    /// Sessions that began within five minutes.
    pub sessions_5m: f64,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    pub ends: Vec<EndView>,
    pub members: Vec<PoolMemberView>,
    /// Clients that wait for room on a member, since all are full.
    pub queued: usize,
    pub limits: LimitsView,
}

/// Why nobody takes a pool's new sessions.
#[derive(Debug, Clone, Serialize)]
pub struct VacancyView {
    #[serde(rename = "cause")]
    word: &'static str,
    #[serde(skip)]
    pub cause: Cause,
    pub reason: String,
}

/// The limits that hold now; `null` for none.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LimitsView {
    pub max_sessions: Option<usize>,
    pub max_sessions_per_member: Option<usize>,
    pub max_sessions_per_client: Option<usize>,
    pub max_queued: Option<usize>,
    pub queue_timeout_s: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct EndView {
    pub cause: &'static str,
    pub side: &'static str,
    pub count: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolMemberView {
    pub name: String,
    /// Why it takes no new sessions, where that is not by its role alone, as a word; and for people: `NAME ...`.
    pub unfit: Option<&'static str>,
    pub why_unfit: Option<String>,
    /// Of one that takes new sessions: its weight among them.
    pub weight: Option<u16>,
    /// The weight that it has or would have, and what that is without an operator; not known before the first decision.
    #[serde(skip)]
    pub weights: Option<(u16, u16)>,
    /// While its weight rises (`slow_start`): how much of it counts, in percent.
    #[serde(skip)]
    pub throttle: Option<u8>,
    /// The weight that an operator has set at run time, where it is another than the one without an operator, and that one.
    pub operator_weight: Option<u16>,
    pub configured_weight: Option<u16>,
    /// Where the pool dials it, in order of preference: at the pool's own port, if it has one.
    #[serde(skip)]
    pub addresses: Vec<SocketAddr>,
    /// How many sessions of the pool it may have; `null` for no limit.
    pub max_sessions: Option<usize>,
    pub sessions: u64,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    pub failed_dials: u64,
    /// Where it is said to be, if that is a listener of this process: it is not dialled then.
    #[serde(skip)]
    pub own_listener: Option<SocketAddr>,
    /// It hangs up on the PROXY protocol header (`send_proxy`): it seems not to understand it.
    pub misreads_proxy: bool,
}

/// Who takes new sessions of a pool, and whether that is only the one that stands in.
pub fn routable(routes: Option<&PoolRoutes>) -> (Vec<String>, bool) {
    let Some(routes) = routes else { return (Vec::new(), false) };
    let takers: Vec<String> = routes.takers().map(|backend| backend.name.to_string()).collect();
    let stands_in = !takers.is_empty() && routes.candidates.is_empty();
    (takers, stands_in)
}

/// Why nobody does. Without routes nothing has been decided yet.
pub(super) fn vacancy(routes: Option<&PoolRoutes>) -> Option<VacancyView> {
    let undecided = Vacancy::undecided();
    routes.map_or(Some(&undecided), |routes| routes.vacancy.as_ref()).map(VacancyView::from)
}

impl From<&Vacancy> for VacancyView {
    fn from(Vacancy { cause, reason }: &Vacancy) -> VacancyView {
        VacancyView { word: cause.as_str(), cause: *cause, reason: reason.clone() }
    }
}

pub(super) fn pool_member(
    (name, counts): &(String, MemberCounts),
    source: &PoolSource,
    history: Option<&PoolHistory>,
    decision: Option<&Decision>,
    routes: Option<&PoolRoutes>,
) -> PoolMemberView {
    let rates: Rates = history.and_then(|history| history.links.get(name)).copied().unwrap_or_default();
    let (options, stats) = (&source.pool.options, source.pool.stats.member(name));
    let decided = decision.and_then(|decision| decision.pool(&options.name));
    let unfit = decided.and_then(|pool| pool.verdicts.get(name)).and_then(|verdict| verdict.unfit);
    let index = routes.and_then(|routes| routes.backends.iter().position(|backend| *backend.name == **name));
    let candidate = routes
        .zip(index)
        .and_then(|(routes, index)| routes.candidates.iter().find(|candidate| candidate.backend == index));
    let backend = routes.zip(index).map(|(routes, index)| &routes.backends[index]);
    let obstacle = backend.and_then(|backend| backend.obstacle.as_ref());
    let is_set = backend.is_some_and(|backend| backend.weight != backend.initial_weight);
    let would_take = match options.kind {
        Kind::Primary => decision.is_some_and(|decision| decision.writer.as_ref() == Some(name)),
        Kind::Replicas => decided.is_some_and(|pool| pool.readers.contains(name)),
    };
    let has_no_weight = would_take && candidate.is_none();
    let bar = Bar::of(unfit, obstacle, has_no_weight);
    PoolMemberView {
        name: name.clone(),
        unfit: bar.as_ref().map(Bar::as_str),
        why_unfit: bar.as_ref().map(ToString::to_string),
        weight: candidate.map(|candidate| candidate.weight),
        weights: backend.map(|backend| (backend.weight, backend.initial_weight)),
        throttle: candidate.and_then(|candidate| candidate.warming?.percent_at(Instant::now())),
        operator_weight: backend.map(|backend| backend.weight).filter(|_| is_set),
        configured_weight: backend.map(|backend| backend.initial_weight).filter(|_| is_set),
        addresses: backend.map(|backend| backend.addresses.to_vec()).unwrap_or_default(),
        max_sessions: stats.limit(),
        sessions: counts.active,
        sessions_total: counts.total,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        bytes_in_per_s: tenths(rates.bytes_in_per_s),
        bytes_out_per_s: tenths(rates.bytes_out_per_s),
        failed_dials: counts.failed_dials,
        own_listener: match obstacle {
            Some(Bar::OwnListener { address }) => Some(*address),
            _ => None,
        },
        misreads_proxy: options.send_proxy && stats.misread.is_likely(),
    }
}

/// How long no session has come through to the pool's writer although some were sent there.
pub(super) fn refused_for(stats: &PoolStats, routes: Option<&PoolRoutes>) -> Option<(String, Duration)> {
    let routes = routes.filter(|routes| routes.kind == Kind::Primary)?;
    let refused =
        |backend: &Backend| Some((backend.name.to_string(), stats.refused_since(&backend.name)?.elapsed()));
    routes.takers().find_map(refused)
}

pub(super) fn limits(stats: &PoolStats) -> LimitsView {
    LimitsView {
        max_sessions: stats.limits.sessions.get(),
        max_sessions_per_member: stats.member_limit(),
        max_sessions_per_client: stats.limits.per_client.get(),
        max_queued: stats.limits.queued.get(),
        queue_timeout_s: seconds(stats.limits.queue_timeout()),
    }
}
