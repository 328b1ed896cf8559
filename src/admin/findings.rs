//! What is wrong, in plain sentences: what is seen, what it is seen by, and what to do.
//!
//! Pure: a cluster's view goes in, sentences come out, most urgent first and no more than a handful. Whether there is a
//! writer is the [headline](super::headline)'s to say.

use std::collections::BTreeSet;

use serde::Serialize;

use super::figures::bytes;
use super::view::{ClusterView, MemberView, PoolView};
use crate::routing::Cause;
use crate::routing::weights::DEFAULT_WEIGHT;
use crate::topology::{Alarm, SilenceKind};

/// More would not be read.
pub const MOST: usize = 6;
/// In five minutes: a switchover makes three or four changes on the nodes that it concerns.
pub const FLIPS: usize = 6;
/// Patroni answers within milliseconds; so slow, checks come near their time limit.
pub const SLOW_CHECK_MS: f64 = 500.0;
/// Growth within a minute that is more than a burst of writes.
pub const LAG_GROWTH: u64 = 16 << 20;
/// Fewer sessions than this say nothing about how they are spread.
pub const FEW_SESSIONS: u64 = 8;
/// Younger, this process has not seen enough of the traffic to judge it.
pub const EARLY_S: f64 = 60.0;

const OWN_ADDRESS: &str = "Its connect_address is this balancer's own listener: set PostgreSQL's own address in Patroni (postgresql.connect_address). With port in the pool, choose one that something else listens at.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Service is not given, or data is in danger.
    Critical,
    /// Will become worse, or already costs something.
    Warning,
    /// Could be better.
    Advice,
    Ok,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A word for scripts.
    pub code: &'static str,
    pub level: Level,
    pub what: String,
    pub evidence: String,
    pub remedy: String,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Critical => "critical",
            Level::Warning => "warning",
            Level::Advice => "advice",
            Level::Ok => "ok",
        }
    }
}

/// What deserves a look beside the headline, most urgent first.
pub fn findings(cluster: &ClusterView, uptime_s: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    alarms(cluster, &mut found);
    outages(cluster, &mut found);
    found.extend(cluster.credentials_problem.as_deref().map(stale_credentials));
    strangers(cluster, &mut found);
    headers(cluster, &mut found);
    loops(cluster, &mut found);
    found.extend(no_login(cluster));
    for member in &cluster.members {
        troubles_of(member, &mut found);
    }
    traffic(cluster, uptime_s, &mut found);
    found.push(Finding {
        code: "only_balancer",
        level: Level::Advice,
        what: "This page knows of no second balancer.".to_owned(),
        evidence: "A balancer does not see others: each stands alone, and none needs the others.".to_owned(),
        remedy: "If this is the only one, its host is a single point of failure. Run a second with the same configuration, and give clients both hosts or a virtual address."
            .to_owned(),
    });
    found.sort_by_key(|finding| finding.level);
    found.truncate(MOST);
    found
}

/// A renewal that has gone wrong, which will be noticed when the old certificate ends.
fn stale_credentials(problem: &str) -> Finding {
    Finding {
        code: "stale_credentials",
        level: Level::Warning,
        what: "The new certificates or password for Patroni cannot be used; the old ones are.".to_owned(),
        evidence: format!("{problem}."),
        remedy: "Mend the files named in patroni.tls and patroni.auth; they are read again within a second."
            .to_owned(),
    }
}

/// Nodes that want a login and do not get the right one.
fn no_login(cluster: &ClusterView) -> Option<Finding> {
    let check = |member: &'_ MemberView| member.last_check.clone();
    let lacks =
        |member: &&MemberView| check(member).is_some_and(|last| last.silence == Some(SilenceKind::Login));
    let lacking: Vec<&MemberView> = cluster.members.iter().filter(lacks).collect();
    let error = lacking.first().and_then(|member| check(member)?.error)?;
    let names: Vec<&str> = lacking.iter().map(|member| &*member.name).collect();
    Some(Finding {
        code: "no_login",
        level: Level::Warning,
        what: format!("No login at Patroni on {}: what it says is not known.", list(&names)),
        evidence: format!("{}: {}.", names[0], error.trim_start_matches("login: ")),
        remedy: "Set patroni.auth to the login that the node, or the proxy before it, wants; a new password file counts within a second."
            .to_owned(),
    })
}

