//! Asking one node again and again.
//!
//! One request at a time: the next one starts when it is due, and never before the last has come to its end.
//! How often is the controller's to say; a poke asks at once, but never sooner than the fast interval after the last.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::controller::Event;
use super::patroni::Patroni;

/// Checks of many nodes must not fall into step: each interval is shortened by up to this share.
const JITTER: f64 = 0.1;

/// A node that is being asked; dropping it ends that.
#[derive(Debug)]
pub struct Poller {
    interval: watch::Sender<Duration>,
    poke: Arc<Notify>,
    task: AbortHandle,
}

/// Whom to ask, and whom to tell.
#[derive(Debug, Clone)]
pub struct PollerOptions {
    pub cluster: usize,
    /// Base URL of the REST API.
    pub api: String,
    /// No two requests start closer together than this.
    pub fast_interval: Duration,
    /// The first one waits that long.
    pub first_after: Duration,
}

impl Poller {
    pub fn start(
        options: PollerOptions,
        interval: Duration,
        patroni: Patroni,
        events: mpsc::Sender<Event>,
    ) -> Poller {
        let (sender, receiver) = watch::channel(interval);
        let poke = Arc::new(Notify::new());
        let task = tokio::spawn(run(options, patroni, events, receiver, Arc::clone(&poke)));
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

async fn run(
    options: PollerOptions,
    patroni: Patroni,
    events: mpsc::Sender<Event>,
    mut interval: watch::Receiver<Duration>,
    poke: Arc<Notify>,
) {
    sleep(options.first_after).await;
    loop {
        let started = Instant::now();
        let observation = patroni.leader(&options.api).await;
        let api = options.api.clone();
        let observed =
            Event::Observed { cluster: options.cluster, api, observation, took: started.elapsed() };
        if events.send(observed).await.is_err() {
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
