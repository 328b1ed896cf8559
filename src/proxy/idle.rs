//! Ending sessions in which nothing moves, where that is wished.
//!
//! Nobody is told of each byte for this: now and then the session's counters are looked at, and when they have stood
//! still for long enough, it has been idle. So it costs nothing while bytes flow, and a limit is kept with a tolerance:
//! never sooner, and at most an eighth of it or two seconds later.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::sessions::Session;
use crate::stats::End;

/// How often a limit is looked at within its time.
const LOOKS: u32 = 16;
const SHORTEST_STEP: Duration = Duration::from_secs(1);

/// How long a session may be idle; `None`: for ever. A byte that moves is read from the one side and written to the
/// other, so it keeps both awake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdleLimits {
    pub client: Option<Duration>,
    pub backend: Option<Duration>,
    /// Takes the place of the other two.
    pub tunnel: Option<Duration>,
}

impl IdleLimits {
    /// The limit that is reached first, and the end that it brings. Of two that are equal, the client's.
    pub fn first(self) -> Option<(Duration, End)> {
        let tunnel = self.tunnel.map(|limit| (limit, End::TunnelIdle));
        let client = self.client.map(|limit| (limit, End::ClientIdle));
        let backend = self.backend.map(|limit| (limit, End::BackendIdle));
        tunnel.or_else(|| [client, backend].into_iter().flatten().min_by_key(|(limit, _)| *limit))
    }
}

/// The end of a session that is relayed: its own, or that of its limit.
pub(super) async fn limited(relaying: impl Future<Output = End>, session: &Session) -> End {
    match session.pool.options.idle.first() {
        None => relaying.await,
        Some((limit, end)) => {
            // In a box: of sessions without a limit there are very many.
            let stands_still = Box::pin(stands_still(session, limit));
            tokio::select! {
                biased;
                own = relaying => own,
                () = stands_still => end,
            }
        }
    }
}

async fn stands_still(session: &Session, limit: Duration) {
    let step = (limit / LOOKS).max(SHORTEST_STEP).min(limit);
    let (mut moved, mut since) = (session.moved(), Instant::now());
    while since.elapsed() < limit {
        sleep(step).await;
        if session.moved() != moved {
            (moved, since) = (session.moved(), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_counts_and_a_tunnels_takes_the_place_of_both() {
        let limits = |client: u64, backend: u64, tunnel: u64| {
            let limit = |seconds| Some(Duration::from_secs(seconds)).filter(|limit| !limit.is_zero());
            let limits = IdleLimits { client: limit(client), backend: limit(backend), tunnel: limit(tunnel) };
            limits.first().map(|(limit, end)| (limit.as_secs(), end))
        };
        for (set, expected) in [
            ((0, 0, 0), None),
            ((5, 0, 0), Some((5, End::ClientIdle))),
            ((0, 5, 0), Some((5, End::BackendIdle))),
            ((5, 4, 0), Some((4, End::BackendIdle))),
            ((5, 5, 0), Some((5, End::ClientIdle))),
            ((5, 4, 9), Some((9, End::TunnelIdle))),
            ((0, 0, 9), Some((9, End::TunnelIdle))),
        ] {
            assert_eq!(limits(set.0, set.1, set.2), expected, "{set:?}");
        }
    }
}
