//! `pilotfish status`: what `patronictl list` shows, what pilotfish makes of it, and tests for scripts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::{Cluster, Finding, Member, Pool, Reloads, Status, Vacancy};
use super::arguments::{Form, Wanted};
use super::client::{Client, read};
use super::output::{harmless, print, print_json};
use super::table::Table;
use super::{EXIT_FAILED, EXIT_UNREACHABLE, Failure};
use crate::admin::figures::{ago, bytes};

/// Between two looks while a writer is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub fn status(client: &Client, wanted: Wanted) -> Result<(), Failure> {
    if let Some(patience) = wanted.wait_writer {
        return wait_for_writer(client, wanted.cluster.as_deref(), patience);
    }
    let answer = of_cluster(client.get("/api/v1/status")?, wanted.cluster.as_deref())?;
    if wanted.ready {
        return tell_ready(client, &read(answer)?, wanted.informed);
    }
    if client.form == Form::Json {
        return print_json(&answer);
    }
    print(&text(&read(answer)?))
}

/// The answer with one cluster only, where one is asked for.
fn of_cluster(mut answer: Value, cluster: Option<&str>) -> Result<Value, Failure> {
    let Some(cluster) = cluster else { return Ok(answer) };
    if let Some(clusters) = answer["clusters"].as_array_mut() {
        clusters.retain(|candidate| candidate["name"] == cluster);
        if !clusters.is_empty() {
            return Ok(answer);
        }
    }
    Err(Failure::new(EXIT_FAILED, format!("no cluster is named {cluster:?}; see pilotfish status")))
}

fn tell_ready(client: &Client, status: &Status, informed: bool) -> Result<(), Failure> {
    let blind = status.clusters.iter().find(|cluster| informed && is_blind(cluster));
    let ready = status.ready && blind.is_none();
    match (client.form, blind) {
        (Form::Json, _) => print_json(&json!({"ready": ready, "stopping": status.stopping}))?,
        (Form::Text, _) if ready => print("ready\n")?,
        (Form::Text, _) if status.stopping => print("stopping\n")?,
        (Form::Text, Some(Cluster { name, .. })) if status.ready => {
            print(&(harmless(&format!("not informed: no node of {name} answers")) + "\n"))?;
        }
        (Form::Text, _) => print("not ready: not every cluster has been asked yet\n")?,
    }
    if ready { Ok(()) } else { Err(Failure::new(EXIT_FAILED, "")) }
}

/// Nobody tells it anything of the cluster. That the writer alone is silent, others see as well.
fn is_blind(cluster: &Cluster) -> bool {
    cluster.members.iter().all(|member| matches!(member.class.as_str(), "silent" | "unknown"))
}

