//! A member: one PostgreSQL server and the Patroni beside it.

use std::fmt;

/// Where a member is, as Patroni's `/cluster` names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Patroni's name of the node: unique in its cluster.
    pub name: String,
    /// Where PostgreSQL listens: a host name or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Base URL of the REST API that is asked, such as `http://10.0.0.1:8008`.
    pub api: String,
}

/// What the operator wants of a member, whatever it says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Operator {
    /// Used as its answers say.
    #[default]
    Ready,
    /// No new sessions; open ones finish.
    Drain,
    /// Out of service: no new sessions and no alarms about it.
    Maint,
}

impl Operator {
    pub const ALL: [Operator; 3] = [Operator::Ready, Operator::Drain, Operator::Maint];

    pub fn as_str(self) -> &'static str {
        match self {
            Operator::Ready => "ready",
            Operator::Drain => "drain",
            Operator::Maint => "maint",
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
