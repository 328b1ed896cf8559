//! The control plane against fake Patroni nodes: how they are asked, what is believed, what follows.

pub mod cluster;
pub mod credentials;
mod dead;
mod discovery;
mod failover;
pub mod fake;
mod hostile;
pub mod http;
mod login;
mod own;
mod panics;
mod polling;
mod pools;
mod ports;
pub mod postgres;
pub mod rig;
pub mod served;
mod siege;
mod unix;

use std::time::Duration;

/// What has not come by then will not come: a noisy machine needs a second for what takes a millisecond.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that must come.
pub async fn within<T>(what: &str, wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
