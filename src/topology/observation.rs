//! One answer of one node, and the class that it puts the node in.
//!
//! Patroni answers `GET /leader` with 200 when it believes that it holds the leader lock, and with 503 otherwise.
//! The status says nothing about PostgreSQL; the JSON body, the same for both, does. Only the two together tell a
//! node that takes writes from one that is still being promoted or already shutting down.
//! (Source: patroni/api.py, `do_GET` and `get_postgresql_status`, Patroni 3.0 to 4.1.)

use std::fmt;

/// What came back from one check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and there is one for each member"
)]
pub enum Observation {
    /// The node answered, and the answer could be read.
    Answered(Report),
    /// Nothing usable came: *unknown*, which is not the same as down.
    Silent(Silence),
}

/// Why a check brought nothing usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    pub kind: SilenceKind,
    /// For people: what happened, in a few words.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SilenceKind {
    Timeout,
    Refused,
    Reset,
    /// The name did not resolve, or no route leads there.
    Unreachable,
    Tls,
    /// An answer came, but not one of Patroni: not HTTP, not JSON, another status, a redirect.
    NotPatroni,
    TooLarge,
    /// It wants a login that it was not shown, or refuses the one that it was.
    Login,
    /// The check itself has failed, or its answer could not be taken in: a panic here says nothing of the node.
    Fault,
}

/// The part of Patroni's answer that decisions and operators need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// 200: this node holds the leader lock; 503: it does not.
    pub status: u16,
    pub role: Role,
    /// PostgreSQL's state in Patroni's words: `running`, `stopping`, `crashed`, …
    pub state: String,
    /// Absent while PostgreSQL does not answer, and shortly after a promotion.
    pub timeline: Option<u32>,
    /// `database_system_identifier`: the same on every node of one cluster.
    pub system_identifier: Option<String>,
    /// Byte position in the WAL: written on a primary, replayed on a replica.
    pub wal_position: Option<u64>,
    /// `streaming` or `in archive recovery`; replicas only.
    pub replication_state: Option<String>,
    /// Of a replica: what it is to synchronous replication.
    pub sync: SyncState,
    /// The cluster is in maintenance mode: Patroni leaves PostgreSQL alone.
    pub pause: bool,
    /// The node sees no leader key in the DCS.
    pub cluster_unlocked: bool,
    /// Failsafe mode: the primary goes on without a DCS since all members agree.
    pub failsafe: bool,
    /// Unix time in seconds at which the node last saw the DCS.
    pub dcs_last_seen: Option<u64>,
    pub noloadbalance: bool,
    /// Tags as Patroni shows them, `name=value`, sorted by name.
    pub tags: Vec<(String, String)>,
    pub pending_restart: bool,
    pub patroni_version: Option<String>,
    pub scope: Option<String>,
    /// The member's own name (Patroni 3.2 and later).
    pub name: Option<String>,
}

/// What a replica is to synchronous replication, in Patroni's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SyncState {
    /// Holds every acknowledged transaction (`sync_standby`).
    Sync,
    /// One of those of which a quorum does (`quorum_standby`, Patroni 4.0 and later).
    Quorum,
    /// Neither.
    #[default]
    Async,
}

/// PostgreSQL's role in Patroni's words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// `primary`, or `master` up to Patroni 3.x.
    Primary,
    Replica,
    StandbyLeader,
    /// `demoted`, `uninitialized` and whatever comes next: neither writer nor reader, shown as it is.
    Other(String),
    #[default]
    Unstated,
}

impl Role {
    pub fn parse(word: &str) -> Role {
        match word {
            "primary" | "master" => Role::Primary,
            "replica" => Role::Replica,
            "standby_leader" => Role::StandbyLeader,
            "" => Role::Unstated,
            other => Role::Other(other.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::StandbyLeader => "standby_leader",
            Role::Other(word) => word,
            Role::Unstated => "",
        }
    }
}

/// What a node is to pilotfish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Not asked yet.
    Unknown,
    /// Holds the lock, is primary and running: may take writers.
    Writer,
    /// Holds the lock but is still in recovery: its promotion is under way.
    Promoting,
    /// Holds the lock, but PostgreSQL stops, starts or has crashed: no new writers, old sessions go on.
    Leaving,
    /// Leader of a standby cluster: no writer, may take readers.
    StandbyLeader,
    /// A running replica that may take readers.
    Reader,
    /// A running replica that must not take readers: tagged `noloadbalance`, or too far behind.
    Standby,
    /// Primary without the lock: never routed, an alarm.
    Orphan,
    /// Says itself that it serves nobody.
    Down,
    /// No usable answer: unknown, not down.
    Silent,
    /// Belongs to another cluster: never routed.
    Foreign,
}

impl Class {
    pub const ALL: [Class; 11] = [
        Class::Unknown,
        Class::Writer,
        Class::Promoting,
        Class::Leaving,
        Class::StandbyLeader,
        Class::Reader,
        Class::Standby,
        Class::Orphan,
        Class::Down,
        Class::Silent,
        Class::Foreign,
    ];

    /// The word in the API, in metrics and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::Writer => "writer",
            Class::Promoting => "promoting",
            Class::Leaving => "leaving",
            Class::StandbyLeader => "standby_leader",
            Class::Reader => "reader",
            Class::Standby => "standby",
            Class::Orphan => "orphan",
            Class::Down => "down",
            Class::Silent => "silent",
            Class::Foreign => "foreign",
        }
    }

    /// The node says that it holds the leader lock.
    pub fn claims_lock(self) -> bool {
        matches!(self, Class::Writer | Class::Promoting | Class::Leaving | Class::StandbyLeader)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Report {
    /// The class by this answer alone; lag and the cluster's identity are the cluster's to judge.
    pub fn class(&self) -> Class {
        let locked = self.status == 200;
        let running = self.state == "running";
        match (locked, running, &self.role) {
            (true, true, Role::Primary) => Class::Writer,
            (true, false, Role::Primary) if self.has_started() => Class::Writer,
            (true, true, Role::StandbyLeader) => Class::StandbyLeader,
            (true, _, Role::Replica) => Class::Promoting,
            (true, false, _) => Class::Leaving,
            (false, _, Role::Primary) => Class::Orphan,
            (false, true, Role::Replica) if self.noloadbalance => Class::Standby,
            (false, true, Role::Replica) => Class::Reader,
            _ => Class::Down,
        }
    }

    /// Started, though Patroni, which looks once a second, does not say so yet. It tells a timeline only when
    /// PostgreSQL itself has just answered, and then the role is PostgreSQL's too: `pg_is_in_recovery()`.
    fn has_started(&self) -> bool {
        self.state == "starting" && self.timeline.is_some()
    }

    /// By its own word a writer, lock or not.
    pub fn takes_writes(&self) -> bool {
        self.class() == Class::Writer || self.is_paused_primary()
    }

    /// A primary whose lock ran out while the cluster is in maintenance mode: Patroni leaves it running, and it
    /// goes on accepting writes.
    pub fn is_paused_primary(&self) -> bool {
        self.pause && self.role == Role::Primary && self.state == "running"
    }
}

impl SilenceKind {
    pub fn as_str(self) -> &'static str {
        match self {
            SilenceKind::Timeout => "timeout",
            SilenceKind::Refused => "refused",
            SilenceKind::Reset => "reset",
            SilenceKind::Unreachable => "unreachable",
            SilenceKind::Tls => "tls",
            SilenceKind::NotPatroni => "not_patroni",
            SilenceKind::TooLarge => "too_large",
            SilenceKind::Login => "login",
            SilenceKind::Fault => "fault",
        }
    }
}
