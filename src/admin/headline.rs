//! Is there a writer? In one sentence, with what to do if not.
//!
//! Pure: a cluster's view goes in. Why nobody leads is read from what the nodes say of the DCS: one that has not seen it
//! for long, or all of them seeing a lock that nobody holds, means something else than an election.

use serde::Serialize;

use super::figures;
use super::findings::{self, Level, list, sentence};
use super::view::{ClusterView, MemberView};
use crate::routing::Cause;

/// Patroni looks at its DCS each `loop_wait`, 10 s by default; twice that and nothing is missed by chance.
pub const DCS_QUIET_S: u64 = 25;
/// A client that is held for a moment while a session is dialled anew is no trouble yet.
pub const LONG_WAIT_S: f64 = 1.5;
/// An election takes a second or two, and then the lock is held. Past this, the lock that nodes still see is one that
/// the DCS can no longer let go.
pub const STALE_LOCK_S: f64 = 10.0;
const BRING_ETCD_BACK: &str = "Bring the etcd members back (etcdctl endpoint status --cluster). A leader comes by itself then; reads go on meanwhile.";

/// The state of the writer in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Headline {
    pub level: Level,
    /// The same in three words.
    pub title: String,
    pub what: String,
    /// Empty when there is nothing to do.
    pub remedy: String,
}

/// Whether there is a writer; if not, why, and what to do.
pub fn headline(cluster: &ClusterView) -> Headline {
    let bad = |what: String, remedy: &str| critical(title(cluster), &what, remedy);
    match (&cluster.writer, cluster.condition) {
        (Some(writer), "ok" | "conflict") => led(cluster, writer),
        (_, "starting") => Headline {
            level: Level::Warning,
            title: title(cluster),
            what: sentence(&cluster.reason),
            remedy: "Clients wait meanwhile. If it lasts, the endpoints in the configuration do not answer: see the last checks below."
                .to_owned(),
        },
        (writer, "unreachable") => unreachable(cluster, writer.as_deref()),
        (_, "no_writer") => no_writer(cluster),
        (_, "promoting") => bad(
            cluster.reason.clone(),
            "It takes a second or two; new clients wait. If it lasts, the PostgreSQL log of that node says what recovery waits for.",
        ),
        (_, "leaving") => bad(
            cluster.reason.clone(),
            "New clients wait. During a switchover another node takes over within seconds; if its PostgreSQL has crashed, Patroni restarts it.",
        ),
        (_, "conflict") => bad(
            cluster.reason.clone(),
            "Compare with patronictl list. Stop PostgreSQL on the node that should not lead before anything else.",
        ),
        // An operator has taken it out of service.
        (None, "ok") => bad(
            cluster.reason.clone(),
            "Set it ready again (pilotfish ready), or hand the lead over first (patronictl switchover).",
        ),
        _ => bad(cluster.reason.clone(), ""),
    }
}

fn critical(title: String, what: &str, remedy: &str) -> Headline {
    Headline { level: Level::Critical, title, what: sentence(what), remedy: remedy.to_owned() }
}

/// Of a writer that does not take writes as it should, and of none.
fn title(cluster: &ClusterView) -> String {
    match (&cluster.writer, cluster.condition) {
        (Some(writer), _) => format!("{writer} does not answer"),
        (None, "starting") => "Looking for the writer".to_owned(),
        (None, _) => "No writer".to_owned(),
    }
}

/// There is a writer, and that is well if sessions get to it.
fn led(cluster: &ClusterView, writer: &str) -> Headline {
    let primaries = || cluster.pools.iter().filter(|pool| pool.kind == "primary");
    let takes_none = || format!("{writer} takes no sessions");
    if let Some((pool, vacancy)) = primaries().find_map(|pool| Some((pool, pool.vacancy.as_ref()?))) {
        let what =
            format!("{writer} leads, but nobody takes the sessions of {}: {}", pool.name, vacancy.reason);
        let told = critical(takes_none(), &what, findings::remedy(vacancy.cause));
        // A port that is asked for the first time, or again after it has refused a session, answers in a moment.
        let level = if vacancy.cause == Cause::Unknown { Level::Warning } else { Level::Critical };
        return Headline { level, ..told };
    }
    let waits = primaries().find(|pool| pool.held > 0);
    match waits.and_then(|pool| Some((pool.held, pool.oldest_wait_s.filter(|&wait| wait >= LONG_WAIT_S)?))) {
        Some((held, wait)) => critical(
            takes_none(),
            &format!(
                "{writer} leads, but its PostgreSQL takes no sessions: {held} held, the longest for {}",
                figures::ago(wait)
            ),
            "Its connections may be used up, or PostgreSQL has crashed under a healthy Patroni, which restarts it: see its log.",
        ),
        None => {
            let title = format!("{writer} takes writes");
            Headline { level: Level::Ok, what: format!("{title}."), title, remedy: String::new() }
        }
    }
}

