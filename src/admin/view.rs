//! The state of everything as it is shown: the shape of `/api/v1/status`, and what the page draws.
//!
//! Field names and words are a contract with scripts: fields are added, not renamed. Units stand last in a name.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use super::changes::{DrainingView, LeavingView, ReloadsView, UpgradesView};
use super::changes::{reloads, upgrades};
use super::findings::{self, Finding};
use super::headline::{Headline, headline};
use super::history::{ClusterHistory, MemberHistory, PoolHistory, sum};
use super::incidents::{self, IncidentTotalsView, IncidentView, incidents};
use super::panics::{PanicsView, panics};
pub use super::pools::{EndView, LimitsView, PoolMemberView, PoolView, VacancyView};
use super::pools::{limits, pool_member, refused_for, routable, vacancy};
use super::{PoolSource, Sources};
use crate::control::{Check, ClusterPicture, MemberPicture, Patroni};
use crate::routing::{ClusterId, Kind, Routes};
use crate::stats::{End, MemberCounts};
use crate::topology::{Alarm, Class, Decision, Operator, Report, SilenceKind, Unfit};

/// Incidents within the status; the rest is history.
const SHOWN_INCIDENTS: usize = 5;

#[derive(Debug, Clone, Serialize)]
pub struct StatusView {
    pub version: &'static str,
    /// Of the process that answers.
    pub pid: u32,
    pub uptime_s: f64,
    /// Every cluster has been decided at least once, and the process is not stopping.
    pub ready: bool,
    pub stopping: bool,
    pub sessions: usize,
    pub max_sessions: usize,
    pub reloads: ReloadsView,
    pub upgrades: UpgradesView,
    pub panics: PanicsView,
    /// What is wrong with the process itself.
    pub findings: Vec<Finding>,
    pub clusters: Vec<ClusterView>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ClusterView {
    #[serde(skip)]
    pub id: ClusterId,
    pub name: String,
    /// Whether there is a writer, in a sentence, and what to do if not.
    pub headline: Option<Headline>,
    /// What else deserves a look, most urgent first.
    pub findings: Vec<Finding>,
    /// Why the certificates or the password in Patroni's files are not those in use.
    pub credentials_problem: Option<String>,
    pub epoch: u64,
    pub timeline: Option<u32>,
    pub writer: Option<String>,
    pub writer_for_s: Option<f64>,
    /// Who takes writes, or took them last.
    pub last_writer: Option<String>,
    pub readers: Vec<String>,
    pub condition: &'static str,
    pub reason: String,
    pub failovers: u64,
    pub alarms: Vec<String>,
    #[serde(skip)]
    pub alarmed: Vec<Alarm>,
    /// Why the last attempt to read the members from Patroni failed.
    pub discovery_problem: Option<String>,
    /// The newest recorded losses of the writer; all of them are in `/api/v1/events`.
    pub incidents: Vec<IncidentView>,
    pub incident_totals: IncidentTotalsView,
    pub members: Vec<MemberView>,
    pub pools: Vec<PoolView>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct MemberView {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub api: String,
    /// Where it is dialled; empty when its host name has not resolved.
    pub addresses: Vec<SocketAddr>,
    pub class: &'static str,
    pub class_for_s: f64,
    /// The class in words.
    pub plainly: String,
    /// What new sessions are sent here: `writes`, `reads`, `writes and reads` or `nothing`.
    pub takes: &'static str,
    /// As the member last said, which may be a while ago: see `last_check`.
    pub role: Option<String>,
    pub state: Option<String>,
    pub timeline: Option<u32>,
    pub lag_bytes: Option<u64>,
    pub lag_bytes_1m_ago: Option<u64>,
    pub pause: bool,
    /// The node sees no leader key in the DCS.
    pub cluster_unlocked: bool,
    /// Patroni's failsafe mode is active: the primary goes on without a DCS.
    pub failsafe: bool,
    pub dcs_last_seen: Option<u64>,
    pub dcs_seen_ago_s: Option<u64>,
    pub tags: Vec<(String, String)>,
    pub admin: &'static str,
    pub last_check: Option<CheckView>,
    /// Checks without an answer, ever.
    #[serde(skip)]
    pub failed_checks: u64,
    /// Smoothed over the last answered checks.
    pub check_ms_mean: Option<f64>,
    /// Changes of class within five minutes.
    pub flips_5m: usize,
    /// Reader sessions that were opened before the last failover.
    pub outdated_sessions: usize,
    pub sessions: u64,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub sessions_per_s: f64,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    pub failed_dials: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckView {
    pub ago_s: f64,
    pub duration_ms: f64,
    pub status: Option<u16>,
    pub error: Option<String>,
    #[serde(skip)]
    pub silence: Option<SilenceKind>,
}

/// Everything, as it is now.
pub fn status(sources: &Sources) -> StatusView {
    let stopping = sources.stopping.load(std::sync::atomic::Ordering::Relaxed);
    let clusters = sources.pictures.all();
    let uptime_s = seconds(sources.started.elapsed());
    let history = sources.live.history.lock().unwrap_or_else(PoisonError::into_inner);
    let served = sources.served.load();
    let view = |picture: &std::sync::Arc<ClusterPicture>| {
        let pools = served.pools.iter().filter(|source| source.pool.options.cluster == picture.id);
        let look =
            Look { now: sources.pictures.now(), unix_s: unix_s(), history: history.cluster(picture.id) };
        let mut view = look.cluster(picture, pools);
        view.credentials_problem = served.patronis.get(&picture.id).and_then(Patroni::problem);
        view.headline = Some(headline(&view));
        view.findings = findings::findings(&view, uptime_s);
        view
    };
    let panics = panics(sources);
    StatusView {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_s,
        ready: sources.pictures.is_ready() && !stopping,
        stopping,
        sessions: sources.workers.open_sessions(),
        max_sessions: sources.workers.max_sessions(),
        reloads: reloads(sources, &served.leaving),
        upgrades: upgrades(sources),
        findings: panics.finding().into_iter().collect(),
        panics,
        clusters: clusters.iter().map(view).collect(),
    }
}

/// What a cluster's view is made from beside its picture.
struct Look<'a> {
    now: Duration,
    unix_s: u64,
    history: Option<&'a ClusterHistory>,
}

/// A pool with what each of its members has done, read once for all that show it.
struct Counted<'a> {
    source: &'a PoolSource,
    members: Vec<(String, MemberCounts)>,
}

impl Counted<'_> {
    fn counts_of(&self, member: &str) -> MemberCounts {
        self.members.iter().find(|(name, _)| name == member).map(|(_, counts)| *counts).unwrap_or_default()
    }
}

