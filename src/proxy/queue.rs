//! Room on a member: at once, or in turn.
//!
//! Where members may have only so many sessions of a pool, whoever comes takes a ticket. The first looks for room; the
//! others, and he too if all members are full, wait to be called. A new table sends everyone back to look at it; who is
//! held meanwhile, since there is no member at all, keeps his ticket, so that a failover does not change the order.

use std::time::Duration;

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
    wait: Option<Waiting>,
    /// How long it has waited before.
    waited: Duration,
    /// Its place among those that waited when it first did, from 1.
    place: usize,
}

/// Since a client has found that it has to wait.
#[derive(Debug)]
struct Waiting {
    _place: Wait,
    since: Instant,
    until: Instant,
}

/// Why there is no room for a client now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// Others came before. That is no fault of the members, and nobody is refused for it.
    OutOfTurn,
    /// All members are full.
    Full,
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
                Ok(claim) => return Ok(claim),
                Err(obstacle) => match self.queue_up(pool, routes, turn, obstacle, seeker).await {
                    Ok(true) => {}
                    Ok(false) => return Ok(Claim::Moved),
                    Err(end) => {
                        turn.give_up();
                        return Err(end);
                    }
                },
            }
        }
    }

    /// Waits to be called; `false` when there is a newer table to look at.
    async fn queue_up(
        &self,
        pool: &Pool,
        routes: &Routes,
        turn: &mut Turn,
        obstacle: Obstacle,
        seeker: &impl Seeker,
    ) -> Result<bool, End> {
        let until = turn.waits(pool, obstacle)?;
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
            end = self.sent_away(pool) => Err(end),
            () = seeker.left() => Err(End::ClientLeft),
            () = sleep_until(until) => Err(End::QueueExpired),
        }
    }
}

impl Turn {
    /// How long it has waited for its turn and for room, as far as that is over.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many waited when it began to, itself among them; 0 if it did not.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Lets those behind it go first, and keeps its place among those that are still to come.
    pub fn step_aside(&mut self) {
        self.ticket = None;
        self.rest();
    }

    fn give_up(&mut self) {
        self.step_aside();
        self.number = None;
    }

    /// It waits no longer.
    fn rest(&mut self) {
        if let Some(Waiting { since, .. }) = self.wait.take() {
            self.waited += since.elapsed();
        }
    }

    /// It waits from now on, if it did not before; until when.
    fn waits(&mut self, pool: &Pool, obstacle: Obstacle) -> Result<Instant, End> {
        if let Some(waiting) = &self.wait {
            return Ok(waiting.until);
        }
        let limits = &pool.stats.limits;
        let most = match obstacle {
            Obstacle::OutOfTurn => usize::MAX,
            Obstacle::Full => limits.queued.get().unwrap_or(usize::MAX),
        };
        let place = pool.stats.queue.wait(most).ok_or(End::QueueFull)?;
        if self.place == 0 {
            self.place = place.place;
        }
        let since = Instant::now();
        let until = since + limits.queue_timeout();
        self.wait = Some(Waiting { _place: place, since, until });
        Ok(until)
    }

    /// Looks for room if it is this client's turn.
    fn take(
        &mut self,
        pool: &Pool,
        routes: &Routes,
        worker: usize,
        pick: impl Fn(&PoolRoutes) -> Picked,
    ) -> Result<Claim, Obstacle> {
        let stats = &pool.stats;
        if stats.has_queue() {
            self.draw(pool);
        }
        let Some(routes) = pool.routes_in(routes) else { return Ok(Claim::Nobody) };
        loop {
            match pick(routes) {
                Picked::Nobody => {
                    // Whoever is held does not wait for room.
                    self.rest();
                    return Ok(Claim::Nobody);
                }
                Picked::Backend(index) if self.ticket.as_ref().is_none_or(Ticket::is_first) => {
                    // Only those take it from the first that came before the limit was set.
                    let Some(active) = routes.backends[index].stats.activate(worker) else { continue };
                    self.step_aside();
                    return Ok(Claim::Taken(index, active));
                }
                // Without a ticket: a limit has just been set.
                Picked::Full if self.ticket.is_none() => self.draw(pool),
                Picked::Backend(_) => return Err(Obstacle::OutOfTurn),
                Picked::Full => return Err(Obstacle::Full),
            }
        }
    }

    fn draw(&mut self, pool: &Pool) {
        let ticket = self.ticket.get_or_insert_with(|| pool.stats.queue.ticket(self.number));
        self.number = Some(ticket.number());
    }
}