fn unreachable(cluster: &ClusterView, writer: Option<&str>) -> Headline {
    let level = if writer.is_some() { Level::Warning } else { Level::Critical };
    if cluster.members.iter().all(|member| member.class == "silent") {
        return Headline {
            level: Level::Critical,
            title: title(cluster),
            what: "No node's Patroni answers.".to_owned(),
            remedy: "Is the network between this host and the nodes broken, or a firewall new? Sessions that are open go on."
                .to_owned(),
        };
    }
    let name = writer.or(cluster.last_writer.as_deref());
    let silent = name.and_then(|name| cluster.members.iter().find(|member| member.name == name));
    let (Some(name), Some(member)) = (name, silent) else {
        let what = sentence(&cluster.reason);
        return Headline { level, title: title(cluster), what, remedy: String::new() };
    };
    let (since, api) = (figures::ago(member.class_for_s), &member.api);
    let error = member.last_check.as_ref().and_then(|check| check.error.as_deref());
    let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
    let what = format!("Patroni on {name} has not answered for {since}{error}; no other node leads.");
    // Who is held while the silent writer is still dialled was refused by its PostgreSQL.
    let waits = cluster.pools.iter().any(|pool| pool.kind == "primary" && pool.held > 0);
    let (level, remedy) = if waits {
        (
            Level::Critical,
            format!(
                "Its PostgreSQL takes no sessions either: the node is probably down. Another takes over when its lock runs out (ttl, 30 s by default); else look at {name}."
            ),
        )
    } else {
        (
            level,
            format!(
                "Its PostgreSQL may be healthy: open sessions go on. Look at the patroni service on {name} and at the way to {api}."
            ),
        )
    };
    Headline { level, title: title(cluster), what, remedy }
}

/// Nobody holds the lock: the answers of the nodes say why.
fn no_writer(cluster: &ClusterView) -> Headline {
    let running = || cluster.members.iter().filter(|member| member.state.as_deref() == Some("running"));
    let blind = cluster.members.iter().filter(|member| member.class != "silent");
    let blind =
        blind.filter_map(|member| Some((member.dcs_seen_ago_s.filter(|&s| s >= DCS_QUIET_S)?, member)));
    let (what, remedy) = if let Some((seconds, member)) = blind.max_by_key(|(seconds, _)| *seconds) {
        (
            format!(
                "No node holds the leader lock and {} has not seen the DCS for {seconds} s: etcd has probably lost its quorum.",
                member.name
            ),
            BRING_ETCD_BACK,
        )
    } else if cluster.members.iter().any(|member| member.pause) {
        (
            "No node holds the leader lock, and the cluster is in maintenance mode: Patroni promotes nobody."
                .to_owned(),
            "End it with patronictl resume, or promote by hand with patronictl failover.",
        )
    } else if let Some(seconds) = stale_lock(cluster) {
        (
            format!(
                "No node has held the leader lock for {}, yet none sees it free: etcd can be read but not written, and has probably lost its quorum.",
                figures::ago(seconds)
            ),
            BRING_ETCD_BACK,
        )
    } else if running().next().is_none() {
        (
            "No node holds the leader lock, and PostgreSQL runs on none of those that answer.".to_owned(),
            "See the state of each member below, and the logs of Patroni and PostgreSQL there.",
        )
    } else if running().all(|member| tagged(member, "nofailover")) {
        (
            "No node holds the leader lock, and every running one is tagged nofailover.".to_owned(),
            "Bring the old leader back, or remove the tag from a node that may lead.",
        )
    } else {
        let candidates: Vec<&str> = running().map(|member| &*member.name).collect();
        (
            format!("No node holds the leader lock; {} can be elected.", list(&candidates)),
            "Usually a matter of seconds, at most the cluster's ttl. If it lasts: patronictl list, and is a replica further behind than maximum_lag_on_failover?",
        )
    };
    Headline { level: Level::Critical, title: title(cluster), what, remedy: remedy.to_owned() }
}

/// For how long nobody has held a lock that every node still sees. An etcd member that is left alone answers reads from
/// its own copy: `dcs_last_seen` stays fresh while no lease can be taken or end. (Seen with Patroni 4.1 and etcd 3.4.)
fn stale_lock(cluster: &ClusterView) -> Option<f64> {
    let held_by_nobody = |member: &MemberView| member.class != "silent" && !member.cluster_unlocked;
    if !cluster.members.iter().all(held_by_nobody) {
        return None;
    }
    let ongoing = cluster.incidents.first().filter(|incident| incident.ongoing);
    let vacant = match ongoing {
        Some(incident) => incident.without_writer_ms as f64 / 1e3,
        None => cluster.members.iter().map(|member| member.class_for_s).fold(f64::INFINITY, f64::min),
    };
    (vacant >= STALE_LOCK_S && vacant.is_finite()).then_some(vacant)
}

fn tagged(member: &MemberView, tag: &str) -> bool {
    member.tags.iter().any(|(name, value)| name == tag && value == "true")
}
