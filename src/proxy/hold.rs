//! Waiting for somebody to connect to.
//!
//! A failover takes a moment; a client that waits through it never learns of it. Held clients are woken by each new
//! table in the order in which they came, and try again. They stop waiting when their time is up, when they leave,
//! or when pilotfish stops; and only so many are held at once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::stream::Stream;
use crate::routing::{Backend, Cell, Kind, Routes};
use crate::stats::{End, Place};

/// How soon a dial that failed is tried again although the table has not changed. A postmaster that is restarted
/// in place refuses for a moment without any check noticing.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What each held client adds to that, so that all of them together dial no more than 5,000 times a second.
const RETRY_SPREAD: Duration = Duration::from_micros(200);

/// One client's wait, from the first time that nobody was there.
#[derive(Debug)]
pub struct Hold {
    pub since: Instant,
    until: Instant,
    _place: Place,
}

/// What a worker's held clients wait by: the table, the news that it changed, and the word to stop.
#[derive(Debug)]
pub struct Board {
    pub cell: Cell,
    /// Wakes held clients, in the order in which they came.
    pub changed: Notify,
    pub stop: Stop,
}

/// The word that nobody is held any more.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    word: CancellationToken,
    /// Why not.
    end: Arc<OnceLock<End>>,
}

impl Stop {
    /// Ends all waiting in this way. Only the first word counts.
    pub fn give(&self, end: End) {
        self.end.get_or_init(|| end);
        self.word.cancel();
    }

    pub fn is_given(&self) -> bool {
        self.word.is_cancelled()
    }

    /// Waits for it.
    pub async fn given(&self) -> End {
        self.word.cancelled().await;
        self.end.get().copied().unwrap_or(End::Shutdown)
    }
}

/// What one round of attempts came to.
#[derive(Debug)]
pub enum Round<T> {
    Served(T),
    /// The table allows nobody.
    Nobody,
    /// Somebody was allowed but could not be reached; worth another try even by the same table.
    Failed,
    /// Somebody was allowed but is no longer: there is a newer table.
    Moved,
}

/// A client that looks for a backend.
pub trait Seeker {
    type Served;

    /// Tries every backend that the routes allow.
    fn round(
        &mut self,
        routes: &Routes,
        hold: &mut Option<Hold>,
    ) -> impl Future<Output = Result<Round<Self::Served>, End>> + Send;

    /// Resolves when the client has gone.
    fn left(&self) -> impl Future<Output = ()> + Send;
}

impl Board {
    pub fn new(cell: Cell, stop: Stop) -> Board {
        Board { cell, changed: Notify::new(), stop }
    }

    /// Waits for the word that nobody of this pool is held any more: it is about all of them, or about this one.
    pub async fn sent_away(&self, pool: &Pool) -> End {
        tokio::select! {
            biased;
            end = self.stop.given() => end,
            end = pool.stop.given() => end,
        }
    }

    /// The newest routes of a pool's cluster.
    pub fn routes(&self, pool: &Pool) -> Arc<Routes> {
        let table = self.cell.load();
        table.cluster(pool.options.cluster).map(Arc::clone).unwrap_or_default()
    }

    /// Nobody has looked after the table for so long that another may have the writer's seat by now.
    fn is_outdated(&self, pool: &Pool) -> bool {
        pool.options.kind == Kind::Primary && self.cell.is_unattended()
    }

    /// Whether the newest table lets a session of this pool go to this backend.
    pub fn allows(&self, pool: &Pool, backend: &Backend) -> bool {
        if self.is_outdated(pool) {
            return false;
        }
        let routes = self.routes(pool);
        let Some(routes) = pool.routes_in(&routes) else { return false };
        let index = routes.backends.iter().position(|candidate| candidate.name == backend.name);
        index.is_some_and(|index| routes.allows(index))
    }

    /// Resolves when the table no longer lets a session of this pool go to this backend.
    pub async fn displaced(&self, pool: &Pool, backend: &Backend) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.allows(pool, backend) {
                return;
            }
            changed.await;
        }
    }

    /// Makes rounds of attempts until one is served: at once, then after each new table, and a moment after each
    /// failure. `hold` begins with the first round that served nobody, and ends all waiting with its time.
    ///
    /// # Errors
    /// With the end of the session.
    pub async fn until_served<S: Seeker>(
        &self,
        pool: &Pool,
        hold: &mut Option<Hold>,
        seeker: &mut S,
    ) -> Result<S::Served, End> {
        loop {
            // Armed before the table is loaded: a table that comes in between wakes the wait below.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let round = match self.is_outdated(pool) {
                // Looked at again soon: control may turn without a new table.
                true => Round::Failed,
                false => seeker.round(&self.routes(pool), hold).await?,
            };
            let failed = match round {
                Round::Served(served) => return Ok(served),
                Round::Nobody => false,
                Round::Failed => true,
                Round::Moved => continue,
            };
            let hold = match hold {
                Some(hold) if hold.is_over() => return Err(End::HoldExpired),
                Some(hold) => hold,
                None => hold.insert(Hold::start(pool)?),
            };
            hold.wait(pool, seeker.left(), changed, failed, self.sent_away(pool)).await?;
        }
    }
}

impl Hold {
    /// # Errors
    /// With the end of the session when waiting is not allowed, or as many as allowed wait already.
    pub fn start(pool: &Pool) -> Result<Hold, End> {
        if pool.options.hold.is_zero() {
            return Err(End::HoldExpired);
        }
        let place = pool.stats.hold(pool.options.max_held).ok_or(End::HoldFull)?;
        let since = Instant::now();
        Ok(Hold { since, until: since + pool.options.hold, _place: place })
    }

    /// Waits for a reason to look again; `table_changed` must have been armed before the table was last loaded.
    async fn wait(
        &self,
        pool: &Pool,
        left: impl Future<Output = ()>,
        table_changed: impl Future<Output = ()>,
        dial_failed: bool,
        sent_away: impl Future<Output = End>,
    ) -> Result<(), End> {
        let held = u32::try_from(pool.stats.held()).unwrap_or(u32::MAX);
        let pause = RETRY_AFTER.max(RETRY_SPREAD.saturating_mul(held));
        tokio::select! {
            // In order: a client that may go on does, even if its time is up at this very moment.
            biased;
            () = table_changed => Ok(()),
            end = sent_away => Err(end),
            () = left => Err(End::ClientLeft),
            () = sleep_until(self.until) => Err(End::HoldExpired),
            () = tokio::time::sleep(pause), if dial_failed => Ok(()),
        }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    pub fn until(&self) -> Instant {
        self.until
    }
}

/// Resolves when the client has hung up. What it has sent meanwhile stays in the socket, and the socket stays known as
/// readable, for the relay to find; from then on only a reset counts, since a client that has sent something and
/// closed its sending side still wants its answer.
pub(super) async fn left(client: &Stream) {
    if let Ok(1..) = client.look(&mut [0]).await {
        client.breaks().await;
    }
}
