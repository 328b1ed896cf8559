//! How many sessions the process may have, which can be changed while they run; those over it stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all sessions.
#[derive(Debug)]
pub struct Room {
    pub(super) permits: Arc<Semaphore>,
    max: AtomicUsize,
    debt: Arc<Debt>,
}

/// Places that are to go as soon as their sessions do.
#[derive(Debug, Default)]
pub(super) struct Debt(AtomicUsize);

impl Room {
    pub fn new(max: usize) -> Room {
        Room { permits: Arc::new(Semaphore::new(max)), max: AtomicUsize::new(max), debt: Arc::default() }
    }

    pub fn max(&self) -> usize {
        self.max.load(SeqCst)
    }

    /// One change at a time.
    pub fn resize(&self, max: usize) {
        let before = self.max.swap(max, SeqCst);
        if max >= before {
            let more = max - before;
            let owed = self.debt.0.fetch_update(SeqCst, SeqCst, |owed| Some(owed.saturating_sub(more)));
            let owed = owed.unwrap_or_default();
            self.permits.add_permits(more.saturating_sub(owed));
        } else {
            let less = before - max;
            self.debt.0.fetch_add(less, SeqCst);
            let forgotten = self.permits.forget_permits(less);
            self.debt.0.fetch_sub(forgotten, SeqCst);
        }
    }

    pub(super) fn debt(&self) -> Arc<Debt> {
        Arc::clone(&self.debt)
    }
}

impl Debt {
    /// A session gives its place back, or it goes.
    pub(super) fn take(&self, permit: OwnedSemaphorePermit) {
        let pay = |owed: usize| owed.checked_sub(1);
        if self.0.fetch_update(SeqCst, SeqCst, pay).is_ok() {
            permit.forget();
        }
    }
}

/// A session's place among all of the process and on its worker, until it goes.
#[derive(Debug)]
pub struct Place {
    pub(super) permit: Option<OwnedSemaphorePermit>,
    pub(super) load: Arc<AtomicUsize>,
    pub(super) debt: Arc<Debt>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Relaxed);
        self.permit.take().into_iter().for_each(|permit| self.debt.take(permit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_places_are_reached_as_sessions_end() {
        let room = Room::new(3);
        let take = || Arc::clone(&room.permits).try_acquire_owned();
        let mut sessions = [take(), take(), take()].map(|permit| permit.ok());
        let mut end =
            |number: usize| sessions[number].take().into_iter().for_each(|permit| room.debt.take(permit));
        room.resize(1);
        assert_eq!((room.max(), room.permits.available_permits()), (1, 0));
        end(0);
        end(1);
        assert_eq!(room.permits.available_permits(), 0, "one is left, and one may be");
        room.resize(2);
        assert_eq!(room.permits.available_permits(), 1);
        end(2);
        assert_eq!(room.permits.available_permits(), 2);
        room.resize(0);
        room.resize(5);
        assert_eq!(room.permits.available_permits(), 5);
    }

    #[test]
    fn places_that_were_owed_and_are_wanted_again_are_no_new_ones() {
        let room = Room::new(4);
        let session = Arc::clone(&room.permits).try_acquire_many_owned(4).expect("room");
        room.resize(1);
        room.resize(3);
        assert_eq!(room.debt.0.load(SeqCst), 1);
        drop(session);
        assert_eq!(room.permits.available_permits(), 4, "one of them is owed");
    }
}
