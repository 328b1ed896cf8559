//! Another process takes this one's place, since somebody asked for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Sources;
use super::actions::{Given, Nothing, read};
use super::caller::Caller;
use super::refusal::Refusal;

/// Asks for an upgrade, which the process carries out one at a time, and tells what has come of them.
#[derive(Debug, Clone)]
pub struct Upgrade {
    requests: mpsc::Sender<Answer>,
    one: Arc<tokio::sync::Mutex<()>>,
    state: Arc<Mutex<UpgradeState>>,
}

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

/// The process before this one, while it drains.
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
    draining: Option<Draining>,
}

impl Upgrade {
    /// Also gives the requests, of which one at a time is to be answered.
    pub fn new(past: PastUpgrades) -> (Upgrade, mpsc::Receiver<Answer>) {
        let (requests, asked) = mpsc::channel(1);
        let state = Arc::new(Mutex::new(UpgradeState { past, draining: None }));
        (Upgrade { requests, one: Arc::default(), state }, asked)
    }

    fn state(&self) -> MutexGuard<'_, UpgradeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as long as the new process needs to get ready, `upgrade_timeout` at most.
    ///
    /// # Errors
    /// Why this process goes on as before.
    pub async fn run(&self, by: &str, remote: &str) -> Result<Upgraded, NotUpgraded> {
        let Ok(_one) = self.one.try_lock() else {
            tracing::warn!(user = by, remote, "an upgrade is refused: one is under way");
            return Err(NotUpgraded::Busy);
        };
        tracing::info!(user = by, remote, "an upgrade begins");
        let (answer, answered) = oneshot::channel();
        let outcome = match self.requests.send(answer).await {
            Ok(()) => answered.await.unwrap_or_else(|_| Err("this process stops".to_owned())),
            Err(_) => Err("another process has taken the place of this one, or it stops".to_owned()),
        };
        let mut state = self.state();
        state.past.last_at = Some(SystemTime::now());
        state.past.problem = outcome.as_ref().err().cloned();
        match &outcome {
            Ok(_) => state.past.done += 1,
            Err(problem) => {
                state.past.failed += 1;
                tracing::error!(user = by, remote, problem, "the upgrade failed; this process goes on");
            }
        }
        outcome.map_err(NotUpgraded::Failed)
    }

    pub fn past(&self) -> PastUpgrades {
        self.state().past.clone()
    }

    /// The process before this one; `None`: there is none, or it has ended.
    pub fn draining(&self) -> Option<Draining> {
        self.state().draining
    }

    /// That process has so many sessions left, and time.
    pub fn drains(&self, left: Option<(u32, usize, Duration)>) {
        let draining = |(pid, sessions, left)| Draining { pid, sessions, until: Instant::now() + left };
        self.state().draining = left.map(draining);
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
        let error = "this process goes on as before";
        let problems: Vec<&str> = problem.lines().collect();
        (status, Json(json!({"error": error, "problems": problems}))).into_response()
    };
    Ok(match outcome {
        Ok(Ok(upgraded)) => Json(upgraded).into_response(),
        Ok(Err(NotUpgraded::Busy)) => refuse(StatusCode::CONFLICT, "an upgrade is under way already"),
        Ok(Err(NotUpgraded::Failed(problem))) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &problem),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the upgrade failed; see the log"),
    })
}
