//! What control writes into the log: one line for each change of what a node is, of the routes, and of the members, with
//! the reason. The flip, not the poll.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::incident::{Clients, Incident};
use super::picture::Check;
use super::vacancies::Line;
use crate::topology::cluster::Tracked;
use crate::topology::{Class, Decision, Member, Observation, Silence, SilenceKind};

/// The members are others than before.
pub(super) fn members(cluster: &str, members: &[Member]) {
    let told = members.iter().map(|member| format!("{} ({}:{})", member.name, member.host, member.port));
    let members = told.collect::<Vec<_>>().join(", ");
    tracing::info!(cluster, members, "members of the cluster");
}

/// A member is of another class than at its last check.
pub(super) fn member_changed(cluster: &str, tracked: &Tracked, before: Option<Class>) {
    let report = tracked.health.report();
    let silence = match tracked.health.last() {
        Some(Observation::Silent(silence)) => Some(format!("{}: {}", silence.kind.as_str(), silence.detail)),
        _ => None,
    };
    tracing::info!(
        cluster,
        member = tracked.member.name,
        class = tracked.class.as_str(),
        before = before.map(Class::as_str),
        role = report.map(|report| report.role.as_str()),
        state = report.map(|report| &*report.state),
        timeline = report.and_then(|report| report.timeline),
        why = silence,
        "member changed"
    );
}

/// Says when a member begins to want a login that it does not get, and when that is over.
pub(super) fn login(cluster: &str, member: &str, before: Option<&Check>, now: Option<&Silence>) {
    let lacks = |silence: Option<&Silence>| silence.is_some_and(|silence| silence.kind == SilenceKind::Login);
    match (lacks(before.and_then(|check| check.silence.as_ref())), lacks(now)) {
        (false, true) => {
            let why = now.map(|silence| &*silence.detail);
            tracing::warn!(cluster, member, why, "no login at Patroni");
        }
        (true, false) if now.is_none() => tracing::info!(cluster, member, "login at Patroni again"),
        _ => {}
    }
}

/// Says what a decision changed, if anything, and each new alarm.
pub(super) fn decided(cluster: &str, before: Option<&Decision>, decision: &Decision) {
    // Thousands of decisions a second change nothing: they are compared where they lie.
    fn routed(decision: &Decision) -> impl PartialEq {
        let Decision { condition, reason, writer, tenant, readers, fallback, .. } = decision;
        (condition, reason, writer, tenant, readers, fallback)
    }
    if before.map(routed) != Some(routed(decision)) {
        let named = |name: Option<&String>| name.map_or("-", String::as_str).to_owned();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    cluster,
                    condition = decision.condition.as_str(),
                    writer = named(decision.writer.as_ref()),
                    writer_before = named(before.and_then(|before| before.writer.as_ref())),
                    readers = decision.readers.join(","),
                    timeline = decision.timeline,
                    reason = decision.reason,
                    "routes changed"
                )
            };
        }
        // Whoever logs warnings only must not miss that writes wait.
        if decision.writer.is_some() { line!(info) } else { line!(warn) }
    }
    let known = before.map(|before| &before.alarms);
    for alarm in decision.alarms.iter().filter(|alarm| known.is_none_or(|known| !known.contains(alarm))) {
        tracing::warn!(cluster, alarm = %alarm, "alarm");
    }
}

/// Says which pools nobody takes sessions of any more, and which somebody does again.
pub(super) fn vacancies(cluster: &str, news: &[Line<'_>]) {
    for line in news {
        match line {
            Line::Nobody(pool, vacancy) => tracing::warn!(
                cluster,
                pool = &*pool.name,
                cause = vacancy.cause.as_str(),
                reason = vacancy.reason,
                "nobody takes the pool's sessions; clients wait"
            ),
            Line::Taken(pool) => {
                let takers = pool.takers().map(|backend| &*backend.name).collect::<Vec<_>>().join(",");
                tracing::info!(cluster, pool = &*pool.name, takers, "the pool's sessions are taken again");
            }
        }
    }
}

/// Says which members are said to be where this process itself listens, and which no more.
pub(super) fn own(
    cluster: &str,
    before: &BTreeSet<(Arc<str>, SocketAddr)>,
    now: &BTreeSet<(Arc<str>, SocketAddr)>,
) {
    for (member, address) in now.difference(before) {
        let advice =
            "its connect_address is this balancer's own listener; set PostgreSQL's own address in Patroni";
        tracing::error!(cluster, member = &**member, %address, advice, "the member is not dialled");
    }
    for (member, address) in before.difference(now) {
        tracing::info!(cluster, member = &**member, %address, "the member is no longer said to be here");
    }
}

/// An incident is over.
pub(super) fn writer_back(cluster: &str, incident: &Incident) {
    let Clients { held, longest_hold, cut, broken, failed } = incident.clients;
    tracing::info!(
        cluster,
        number = incident.number,
        writer_before = incident.writer_before,
        writer = incident.writer_after,
        lasted_ms = incident.lasted.map(|lasted| lasted.as_millis() as u64),
        without_writer_ms = incident.without_writer(Duration::ZERO).as_millis() as u64,
        held,
        longest_hold_ms = longest_hold.as_millis() as u64,
        cut,
        broken,
        failed,
        "the writer is back"
    );
}
