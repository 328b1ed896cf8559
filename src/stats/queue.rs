//! Who waits for room on a pool's members, in the order in which they came, over all workers.
//!
//! The intuition: a ticket machine. Whoever wants a member takes a [`Ticket`]; only the one with the lowest may take room.
//! It gives the ticket back when it is served or goes away, and with that the next one is called. Room that comes free
//! calls the first too. Nobody overtakes, nobody is called in vain while he has room, and a ticket is given back by `Drop`,
//! so no way to go leaves the others waiting.
//!
//! No call is lost: room is given back before the queue is looked at, and a ticket is in the queue before its holder looks
//! for room, both in one total order. So either whoever frees room finds the ticket, or its holder finds the room. A call
//! that comes before the holder listens is kept for him by [`Notify`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::Histogram;

/// One pool's queue.
#[derive(Debug, Default)]
pub struct Queue {
    line: Mutex<Line>,
    /// Tickets that are out.
    out: AtomicUsize,
    /// Those whose holders wait, having found no room at once.
    waiting: AtomicUsize,
    /// How long they did.
    pub seconds: Histogram,
}

#[derive(Debug, Default)]
struct Line {
    tickets: BTreeMap<u64, Arc<Notify>>,
    taken: u64,
}

/// A place in the order; given back when it goes.
#[derive(Debug)]
pub struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    called: Arc<Notify>,
}

/// Counts the holder of a ticket as waiting until it goes.
#[derive(Debug)]
pub struct Wait {
    queue: Arc<Queue>,
    since: Instant,
    /// How many waited when it began, itself among them.
    pub place: usize,
}

impl Queue {
    /// The next number, or the one that its holder had `before` and has given back.
    pub fn ticket(self: &Arc<Self>, before: Option<u64>) -> Ticket {
        let called = Arc::new(Notify::new());
        let mut line = self.line();
        let number = before.unwrap_or_else(|| {
            line.taken += 1;
            line.taken
        });
        line.tickets.insert(number, Arc::clone(&called));
        self.out.fetch_add(1, SeqCst);
        drop(line);
        Ticket { queue: Arc::clone(self), number, called }
    }

    /// Calls the first: there may be room for him.
    pub fn call(&self) {
        if self.out.load(SeqCst) > 0
            && let Some((_, first)) = self.line().tickets.first_key_value()
        {
            first.notify_one();
        }
    }

    /// `None` when `limit` wait already.
    pub fn wait(self: &Arc<Self>, limit: usize) -> Option<Wait> {
        let one_more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        let before = self.waiting.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Wait { queue: Arc::clone(self), since: Instant::now(), place: before + 1 })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Its place in the order.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether nobody is before him.
    pub fn is_first(&self) -> bool {
        self.queue.line().tickets.first_key_value().is_some_and(|(first, _)| *first == self.number)
    }

    /// Resolves when it is worth looking for room again.
    pub async fn called(&self) {
        self.called.notified().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        let was_first = line.tickets.first_key_value().is_some_and(|(first, _)| *first == self.number);
        line.tickets.remove(&self.number);
        self.queue.out.fetch_sub(1, SeqCst);
        // A call that he did not follow is the next one's, and so is what room is left.
        if was_first && let Some((_, next)) = line.tickets.first_key_value() {
            next.notify_one();
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Relaxed);
        self.queue.seconds.observe(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn is_called(ticket: &Ticket) -> bool {
        timeout(Duration::ZERO, ticket.called()).await.is_ok()
    }

    #[tokio::test]
    async fn the_first_is_called_and_whoever_goes_calls_the_next() {
        let queue = Arc::new(Queue::default());
        let (first, second, third) = (queue.ticket(None), queue.ticket(None), queue.ticket(None));
        assert_eq!([&first, &second, &third].map(Ticket::is_first), [true, false, false]);
        queue.call();
        assert!(is_called(&first).await && !is_called(&second).await);
        drop(second);
        assert!(!is_called(&third).await, "he was not first, so nothing has changed for the others");
        queue.call();
        let number = first.number();
        drop(first);
        assert!(is_called(&third).await && third.is_first(), "the call goes on");
        assert!(!is_called(&third).await, "once");
        assert!(
            queue.ticket(Some(number)).is_first() && !queue.ticket(None).is_first(),
            "back in his old place"
        );
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let queue = Arc::new(Queue::default());
        let wait = queue.wait(1);
        assert!(wait.as_ref().is_some_and(|wait| wait.place == 1) && queue.wait(1).is_none());
        assert_eq!(queue.wait(2).map(|wait| wait.place), Some(2));
        assert_eq!((queue.waiting(), queue.seconds.snapshot().count), (1, 1));
        drop(wait);
        assert_eq!((queue.waiting(), queue.seconds.snapshot().count), (0, 2));
    }
}
