//! A session as it is shown to whoever looks: a copy, so that nobody holds up the session itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::ClientAddress;
use crate::stats::Phase;

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub id: u64,
    pub cluster: String,
    pub pool: String,
    pub client: ClientAddress,
    pub member: Option<String>,
    /// This side's address of the connection to the member.
    pub backend_local: Option<SocketAddr>,
    pub backend_peer: Option<SocketAddr>,
    pub phase: Phase,
    pub age: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}
