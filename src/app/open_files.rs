//! The limit of open files: raised as far as allowed, and how many sessions fit into it.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::StartError;
use crate::admin;
use crate::proxy::engine::DESCRIPTORS_PER_WORKER;
use crate::stats::MOST_SESSIONS;

/// Descriptors kept for everything but workers, sessions and the admin side: logs, the dials of cancel requests, and a few
/// clusters' listeners and checks.
const RESERVED: u64 = 256;
/// Doors of the admin side: its address and its socket.
const ADMIN_DOORS: u64 = 2;
/// Kept beside these for each further cluster: its listeners, and a check of each of some five members.
const PER_CLUSTER: u64 = 8;
/// Clusters that the first reserve is enough for.
const FEW_CLUSTERS: u64 = 16;
/// A session has two sockets.
const PER_SESSION: u64 = 2;
/// Nobody sets a limit with less in mind.
const FEW_SESSIONS: usize = 100;
/// With fewer not even the event loops can be made.
const LEAST: u64 = 64;

/// Raises the limit as far as allowed.
///
/// # Errors
/// It is too low to start with.
pub fn raise() -> Result<u64, StartError> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        // Going on with what there is.
        limit = getrlimit(Resource::Nofile);
    }
    let limit = limit.current.unwrap_or(u64::MAX);
    if limit < LEAST { Err(StartError::FewFiles { limit, least: LEAST }) } else { Ok(limit) }
}

/// The sessions that fit into the limit, or so many of them as are wanted.
///
/// # Errors
/// More are wanted than fit.
pub(super) fn sessions(wanted: Option<usize>, workers: usize, clusters: usize) -> Result<usize, StartError> {
    let limit = raise()?;
    let possible = possible(limit, workers, clusters);
    match wanted {
        Some(wanted) if wanted > possible => Err(StartError::Descriptors { wanted, limit, possible }),
        Some(wanted) => Ok(wanted),
        None => {
            if possible < FEW_SESSIONS {
                tracing::warn!(
                    open_files = limit,
                    max_sessions = possible,
                    "the limit of open files has room for few sessions: raise it (LimitNOFILE=, ulimit -n)"
                );
            }
            Ok(possible)
        }
    }
}

fn possible(limit: u64, workers: usize, clusters: usize) -> usize {
    let of_clusters = PER_CLUSTER * (clusters as u64).saturating_sub(FEW_CLUSTERS);
    let of_admin = ADMIN_DOORS * admin::server::MAX_CONNECTIONS as u64;
    let of_admin = of_admin + admin::haproxy::runtime::MAX_CONNECTIONS as u64;
    let reserved = RESERVED + of_admin + DESCRIPTORS_PER_WORKER * workers as u64 + of_clusters;
    let possible = limit.saturating_sub(reserved) / PER_SESSION;
    usize::try_from(possible).unwrap_or(usize::MAX).clamp(1, MOST_SESSIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_configuration_and_operators_have_one_limit() {
        assert_eq!(config::limits::MAX_SESSIONS.most, MOST_SESSIONS as u64);
    }

    /// As docs/size-it.md says.
    #[test]
    fn sessions_follow_from_the_limit() {
        for (limit, workers, clusters, sessions) in [
            (64, 2, 1, 1),
            (1024, 2, 1, 200),
            (65_536, 2, 1, 32_456),
            (1_048_576, 2, 1, 523_976),
            (1_048_576, 2, 116, 523_576),
        ] {
            let possible = possible(limit, workers, clusters);
            assert!(possible.abs_diff(sessions) <= 10, "{limit}: {possible}");
        }
    }
}
