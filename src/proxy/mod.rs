//! The data plane: from `accept` to the last byte.
//!
//! A session lives on one worker from its first packet to its end: [`listener`] accepts it, [`worker`] runs it,
//! [`session`] walks it through its life: [`access`], the [`greeting`] with its [`first_packet`], a pick from the table, [`connect`], the
//! server's first [`reply`], a wait in [`hold`] when nobody serves and in [`queue`] when those who do are full, and the
//! [`engine`] until one side ends it. [`sessions`] is the
//! list by which open sessions are cut when the table says so.
//!
//! Behind the engine: [`epoll`] is what the kernel tells of, [`stream`] a connection while its session is opened,
//! [`relay`] has the rules by which bytes and ends go both ways, [`socket`] remembers what the kernel told of one side,
//! [`pace`] tells bulk from talk, [`splice`] moves bulk without copying.
//!
//! Knows no HTTP, no Patroni and no configuration: it sees tables, counters and bytes.

pub mod access;
pub mod beside;
pub mod bound;
pub mod cancel;
pub mod connect;
pub mod counts;
mod dice;
pub mod ended;
pub mod engine;
pub mod epoll;
pub mod event_loop;
pub mod first_packet;
pub mod greeting;
pub mod hold;
pub mod idle;
pub mod listener;
pub mod pace;
mod progress;
pub mod proxy_protocol;
pub mod queue;
pub mod refusal;
pub mod relay;
mod relayed;
pub mod reply;
pub mod room;
pub mod session;
mod session_row;
pub mod sessions;
pub mod share;
pub mod socket;
pub mod socket_file;
pub mod splice;
pub mod stream;
mod surplus;
pub mod tcplog;
pub mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::routing::{Balance, ClusterId, Kind, PoolRoutes, Routes};
use crate::stats::{End, PoolStats};

pub use access::{Access, ClientAddress, Networks};
pub use connect::{Keepalive, TcpOptions};
pub use ended::Ended;
use hold::Stop;
pub use idle::IdleLimits;
pub use sessions::{Session, SessionRow};
pub use worker::{Workers, WorkersOptions};

/// What a pool's clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// PostgreSQL: the first packet is read, so that silent clients cost no backend, cancel requests find their
    /// session, and a client that cannot be served is told so.
    #[default]
    Postgresql,
    /// Anything: bytes only.
    Tcp,
}

/// How a pool serves its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolOptions {
    pub cluster: ClusterId,
    /// Unique in its cluster: by it the table is asked for the pool's routes.
    pub name: Arc<str>,
    pub kind: Kind,
    pub balance: Balance,
    pub protocol: Protocol,
    /// How long a client may take for its whole first packet, where it has to send one.
    pub first_packet: Duration,
    /// How long a client waits for a member; zero: not at all.
    pub hold: Duration,
    /// How many clients may wait at once.
    pub max_held: usize,
    /// For one dial of one address.
    pub connect_timeout: Duration,
    pub tcp: TcpOptions,
    /// How long a session may be idle.
    pub idle: IdleLimits,
    /// Members are told who the client is, by a PROXY protocol header of version 2.
    pub send_proxy: bool,
    pub limits: SessionLimits,
}

impl PoolOptions {
    /// A pool that makes nobody wait and limits nothing, for dials of a second.
    pub fn new(cluster: ClusterId, name: &str, kind: Kind) -> PoolOptions {
        PoolOptions {
            cluster,
            name: Arc::from(name),
            kind,
            balance: Balance::default(),
            protocol: Protocol::default(),
            first_packet: greeting::PATIENCE,
            hold: Duration::ZERO,
            max_held: 1,
            connect_timeout: Duration::from_secs(1),
            tcp: TcpOptions::default(),
            idle: IdleLimits::default(),
            send_proxy: false,
            limits: SessionLimits::default(),
        }
    }
}

/// How many sessions a pool may have to begin with; the limits in its counters are the ones that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Clients, waiting ones among them.
    pub sessions: Option<usize>,
    pub per_member: Option<usize>,
    pub per_client: Option<usize>,
    /// How long a client may wait for room on a member.
    pub queue_timeout: Duration,
    /// How many may at once.
    pub queued: usize,
}

/// No limit at all.
impl Default for SessionLimits {
    fn default() -> SessionLimits {
        let queue_timeout = Duration::from_secs(30);
        SessionLimits { sessions: None, per_member: None, per_client: None, queue_timeout, queued: 1000 }
    }
}

/// A pool, shared by all workers.
#[derive(Debug)]
pub struct Pool {
    pub options: PoolOptions,
    pub stats: Arc<PoolStats>,
    /// Counts picks, for strategies that go in turn.
    turn: AtomicU64,
    /// The word that nobody of it is held any more.
    stop: Stop,
}

impl Pool {
    pub fn new(options: PoolOptions, stats: Arc<PoolStats>) -> Pool {
        options.limits.apply(&stats);
        Pool { options, stats, turn: AtomicU64::new(0), stop: Stop::default() }
    }

    /// The same pool with other options: what is counted and who waits stay. Limits that an operator has set are kept where
    /// the configured ones are as they were. Nothing has changed before [`SessionLimits::apply`].
    pub fn renewed(&self, options: PoolOptions) -> Pool {
        let turn = AtomicU64::new(self.turn.load(Relaxed));
        let stop = if self.stop.is_given() { Stop::default() } else { self.stop.clone() };
        Pool { options, stats: Arc::clone(&self.stats), turn, stop }
    }

    /// It is served no more: tells the clients that it holds, and those that it would hold, before it was renewed too.
    pub fn send_held_away(&self) {
        self.stop.give(End::DrainExpired);
    }

    /// Whether nobody is held any more. It is to be [`renewed`](Pool::renewed) before it is served again.
    pub fn is_over(&self) -> bool {
        self.stop.is_given()
    }

    /// Its own among the routes of its cluster: since a reload another pool may have its name, but of the other kind.
    pub(super) fn routes_in<'a>(&self, routes: &'a Routes) -> Option<&'a PoolRoutes> {
        routes.pool(&self.options.name).filter(|routes| routes.kind == self.options.kind)
    }
}

impl SessionLimits {
    /// From now on these hold; sessions over them stay.
    pub fn apply(self, stats: &PoolStats) {
        let SessionLimits { sessions, per_member, per_client, queue_timeout, queued } = self;
        stats.limits.sessions.set(sessions);
        stats.limits.per_client.set(per_client);
        stats.limits.queued.set(Some(queued));
        stats.limits.set_queue_timeout(queue_timeout);
        stats.limit_members(None, per_member);
    }
}

/// Something seen on a member's data port that its checks should know of.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub cluster: ClusterId,
    /// The pool whose session it was: its port of the member may be one of its own.
    pub pool: Arc<str>,
    pub member: Arc<str>,
    pub kind: TroubleKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// A dial was refused or timed out.
    DialFailed,
    /// The member ended a session.
    Hangup,
}

/// Where troubles are told. Must not block: it is called from the data plane.
#[derive(Clone)]
pub struct TellTrouble(pub Arc<dyn Fn(Trouble) + Send + Sync>);

impl fmt::Debug for TellTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TellTrouble")
    }
}
