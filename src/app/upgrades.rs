//! Upgrades from this process to the next: asked for, tried, and followed by a drain. [`handover`](super::handover) has the
//! two processes' talk.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use super::handover::successor::{End, Successor};
use super::handover::{Formers, Launch};
use super::manager::Manager;
use super::reload::{Running, Slot};
use super::{LAST_WORDS, Stopped, cut};
use crate::admin::Sources;
use crate::admin::server::Ends;
use crate::admin::upgrade::{self as asked, Answer, Upgraded};

/// How often the next process is told how many sessions are left.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// A container, and everything in it, ends with this process.
const FIRST_OF_ALL: u32 = 1;

/// Upgrades that somebody asks for.
#[derive(Debug)]
pub(super) struct Upgrades {
    pub requests: mpsc::Receiver<Answer>,
    pub launch: Option<Launch>,
    /// Processes whose places were taken before.
    pub formers: Formers,
}

/// Another process accepts, and whoever asked for it waits for a word.
#[derive(Debug)]
pub(super) struct Upgrade {
    successor: Successor,
    answer: Answer,
}

impl Upgrades {
    /// Tries each upgrade that is asked for until one is done. Dropped, it ends a process that does not accept yet.
    pub async fn next(&mut self, slot: &Slot, sources: &Arc<Sources>) -> Upgrade {
        while let Some(answer) = self.requests.recv().await {
            match self.attempt(slot, sources).await {
                Ok(successor) => return Upgrade { successor, answer },
                Err(problem) => {
                    let slot = slot.clone();
                    let _ = tokio::task::spawn_blocking(move || slot.with(Running::keep)).await;
                    // Whoever does not wait any more finds it in the log.
                    let _ = answer.send(Err(problem));
                }
            }
        }
        std::future::pending().await
    }

    /// # Errors
    /// In words, why this process has to go on.
    async fn attempt(&self, slot: &Slot, sources: &Arc<Sources>) -> Result<Successor, String> {
        let launch = self.launch.as_ref().ok_or("this process does not know its program")?;
        if std::process::id() == FIRST_OF_ALL {
            return Err(
                "this process is the first of its container, which ends with it; start another container \
                        beside it instead"
                    .to_owned(),
            );
        }
        let past = sources.upgrade.past();
        let (running, sources) = (slot.clone(), Arc::clone(sources));
        // A reload may be under way, and wait for this thread.
        let pass_on =
            move || running.with(|running| (running.pass_on(&sources), running.config.upgrade_timeout));
        let passed = tokio::task::spawn_blocking(pass_on).await;
        let (passed, within) = passed.ok().flatten().ok_or("this process is only just starting")?;
        let no_descriptors = |error: io::Error| format!("no descriptors are left: {error}");
        let (mut sockets, mut estate) = passed.map_err(no_descriptors)?;
        let (connections, formers): (Vec<_>, _) =
            self.formers.pass_on().map_err(no_descriptors)?.into_iter().unzip();
        sockets.extend(connections);
        estate.formers = formers;
        (estate.done, estate.failed) = (past.done, past.failed);
        estate.within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        Successor::start(launch, sockets, estate, within).await
    }
}

impl Upgrade {
    /// Accepts no more: whoever comes is the other process's from now on.
    pub async fn hand_over(
        self,
        slot: &Slot,
        sources: &Arc<Sources>,
        ends: Ends,
        patience: Duration,
    ) -> Drain {
        let Upgrade { mut successor, answer } = self;
        let pid = successor.pid();
        // Before the other one speaks: only the main process is listened to.
        Manager::from_environment().succeeded_by(pid);
        let (running, with) = (slot.clone(), Arc::clone(sources));
        let _ = tokio::task::spawn_blocking(move || running.with(|running| running.hand_over(&with))).await;
        sources.stopping.store(true, Relaxed);
        let sessions = sources.workers.open_sessions();
        let _ = successor.tell_open(sessions, patience).await;
        let (version, drain_timeout_s) = (successor.version.clone(), patience.as_secs_f64());
        tracing::info!(
            pid,
            version,
            sessions,
            patience_s = drain_timeout_s,
            "another process has taken the place of this one, which finishes its sessions"
        );
        pass_on_reload(&sources.upgrade, pid);
        let before = std::process::id();
        let _ = answer.send(Ok(Upgraded { pid, before, version, sessions, drain_timeout_s }));
        sources.live.hub.send_away();
        // The answer above among them.
        let away = tokio::spawn(async move { ends.send_away(LAST_WORDS).await });
        Drain { successor, away, until: Instant::now() + patience }
    }
}

/// A reload that waited for the end of the upgrade is for the process that has just taken this one's place.
pub fn pass_on_reload(upgrade: &asked::Upgrade, pid: u32) {
    if upgrade.take_reload() {
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let passed = process.map_or(Err(Errno::SRCH), |process| kill_process(process, Signal::HUP));
        // Said when there is one.
        let error = passed.err().map(|error| error.to_string());
        tracing::info!(pid, error, "a reload is for the process that has taken the place of this one");
    }
}

/// What is left of this process.
#[derive(Debug)]
pub(super) struct Drain {
    successor: Successor,
    away: tokio::task::JoinHandle<()>,
    until: Instant,
}

impl Drain {
    /// Sessions finish, and who is held waits on; at `stop` nobody is held any more, and `hurry` ends it all. So does `stop`
    /// when the next process has died.
    pub async fn run(
        mut self,
        sources: &Sources,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Stopped {
        let workers = &sources.workers;
        let open = workers.open_sessions();
        let until = tokio::time::Instant::from_std(self.until);
        tokio::select! {
            () = workers.drained() => {}
            () = tokio::time::sleep_until(until) => {}
            () = hurry => {}
            () = follow(&mut self.successor, sources, self.until, stop) => {}
        }
        // Who is held has no session that could be cut, and is to hear why.
        workers.send_held_away(LAST_WORDS).await;
        let stopped = cut(sources, open).await;
        let _ = self.away.await;
        stopped
    }
}

/// Tells the next process how many sessions are left, and holds nobody any more at `stop`. Ends when that process has died and
/// there was a stop: the service manager starts another one when this one has ended, and until then nobody accepts.
async fn follow(
    successor: &mut Successor,
    sources: &Sources,
    until: Instant,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let (mut is_stopped, mut end) = (false, None);
    while !is_stopped || end != Some(End::Died) {
        tokio::select! {
            () = &mut stop, if !is_stopped => {
                let (sessions, cut_in) =
                    (sources.workers.open_sessions(), until.saturating_duration_since(Instant::now()));
                tracing::info!(
                    sessions,
                    cut_in_s = cut_in.as_secs(),
                    "stopping: nobody is held any more, and open sessions may finish as before; a second signal cuts them"
                );
                sources.workers.stop_accepting();
                is_stopped = true;
            }
            () = tokio::time::sleep(TELL_EVERY), if end.is_none() => {
                let left = until.saturating_duration_since(Instant::now());
                let telling = successor.tell_open(sources.workers.open_sessions(), left);
                // Its end is told by the other half; one that hangs is not waited for.
                let _ = tokio::time::timeout(TELL_EVERY, telling).await;
            }
            ended = successor.ends(), if end.is_none() => {
                if ended == End::Died {
                    tracing::warn!(pid = successor.pid(), "the process that took the place of this one has ended");
                }
                end = Some(ended);
            }
            else => std::future::pending().await,
        }
    }
}
