//! A client that is one too many: over a limit of its pool, or with no place in the queue.
//!
//! It is told so, and for that it has to say its first packet. Until then it takes a place in the process, so it has less
//! time for it than others, and only so many are told at once; the rest are closed without a word. Its first packet may
//! also be a CancelRequest, which is no session: whoever has used up his sessions can still stop what they do.

use std::time::Duration;

use super::greeting::{Greeting, greet};
use super::refusal::{Refusal, TOO_MANY_CONNECTIONS};
use super::sessions::Session;
use super::stream::Stream;
use crate::stats::{End, Over, Telling};

/// How long it may take for its first packet. Clients send it at once; this allows for a lost packet or two.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client over a limit, which is being told so.
#[derive(Debug)]
pub(super) struct Surplus {
    pub over: Over,
    _telling: Telling,
}

impl Surplus {
    /// # Errors
    /// With the end of the session, when too many are told already.
    pub fn new(over: Over, session: &Session) -> Result<Surplus, End> {
        let telling = session.pool.stats.limits.tell().ok_or(end(over))?;
        Ok(Surplus { over, _telling: telling })
    }

    /// Reads its first packet. Silence is no news of a client that would not be served.
    ///
    /// # Errors
    /// With the end of the session.
    pub async fn greet(&self, client: &mut Stream, session: &Session) -> Result<Greeting, End> {
        let greeted = greet(client, session, PATIENCE).await;
        greeted.map_err(|found| if found == End::ClientSilent { end(self.over) } else { found })
    }
}

/// How a session ends that is over this limit.
pub(super) fn end(over: Over) -> End {
    match over {
        Over::Pool(_) => End::PoolLimit,
        Over::Client(_) => End::ClientLimit,
    }
}

/// Names the limit, and what can be done about it. `over`: the one of the pool, if it is one of those.
pub(super) fn refusal(end: End, over: Option<Over>, session: &Session, cluster: &str) -> Refusal {
    let pool = &session.pool.options.name;
    let limits = &session.pool.stats.limits;
    let (message, remedy) = match (end, over) {
        (_, Some(Over::Client(count))) => (
            format!(
                "{} has {count} sessions already, its max_sessions_per_client",
                session.client().origin()
            ),
            "max_sessions_per_client",
        ),
        (_, Some(Over::Pool(count))) => {
            let are = if count == 1 { "session is" } else { "sessions are" };
            (format!("{count} {are} open already, its max_sessions"), "max_sessions")
        }
        (End::QueueFull, _) => (
            format!(
                "its members are full (max_sessions_per_member), and {} clients wait already, its max_queued",
                limits.queued.get().unwrap_or_default()
            ),
            "max_sessions_per_member, or max_queued so that more can wait,",
        ),
        _ => (
            format!(
                "its members were full (max_sessions_per_member) for its queue_timeout of {:?}",
                // Of whole milliseconds this reads as a setting does: 500ms, 1.5s, 60s.
                limits.queue_timeout()
            ),
            "max_sessions_per_member, or queue_timeout so that they wait longer,",
        ),
    };
    Refusal {
        sqlstate: TOO_MANY_CONNECTIONS,
        message: format!("pilotfish: pool \"{pool}\" of cluster \"{cluster}\": {message}"),
        hint: format!("End idle sessions, or raise {remedy} for this pool in pilotfish's configuration."),
    }
}
