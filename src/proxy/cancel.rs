//! Passing on a CancelRequest.
//!
//! The request names a session by a number and a secret key, and comes over a connection of its own; nothing says
//! which member that session is on. So it goes to every member that sessions of its pool may be on: where the key is
//! unknown, it does nothing. That is what makes Ctrl-C work behind a pool of several replicas.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect::dial;
use crate::routing::PoolRoutes;

/// The server acts on the request and closes; one that does not is left alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Cancel requests under way at once. Each dials every member, so a flood of them must not take all
/// descriptors; those above the limit wait.
pub const MAX_UNDER_WAY: usize = 64;

/// Sends `request` to all members that the pool's sessions may be on, and waits until they have acted on it. A member that cannot be reached is passed
/// over: the session to be cancelled has ended there.
pub async fn forward(routes: &PoolRoutes, request: &[u8], connect_timeout: Duration) {
    let request: Arc<[u8]> = Arc::from(request);
    let mut under_way = tokio::task::JoinSet::new();
    for backend in routes.backends.iter().filter(|backend| backend.may_have_sessions()) {
        let (addresses, request) = (Arc::clone(&backend.addresses), Arc::clone(&request));
        under_way.spawn(timeout(PATIENCE, forward_to(addresses, request, connect_timeout)));
    }
    while under_way.join_next().await.is_some() {}
}

async fn forward_to(addresses: Arc<[SocketAddr]>, request: Arc<[u8]>, connect_timeout: Duration) {
    let Ok(mut server) = dial(&addresses, connect_timeout, TcpStream::connect::<SocketAddr>).await else {
        return;
    };
    if server.write_all(&request).await.is_ok() {
        // PostgreSQL sends nothing; the close says that the signal was sent.
        let _ = server.read(&mut [0]).await;
    }
}
