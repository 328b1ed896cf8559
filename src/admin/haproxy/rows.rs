//! The state of everything as HAProxy's rows: for each pool its front, its members, and the pool as a whole.
//!
//! Pure. A figure that pilotfish does not have stays empty: a script can see that it is missing, but not that it is made
//! up. docs/haproxy-views.md says of each column what it is here.

use std::collections::HashMap;
use std::time::Duration;

use super::super::PoolKey;
use super::super::pools::{PoolMemberView, PoolView};
use super::super::view::{ClusterView, MemberView, StatusView};
use super::check;
use super::field::Field;
use super::memory::{Mark, Memory, PoolMemory};
use super::row::{Object, Row};
use crate::routing::weights::DEFAULT_WEIGHT;
use crate::stats::End;

/// HAProxy's first proxy has the number 2.
const FIRST_PROXY: usize = 2;

/// What the rows are made from beside the status.
#[derive(Debug)]
pub struct Facts<'a> {
    pub memory: &'a Memory,
    /// Since the start of the process.
    pub now: Duration,
    /// HAProxy's word for each pool's way of spreading sessions.
    pub algorithms: &'a HashMap<PoolKey, &'static str>,
}

/// One pool with what HAProxy calls it.
#[derive(Debug, Clone)]
pub struct Proxy<'a> {
    pub name: String,
    /// `iid`.
    pub number: usize,
    pub key: PoolKey,
    pub cluster: &'a ClusterView,
    pub pool: &'a PoolView,
}

impl Proxy<'_> {
    /// The weight that a member has or would have, and what that is without an operator. Before anything is decided: what
    /// a member has that nobody says anything of.
    pub fn weights(&self, member: &str) -> (u16, u16) {
        let counts = self.pool.members.iter().find(|counts| counts.name == member);
        counts.and_then(|counts| counts.weights).unwrap_or((DEFAULT_WEIGHT, DEFAULT_WEIGHT))
    }
}

/// All pools, in the order of the configuration. A name that two clusters give to a pool gets the cluster's before it.
pub fn proxies(status: &StatusView) -> Vec<Proxy<'_>> {
    let mut named: HashMap<&str, usize> = HashMap::new();
    let pools =
        || status.clusters.iter().flat_map(|cluster| cluster.pools.iter().map(move |pool| (cluster, pool)));
    pools().for_each(|(_, pool)| *named.entry(&pool.name).or_default() += 1);
    let name = |cluster: &ClusterView, pool: &PoolView| match named[&*pool.name] {
        1 => pool.name.clone(),
        _ => format!("{}_{}", cluster.name, pool.name),
    };
    let mut proxies = Vec::new();
    for (index, (cluster, pool)) in pools().enumerate() {
        let (name, key) = (name(cluster, pool), (cluster.id, pool.name.as_str().into()));
        proxies.push(Proxy { name, number: index + FIRST_PROXY, key, cluster, pool });
    }
    proxies
}

/// All rows, as `show stat` lists them.
pub fn rows(status: &StatusView, facts: &Facts<'_>) -> Vec<Row> {
    let none = PoolMemory::default();
    let mut rows = Vec::new();
    for proxy in proxies(status) {
        let look =
            Sight { facts, status, proxy: &proxy, memory: facts.memory.pool(&proxy.key).unwrap_or(&none) };
        rows.push(look.frontend());
        let members = proxy.cluster.members.iter();
        rows.extend(members.map(|member| look.server(member)));
        rows.push(look.backend());
    }
    rows
}

/// One pool and all that its rows are made from.
struct Sight<'a> {
    facts: &'a Facts<'a>,
    status: &'a StatusView,
    proxy: &'a Proxy<'a>,
    memory: &'a PoolMemory,
}

