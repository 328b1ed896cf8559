//! pilotfish as HAProxy's tools see it: the same statistics under the same names, and the same runtime commands.
//!
//! [`rows`] turns the status into HAProxy's rows; [`csv`], [`json`] and [`metrics`] only draw them. A pool is what
//! HAProxy calls a proxy (a `listen` section), and each member of its cluster is a server of it, up when the pool routes
//! to it.

pub mod check;
pub mod command;
pub mod csv;
pub mod field;
pub mod info;
pub mod json;
pub mod memory;
pub mod metrics;
pub mod order;
pub mod request;
pub mod row;
pub mod rows;
pub mod runtime;
pub mod servers;
pub mod show;
pub mod typed;
pub mod words;
pub mod zero;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::memory::{Look, Memory, PoolLook};
use self::row::Row;
use self::zero::Zero;
use super::pools;
use super::view::{self, StatusView};
use super::{PoolKey, PoolSource, Sources};
use crate::routing::{Balance, Kind};
use crate::stats::End;

/// What these views keep from one look to the next.
#[derive(Debug, Default)]
pub struct Views {
    memory: Mutex<Memory>,
    zero: Mutex<Zero>,
}

impl Views {
    /// Looks at all pools, once a second.
    pub fn look(&self, sources: &Sources) {
        let served = sources.served.load();
        let looks = served.pools.iter().filter_map(|source| Some((source.key(), look(sources, source)?)));
        let looks: Vec<(PoolKey, PoolLook)> = looks.collect();
        self.memory().take(sources.started.elapsed(), &looks);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn zero(&self) -> MutexGuard<'_, Zero> {
        self.zero.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All rows of this moment.
pub fn rows(sources: &Sources) -> Vec<Row> {
    rows_of(sources, &view::status(sources))
}

/// The same from a status that somebody has made already.
pub fn rows_of(sources: &Sources, status: &StatusView) -> Vec<Row> {
    let mut rows = whole_rows(sources, status);
    sources.live.haproxy.zero().subtract(&mut rows);
    rows
}

/// Forgets the maxima, and with `all` lets the counters begin at zero: those of these views, and no others.
pub fn clear(sources: &Sources, all: bool) {
    let views = &sources.live.haproxy;
    views.memory().clear_maxima();
    if all {
        let rows = whole_rows(sources, &view::status(sources));
        *views.zero() = Zero::at(&rows);
    }
}

/// Connections in the last second, and the most in one.
fn connection_rates(sources: &Sources) -> (u64, u64) {
    let memory = sources.live.haproxy.memory();
    (memory.process.rate, memory.process.highest_rate)
}

fn whole_rows(sources: &Sources, status: &StatusView) -> Vec<Row> {
    let served = sources.served.load();
    let algorithms = served.pools.iter().map(|source| (source.key(), algorithm(source))).collect();
    let now: Duration = sources.started.elapsed();
    let memory = sources.live.haproxy.memory();
    rows::rows(status, &rows::Facts { memory: &memory, now, algorithms: &algorithms })
}

/// HAProxy's word; with one writer there is nothing to choose, and HAProxy's default stands there.
fn algorithm(source: &PoolSource) -> &'static str {
    let options = &source.pool.options;
    match (options.kind, options.balance) {
        (Kind::Primary, _) | (_, Balance::RoundRobin) => "roundrobin",
        (_, Balance::LeastConnections) => "leastconn",
        (_, Balance::Random2) => "random",
        (_, Balance::Source) => "source",
        (_, Balance::First) => "first",
    }
}

/// `None`: its cluster has just gone.
fn look(sources: &Sources, source: &PoolSource) -> Option<PoolLook> {
    let pool = &source.pool;
    let picture = sources.pictures.one(pool.options.cluster)?;
    let (routable, _) = pools::routable(picture.routes.pool(&pool.options.name));
    let counts = pool.stats.members();
    let ended: u64 = End::ALL.iter().map(|&end| pool.stats.ends(end)).sum();
    let (clients, held) = (pool.stats.clients() as u64, pool.stats.held() as u64);
    let waiting = held + pool.stats.queue.waiting() as u64;
    let active: u64 = counts.iter().map(|(_, counts)| counts.active).sum();
    let server = |member: &crate::control::MemberPicture| {
        let name = &member.member.name;
        let counts = counts.iter().find(|(known, _)| known == name).map(|(_, counts)| *counts);
        let counts = counts.unwrap_or_default();
        let up = routable.contains(name);
        (name.clone(), Look { up, current: counts.active, queued: 0, total: counts.total })
    };
    Some(PoolLook {
        frontend: Look { up: true, current: clients, queued: 0, total: ended + clients },
        backend: Look {
            up: !routable.is_empty(),
            current: active + waiting,
            queued: waiting,
            total: counts.iter().map(|(_, counts)| counts.total).sum(),
        },
        servers: picture.members.iter().map(server).collect(),
    })
}