impl Look<'_> {
    fn cluster<'a>(
        &self,
        picture: &ClusterPicture,
        pools: impl Iterator<Item = &'a PoolSource>,
    ) -> ClusterView {
        let counted = |source: &'a PoolSource| Counted { source, members: source.pool.stats.members() };
        let pools: Vec<Counted> = pools.map(counted).collect();
        let decision = picture.decision.as_ref();
        ClusterView {
            id: picture.id,
            name: picture.name.to_string(),
            headline: None,
            findings: Vec::new(),
            credentials_problem: None,
            epoch: picture.epoch,
            timeline: decision.and_then(|decision| decision.timeline),
            writer: decision.and_then(|decision| decision.writer.clone()),
            writer_for_s: picture.writer_since.map(|since| seconds(self.now.saturating_sub(since))),
            last_writer: picture.last_writer.clone(),
            readers: decision.map(|decision| decision.readers.clone()).unwrap_or_default(),
            condition: decision.map_or("starting", |decision| decision.condition.as_str()),
            reason: decision
                .map_or("not every node has been asked yet", |decision| &decision.reason)
                .to_owned(),
            failovers: picture.failovers,
            alarms: decision.map(|d| d.alarms.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            alarmed: decision.map(|d| d.alarms.iter().cloned().collect()).unwrap_or_default(),
            discovery_problem: picture.discovery_problem.clone(),
            incidents: incidents(picture, self.now).into_iter().take(SHOWN_INCIDENTS).collect(),
            incident_totals: incidents::totals(&picture.incident_totals),
            members: picture.members.iter().map(|member| self.member(member, picture, &pools)).collect(),
            pools: pools.iter().map(|pool| self.pool(pool, picture)).collect(),
        }
    }

    fn member(&self, picture: &MemberPicture, cluster: &ClusterPicture, pools: &[Counted]) -> MemberView {
        let (decision, routes) = (cluster.decision.as_ref(), &*cluster.routes);
        let report = picture.report.as_ref();
        let name = &picture.member.name;
        let counts = pools.iter().map(|pool| pool.counts_of(name)).fold(MemberCounts::default(), sum);
        let history = self.history.and_then(|history| history.members.get(name));
        let rates = history.map(|history| history.rates).unwrap_or_default();
        let dcs_last_seen = report.and_then(|report| report.dcs_last_seen);
        let takes = takes(name, decision, routes);
        MemberView {
            name: name.clone(),
            host: picture.member.host.clone(),
            port: picture.member.port,
            api: picture.member.api.clone(),
            addresses: picture.addresses.to_vec(),
            class: picture.class.as_str(),
            class_for_s: seconds(self.now.saturating_sub(picture.class_since)),
            plainly: plainly(picture, report, takes, decision),
            takes,
            role: report.map(|report| report.role.as_str().to_owned()),
            state: report.map(|report| report.state.clone()),
            timeline: report.and_then(|report| report.timeline),
            lag_bytes: picture.lag_bytes,
            lag_bytes_1m_ago: history.and_then(MemberHistory::lag_before),
            pause: report.is_some_and(|report| report.pause),
            cluster_unlocked: report.is_some_and(|report| report.cluster_unlocked),
            failsafe: report.is_some_and(|report| report.failsafe),
            dcs_last_seen,
            dcs_seen_ago_s: dcs_last_seen.map(|at| self.unix_s.saturating_sub(at)),
            tags: report.map(|report| report.tags.clone()).unwrap_or_default(),
            admin: picture.operator.as_str(),
            last_check: picture.checks.last.as_ref().map(|check| self::check(check, self.now)),
            failed_checks: picture.checks.failures,
            check_ms_mean: history.and_then(|history| history.check_ms).map(tenths),
            flips_5m: history.map_or(0, MemberHistory::flips_lately),
            outdated_sessions: history.map_or(0, |history| history.outdated_sessions),
            sessions: counts.active,
            sessions_total: counts.total,
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            sessions_per_s: tenths(rates.sessions_per_s),
            bytes_in_per_s: tenths(rates.bytes_in_per_s),
            bytes_out_per_s: tenths(rates.bytes_out_per_s),
            failed_dials: counts.failed_dials,
        }
    }

    fn pool(&self, Counted { source, members }: &Counted, picture: &ClusterPicture) -> PoolView {
        let decision = picture.decision.as_ref();
        let pool = &source.pool;
        let total = members.iter().map(|(_, counts)| *counts).fold(MemberCounts::default(), sum);
        let routes = picture.routes.pool(&pool.options.name);
        let (routable, fallback_in_use) = routable(routes);
        let end = |end: End| EndView {
            cause: end.as_str(),
            side: end.side().as_str(),
            count: pool.stats.ends(end),
        };
        let history = self
            .history
            .and_then(|history| history.pools.iter().find(|history| *history.name == *pool.options.name));
        let rates = history.map(|history| history.rates).unwrap_or_default();
        PoolView {
            name: pool.options.name.to_string(),
            kind: pool.options.kind.as_str(),
            listen: source.listen.iter().map(ToString::to_string).collect(),
            routable,
            fallback_in_use,
            vacancy: vacancy(routes),
            unknown_weights: picture.strangers.get(&pool.options.name).cloned().unwrap_or_default(),
            clients: pool.stats.clients(),
            sessions: total.active,
            held: pool.stats.held(),
            oldest_wait_s: pool.stats.oldest_wait().map(seconds),
            refused_for_s: refused_for(&pool.stats, routes).map(|(_, refused)| seconds(refused)),
            sessions_total: total.total,
            bytes_in: total.bytes_in,
            bytes_out: total.bytes_out,
            sessions_per_s: tenths(rates.sessions_per_s),
            sessions_5m: history.map_or(0.0, PoolHistory::started_lately).round(),
            bytes_in_per_s: tenths(rates.bytes_in_per_s),
            bytes_out_per_s: tenths(rates.bytes_out_per_s),
            ends: End::ALL.into_iter().map(end).filter(|end| end.count > 0).collect(),
            members: members
                .iter()
                .map(|member| pool_member(member, source, history, decision, routes))
                .collect(),
            queued: pool.stats.queue.waiting(),
            limits: limits(&pool.stats),
        }
    }
}