impl Sight<'_> {
    fn row(&self, object: Object, name: &str, number: u32) -> Row {
        let mut row = Row::new(object);
        row.text(Field::Pxname, self.proxy.name.as_str());
        row.text(Field::Svname, name);
        row.number(Field::Iid, self.proxy.number);
        row.number(Field::Sid, number);
        row
    }

    fn frontend(&self) -> Row {
        let (pool, mark) = (self.proxy.pool, &self.memory.frontend);
        let mut row = self.row(Object::Frontend, "FRONTEND", 0);
        let ended: u64 = pool.ends.iter().map(|end| end.count).sum();
        let connections = ended + pool.clients as u64;
        row.text(Field::Status, if self.status.stopping { "STOP" } else { "OPEN" });
        row.number(Field::Slim, pool.limits.max_sessions.unwrap_or(self.status.max_sessions));
        sessions(&mut row, mark, pool.clients as u64, connections);
        row.number(Field::ConnRate, mark.rate);
        row.number(Field::ConnRateMax, mark.highest_rate);
        row.number(Field::ConnTot, connections);
        row.number(Field::Bin, pool.bytes_in);
        row.number(Field::Bout, pool.bytes_out);
        // No limit of rates, and no rules for what comes later.
        row.number(Field::RateLim, 0);
        row.number(Field::Dreq, 0);
        row.number(Field::Dses, 0);
        row.number(Field::Dcon, self.ended_by(&[End::ClientDenied, End::ClientLimit]));
        row.number(Field::Ereq, self.ended_by(&[End::ClientGarbage, End::ClientSilent]));
        row
    }

    fn backend(&self) -> Row {
        let (pool, mark) = (self.proxy.pool, &self.memory.backend);
        let mut row = self.row(Object::Backend, "BACKEND", 0);
        let up = !pool.routable.is_empty();
        row.text(Field::Status, if up { "UP" } else { "DOWN" });
        let waiting = (pool.held + pool.queued) as u64;
        row.number(Field::Qcur, waiting);
        row.number(Field::Qmax, mark.most_queued.max(waiting));
        sessions(&mut row, mark, pool.sessions + waiting, pool.sessions_total);
        let failed: u64 = pool.members.iter().map(|member| member.failed_dials).sum();
        dials(&mut row, pool.sessions_total, failed);
        row.number(Field::Bin, pool.bytes_in);
        row.number(Field::Bout, pool.bytes_out);
        let weights = pool.members.iter().filter_map(|member| member.weight).map(u64::from);
        let weights = weights.sum::<u64>();
        row.number(Field::Weight, weights);
        row.number(Field::Uweight, weights);
        let backups = if pool.fallback_in_use { pool.routable.len() } else { 0 };
        row.number(Field::Act, pool.routable.len() - backups);
        row.number(Field::Bck, backups);
        row.number(Field::CliAbrt, self.ended_by(&[End::ClientReset, End::ClientTimeout, End::ClientLeft]));
        row.number(Field::SrvAbrt, self.ended_by(&[End::BackendReset, End::BackendTimeout]));
        self.uptime(&mut row, mark);
        if let Some(algorithm) = self.facts.algorithms.get(&self.proxy.key) {
            row.text(Field::Algo, *algorithm);
        }
        row
    }

    fn server(&self, member: &MemberView) -> Row {
        let (pool, memory) = (self.proxy.pool, self.memory.servers.get(&member.name));
        let place =
            self.proxy.cluster.members.iter().position(|other| other.name == member.name).unwrap_or(0);
        let number = memory.map_or(place as u32 + 1, |memory| memory.id);
        let mut row = self.row(Object::Server, &member.name, number);
        let routable = pool.routable.contains(&member.name);
        let status = state(pool, member);
        row.text(Field::Status, status);
        let unseen = Mark::default();
        let mark = memory.map_or(&unseen, |memory| &memory.mark);
        let counts =
            pool.members.iter().find(|counts| counts.name == member.name).cloned().unwrap_or_default();
        sessions(&mut row, mark, counts.sessions, counts.sessions_total);
        dials(&mut row, counts.sessions_total, counts.failed_dials);
        row.number(Field::Bin, counts.bytes_in);
        row.number(Field::Bout, counts.bytes_out);
        if let Some(limit) = counts.max_sessions {
            row.number(Field::Slim, limit);
        }
        // All members of a pool share one queue. Without a limit of sessions nobody queues for them.
        if let Some(most) = pool.limits.max_queued.filter(|_| counts.max_sessions.is_some()) {
            row.number(Field::Qlimit, most);
        }
        if let Some((weight, _)) = counts.weights {
            row.number(Field::Weight, weight);
            row.number(Field::Uweight, weight);
        }
        if let Some(percent) = counts.throttle {
            row.number(Field::Throttle, percent);
        }
        row.number(Field::Chkfail, member.failed_checks);
        let stands_in = routable && pool.fallback_in_use;
        row.number(Field::Act, u32::from(!stands_in));
        row.number(Field::Bck, u32::from(stands_in));
        self.uptime(&mut row, mark);
        if let Some(address) = counts.addresses.first() {
            row.text(Field::Addr, address.to_string());
        }
        // As HAProxy, which checks nobody in maintenance.
        if member.admin != "maint" {
            checked(&mut row, member, routable || status == "DRAIN");
        }
        row
    }

    fn uptime(&self, row: &mut Row, mark: &Mark) {
        row.number(Field::Chkdown, mark.downs());
        row.number(Field::Lastchg, mark.unchanged_for(self.facts.now).as_secs());
        row.number(Field::Downtime, mark.down_for().as_secs());
        match mark.idle_for(self.facts.now) {
            Some(idle) => row.number(Field::Lastsess, idle.as_secs()),
            None => row.number(Field::Lastsess, -1),
        }
    }

    fn ended_by(&self, causes: &[End]) -> u64 {
        let counted =
            self.proxy.pool.ends.iter().filter(|end| causes.iter().any(|cause| cause.as_str() == end.cause));
        counted.map(|end| end.count).sum()
    }
}

