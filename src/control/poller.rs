//! Asking one node, or one port of it, again and again.
//!
//! One request at a time: the next one starts when it is due, and never before the last has come to its end.
//! How often is the controller's to say; a poke asks at once, but never sooner than the fast interval after the last.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::controller::Event;
use super::inbox::Inbox;
use crate::stats::Part;

/// Checks of many nodes must not fall into step: each interval is shortened by up to this share.
const JITTER: f64 = 0.1;

/// A node that is being asked; dropping it ends that.
#[derive(Debug)]
pub struct Poller {
    interval: watch::Sender<Duration>,
    poke: Arc<Notify>,
    task: AbortHandle,
}

/// When to ask.
#[derive(Debug, Clone, Copy)]
pub struct PollerOptions {
    /// No two requests start closer together than this.
    pub fast_interval: Duration,
    /// The first one waits that long.
    pub first_after: Duration,
}

impl Poller {
    /// `ask` asks once; what comes of it is told. Begins anew when it panics.
    pub fn start<F>(
        options: PollerOptions,
        interval: Duration,
        inbox: Inbox,
        ask: impl Fn() -> F + Send + Sync + 'static,
    ) -> Poller
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let (sender, receiver) = watch::channel(interval);
        let poke = Arc::new(Notify::new());
        let poked = Arc::clone(&poke);
        let task = tokio::spawn(async move {
            sleep(options.first_after).await;
            let asking = || run(options, &ask, &inbox.events, receiver.clone(), &poked);
            inbox.panics.again(Part::Poller, asking).await;
        });
        Poller { interval: sender, poke, task: task.abort_handle() }
    }

    pub fn set_interval(&self, interval: Duration) {
        self.interval.send_if_modified(|current| std::mem::replace(current, interval) != interval);
    }

    /// Asks as soon as may be. Pokes while a request is under way lead to one more request.
    pub fn poke(&self) {
        self.poke.notify_one();
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<F: Future<Output = Event> + Send>(
    options: PollerOptions,
    ask: &(impl Fn() -> F + Sync),
    events: &mpsc::Sender<Event>,
    mut interval: watch::Receiver<Duration>,
    poke: &Notify,
) {
    loop {
        let started = Instant::now();
        let heard = ask().await;
        if events.send(heard).await.is_err() {
            return;
        }
        let earliest = started + options.fast_interval;
        loop {
            let due = started + jittered(*interval.borrow_and_update());
            tokio::select! {
                () = sleep_until(due.max(earliest)) => break,
                () = poke.notified() => { sleep_until(earliest).await; break }
                changed = interval.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn jittered(interval: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    interval.mul_f64(1.0 - JITTER * share)
}
