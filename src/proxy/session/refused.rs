//! What a client is told that was not served.

use super::Attempts;
use crate::proxy::refusal::{CANNOT_CONNECT_NOW, Refusal, TOO_MANY_CONNECTIONS};
use crate::proxy::surplus;
use crate::routing::Kind;
use crate::stats::{End, Over};

/// Why a client is held no longer.
const PROCESS_ENDS: &str =
    "the process that held it ends, and another one has taken its place; connect again";
const POOL_WENT: &str = "the configuration has no such pool any more";

impl Attempts<'_> {
    /// What the client is told about an end that is ours.
    pub(super) fn refusal(&self, end: End, over: Option<Over>) -> Option<Refusal> {
        let routes = self.worker.board.routes(self.pool);
        let wanted = match self.pool.options.kind {
            Kind::Primary => "writer",
            Kind::Replicas => "reader",
        };
        let vacancy = self.pool.routes_in(&routes).and_then(|pool| pool.vacancy.as_ref());
        let vacancy = vacancy.map(|vacancy| &*vacancy.reason);
        let why = self.last_failure.as_deref().or(vacancy).unwrap_or(&routes.reason);
        let cluster = &routes.cluster;
        // One of several may have nobody while the others serve.
        let of_kind = routes.pools.iter().filter(|pool| pool.kind == self.pool.options.kind).count();
        let name = &self.pool.options.name;
        let asked = match of_kind {
            ..=1 => format!("cluster \"{cluster}\""),
            _ => format!("pool \"{name}\" of cluster \"{cluster}\""),
        };
        let (sqlstate, message) = match end {
            End::HoldExpired => {
                let seconds = self.waited.unwrap_or_default().as_secs_f64();
                let message = format!("pilotfish: no {wanted} for {asked} within {seconds:.0} s: {why}");
                (CANNOT_CONNECT_NOW, message)
            }
            End::HoldFull => {
                let limit = self.pool.options.max_held;
                let message = format!(
                    "pilotfish: no {wanted} for {asked} ({why}), and {limit} clients already wait for one"
                );
                (TOO_MANY_CONNECTIONS, message)
            }
            End::PoolLimit | End::ClientLimit | End::QueueFull | End::QueueExpired => {
                return Some(surplus::refusal(end, over, self.session, cluster));
            }
            End::Shutdown => (CANNOT_CONNECT_NOW, "pilotfish: this load balancer is stopping".to_owned()),
            End::DrainExpired => {
                let over = if self.worker.board.stop.is_given() { PROCESS_ENDS } else { POOL_WENT };
                let message =
                    format!("pilotfish: no {wanted} of {asked} took this client in time ({why}): {over}");
                (CANNOT_CONNECT_NOW, message)
            }
            _ => return None,
        };
        Some(Refusal { sqlstate, message, hint: String::new() })
    }
}
