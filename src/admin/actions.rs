//! What an operator changes: the state of a member, its sessions, and what a reload applies.
//!
//! Each change answers what has come of it, and is in the log with who made it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Sources;
use super::caller::Caller;
use super::refusal::Refusal;
use crate::control::{Inbox, Operated, Unanswered};
use crate::routing::ClusterId;
use crate::topology::Operator;

/// Far more than any of these bodies; see also the layer in `routes`.
pub const MAX_BODY_BYTES: usize = 4096;
/// The control plane answers in microseconds; when it does not, something is very wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

type Shared = State<Arc<Sources>>;
pub(super) type Given = Result<Bytes, BytesRejection>;

/// Reads the configuration anew and applies what can be applied.
#[derive(Clone)]
pub struct Reload {
    reload: Arc<dyn Fn() -> Result<Reloaded, NotReloaded> + Send + Sync>,
    past: Arc<Mutex<PastReloads>>,
}

/// What has come of reloads since the start.
#[derive(Debug, Clone, Default)]
pub struct PastReloads {
    pub applied: u64,
    pub rejected: u64,
    pub last_at: Option<SystemTime>,
    pub last_was_rejected: bool,
    /// Why it was.
    pub problems: Vec<String>,
}

/// What has come of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Keys whose new values count from now on.
    pub applied: Vec<String>,
    /// Keys whose new values count after a restart.
    pub needs_restart: Vec<String>,
}

/// Nothing was changed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReloaded {
    /// In this moment; the configuration was not looked at, and nothing is known of it.
    Busy(&'static str),
    Rejected(Rejected),
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub problems: Vec<String>,
}

impl From<Rejected> for NotReloaded {
    fn from(rejected: Rejected) -> NotReloaded {
        NotReloaded::Rejected(rejected)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    state: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Debug, Serialize)]
struct StateAnswer {
    cluster: String,
    member: String,
    state: &'static str,
    before: &'static str,
    /// What follows that is not plain to see.
    note: Option<String>,
}

impl Reload {
    pub fn new(reload: impl Fn() -> Result<Reloaded, NotReloaded> + Send + Sync + 'static) -> Reload {
        Reload { reload: Arc::new(reload), past: Arc::default() }
    }