fn takes(name: &str, decision: Option<&Decision>, routes: &Routes) -> &'static str {
    let Some(decision) = decision else { return "nothing" };
    let in_pool = |kind: Kind| {
        let mut pools = routes.pools.iter().filter(|pool| pool.kind == kind);
        pools.any(|pool| routable(Some(pool)).0.iter().any(|taker| taker == name))
    };
    // Without a pool for them, who could is told.
    let has_pool = |kind: Kind| routes.pools.iter().any(|pool| pool.kind == kind);
    let writes = match has_pool(Kind::Primary) {
        true => in_pool(Kind::Primary),
        false => decision.writer.as_deref() == Some(name),
    };
    let reads = match has_pool(Kind::Replicas) {
        true => in_pool(Kind::Replicas),
        false => decision.readers.iter().any(|reader| reader == name),
    };
    match (writes, reads) {
        (true, true) => "writes and reads",
        (true, false) => "writes",
        (false, true) => "reads",
        (false, false) => "nothing",
    }
}

/// What the member is, in words that are true: a healthy standby is a replica and not down.
fn plainly(
    picture: &MemberPicture,
    report: Option<&Report>,
    takes: &str,
    decision: Option<&Decision>,
) -> String {
    let unfit = |why: Unfit| {
        let pools = decision.map(|decision| &decision.pools[..]).unwrap_or_default();
        let mut verdicts = pools.iter().filter_map(|pool| pool.verdicts.get(&picture.member.name));
        verdicts.any(|verdict| verdict.unfit == Some(why))
    };
    let state = report.map_or("not running", |report| &*report.state);
    let words = match picture.class {
        Class::Unknown => "Not asked yet",
        Class::Writer if takes == "nothing" => "Leader, not trusted",
        Class::Writer => "Leader",
        Class::Promoting => "Being promoted",
        Class::Leaving => return format!("Leader, {state}"),
        Class::StandbyLeader => "Standby leader, read-only",
        Class::Reader if picture.operator != Operator::Ready => "Replica",
        Class::Reader if takes == "nothing" && unfit(Unfit::Tags) => "Replica, lacks a required tag",
        Class::Reader if takes == "nothing" && unfit(Unfit::Sync) => {
            "Replica, not of the required sync state"
        }
        Class::Reader if takes == "nothing" => "Replica, not trusted yet",
        Class::Reader => "Replica",
        Class::Standby if report.is_some_and(|report| report.noloadbalance) => {
            "Replica, tagged noloadbalance"
        }
        Class::Standby => "Replica, too far behind",
        Class::Orphan => "Primary without the lock",
        Class::Down => return format!("Not serving: {state}"),
        Class::Silent => "No answer: unknown",
        Class::Foreign => "Of another cluster",
    };
    words.to_owned()
}

fn check(check: &Check, now: Duration) -> CheckView {
    let error = |silence: &crate::topology::Silence| format!("{}: {}", silence.kind.as_str(), silence.detail);
    CheckView {
        ago_s: seconds(now.saturating_sub(check.at)),
        duration_ms: (check.took.as_secs_f64() * 1e6).round() / 1e3,
        status: check.status,
        error: check.silence.as_ref().map(error),
        silence: check.silence.as_ref().map(|silence| silence.kind),
    }
}

/// Milliseconds are enough for people.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

/// Rates are not known to more.
pub(super) fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