/// A pilotfish that does not answer yet may still start.
fn wait_for_writer(client: &Client, cluster: Option<&str>, patience: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let failure = match client.get("/api/v1/status").and_then(|answer| of_cluster(answer, cluster)) {
            Ok(answer) => {
                let status: Status = read(answer)?;
                match status.clusters.iter().find_map(lack_of_writer) {
                    None if !status.clusters.is_empty() => {
                        return tell_writers(client, &status, begin.elapsed());
                    }
                    None => Failure::new(EXIT_FAILED, "no cluster is known yet"),
                    Some(lack) => Failure::new(EXIT_FAILED, harmless(&lack)),
                }
            }
            Err(failure) if matches!(failure.code, EXIT_UNREACHABLE | EXIT_FAILED) => failure,
            Err(failure) => return Err(failure),
        };
        if begin.elapsed() + LOOK_EVERY > patience {
            return Err(failure);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Why a session that wants to write would have to wait.
fn lack_of_writer(cluster: &Cluster) -> Option<String> {
    let Cluster { name, reason, .. } = cluster;
    let Some(writer) = &cluster.writer else {
        return Some(format!("{name} has no writer: {reason}"));
    };
    let mut primaries = cluster.pools.iter().filter(|pool| pool.kind == "primary");
    if let Some(refused) = primaries.find_map(|pool| pool.refused_for_s) {
        return Some(format!("{writer} of {name} has taken no session for {}", ago(refused)));
    }
    let pool = cluster.pools.iter().find(|pool| pool.kind == "primary" && pool.routable.is_empty())?;
    let why = pool.vacancy.as_ref().map(|vacancy| format!(": {}", vacancy.reason)).unwrap_or_default();
    Some(format!("nobody takes the sessions of {} of {name}{why}", pool.name))
}

fn tell_writers(client: &Client, status: &Status, waited: Duration) -> Result<(), Failure> {
    let writer = |cluster: &Cluster| cluster.writer.clone().unwrap_or_default();
    if client.form == Form::Json {
        let of = |cluster: &Cluster| json!({"cluster": cluster.name, "writer": writer(cluster)});
        let writers: Vec<Value> = status.clusters.iter().map(of).collect();
        return print_json(&json!({"writers": writers, "waited_s": waited.as_millis() as f64 / 1e3}));
    }
    let line = |cluster: &Cluster| harmless(&format!("{}: {}", cluster.name, writer(cluster))) + "\n";
    print(&status.clusters.iter().map(line).collect::<String>())
}

fn text(status: &Status) -> String {
    let Status { version, uptime_s, sessions, max_sessions, .. } = status;
    let state = match (status.stopping, status.ready) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready yet",
    };
    let up = ago(*uptime_s);
    let process = status.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let mut text = format!(
        "pilotfish {version}: {state}{process}, up for {up}, {sessions} of at most {max_sessions} sessions\n"
    );
    let changes = [last_upgrade(status), last_reload(&status.reloads), draining(status)].concat();
    text.extend(changes.into_iter().map(|line| line + "\n"));
    for Finding { level, what, evidence, remedy } in &status.findings {
        text.push_str(&(harmless(&format!("{level}: {what} {evidence} {remedy}")) + "\n"));
    }
    for cluster in &status.clusters {
        text.push('\n');
        lines_of(cluster).iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

/// What runs may not be what is installed.
fn last_upgrade(Status { pid, upgrades, .. }: &Status) -> Vec<String> {
    let Some(problem) = &upgrades.problem else { return Vec::new() };
    let ago = upgrades.last_ago_s.map(|since| format!(" {} ago", ago(since))).unwrap_or_default();
    let process = pid.map(|pid| format!("process {pid}")).unwrap_or_else(|| "it".to_owned());
    let mut reasons = problem.lines().map(harmless);
    match (reasons.next(), reasons.next()) {
        (Some(reason), None) => vec![format!("not upgraded{ago}: {process} goes on as before: {reason}")],
        _ => {
            let reasons = problem.lines().map(|line| harmless(&format!("  {line}")));
            std::iter::once(format!("not upgraded{ago}: {process} goes on as before:"))
                .chain(reasons)
                .collect()
        }
    }
}

/// Who is still served by what was replaced.
fn draining(Status { upgrades, reloads, .. }: &Status) -> Vec<String> {
    let processes = upgrades.draining.iter().map(|process| {
        let (pid, sessions, cut) = (process.pid, process.sessions, ago(process.cut_in_s));
        format!("process {pid}, replaced by an upgrade, drains: {sessions} sessions, cut in {cut}")
    });
    let pools = reloads.draining.iter().map(|leaving| {
        let (pool, cluster, cut) = (&leaving.pool, &leaving.cluster, ago(leaving.cut_in_s));
        let sessions = leaving.sessions;
        harmless(&format!(
            "{pool} of {cluster}, taken out by a reload, drains: {sessions} sessions, cut in {cut}"
        ))
    });
    processes.chain(pools).collect()
}

/// What runs may not be what the file says.
fn last_reload(reloads: &Reloads) -> Vec<String> {
    let Some(ago_s) = reloads.last_ago_s else { return Vec::new() };
    let ago = ago(ago_s);
    if reloads.problems.is_empty() {
        return vec![format!("the configuration was reloaded {ago} ago")];
    }
    let head = format!("the last reload, {ago} ago, was rejected; what ran before goes on:");
    let problems = reloads.problems.iter().map(|problem| harmless(&format!("  {problem}")));
    std::iter::once(head).chain(problems).collect()
}

fn lines_of(cluster: &Cluster) -> Vec<String> {
    let mut lines = vec![headline(cluster)];
    if cluster.condition != "ok" || cluster.writer.is_none() {
        lines.push(harmless(&format!("  {}", cluster.reason)));
    }
    lines.extend(cluster.alarms.iter().map(|alarm| harmless(&format!("  ALARM: {alarm}"))));
    if let Some(problem) = &cluster.discovery_problem {
        lines.push(harmless(&format!("  the members cannot be read from Patroni: {problem}")));
    }
    lines.extend(members(&cluster.members).lines().into_iter().map(|line| format!("  {line}")));
    lines.push(String::new());
    lines.extend(pools(&cluster.pools).lines().into_iter().map(|line| format!("  {line}")));
    for pool in &cluster.pools {
        if let Some(Vacancy { reason, .. }) = &pool.vacancy {
            lines.push(harmless(&format!("  {}: nobody takes its sessions: {reason}", pool.name)));
            continue;
        }
        // What its class says is in the table of members.
        let odd = pool.members.iter().filter(|member| member.unfit.as_deref() != Some("class"));
        let why = odd.filter_map(|member| Some((&member.name, member.why_unfit.as_ref()?)));
        lines.extend(why.map(|(name, why)| harmless(&format!("  {}: {name} {why}", pool.name))));
    }
    lines.extend(cluster.pools.iter().filter_map(set_weights));
    for pool in cluster.pools.iter().filter(|pool| !pool.unknown_weights.is_empty()) {
        let names = pool.unknown_weights.join(", ");
        lines.push(harmless(&format!("  {}: its weights name who is no member: {names}", pool.name)));
    }
    lines
}

/// What operators have set at run time, which a restart forgets.
fn set_weights(pool: &Pool) -> Option<String> {
    let set = pool.members.iter().filter_map(|member| {
        let (weight, configured) = (member.operator_weight?, member.configured_weight?);
        Some(format!("weight of {} is {weight} by an operator (configured {configured})", member.name))
    });
    let set: Vec<String> = set.collect();
    (!set.is_empty()).then(|| harmless(&format!("  {}: {}", pool.name, set.join(", "))))
}

/// What one wants to know first.
pub fn headline(cluster: &Cluster) -> String {
    // The cluster is well, and yet nobody can write.
    let condition = match (&*cluster.condition, &cluster.writer) {
        ("ok", None) => "writer taken out of service",
        ("ok", Some(_)) if lack_of_writer(cluster).is_some() => "nobody takes writes",
        (condition, _) => condition,
    };
    let mut line = format!("Cluster {}: {condition}", cluster.name);
    match (&cluster.writer, cluster.writer_for_s) {
        (Some(writer), Some(since)) => line += &format!(", writer {writer} for {}", ago(since)),
        (Some(writer), None) => line += &format!(", writer {writer}"),
        (None, _) => line += ", no writer",
    }
    if let Some(timeline) = cluster.timeline {
        line += &format!(", timeline {timeline}");
    }
    let s = if cluster.failovers == 1 { "" } else { "s" };
    harmless(&format!("{line}, {} failover{s}", cluster.failovers))
}

fn members(members: &[Member]) -> Table {
    let head = ["MEMBER", "HOST", "ROLE", "STATE", ">TL", ">LAG", "CLASS", "ADMIN", "CHECKED", ">SESSIONS"];
    let mut table = Table::new(&head);
    for member in members {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let checked = match &member.last_check {
            None => "not yet".to_owned(),
            Some(check) => match &check.error {
                None => format!("{} ago in {:.1} ms", ago(check.ago_s), check.duration_ms),
                Some(error) => format!("{} ago: {error}", ago(check.ago_s)),
            },
        };
        table.row([
            member.name.clone(),
            format!("{}:{}", member.host, member.port),
            dash(&member.role),
            dash(&member.state),
            member.timeline.map_or("-".to_owned(), |timeline| timeline.to_string()),
            member.lag_bytes.map_or("-".to_owned(), bytes),
            member.class.clone(),
            member.admin.clone(),
            checked,
            member.sessions.to_string(),
        ]);
    }
    table
}

fn pools(pools: &[Pool]) -> Table {
    let head = ["POOL", "LISTENS ON", "ROUTES TO", ">SESSIONS", ">HELD", ">QUEUED", ">TOTAL", ">IN", ">OUT"];
    let mut table = Table::new(&head);
    for pool in pools {
        let routes = match (pool.routable.is_empty(), pool.fallback_in_use) {
            (true, _) => "nobody: clients wait".to_owned(),
            (false, false) => pool.routable.join(", "),
            (false, true) => format!("{} (no replica)", pool.routable.join(", ")),
        };
        table.row([
            pool.name.clone(),
            pool.listen.join(", "),
            routes,
            pool.sessions.to_string(),
            pool.held.to_string(),
            pool.queued.to_string(),
            pool.sessions_total.to_string(),
            bytes(pool.bytes_in),
            bytes(pool.bytes_out),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::answers::PoolMember;
    use super::*;

    #[test]
    fn a_weight_that_an_operator_has_set_is_said() {
        let member = |name: &str, weights: Option<(u16, u16)>| PoolMember {
            name: name.to_owned(),
            operator_weight: weights.map(|(weight, _)| weight),
            configured_weight: weights.map(|(_, configured)| configured),
            ..PoolMember::default()
        };
        let pool = |members| Pool { name: "replicas".to_owned(), members, ..Pool::default() };
        assert_eq!(set_weights(&pool(vec![member("a", None)])), None);
        let said = set_weights(&pool(vec![member("a", Some((256, 10))), member("b", None)]));
        assert_eq!(said.as_deref(), Some("  replicas: weight of a is 256 by an operator (configured 10)"));
    }

    #[test]
    fn upgrades_and_what_they_leave_are_told_each_in_a_line() {
        let told = |answer: Value| text(&serde_json::from_value(answer).expect("a status"));
        let head = "pilotfish 1: ready, process 7, up for 60 s, 0 of at most 9 sessions\n";
        let status = |more: Value| {
            let mut status =
                json!({"version": "1", "pid": 7, "ready": true, "uptime_s": 60.0, "max_sessions": 9});
            status.as_object_mut().expect("keys").append(&mut more.as_object().expect("keys").clone());
            status
        };
        for (more, lines) in [
            (json!({}), ""),
            (
                json!({"upgrades": {"last_ago_s": 120.0, "problem": "it ended"}}),
                "not upgraded 2 min ago: process 7 goes on as before: it ended\n",
            ),
            (
                json!({"upgrades": {"problem": "a:1: no\nb:2: no"}}),
                "not upgraded: process 7 goes on as before:\n  a:1: no\n  b:2: no\n",
            ),
            (
                json!({"upgrades": {"draining": [{"pid": 5, "sessions": 2, "cut_in_s": 30.0}]}}),
                "process 5, replaced by an upgrade, drains: 2 sessions, cut in 30 s\n",
            ),
            (
                json!({"reloads": {"draining": [{"cluster": "c", "pool": "p", "sessions": 3, "cut_in_s": 9.0}]}}),
                "p of c, taken out by a reload, drains: 3 sessions, cut in 9.0 s\n",
            ),
        ] {
            assert_eq!(told(status(more.clone())), format!("{head}{lines}"), "{more}");
        }
    }

    #[test]
    fn one_failover_is_one() {
        for (failovers, end) in [(0, "0 failovers"), (1, "1 failover"), (2, "2 failovers")] {
            let cluster = Cluster { failovers, ..Cluster::default() };
            assert!(headline(&cluster).ends_with(end), "{}", headline(&cluster));
        }
    }
}