/// What the decision itself warns of.
fn alarms(cluster: &ClusterView, found: &mut Vec<Finding>) {
    for alarm in &cluster.alarmed {
        let (code, level, evidence, remedy) = match alarm {
            Alarm::TwoWriters(_) => (
                "two_writers",
                Level::Critical,
                match &cluster.writer {
                    Some(writer) => format!("Writes go to {writer} alone: its timeline is the newest, or it led before."),
                    None => "Neither is trusted; clients wait.".to_owned(),
                },
                "Stop PostgreSQL on the node that should not lead, then rejoin it (patronictl reinit). What was written there meanwhile is not on the other.",
            ),
            Alarm::OrphanPrimary(_) => (
                "orphan_primary",
                Level::Critical,
                "It is up and may accept writes from whoever connects past the balancer; nothing is routed to it.".to_owned(),
                "Look why Patroni has lost the lock there, and stop PostgreSQL on it if another node leads.",
            ),
            Alarm::ForeignMember(_) => (
                "foreign_member",
                Level::Critical,
                "Its database_system_identifier is not the one of this cluster; nothing is routed to it.".to_owned(),
                "Is the endpoint one of another cluster, or was the node initialised anew? Correct the address, or run patronictl reinit.",
            ),
            Alarm::OldTimeline(_) => (
                "old_timeline",
                Level::Critical,
                "A later timeline has been seen: following it would lose what was written there.".to_owned(),
                "Find the node with the newest timeline and bring it back. After a restore on purpose, restart pilotfish.",
            ),
            Alarm::NoIdentity => (
                "no_identity",
                Level::Critical,
                "Their first answers name different systems.".to_owned(),
                "Correct the endpoints in the configuration: all of them must belong to one cluster.",
            ),
        };
        let what = sentence(&alarm.to_string());
        found.push(Finding { code, level, what, evidence, remedy: remedy.to_owned() });
    }
}

/// What the cluster as a whole lacks.
fn outages(cluster: &ClusterView, found: &mut Vec<Finding>) {
    let mut warn = |code, what: String, evidence: String, remedy: &str| {
        found.push(Finding { code, level: Level::Warning, what, evidence, remedy: remedy.to_owned() });
    };
    if cluster.condition == "starting" {
        return;
    }
    let others_than = |routable: &[String]| {
        let others = cluster.members.iter().filter(|member| !routable.contains(&member.name));
        let why: Vec<String> =
            others.map(|member| format!("{}: {}", member.name, member.plainly.to_lowercase())).collect();
        if why.is_empty() { "There is no other member.".to_owned() } else { format!("{}.", why.join("; ")) }
    };
    let readers = cluster.pools.iter().filter(|pool| pool.kind == "replicas");
    // With one pool of readers there is no need to say which.
    let of = |pool: &PoolView| {
        if readers.clone().count() > 1 { format!(" of {}", pool.name) } else { String::new() }
    };
    for (pool, vacancy) in readers.clone().filter_map(|pool| Some((pool, pool.vacancy.as_ref()?))) {
        warn(
            "no_readers",
            format!("Nobody takes reads{}; {} clients wait for a replica.", of(pool), pool.held),
            sentence(&vacancy.reason),
            remedy(vacancy.cause),
        );
    }
    for pool in readers.clone().filter(|pool| pool.fallback_in_use) {
        warn(
            "reads_on_leader",
            format!("Reads{} go to the leader, since no replica can take them.", of(pool)),
            others_than(&pool.routable),
            "Bring a replica back, or raise replicas.max_lag if being behind is all that keeps it out.",
        );
    }
    if let Some(member) = cluster.members.iter().find(|member| member.failsafe) {
        warn(
            "failsafe",
            "The DCS is lost; Patroni goes on in failsafe mode.".to_owned(),
            format!("{} says so. There is no failover while it lasts.", member.name),
            "Bring etcd back before a second thing breaks.",
        );
    }
    if let Some(member) = cluster.members.iter().find(|member| member.pause) {
        warn(
            "paused",
            "The cluster is in maintenance mode: if the leader fails, nobody is promoted.".to_owned(),
            format!("{} says so.", member.name),
            "When the work is done: patronictl resume.",
        );
    }
    if let Some(problem) = &cluster.discovery_problem {
        warn(
            "discovery",
            "The members cannot be read from Patroni; the last known ones stay.".to_owned(),
            sentence(problem),
            "Do the nodes answer GET /cluster? It needs the DCS.",
        );
    }
}

