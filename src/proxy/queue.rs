//! Room on a member: at once, or in turn.
//!
//! Where members may have only so many sessions of a pool, whoever comes takes a ticket. The first looks for room; the
//! others, and he too if all members are full, wait to be called. A new table sends everyone back to look at it; who is
//! held meanwhile, since there is no member at all, keeps his ticket, so that a failover does not change the order.

use tokio::time::{Instant, sleep_until};

use super::Pool;
use super::hold::{Board, Seeker};
use crate::routing::{Picked, PoolRoutes, Routes};
use crate::stats::{Active, End, Ticket, Wait};

/// A client's turn in its pool's queue; given up when it goes.
#[derive(Debug, Default)]
pub struct Turn {
    ticket: Option<Ticket>,
    /// Its place in the order, which it keeps until it is served: room on a member that has lost its role was none.
    number: Option<u64>,
    /// Since it found no room: its place among those that wait, and until when it may.
    wait: Option<(Wait, Instant)>,
}

/// What has come of looking for room.
#[derive(Debug)]
pub enum Claim {
    /// The index of the backend, and the room on it.
    Taken(usize, Active),
    /// No member takes this session, full or not.
    Nobody,
    /// There is a newer table.
    Moved,
}

impl Board {
    /// Takes room on a backend, as soon as it is the client's turn and there is some.
    ///
    /// # Errors
    /// With the end of the session; its turn is given up then.
    pub async fn claim(
        &self,
        pool: &Pool,
        routes: &Routes,
        turn: &mut Turn,
        worker: usize,
        seeker: &impl Seeker,
        pick: impl Fn(&PoolRoutes) -> Picked,
    ) -> Result<Claim, End> {
        loop {
            match turn.take(pool, routes, worker, &pick) {
                Some(claim) => return Ok(claim),
                None => {
                    let waited = self.queue_up(pool, routes, turn, seeker).await;
                    match waited {
                        Ok(true) => {}
                        Ok(false) => return Ok(Claim::Moved),
                        Err(end) => {
                            *turn = Turn::default();
                            return Err(end);
                        }
                    }
                }
            }
        }
    }

    /// Waits to be called; `false` when there is a newer table to look at.
    async fn queue_up(
        &self,
        pool: &Pool,
        routes: &Routes,
        turn: &mut Turn,
        seeker: &impl Seeker,
    ) -> Result<bool, End> {
        let stats = &pool.stats;
        let limits = &stats.limits;
        let (_, until) = match &mut turn.wait {
            Some(wait) => wait,
            none => {
                let wait =
                    stats.queue.wait(limits.queued.get().unwrap_or(usize::MAX)).ok_or(End::QueueFull)?;
                none.insert((wait, Instant::now() + limits.queue_timeout()))
            }
        };
        let Some(ticket) = &turn.ticket else { return Ok(true) };
        // Armed before the table is looked at: one that comes in between ends the wait below.
        let changed = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.routes(pool).epoch != routes.epoch {
            return Ok(false);
        }
        tokio::select! {
            // In order: a client that may go on does, even if its time is up at this very moment.
            biased;
            () = changed => Ok(false),
            () = ticket.called() => Ok(true),
            () = self.stop.cancelled() => Err(End::Shutdown),
            () = seeker.left() => Err(End::ClientLeft),
            () = sleep_until(*until) => Err(End::QueueExpired),
        }
    }
}

impl Turn {
    /// Looks for room if it is this client's turn; `None` when it has to wait.
    fn take(
        &mut self,
        pool: &Pool,
        routes: &Routes,
        worker: usize,
        pick: impl Fn(&PoolRoutes) -> Picked,
    ) -> Option<Claim> {
        let stats = &pool.stats;
        if stats.has_queue() {
            self.draw(pool);
        }
        let Some(routes) = routes.pool(&pool.options.name) else { return Some(Claim::Nobody) };
        loop {
            match pick(routes) {
                Picked::Nobody => {
                    // Whoever is held does not wait for room.
                    self.wait = None;
                    return Some(Claim::Nobody);
                }
                Picked::Backend(index) if self.ticket.as_ref().is_none_or(Ticket::is_first) => {
                    // Only those take it from the first that came before the limit was set.
                    let Some(active) = routes.backends[index].stats.activate(worker) else { continue };
                    (self.ticket, self.wait) = (None, None);
                    return Some(Claim::Taken(index, active));
                }
                // Without a ticket: a limit has just been set.
                Picked::Full if self.ticket.is_none() => self.draw(pool),
                Picked::Backend(_) | Picked::Full => return None,
            }
        }
    }

    fn draw(&mut self, pool: &Pool) {
        let ticket = self.ticket.get_or_insert_with(|| pool.stats.queue.ticket(self.number));
        self.number = Some(ticket.number());
    }
}
