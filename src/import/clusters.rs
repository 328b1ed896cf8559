//! Pools with the same Patroni behind them, put together to clusters.

use std::collections::BTreeSet;

use super::check::Role;
use super::notes::Notes;
use super::pool::{Member, Pool};
use super::readers::plain;
use super::setting::{Said, Settings};

/// One entry of `clusters`.
#[derive(Debug)]
pub struct Cluster {
    /// `None`: the scope that Patroni tells.
    pub name: Option<String>,
    pub members: Vec<Member>,
    pub checks: Settings,
    pub tls: Settings,
    pub user: Option<Said<String>>,
    pub sessions: Settings,
    pub primary: Option<Pool>,
    pub replicas: Vec<Pool>,
}

/// Groups pools by what their checks have in common: an address of Patroni belongs to one cluster. Those that differ in
/// keys of a cluster, and further primaries, get an entry of their own with the same endpoints.
pub fn group(pools: Vec<Pool>, notes: &Notes) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for set in related(pools) {
        clusters.extend(split(set, notes));
    }
    if clusters.len() > 1 {
        let mut taken = BTreeSet::new();
        for cluster in &mut clusters {
            let base = common_name(cluster);
            let free = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") });
            cluster.name = free.into_iter().find(|name| taken.insert(name.clone()));
        }
    }
    clusters
}

fn key(member: &Member) -> (&str, u16) {
    (&member.host, member.port)
}

/// Sets of pools that have a member in common, directly or through others.
fn related(pools: Vec<Pool>) -> Vec<Vec<Pool>> {
    let mut sets: Vec<Vec<Pool>> = Vec::new();
    for pool in pools {
        let shares = |set: &Vec<Pool>| {
            set.iter().any(|other| {
                other.members.iter().any(|theirs| pool.members.iter().any(|ours| key(ours) == key(theirs)))
            })
        };
        let (mut joined, apart): (Vec<_>, Vec<_>) = sets.into_iter().partition(shares);
        sets = apart;
        let mut set = if joined.is_empty() { Vec::new() } else { joined.remove(0) };
        set.extend(joined.into_iter().flatten());
        set.push(pool);
        sets.push(set);
    }
    sets.sort_by_key(|set| set.iter().map(|pool| pool.line).min());
    sets
}

/// The entries for one Patroni cluster.
fn split(pools: Vec<Pool>, notes: &Notes) -> Vec<Cluster> {
    let mut members: Vec<Member> = Vec::new();
    let (mut checks, mut tls, mut user) = (Settings::default(), Settings::default(), None);
    for pool in &pools {
        for member in &pool.members {
            match members.iter().find(|known| key(known) == key(member)) {
                Some(known) if known.https != member.https => {
                    notes.lost(member.line, "asked with and without TLS; one of them has to do");
                }
                Some(_) => {}
                None => members.push(member.clone()),
            }
        }
        join(&mut checks, &pool.checks, notes);
        join(&mut tls, &pool.tls, notes);
        user = user.or_else(|| pool.user.clone());
    }
    let mut clusters: Vec<Cluster> = Vec::new();
    for mut pool in pools {
        left_out(&mut pool, &members, notes);
        let takes =
            |cluster: &&mut Cluster| cluster.sessions.same(&pool.sessions) && has_room(cluster, &pool);
        match clusters.iter_mut().find(takes) {
            Some(cluster) => put(cluster, pool, notes),
            None => {
                if let Some(first) = clusters.first() {
                    let of = first.primary.as_ref().or(first.replicas.first()).map_or("", |pool| &pool.name);
                    let text = format!(
                        "{}: a cluster of its own with the same endpoints, since it differs from {of} in what holds for \
                         a whole cluster",
                        pool.name
                    );
                    notes.taken(pool.line, text);
                }
                let mut cluster = Cluster {
                    name: None,
                    members: members.clone(),
                    checks: checks.clone(),
                    tls: tls.clone(),
                    user: user.clone(),
                    sessions: pool.sessions.clone(),
                    primary: None,
                    replicas: Vec::new(),
                };
                put(&mut cluster, pool, notes);
                clusters.push(cluster);
            }
        }
    }
    clusters
}

/// Keys that one has and the other has not come together; of two values the first counts.
fn join(all: &mut Settings, more: &Settings, notes: &Notes) {
    for setting in &more.0 {
        match all.find(setting.key) {
            Some(known) if known.value != setting.value => {
                let text = format!("{}: the cluster has one {}, {}", setting.said, setting.key, known.value);
                notes.lost(setting.line, text);
            }
            Some(_) => {}
            None => all.0.push(setting.clone()),
        }
    }
}

/// A cluster has one primary; two that do the same are one with more addresses.
fn has_room(cluster: &Cluster, pool: &Pool) -> bool {
    match (&pool.role, &cluster.primary) {
        (Role::Primary, Some(primary)) => {
            primary.own.same(&pool.own) && primary.listens.len() + pool.listens.len() <= 16
        }
        _ => true,
    }
}

fn put(cluster: &mut Cluster, mut pool: Pool, notes: &Notes) {
    if pool.role != Role::Primary {
        let twin = cluster.replicas.iter().chain(&cluster.primary).any(|other| other.name == pool.name);
        if twin {
            pool.name = format!("{}-{}", pool.name, pool.line);
        }
        return cluster.replicas.push(pool);
    }
    match &mut cluster.primary {
        Some(primary) => {
            let text = format!("{}: further addresses of the pool {}", pool.name, primary.name);
            notes.taken(pool.line, text);
            primary.listens.extend(pool.listens);
        }
        None => cluster.primary = Some(pool),
    }
}

/// Members that HAProxy does not use in this pool.
fn left_out(pool: &mut Pool, members: &[Member], notes: &Notes) {
    let missing: Vec<&Member> =
        members.iter().filter(|member| pool.members.iter().all(|known| key(known) != key(member))).collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<&str> = missing.iter().map(|member| member.name.as_str()).collect();
    if pool.role == Role::Primary || pool.own.find("weights").is_some() {
        let text =
            format!("{}: without {}, but pilotfish uses whatever Patroni names", pool.name, names.join(", "));
        return notes.lost(pool.line, text);
    }
    let map: Vec<String> = names.iter().map(|name| format!("{}: 0", plain(name))).collect();
    let said = format!("without {}", names.join(", "));
    pool.own.set("weights", format!("{{{}}}", map.join(", ")), pool.line, said);
}

/// What the names of its pools have in common.
fn common_name(cluster: &Cluster) -> String {
    const ROLES: [&str; 14] = [
        "primary", "master", "leader", "write", "writer", "rw", "replicas", "replica", "standbys", "standby",
        "read", "reader", "readonly", "ro",
    ];
    let names: Vec<&str> =
        cluster.primary.iter().chain(&cluster.replicas).map(|pool| pool.name.as_str()).collect();
    let Some(first) = names.first() else { return "cluster".into() };
    let common = |n: &usize| names.iter().all(|name| name.get(..*n) == first.get(..*n));
    let length = (0..=first.len()).rev().find(|n| first.is_char_boundary(*n) && common(n)).unwrap_or(0);
    let mut base = first[..length].trim_end_matches(['-', '_', '.']);
    if names.len() == 1 {
        let role = ROLES.iter().find_map(|role| base.strip_suffix(role)?.strip_suffix(['-', '_', '.']));
        base = role.unwrap_or(base);
    }
    if base.is_empty() { "cluster".into() } else { base.to_owned() }
}