/// What brings somebody back to a pool that nobody takes sessions of.
pub(super) fn remedy(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "A matter of a check or two. If it lasts: see the last checks below.",
        // Only a primary pool's, and then the cluster's headline has a remedy.
        Cause::NoWriter => "",
        Cause::Port => {
            "Start what listens at that port (such as pgbouncer), or open it in the firewall; PostgreSQL itself may be well. port: auto dials PostgreSQL's own."
        }
        Cause::OwnListener => OWN_ADDRESS,
        Cause::Weight => "Give one of them a weight above 0 again: in weights, by its tag, or by set weight.",
        Cause::Drained => "Set one of them ready again (pilotfish ready).",
        Cause::NoReplica => "Bring a replica back. With replicas.fallback: primary the leader stands in.",
        Cause::Unfit => {
            "Bring a replica back, or ask for less of it (max_lag, require). With replicas.fallback: primary the leader stands in."
        }
    }
}

/// Members that are said to be where this process itself listens, each once.
fn loops(cluster: &ClusterView, found: &mut Vec<Finding>) {
    let members = cluster.pools.iter().flat_map(|pool| &pool.members);
    let own = members.filter_map(|member| Some((&*member.name, member.own_listener?)));
    for (name, address) in own.collect::<BTreeSet<_>>() {
        found.push(Finding {
            code: "own_listener",
            level: Level::Critical,
            what: format!("{name} is not dialled: its address is this balancer's own."),
            evidence: format!(
                "Its sessions would be sent to {address}, where this balancer listens, and come back as new ones without end."
            ),
            remedy: OWN_ADDRESS.to_owned(),
        });
    }
}

/// What `send_proxy` makes of members that do not expect it.
fn headers(cluster: &ClusterView, found: &mut Vec<Finding>) {
    for pool in &cluster.pools {
        let names = pool.members.iter().filter(|member| member.misreads_proxy);
        let names: Vec<&str> = names.map(|member| &*member.name).collect();
        if names.is_empty() {
            continue;
        }
        found.push(Finding {
            code: "send_proxy",
            level: Level::Warning,
            what: format!("{} does not seem to understand the PROXY protocol.", list(&names)),
            evidence: format!("Sessions of {} end there at its header, before an answer.", pool.name),
            remedy: "PostgreSQL itself does not understand it (its log says: invalid length of startup packet). Set send_proxy: off, or set port to that of a pooler which expects it."
                .to_owned(),
        });
    }
}

/// Names in the configuration that nobody has.
fn strangers(cluster: &ClusterView, found: &mut Vec<Finding>) {
    let members: Vec<&str> = cluster.members.iter().map(|member| &*member.name).collect();
    for pool in cluster.pools.iter().filter(|pool| !pool.unknown_weights.is_empty()) {
        let names: Vec<&str> = pool.unknown_weights.iter().map(String::as_str).collect();
        let are = if names.len() == 1 { "which is no member" } else { "which are no members" };
        found.push(Finding {
            code: "unknown_weights",
            level: Level::Warning,
            what: format!("The weights of {} name {}, {are}.", pool.name, list(&names)),
            evidence: format!("The members are {}.", list(&members)),
            remedy: format!(
                "Correct the names in weights: whoever is not named there has the weight of its tag (weight_tag), or else {DEFAULT_WEIGHT}."
            ),
        });
    }
}

