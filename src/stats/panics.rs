//! Panics: faults of this program, how far each reaches, and how many there were.
//!
//! A panic unwinds to the nearest border and no further: one session, one check, one event of control, one request. What
//! was within is dropped, and its guards give back what it held; what is beyond goes on. So a border stands where something
//! has its state for itself, and whoever owns a border counts here what came up to it.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// What is started again is started no faster than this: one that panics at once each time is no load, and its lines in the
/// log can be read.
pub const APART: Duration = Duration::from_millis(100);

/// Where a panic was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// One session, while it was opened or ended. It is over.
    Session,
    /// One session, while its bytes were moved. It is over.
    Relay,
    /// What a worker does beside its sessions: accepting, following the table. It goes on.
    Worker,
    /// One check of a node or a port, or one search for members: taken for one without an answer.
    Poller,
    /// One event of control, or what control does by itself: a decision that was due, what the service manager is told, what
    /// a reload leaves behind. The last table stays. An answer that is no answer either then, for the same fault, counts twice.
    Control,
    /// One request, or what the admin side does by itself.
    Admin,
}

/// The count of one process; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Panics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_part: [AtomicU64; Part::ALL.len()],
    last: Mutex<Option<Instant>>,
}

impl Part {
    pub const ALL: [Part; 6] =
        [Part::Session, Part::Relay, Part::Worker, Part::Poller, Part::Control, Part::Admin];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Session => "session",
            Part::Relay => "relay",
            Part::Worker => "worker",
            Part::Poller => "poller",
            Part::Control => "control",
            Part::Admin => "admin",
        }
    }
}

impl Panics {
    pub fn count(&self, part: Part) {
        self.0.by_part[part as usize].fetch_add(1, Relaxed);
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub fn of(&self, part: Part) -> u64 {
        self.0.by_part[part as usize].load(Relaxed)
    }

    /// How long ago the last one was.
    pub fn last_ago(&self) -> Option<Duration> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// Does the work up to its end; `None`: it has panicked. What it has changed until then stays changed.
    pub fn catch<T>(&self, part: Part, work: impl FnOnce() -> T) -> Option<T> {
        // What may be broken is for the caller to say, who knows what is looked at afterwards.
        let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
        if outcome.is_none() {
            self.count(part);
            tracing::error!(part = part.as_str(), "a part has panicked and goes on");
        }
        outcome
    }

    /// The same for a future. One that has panicked is not asked again.
    pub async fn caught<F: Future>(&self, part: Part, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.catch(part, || future.as_mut().poll(cx)) {
            Some(poll) => poll.map(Some),
            None => Poll::Ready(None),
        })
        .await
    }

    /// Starts the work, and again at once when it panics, but no more often than each [`APART`].
    pub async fn again<F: Future>(&self, part: Part, mut start: impl FnMut() -> F) -> F::Output {
        loop {
            let started = Instant::now();
            if let Some(output) = self.caught(part, start()).await {
                return output;
            }
            sleep(APART.saturating_sub(started.elapsed())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_part_has_its_own_place_and_word() {
        let words: std::collections::HashSet<&str> = Part::ALL.iter().map(|part| part.as_str()).collect();
        assert_eq!(words.len(), Part::ALL.len());
        assert!(Part::ALL.into_iter().enumerate().all(|(place, part)| part as usize == place));
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_counted_and_started_again_but_not_as_fast_as_it_can() {
        let (panics, starts) = (Panics::default(), Cell::new(0));
        assert_eq!(panics.last_ago(), None);
        let begun = tokio::time::Instant::now();
        let start = || {
            starts.set(starts.get() + 1);
            let number = starts.get();
            async move {
                tokio::task::yield_now().await;
                assert!(number > 3, "on purpose");
                number
            }
        };
        assert_eq!(panics.again(Part::Poller, start).await, 4);
        let took = begun.elapsed();
        assert!((APART * 2..=APART * 3 + APART / 10).contains(&took), "{took:?}");
        assert_eq!((panics.of(Part::Poller), panics.of(Part::Admin)), (3, 0));
        assert!(panics.last_ago().is_some());
        assert_eq!(panics.caught(Part::Admin, async { 7 }).await, Some(7));
        assert_eq!(panics.clone().catch::<()>(Part::Control, || panic!("on purpose")), None);
        assert_eq!(panics.of(Part::Control), 1);
    }
}
