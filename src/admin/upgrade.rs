//! Another process takes this one's place, since somebody asked for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc, oneshot};

use super::Sources;
use super::actions::{Given, Nothing, read};
use super::caller::Caller;
use super::refusal::Refusal;

/// Asks for an upgrade, which the process carries out one at a time, and tells what has come of them.
#[derive(Debug, Clone)]
pub struct Upgrade {
    requests: mpsc::Sender<Answer>,
    one: Arc<tokio::sync::Mutex<()>>,
    /// Read by whoever changes what is passed to the new process, written by an upgrade.
    passed: Arc<RwLock<()>>,
    state: Arc<Mutex<UpgradeState>>,
}

/// Who only looks whether an upgrade is under way stands in the way of one for no longer than this.
const MOMENT: Duration = Duration::from_millis(20);

/// Where the outcome goes.
pub type Answer = oneshot::Sender<Result<Upgraded, String>>;

/// Another process accepts.
#[derive(Debug, Clone, Serialize)]
pub struct Upgraded {
    /// Of the process that accepts, and of this one.
    pub pid: u32,
    pub before: u32,
    pub version: String,
    /// Sessions that stay with this one.
    pub sessions: usize,
    /// What is open then is cut.
    pub drain_timeout_s: f64,
}

/// Why this process goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotUpgraded {
    /// Another one is under way, or done.
    Busy,
    Failed(String),
}

/// What has come of upgrades, over all processes that took the place of one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastUpgrades {
    pub done: u64,
    pub failed: u64,
    pub last_at: Option<SystemTime>,
    /// Why the last one failed, if it did.
    pub problem: Option<String>,
}

/// A process whose place was taken, while it drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    pub pid: u32,
    pub sessions: usize,
    /// What is open then is cut.
    pub until: Instant,
}

#[derive(Debug, Default)]
struct UpgradeState {
    past: PastUpgrades,
    /// The one before this one is the last.
    draining: Vec<Draining>,
    /// An upgrade is done: nothing is passed any more, and this process accepts.
    over: Option<(OwnedRwLockWriteGuard<()>, u32)>,
    reload_waits: bool,
}

/// Held by a change that a new process has to know of. No upgrade begins meanwhile.
#[derive(Debug)]
pub struct Change {
    _passed: OwnedRwLockReadGuard<()>,
}

impl Upgrade {
    /// Also gives the requests, of which one at a time is to be answered.
    pub fn new(past: PastUpgrades) -> (Upgrade, mpsc::Receiver<Answer>) {
        let (requests, asked) = mpsc::channel(1);
        let state = Arc::new(Mutex::new(UpgradeState { past, ..UpgradeState::default() }));
        (Upgrade { requests, one: Arc::default(), passed: Arc::default(), state }, asked)
    }

    fn state(&self) -> MutexGuard<'_, UpgradeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held by whoever changes at run time what is passed to a new process, or is lost with this one.
    ///
    /// # Errors
    /// An upgrade is under way or done: the change would be lost.
    pub fn change(&self) -> Result<Change, Refusal> {
        let passed = Arc::clone(&self.passed).try_read_owned();
        let error =
            "another process takes the place of this one, and would not know of it; try again when it has";
        passed.map(|passed| Change { _passed: passed }).map_err(|_| Refusal::new(StatusCode::CONFLICT, error))
    }

    /// Takes as long as the new process needs to get ready, `upgrade_timeout` at most.
    ///
    /// # Errors
    /// Why this process goes on as before.
    pub async fn run(&self, by: &str, remote: &str) -> Result<Upgraded, NotUpgraded> {
        let Ok(_one) = tokio::time::timeout(MOMENT, self.one.lock()).await else {
            tracing::warn!(user = by, remote, "an upgrade is refused: one is under way");
            return Err(NotUpgraded::Busy);
        };
        if let Some((_, pid)) = &self.state().over {
            return Err(NotUpgraded::Failed(format!("process {pid} has taken the place of this one")));
        }
        tracing::info!(user = by, remote, "an upgrade begins");
        let passed = Arc::clone(&self.passed).write_owned().await;
        let (answer, answered) = oneshot::channel();
        let outcome = match self.requests.send(answer).await {
            Ok(()) => answered.await.unwrap_or_else(|_| Err("this process stops".to_owned())),
            Err(_) => Err("another process has taken the place of this one, or it stops".to_owned()),
        };
        let mut state = self.state();
        state.past.last_at = Some(SystemTime::now());
        state.past.problem = outcome.as_ref().err().cloned();
        match &outcome {
            Ok(upgraded) => {
                state.past.done += 1;
                state.over = Some((passed, upgraded.pid));
            }
            Err(problem) => {
                state.past.failed += 1;
                tracing::error!(user = by, remote, problem, "the upgrade failed; this process goes on");
            }
        }
        outcome.map_err(NotUpgraded::Failed)
    }