/// What one member should be looked at for.
fn troubles_of(member: &MemberView, found: &mut Vec<Finding>) {
    let name = &member.name;
    let mut note = |code, level, what: String, evidence: String, remedy: &str| {
        found.push(Finding { code, level, what, evidence, remedy: remedy.to_owned() });
    };
    if member.admin != "ready" {
        note(
            "withdrawn",
            Level::Advice,
            format!("{name} takes no new sessions: it is set to {}.", member.admin),
            format!("{} sessions are still open on it.", member.sessions),
            "Set it ready when the work is done.",
        );
        return;
    }
    if member.flips_5m >= FLIPS {
        note(
            "flapping",
            Level::Warning,
            format!("{name} flaps."),
            format!(
                "It changed {} times within five minutes; now it is {}.",
                member.flips_5m,
                member.plainly.to_lowercase()
            ),
            "Look at its load, memory and network, and at Patroni's log. Until it is found, set it to drain.",
        );
    }
    if let (Some(lag), Some(before)) = (member.lag_bytes, member.lag_bytes_1m_ago)
        && lag > before.saturating_add(LAG_GROWTH)
    {
        note(
            "lag_grows",
            Level::Warning,
            format!("{name} falls behind."),
            format!("Its lag grew from {} to {} within a minute.", bytes(before), bytes(lag)),
            "Is a long query on it holding up replay, is its disk slow, or does the leader write more than the line carries? replicas.max_lag keeps readers from stale data.",
        );
    }
    if let Some(slow) = member.check_ms_mean.filter(|&ms| ms >= SLOW_CHECK_MS) {
        note(
            "slow_checks",
            Level::Warning,
            format!("Checks of {name} are slow."),
            format!("They take {slow:.0} ms of late."),
            "Each check runs SQL there: is the node busy, or short of connections for Patroni? A failover is noticed later by as much.",
        );
    }
    if member.outdated_sessions > 0 && member.takes == "reads" {
        note(
            "old_sessions",
            Level::Advice,
            format!("{} sessions on {name} are older than the last failover.", member.outdated_sessions),
            "They were opened when the roles were others, and stay where they are.".to_owned(),
            "Limit the lifetime of connections in the application's pool, so that readers spread anew; or close them here.",
        );
    }
}

/// Who takes how much.
fn traffic(cluster: &ClusterView, uptime_s: f64, found: &mut Vec<Finding>) {
    let pool = |kind| cluster.pools.iter().find(|pool| pool.kind == kind);
    if let Some((primary, replicas)) = pool("primary").filter(|_| uptime_s >= EARLY_S).zip(pool("replicas")) {
        idle_replicas(cluster, primary, replicas, found);
    }
    cluster.pools.iter().filter(|pool| pool.kind == "replicas").for_each(|pool| one_sided(pool, found));
}

fn one_sided(replicas: &PoolView, found: &mut Vec<Finding>) {
    let Some(busiest) = replicas.members.iter().max_by_key(|member| member.sessions) else { return };
    let others = replicas.routable.iter().filter(|name| **name != busiest.name).count();
    if replicas.sessions >= FEW_SESSIONS && others > 0 && busiest.sessions * 10 >= replicas.sessions * 9 {
        found.push(Finding {
            code: "one_sided",
            level: Level::Advice,
            what: format!("{} takes nearly all reads.", busiest.name),
            evidence: format!("{} of {} sessions, while {others} more can take readers.", busiest.sessions, replicas.sessions),
            remedy: "Sessions stay where they were opened: limit their lifetime in the application's pool. balance: source sends one client host to one replica."
                .to_owned(),
        });
    }
}

/// The classic mistake: the application never connects to the replica port.
fn idle_replicas(cluster: &ClusterView, primary: &PoolView, replicas: &PoolView, found: &mut Vec<Finding>) {
    let all = || cluster.pools.iter().filter(|pool| pool.kind == "replicas");
    let idle = all().all(|pool| pool.sessions == 0 && pool.sessions_5m < 0.5);
    if primary.sessions == 0 || !idle || cluster.readers.is_empty() {
        return;
    }
    let address = replicas.listen.first().map_or("", String::as_str);
    let ever = match all().map(|pool| pool.sessions_total).sum::<u64>() {
        0 => "nobody has connected to the replica port yet".to_owned(),
        total => format!("{total} came to the replica port before, none within five minutes"),
    };
    found.push(Finding {
        code: "idle_replicas",
        level: Level::Advice,
        what: format!("All traffic uses the primary port while {} idle.", plural(&cluster.readers)),
        evidence: format!("{} sessions on {}; {ever}.", primary.sessions, primary.name),
        remedy: format!("Let the application open a second pool for what only reads, at {address}."),
    });
}

fn plural(names: &[String]) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{} {}", list(&names), if names.len() == 1 { "is" } else { "are" })
}

pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A reason as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    // Names are written as they are: only a word that is a word gets a capital.
    let first = letters.next().map(String::from).unwrap_or_default();
    let plain =
        text.split(' ').next().is_some_and(|word| matches!(word, "no" | "not" | "every" | "the" | "nobody"));
    let first = if plain { first.to_uppercase() } else { first };
    format!("{first}{}.", letters.as_str())
}