    /// Reads files, so it may take a while.
    ///
    /// # Errors
    /// All that is wrong with the new configuration, or what stands in the way. Nothing has changed then.
    pub fn run(&self, by: &str, remote: &str) -> Result<Reloaded, NotReloaded> {
        let outcome = (self.reload)();
        let past = || self.past.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) => past().add(None),
            Err(NotReloaded::Rejected(rejected)) => past().add(Some(rejected)),
            Err(NotReloaded::Busy(_)) => {}
        }
        match &outcome {
            Ok(Reloaded { applied, needs_restart }) => tracing::info!(
                user = by,
                remote,
                applied = applied.join(", "),
                needs_restart = needs_restart.join(", "),
                "the configuration was reloaded"
            ),
            Err(NotReloaded::Busy(why)) => {
                tracing::warn!(user = by, remote, why, "the configuration was not read: try again");
            }
            Err(NotReloaded::Rejected(Rejected { problems })) => tracing::error!(
                user = by,
                remote,
                problems = problems.join("; "),
                "the configuration was not reloaded; the running one stays"
            ),
        }
        outcome
    }

    pub fn past(&self) -> PastReloads {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PastReloads {
    fn add(&mut self, rejected: Option<&Rejected>) {
        match rejected {
            None => self.applied += 1,
            Some(_) => self.rejected += 1,
        }
        self.last_at = Some(SystemTime::now());
        self.last_was_rejected = rejected.is_some();
        self.problems = rejected.map(|rejected| rejected.problems.clone()).unwrap_or_default();
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Who asks, and what that one may do.
pub async fn whoami(Extension(caller): Extension<Caller>) -> Response {
    Json(json!({"user": caller.user, "role": caller.role})).into_response()
}

/// Sets a member to ready, drain or maint.
pub async fn set_state(
    State(sources): Shared,
    Extension(caller): Extension<Caller>,
    Path((cluster, member)): Path<(String, String)>,
    body: Given,
) -> Result<Response, Refusal> {
    let NewState { state } = read(body)?;
    let wish = Operator::ALL.into_iter().find(|wish| wish.as_str() == state);
    let wish =
        wish.ok_or_else(|| unprocessable(format!("{state:?} is no state; write ready, drain or maint")))?;
    let index = find(&sources, &cluster, &member)?;
    let (operated, note) = operate_member(&sources, index, &member, wish, &caller).await?;
    let (state, before) = (wish.as_str(), operated.before.as_str());
    Ok(Json(StateAnswer { cluster, member, state, before, note }).into_response())
}

/// Sets a member's state, and says what follows that is not plain to see.
///
/// # Errors
/// When the cluster has no such member, the control plane does not answer or has a fault, or an upgrade is under way.
pub(super) async fn operate_member(
    sources: &Sources,
    cluster: ClusterId,
    member: &str,
    wish: Operator,
    caller: &Caller,
) -> Result<(Operated, Option<String>), Refusal> {
    let change = sources.upgrade.change()?;
    let picture = sources.pictures.one(cluster).ok_or_else(|| no_member(sources, cluster, member))?;
    let name = Arc::clone(&picture.name);
    // A task of its own: once the control plane has been told, it is done, and has to be in the log, whether or not
    // somebody still waits for the answer.
    let operation = operate(sources.inbox.clone(), cluster, name, member.to_owned(), wish, caller.clone());
    let operation = async move {
        let operated = operation.await;
        drop(change);
        operated
    };
    let operated = tokio::time::timeout(ANSWER_TIMEOUT, tokio::spawn(operation)).await;
    let operated = operated.ok().and_then(Result::ok).ok_or_else(|| {
        let error =
            "the control plane does not answer; it may still be done: look at the state, and at the log";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let operated = operated.map_err(|Unanswered| Refusal::fault())?;
    // It has left the cluster in this moment.
    let operated = operated.ok_or_else(|| no_member(sources, cluster, member))?;
    let note = operated.is_writer.then(|| note_on_writer(member, wish)).flatten();
    Ok((operated, note))
}

async fn operate(
    inbox: Inbox,
    id: ClusterId,
    cluster: Arc<str>,
    member: String,
    wish: Operator,
    caller: Caller,
) -> Result<Option<Operated>, Unanswered> {
    let operated = inbox.operate(id, member.clone(), wish).await;
    let (user, remote, state) = (caller.name(), caller.peer.to_string(), wish.as_str());
    match &operated {
        Ok(None) => {}
        Ok(Some(Operated { before, .. })) => {
            let before = before.as_str();
            tracing::info!(
                user,
                remote,
                cluster = &*cluster,
                member,
                state,
                before,
                "an operator set the state of a member"
            );
        }
        Err(Unanswered) => tracing::error!(
            user,
            remote,
            cluster = &*cluster,
            member,
            state,
            "an operator set the state of a member, and control had a fault: whether it was done is not known"
        ),
    }
    operated
}

/// pilotfish does not move the leader: it only stops sending sessions to it.
fn note_on_writer(member: &str, wish: Operator) -> Option<String> {
    match wish {
        Operator::Ready => None,
        Operator::Drain | Operator::Maint => Some(format!(
            "{member} is the writer: new writers wait until it is ready again or another node leads, and its open \
             writer sessions go on; to move the leader use patronictl switchover"
        )),
    }
}

/// Closes the sessions of a member, of both pools. It goes on taking new ones unless it is drained first.
pub async fn close_sessions(
    State(sources): Shared,
    Extension(caller): Extension<Caller>,
    Path((cluster, member)): Path<(String, String)>,
    body: Given,
) -> Result<Response, Refusal> {
    let Nothing {} = read(body)?;
    let index = find(&sources, &cluster, &member)?;
    let closed = close_on(&sources, index, None, &member, &caller);
    Ok(Json(json!({"cluster": cluster, "member": member, "closed": closed})).into_response())
}

/// Closes the sessions of a member, those of one pool or all; says how many.
pub(super) fn close_on(
    sources: &Sources,
    cluster: ClusterId,
    pool: Option<&str>,
    member: &str,
    caller: &Caller,
) -> usize {
    let closed = sources.workers.close_sessions(cluster, pool, member);
    tracing::info!(
        user = caller.name(),
        remote = caller.peer.to_string(),
        cluster = sources.pictures.one(cluster).map(|picture| picture.name.to_string()),
        pool,
        member,
        closed,
        "an operator closed the sessions of a member"
    );
    closed
}

/// Closes one session; says whether there is one of this number.
pub(super) fn close_one(sources: &Sources, session: u64, caller: &Caller) -> bool {
    let closed = sources.workers.close_session(session);
    if closed {
        tracing::info!(
            user = caller.name(),
            remote = caller.peer.to_string(),
            session,
            "an operator closed a session"
        );
    }
    closed
}

pub async fn reload(
    State(sources): Shared,
    Extension(caller): Extension<Caller>,
    body: Given,
) -> Result<Response, Refusal> {
    let Nothing {} = read(body)?;
    let reload = sources.reload.clone();
    let (by, remote) = (caller.name().to_owned(), caller.peer.to_string());
    let outcome = tokio::task::spawn_blocking(move || reload.run(&by, &remote)).await;
    Ok(match outcome {
        Ok(Ok(reloaded)) => Json(reloaded).into_response(),
        Ok(Err(NotReloaded::Busy(why))) => {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("the configuration was not read: {why}")));
        }
        Ok(Err(NotReloaded::Rejected(Rejected { problems }))) => {
            let error = "the configuration cannot be used, and nothing was changed; mend it and try again";
            let told = json!({"error": error, "problems": problems});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response()
        }
        Err(_) => {
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the reload failed; see the log"));
        }
    })
}

/// The body as what is expected.
pub(super) fn read<T: DeserializeOwned>(body: Given) -> Result<T, Refusal> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {MAX_BODY_BYTES} bytes; no change needs that"),
        ),
        _ => Refusal::new(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    })?;
    serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => unprocessable(format!("the body is not as expected: {error}")),
        _ => Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
    })
}

fn unprocessable(error: String) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)
}

/// The cluster of this name, if it has this member.
fn find(sources: &Sources, cluster: &str, member: &str) -> Result<ClusterId, Refusal> {
    let pictures = sources.pictures.all();
    let Some(picture) = pictures.iter().find(|picture| &*picture.name == cluster) else {
        let known: Vec<&str> = pictures.iter().map(|picture| &*picture.name).collect();
        let error = format!("no cluster is named {cluster:?}; there is {}", known.join(", "));
        return Err(Refusal::new(StatusCode::NOT_FOUND, error));
    };
    match picture.members.iter().any(|known| known.member.name == member) {
        true => Ok(picture.id),
        false => Err(no_member(sources, picture.id, member)),
    }
}

fn no_member(sources: &Sources, cluster: ClusterId, member: &str) -> Refusal {
    let Some(picture) = sources.pictures.one(cluster) else {
        return Refusal::new(StatusCode::NOT_FOUND, "the cluster has just gone from the configuration");
    };
    let known: Vec<&str> = picture.members.iter().map(|known| known.member.name.as_str()).collect();
    let error = format!("{} has no member named {member:?}; it has {}", picture.name, known.join(", "));
    Refusal::new(StatusCode::NOT_FOUND, error)
}
