//! The state of everything as it is shown: the shape of `/api/v1/status`, and what the page draws.
//!
//! Field names and words are a contract with scripts: fields are added, not renamed. Units stand last in a name.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{PoolSource, Sources};
use crate::control::incident::{Step, Totals};
use crate::control::{Check, ClusterPicture, Incident, MemberPicture};
use crate::proxy::SessionRow;
use crate::routing::Choice;
use crate::stats::{End, MemberCounts};
use crate::topology::Decision;

/// Incidents within the status; the rest is history.
const SHOWN_INCIDENTS: usize = 5;

#[derive(Debug, Clone, Serialize)]
pub struct StatusView {
    pub version: &'static str,
    pub uptime_s: f64,
    /// Every cluster has been decided at least once, and the process is not stopping.
    pub ready: bool,
    pub stopping: bool,
    pub sessions: usize,
    pub max_sessions: usize,
    pub clusters: Vec<ClusterView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClusterView {
    pub name: String,
    pub epoch: u64,
    pub timeline: Option<u32>,
    pub writer: Option<String>,
    pub writer_for_s: Option<f64>,
    pub readers: Vec<String>,
    pub condition: &'static str,
    pub reason: String,
    pub failovers: u64,
    pub alarms: Vec<String>,
    /// Why the last attempt to read the members from Patroni failed.
    pub discovery_problem: Option<String>,
    /// The newest recorded losses of the writer; all of them are in `/api/v1/events`.
    pub incidents: Vec<IncidentView>,
    pub incident_totals: IncidentTotalsView,
    pub members: Vec<MemberView>,
    pub pools: Vec<PoolView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberView {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub api: String,
    /// Where it is dialled; empty when its host name has not resolved.
    pub addresses: Vec<SocketAddr>,
    pub class: &'static str,
    pub class_for_s: f64,
    /// As the member last said, which may be a while ago: see `last_check`.
    pub role: Option<String>,
    pub state: Option<String>,
    pub timeline: Option<u32>,
    pub lag_bytes: Option<u64>,
    pub pause: bool,
    pub dcs_last_seen: Option<u64>,
    pub tags: Vec<(String, String)>,
    pub admin: &'static str,
    pub last_check: Option<CheckView>,
    pub sessions: u64,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub failed_dials: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CheckView {
    pub ago_s: f64,
    pub duration_ms: f64,
    pub status: Option<u16>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PoolView {
    pub name: String,
    /// `primary` or `replicas`.
    pub kind: &'static str,
    pub listen: Vec<SocketAddr>,
    pub routable: Vec<String>,
    /// The routable member stands in for readers that are not there.
    pub fallback_in_use: bool,
    /// Connected clients, held ones among them.
    pub clients: usize,
    pub sessions: u64,
    pub held: usize,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub ends: Vec<EndView>,
    pub members: Vec<PoolMemberView>,
}

#[derive(Debug, Clone, Serialize)]
pub struct EndView {
    pub cause: &'static str,
    pub side: &'static str,
    pub count: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct PoolMemberView {
    pub name: String,
    pub sessions: u64,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub failed_dials: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    pub id: u64,
    pub cluster: String,
    pub pool: String,
    pub client: SocketAddr,
    pub member: Option<String>,
    pub backend: Option<SocketAddr>,
    /// The port that the server sees: `pg_stat_activity.client_port`.
    pub backend_client_port: Option<u16>,
    pub phase: &'static str,
    pub age_s: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// One loss of the writer, for `/api/v1/events`.
#[derive(Debug, Clone, Serialize)]
pub struct IncidentView {
    pub cluster: String,
    /// Counts the cluster's incidents from 1, since the start of the process.
    pub number: u64,
    pub ongoing: bool,
    pub writer_before: Option<String>,
    pub writer_after: Option<String>,
    /// From the first sign to the first session on a writer.
    pub lasted_ms: Option<u64>,
    pub without_writer_ms: u64,
    pub held: u64,
    pub longest_hold_ms: u64,
    pub cut: u64,
    pub broken: u64,
    pub failed: u64,
    pub steps: Vec<StepView>,
}

/// All losses of the writer since the start of the process, one that lasts included.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IncidentTotalsView {
    pub incidents: u64,
    pub without_writer_s: f64,
    pub longest_hold_s: f64,
    pub held: u64,
    pub cut: u64,
    pub broken: u64,
    pub failed: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Since the first step.
    pub after_ms: u64,
    pub what: String,
}

/// The recorded incidents of all clusters, newest first within each.
pub fn events(sources: &Sources) -> Vec<IncidentView> {
    let now = sources.pictures.now();
    let of_cluster = |picture: std::sync::Arc<ClusterPicture>| incidents(&picture, now);
    sources.pictures.all().into_iter().flat_map(of_cluster).collect()
}

fn incidents(picture: &ClusterPicture, now: Duration) -> Vec<IncidentView> {
    picture.incidents.iter().map(|recorded| incident(&picture.name, recorded, now)).collect()
}

fn incident(cluster: &str, incident: &Incident, now: Duration) -> IncidentView {
    let began = incident.steps.first().map(|step| step.at).unwrap_or_default();
    let step = |step: &Step| StepView {
        at_unix_ms: step.wall.duration_since(UNIX_EPOCH).map_or(0, millis),
        after_ms: millis(step.at.saturating_sub(began)),
        what: step.what.clone(),
    };
    IncidentView {
        cluster: cluster.to_owned(),
        number: incident.number,
        ongoing: incident.lasted.is_none(),
        writer_before: incident.writer_before.clone(),
        writer_after: incident.writer_after.clone(),
        lasted_ms: incident.lasted.map(millis),
        without_writer_ms: millis(incident.without_writer(now)),
        held: incident.clients.held,
        longest_hold_ms: millis(incident.clients.longest_hold),
        cut: incident.clients.cut,
        broken: incident.clients.broken,
        failed: incident.clients.failed,
        steps: incident.steps.iter().map(step).collect(),
    }
}

fn incident_totals(totals: &Totals) -> IncidentTotalsView {
    IncidentTotalsView {
        incidents: totals.incidents,
        without_writer_s: seconds(totals.without_writer),
        longest_hold_s: seconds(totals.clients.longest_hold),
        held: totals.clients.held,
        cut: totals.clients.cut,
        broken: totals.clients.broken,
        failed: totals.clients.failed,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Everything, as it is now.
pub fn status(sources: &Sources) -> StatusView {
    let stopping = sources.stopping.load(std::sync::atomic::Ordering::Relaxed);
    let clusters = sources.pictures.all();
    let view = |(index, picture): (usize, &std::sync::Arc<ClusterPicture>)| {
        let pools = sources.pools.iter().filter(|source| source.pool.options.cluster == index);
        cluster(picture, sources.pictures.now(), pools.collect())
    };
    StatusView {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: seconds(sources.started.elapsed()),
        ready: sources.pictures.is_ready() && !stopping,
        stopping,
        sessions: sources.workers.open_sessions(),
        max_sessions: sources.workers.max_sessions(),
        clusters: clusters.iter().enumerate().map(view).collect(),
    }
}

/// The open sessions, oldest first; of very many not all.
pub fn sessions(sources: &Sources) -> Vec<SessionView> {
    let mut rows: Vec<SessionRow> = sources.workers.rows();
    rows.sort_by_key(|row| row.id);
    rows.into_iter().map(session).collect()
}

fn session(row: SessionRow) -> SessionView {
    SessionView {
        id: row.id,
        cluster: row.cluster,
        pool: row.pool,
        client: row.client,
        member: row.member,
        backend: row.backend_peer,
        backend_client_port: row.backend_local.map(|local| local.port()),
        phase: row.phase.as_str(),
        age_s: seconds(row.age),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
    }
}

fn cluster(picture: &ClusterPicture, now: Duration, pools: Vec<&PoolSource>) -> ClusterView {
    let decision = picture.decision.as_ref();
    ClusterView {
        name: picture.name.to_string(),
        epoch: picture.epoch,
        timeline: decision.and_then(|decision| decision.timeline),
        writer: decision.and_then(|decision| decision.writer.clone()),
        writer_for_s: picture.writer_since.map(|since| seconds(now.saturating_sub(since))),
        readers: decision.map(|decision| decision.readers.clone()).unwrap_or_default(),
        condition: decision.map_or("starting", |decision| decision.condition.as_str()),
        reason: decision.map_or("not every node has been asked yet", |decision| &decision.reason).to_owned(),
        failovers: picture.failovers,
        alarms: decision.map(|d| d.alarms.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        discovery_problem: picture.discovery_problem.clone(),
        incidents: incidents(picture, now).into_iter().take(SHOWN_INCIDENTS).collect(),
        incident_totals: incident_totals(&picture.incident_totals),
        members: picture.members.iter().map(|m| member(m, now, &pools)).collect(),
        pools: pools.iter().map(|source| pool(source, decision)).collect(),
    }
}

fn member(picture: &MemberPicture, now: Duration, pools: &[&PoolSource]) -> MemberView {
    let report = picture.report.as_ref();
    let counts =
        pools.iter().map(|source| counts_of(source, &picture.member.name)).fold(MemberCounts::default(), add);
    MemberView {
        name: picture.member.name.clone(),
        host: picture.member.host.clone(),
        port: picture.member.port,
        api: picture.member.api.clone(),
        addresses: picture.addresses.to_vec(),
        class: picture.class.as_str(),
        class_for_s: seconds(now.saturating_sub(picture.class_since)),
        role: report.map(|report| report.role.as_str().to_owned()),
        state: report.map(|report| report.state.clone()),
        timeline: report.and_then(|report| report.timeline),
        lag_bytes: picture.lag_bytes,
        pause: report.is_some_and(|report| report.pause),
        dcs_last_seen: report.and_then(|report| report.dcs_last_seen),
        tags: report.map(|report| report.tags.clone()).unwrap_or_default(),
        admin: picture.operator.as_str(),
        last_check: picture.last_check.as_ref().map(|check| self::check(check, now)),
        sessions: counts.active,
        sessions_total: counts.total,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        failed_dials: counts.failed_dials,
    }
}

fn check(check: &Check, now: Duration) -> CheckView {
    let error = |silence: &crate::topology::Silence| format!("{}: {}", silence.kind.as_str(), silence.detail);
    CheckView {
        ago_s: seconds(now.saturating_sub(check.at)),
        duration_ms: (check.took.as_secs_f64() * 1e6).round() / 1e3,
        status: check.status,
        error: check.silence.as_ref().map(error),
    }
}

fn pool(source: &PoolSource, decision: Option<&Decision>) -> PoolView {
    let pool = &source.pool;
    let members = pool.stats.members();
    let sum = members.iter().map(|(_, counts)| *counts).fold(MemberCounts::default(), add);
    let (kind, routable, fallback_in_use) = routable(pool.options.choice, decision);
    let end =
        |end: End| EndView { cause: end.as_str(), side: end.side().as_str(), count: pool.stats.ends(end) };
    let member = |(name, counts): (String, MemberCounts)| PoolMemberView {
        name,
        sessions: counts.active,
        sessions_total: counts.total,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        failed_dials: counts.failed_dials,
    };
    PoolView {
        name: pool.options.name.to_string(),
        kind,
        listen: source.listen.clone(),
        routable,
        fallback_in_use,
        clients: pool.stats.clients(),
        sessions: sum.active,
        held: pool.stats.held(),
        sessions_total: sum.total,
        bytes_in: sum.bytes_in,
        bytes_out: sum.bytes_out,
        ends: End::ALL.into_iter().map(end).filter(|end| end.count > 0).collect(),
        members: members.into_iter().map(member).collect(),
    }
}

fn routable(choice: Choice, decision: Option<&Decision>) -> (&'static str, Vec<String>, bool) {
    let writer = || decision.and_then(|decision| decision.writer.clone());
    match choice {
        Choice::Writer => ("primary", writer().into_iter().collect(), false),
        Choice::Reader { fallback, .. } => {
            let readers = decision.map(|decision| decision.readers.clone()).unwrap_or_default();
            let stand_in =
                decision.filter(|_| fallback && readers.is_empty()).and_then(|d| d.fallback.clone());
            let in_use = stand_in.is_some();
            ("replicas", if readers.is_empty() { stand_in.into_iter().collect() } else { readers }, in_use)
        }
    }
}

fn counts_of(source: &PoolSource, member: &str) -> MemberCounts {
    let members = source.pool.stats.members();
    members.into_iter().find(|(name, _)| name == member).map(|(_, counts)| counts).unwrap_or_default()
}

fn add(a: MemberCounts, b: MemberCounts) -> MemberCounts {
    MemberCounts {
        active: a.active + b.active,
        total: a.total + b.total,
        bytes_in: a.bytes_in + b.bytes_in,
        bytes_out: a.bytes_out + b.bytes_out,
        failed_dials: a.failed_dials + b.failed_dials,
    }
}

/// Milliseconds are enough for people.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}