    /// A hangup asks for a reload, to be done here before the guard goes: no upgrade begins until then. It comes without a guard
    /// when another process has taken this one's place before; the reload will be refused.
    ///
    /// # Errors
    /// An upgrade was under way: waits for its end, and tells which process serves now and is to reload. See
    /// [`Upgrade::take_reload`].
    pub async fn defer_reload(&self) -> Result<Option<Change>, u32> {
        let over = || self.state().over.as_ref().map(|(_, pid)| *pid);
        loop {
            let was_over = over().is_some();
            let change = self.change().ok();
            if was_over || change.is_some() {
                return Ok(change);
            }
            self.state().reload_waits = true;
            let _none_any_more = self.one.lock().await;
            if let Some(pid) = over() {
                return Err(pid);
            }
            // It is done here.
            self.take_reload();
        }
    }

    /// Whether a reload waits that is for the process that has taken this one's place; only who is told so passes it on.
    pub fn take_reload(&self) -> bool {
        std::mem::take(&mut self.state().reload_waits)
    }

    pub fn past(&self) -> PastUpgrades {
        self.state().past.clone()
    }

    /// Processes whose places were taken and that have not ended, the one before this one last.
    pub fn draining(&self) -> Vec<Draining> {
        self.state().draining.clone()
    }

    /// That process has so many sessions left, and time; `None`: it has ended.
    pub fn drains(&self, pid: u32, left: Option<(usize, Duration)>) {
        let draining = &mut self.state().draining;
        let place = draining.iter().position(|known| known.pid == pid);
        let now = left.map(|(sessions, left)| Draining { pid, sessions, until: Instant::now() + left });
        match (place, now) {
            (Some(place), Some(now)) => draining[place] = now,
            (None, Some(now)) => draining.push(now),
            (Some(place), None) => drop(draining.remove(place)),
            (None, None) => {}
        }
    }
}

pub async fn upgrade(
    State(sources): State<Arc<Sources>>,
    Extension(caller): Extension<Caller>,
    body: Given,
) -> Result<Response, Refusal> {
    let Nothing {} = read(body)?;
    let upgrade = sources.upgrade.clone();
    let (by, remote) = (caller.name().to_owned(), caller.peer.to_string());
    // A task of its own: once begun it goes on, whether or not somebody still waits.
    let outcome = tokio::spawn(async move { upgrade.run(&by, &remote).await }).await;
    let refuse = |status: StatusCode, problem: &str| {
        let pid = std::process::id();
        let as_before = format!("not upgraded: process {pid} goes on as before");
        // One reason stands behind it, several below.
        let (error, problems) = match problem.lines().count() {
            ..=1 => (format!("{as_before}: {problem}"), Vec::new()),
            _ => (format!("{as_before}:"), problem.lines().collect::<Vec<_>>()),
        };
        (status, Json(json!({"error": error, "problems": problems}))).into_response()
    };
    Ok(match outcome {
        Ok(Ok(upgraded)) => Json(upgraded).into_response(),
        Ok(Err(NotUpgraded::Busy)) => refuse(
            StatusCode::CONFLICT,
            "another upgrade is under way; what comes of it is in the log and in pilotfish status",
        ),
        Ok(Err(NotUpgraded::Failed(problem))) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &problem),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the upgrade failed; see the log"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgraded() -> Upgraded {
        Upgraded { pid: 7, before: 1, version: String::new(), sessions: 0, drain_timeout_s: 0.0 }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_waits_for_a_reload_and_a_reload_for_an_upgrade() {
        let (upgrade, mut asked) = Upgrade::new(PastUpgrades::default());
        let run = || {
            let upgrade = upgrade.clone();
            tokio::spawn(async move { upgrade.run("test", "-").await })
        };
        let change = upgrade.defer_reload().await.expect("no upgrade is under way");
        assert!(change.is_some());
        let running = run();
        tokio::time::timeout(MOMENT, asked.recv()).await.expect_err("the reload is not done");
        drop(change);
        let answer = asked.recv().await.expect("an upgrade");
        let mut deferred = Box::pin(upgrade.defer_reload());
        tokio::time::timeout(MOMENT, &mut deferred).await.expect_err("the upgrade is not done");
        answer.send(Err("it fails".to_owned())).expect("somebody waits");
        running.await.expect("no panic").expect_err("it fails");
        let change = deferred.await.expect("this process goes on");
        assert!(change.is_some() && !upgrade.take_reload());
        drop(change);
        let running = run();
        let answer = asked.recv().await.expect("an upgrade");
        let mut deferred = Box::pin(upgrade.defer_reload());
        tokio::time::timeout(MOMENT, &mut deferred).await.expect_err("the upgrade is not done");
        answer.send(Ok(upgraded())).expect("somebody waits");
        running.await.expect("no panic").expect("an upgrade");
        assert_eq!(deferred.await.expect_err("another process serves"), 7);
        assert!(upgrade.take_reload() && !upgrade.take_reload());
        assert!(upgrade.defer_reload().await.expect("none is under way").is_none());
    }
}