/// HAProxy's word for what a member is to a pool.
pub fn state(pool: &PoolView, member: &MemberView) -> &'static str {
    let routable = pool.routable.contains(&member.name);
    let is_weightless =
        |counts: &PoolMemberView| counts.name == member.name && counts.unfit == Some("weight");
    match member.admin {
        "maint" => "MAINT",
        // HAProxy says so of servers only that would be up.
        "drain" if is_fit(pool, member) => "DRAIN",
        _ if routable => "UP",
        // A weight of 0 is HAProxy's other way to drain.
        "ready" if pool.members.iter().any(is_weightless) => "DRAIN",
        _ => "DOWN",
    }
}

/// Whether its class is the one that the pool is for.
fn is_fit(pool: &PoolView, member: &MemberView) -> bool {
    match pool.kind {
        "primary" => member.class == "writer",
        _ => member.class == "reader",
    }
}

fn sessions(row: &mut Row, mark: &Mark, current: u64, total: u64) {
    row.number(Field::Scur, current);
    row.number(Field::Smax, mark.most.max(current));
    row.number(Field::Stot, total);
    row.number(Field::Rate, mark.rate);
    row.number(Field::RateMax, mark.highest_rate);
}

fn dials(row: &mut Row, made: u64, failed: u64) {
    row.number(Field::Lbtot, made);
    row.number(Field::Econ, failed);
    row.number(Field::Connect, made + failed);
    // Each session has a connection of its own.
    row.number(Field::Reuse, 0);
}

fn checked(row: &mut Row, member: &MemberView, fit: bool) {
    let check = member.last_check.as_ref();
    let outcome = check::outcome(check, fit);
    row.text(Field::CheckStatus, outcome.status);
    row.text(Field::CheckDesc, outcome.description);
    if let Some(code) = outcome.code {
        row.number(Field::CheckCode, code);
    }
    if let Some(check) = check {
        row.number(Field::CheckDuration, check.duration_ms.round() as i64);
        row.text(Field::LastChk, check.error.as_deref().unwrap_or_default());
    }
}
