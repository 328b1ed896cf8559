//! Each loss of the writer as it is shown: the shape of `/api/v1/events`.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::Sources;
use crate::control::incident::{Step, Totals};
use crate::control::{ClusterPicture, Incident};

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
#[derive(Debug, Clone, Copy, Default, Serialize)]
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

pub(super) fn incidents(picture: &ClusterPicture, now: Duration) -> Vec<IncidentView> {
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

pub(super) fn totals(totals: &Totals) -> IncidentTotalsView {
    IncidentTotalsView {
        incidents: totals.incidents,
        without_writer_s: totals.without_writer.as_secs_f64(),
        longest_hold_s: totals.clients.longest_hold.as_secs_f64(),
        held: totals.clients.held,
        cut: totals.clients.cut,
        broken: totals.clients.broken,
        failed: totals.clients.failed,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
