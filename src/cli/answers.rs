//! The part of the API's answers that the commands show; the whole is in `admin::view`.
//!
//! What an older or newer pilotfish leaves out is taken as not known, so that one version can look at another.

use serde::Deserialize;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub pid: Option<u32>,
    pub uptime_s: f64,
    pub ready: bool,
    pub stopping: bool,
    pub sessions: u64,
    pub max_sessions: u64,
    pub reloads: Reloads,
    pub upgrades: Upgrades,
    pub findings: Vec<Finding>,
    pub clusters: Vec<Cluster>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reloads {
    pub last_ago_s: Option<f64>,
    pub problems: Vec<String>,
    pub draining: Vec<LeavingPool>,
}

/// A pool that a reload has taken out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LeavingPool {
    pub cluster: String,
    pub pool: String,
    pub sessions: u64,
    pub cut_in_s: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Upgrades {
    pub last_ago_s: Option<f64>,
    pub problem: Option<String>,
    pub draining: Vec<DrainingProcess>,
}

/// A process that another one has taken the place of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DrainingProcess {
    pub pid: u32,
    pub sessions: u64,
    pub cut_in_s: f64,
}

/// Of the process; those of clusters are on the page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Finding {
    pub level: String,
    pub what: String,
    pub evidence: String,
    pub remedy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Cluster {
    pub name: String,
    pub timeline: Option<u32>,
    pub writer: Option<String>,
    pub writer_for_s: Option<f64>,
    pub condition: String,
    pub reason: String,
    pub failovers: u64,
    pub alarms: Vec<String>,
    pub discovery_problem: Option<String>,
    pub members: Vec<Member>,
    pub pools: Vec<Pool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Member {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub class: String,
    pub role: Option<String>,
    pub state: Option<String>,
    pub timeline: Option<u32>,
    pub lag_bytes: Option<u64>,
    pub admin: String,
    pub last_check: Option<Check>,
    pub sessions: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub ago_s: f64,
    pub duration_ms: f64,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Pool {
    pub name: String,
    /// `primary` or `replicas`.
    pub kind: String,
    pub listen: Vec<String>,
    pub routable: Vec<String>,
    pub fallback_in_use: bool,
    pub vacancy: Option<Vacancy>,
    pub refused_for_s: Option<f64>,
    pub unknown_weights: Vec<String>,
    pub sessions: u64,
    pub held: u64,
    pub queued: u64,
    pub sessions_total: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub members: Vec<PoolMember>,
}

/// Why nobody takes a pool's sessions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Vacancy {
    pub cause: String,
    pub reason: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PoolMember {
    pub name: String,
    pub unfit: Option<String>,
    pub why_unfit: Option<String>,
    pub operator_weight: Option<u16>,
    pub configured_weight: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Session {
    pub id: u64,
    pub cluster: String,
    pub pool: String,
    pub client: String,
    pub member: Option<String>,
    pub backend_client_port: Option<u16>,
    pub phase: String,
    pub age_s: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Incident {
    pub cluster: String,
    pub number: u64,
    pub ongoing: bool,
    pub writer_before: Option<String>,
    pub writer_after: Option<String>,
    pub lasted_ms: Option<u64>,
    pub without_writer_ms: u64,
    pub held: u64,
    pub longest_hold_ms: u64,
    pub cut: u64,
    pub broken: u64,
    pub failed: u64,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    pub at_unix_ms: u64,
    pub after_ms: u64,
    pub what: String,
}
