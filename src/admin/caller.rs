//! Who asks, and over which way.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

/// What somebody may do. Every role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    Operator,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Network {
        address: SocketAddr,
        encrypted: bool,
    },
    /// Over the unix socket, by a process of this user, as the kernel tells.
    Socket {
        uid: u32,
    },
}

/// Who asks: known by a login, or by the socket that few may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: Option<String>,
    pub role: Role,
    pub peer: Peer,
}

impl Caller {
    /// The name for log lines.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("-")
    }
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Network { address, .. } => address.fmt(f),
            Peer::Socket { .. } => f.write_str("unix socket"),
        }
    }
}
