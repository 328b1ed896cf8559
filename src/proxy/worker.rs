//! One thread, one runtime, its sessions.
//!
//! A pair of sockets never changes its thread: no locks and no cache lines travel with the bytes. New connections go
//! to the worker with the fewest sessions, each worker follows the table on its own, and when the last session has
//! ended after a stop, the thread ends.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Access, ClientAddress};
use super::cancel::MAX_UNDER_WAY;
use super::counts::Counts;
use super::dice::Dice;
use super::engine::Engine;
use super::event_loop::EventLoop;
use super::hold::{Board, Stop};
use super::listener::{self, Bound, Listener, Listening, Service, Watched};
use super::room::{Debt, Place, Room};
use super::sessions::{Ending, Session, Shard};
use super::{Ended, Pool, SessionRow, TellTrouble, Trouble, TroubleKind, session};
use crate::routing::{Cell, ClusterId};
use crate::stats::{End, Panics, Part, PoolStats};

/// What the workers need from outside.
#[derive(Debug)]
pub struct WorkersOptions {
    pub count: usize,
    /// Sessions in all; each costs two descriptors.
    pub max_sessions: usize,
    pub panics: Panics,
}

/// All workers of the process.
#[derive(Debug)]
pub struct Workers {
    handles: Arc<[Handle]>,
    room: Room,
    /// How many sockets were watched: they are spread by that.
    watched: AtomicUsize,
    accepting: CancellationToken,
    stop: Stop,
    sessions: TaskTracker,
    threads: Vec<JoinHandle<()>>,
}

/// What others see of one worker.
#[derive(Debug)]
pub(super) struct Handle {
    runtime: tokio::runtime::Handle,
    inbox: mpsc::UnboundedSender<Job>,
    /// Sessions placed here and not yet ended.
    load: Arc<AtomicUsize>,
    debt: Arc<Debt>,
    shard: Arc<Shard>,
}

#[derive(Debug)]
enum Job {
    Serve(Accepted, Place),
    Listen(Listener),
    /// To be answered with whether all listeners of this worker still accept.
    Pulse(oneshot::Sender<bool>),
}

/// A connection on its way to its worker. Unbounded queues are fine: the permit bounds them.
#[derive(Debug)]
pub(super) struct Accepted {
    pub socket: OwnedFd,
    pub client: ClientAddress,
    pub access: Arc<Access>,
    pub pool: Arc<Pool>,
}

/// A worker from the inside, shared by its sessions.
#[derive(Debug)]
pub struct Worker {
    pub(super) index: usize,
    pub(super) board: Board,
    pub(super) engine: Engine<Counts>,
    shard: Arc<Shard>,
    pub(super) trouble: TellTrouble,
    pub(super) cancels: Arc<Semaphore>,
    pub(super) panics: Panics,
    sessions: TaskTracker,
    pub(super) dice: Dice,
}

/// Sessions listed of each worker: who asks for the list pays for building it.
pub const MOST_ROWS: usize = 10_000;

/// How long sessions stand still after the kernel has refused to tell of them, before it is asked again.
const STANDSTILL: Duration = Duration::from_millis(100);

/// Between two looks whether the last connection has arrived on its worker: a moment's way.
const ON_THE_WAY: Duration = Duration::from_millis(1);

/// Session numbers, over all workers.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Workers {
    /// Starts the threads. They serve nobody until [`Workers::listen`].
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(options: WorkersOptions, cell: &Cell, trouble: &TellTrouble) -> io::Result<Workers> {
        let mut workers = Workers {
            handles: Arc::from([]),
            room: Room::new(options.max_sessions),
            watched: AtomicUsize::new(0),
            accepting: CancellationToken::new(),
            stop: Stop::default(),
            sessions: TaskTracker::new(),
            threads: Vec::new(),
        };
        let cancels = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        let census = Arc::<AtomicU64>::default();
        let mut handles = Vec::new();
        let mut parts = Vec::new();
        for index in 0..options.count {
            let (inbox, jobs) = mpsc::unbounded_channel();
            let shard = Arc::new(Shard::of(Arc::clone(&census), options.panics.clone()));
            let load = Arc::new(AtomicUsize::new(0));
            let worker = Worker {
                index,
                board: Board::new(cell.clone(), workers.stop.clone()),
                engine: Engine::new()?,
                shard: Arc::clone(&shard),
                trouble: trouble.clone(),
                cancels: Arc::clone(&cancels),
                panics: options.panics.clone(),
                sessions: workers.sessions.clone(),
                dice: Dice::default(),
            };
            let event_loop = EventLoop::new(&mut tokio::runtime::Builder::new_current_thread())?;
            let debt = workers.room.debt();
            handles.push(Handle { runtime: event_loop.handle.clone(), inbox, load, debt, shard });
            parts.push((Arc::new(worker), jobs, event_loop));
        }
        workers.handles = Arc::from(handles);
        for (worker, jobs, event_loop) in parts {
            let name = format!("worker-{}", worker.index);
            let siblings = Arc::clone(&workers.handles);
            // As a task: to wake what a runtime blocks on takes a call to the kernel each time.
            let run = async move { _ = tokio::spawn(worker.run(jobs, siblings)).await };
            workers.threads.push(std::thread::Builder::new().name(name).spawn(move || event_loop.run(run))?);
        }
        Ok(workers)
    }

    /// Has a worker watch a bound socket, which is not served yet. Listeners are spread over the workers; each accepts for all
    /// of them.
    ///
    /// # Errors
    /// When the system watches no more.
    pub fn watch(&self, socket: Bound) -> io::Result<Watched> {
        let worker = self.watched.fetch_add(1, Relaxed) % self.handles.len();
        let _within = self.handles[worker].runtime.enter();
        socket.watch(worker)
    }

    /// Serves a socket, for as long as what is returned is there.
    pub fn listen(&self, socket: Watched, service: Service) -> Listening {
        let worker = socket.worker;
        let (permits, accepting) = (Arc::clone(&self.room.permits), self.accepting.clone());
        let (listening, listener) = Listening::new(socket, service, permits, accepting);
        // A worker that is gone has panicked where nobody could catch it; there is nobody left to tell.
        let _ = self.handles[worker].inbox.send(Job::Listen(listener));
        listening
    }

    /// No new connections; held clients are told to go elsewhere.
    pub fn stop_accepting(&self) {
        self.accepting.cancel();
        self.stop.give(End::Shutdown);
        self.sessions.close();
    }

    /// Another process accepts in the place of this one, and all listeners here are closed. Who is here already stays: held
    /// clients too, until they are served.
    pub fn hand_over(&self) {
        self.accepting.cancel();
        self.sessions.close();
    }

    /// After [`Workers::hand_over`]: tells held clients to come again, and waits until they know, `patience` at most.
    pub async fn send_held_away(&self, patience: Duration) {
        self.stop.give(End::DrainExpired);
        let until = Instant::now() + patience;
        while self.handles.iter().any(|handle| handle.shard.is_anybody_held()) && Instant::now() < until {
            tokio::time::sleep(ON_THE_WAY).await;
        }
    }

    /// Waits for the last session to end; for ever, unless accepting was stopped.
    pub async fn drained(&self) {
        self.sessions.wait().await;
        // Whoever was accepted at the last moment may still be on the way to a worker.
        while self.handles.iter().any(|handle| handle.load.load(Relaxed) > 0) {
            tokio::time::sleep(ON_THE_WAY).await;
        }
    }

    /// The workers that do not answer in time, or on which a listener has ended by itself. After a stop a worker that has
    /// nothing left to do is not missed.
    pub async fn standing_still(&self, within: Duration) -> Vec<usize> {
        let deadline = Instant::now() + within;
        let ask = |handle: &Handle| {
            let (answer, answered) = oneshot::channel();
            // A worker that is gone drops the question, which is an answer too.
            let _ = handle.inbox.send(Job::Pulse(answer));
            answered
        };
        let asked: Vec<_> = self.handles.iter().map(ask).collect();
        let mut still = Vec::new();
        for (worker, answered) in asked.into_iter().enumerate() {
            let turns = match timeout_at(deadline, answered).await {
                Ok(Ok(accepts)) => accepts || self.accepting.is_cancelled(),
                Ok(Err(_gone)) => self.stop.is_given(),
                Err(_late) => false,
            };
            if !turns {
                still.push(worker);
            }
        }
        still
    }

    /// Cuts every session that is left; says how many.
    pub fn cut_all(&self) -> usize {
        self.handles.iter().map(|handle| handle.shard.cut_all(End::Shutdown)).sum()
    }

    /// Cuts the sessions on one member, those of one pool or all, for an operator; says how many. New ones may come at
    /// once.
    pub fn close_sessions(&self, cluster: ClusterId, pool: Option<&str>, member: &str) -> usize {
        self.handles.iter().map(|handle| handle.shard.cut_on(cluster, pool, member, End::Operator)).sum()
    }

    /// Cuts the sessions that these counters count, since their pool is served no more; says how many. Those that wait for a
    /// member only with `waiting`: who is held hears of it first, by [`Pool::send_held_away`].
    pub fn cut_pool(&self, stats: &Arc<PoolStats>, waiting: bool) -> usize {
        self.handles.iter().map(|handle| handle.shard.cut_pool(stats, waiting, End::Shutdown)).sum()
    }

    /// Cuts one session, for an operator; says whether there is one of this number.
    pub fn close_session(&self, id: u64) -> bool {
        self.handles.iter().any(|handle| handle.shard.cut_one(id, End::Operator))
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    pub fn open_sessions(&self) -> usize {
        self.handles.iter().map(|handle| handle.shard.len()).sum()
    }

    pub fn max_sessions(&self) -> usize {
        self.room.max()
    }

    /// So many sessions at most from now on; those over it stay.
    pub fn set_max_sessions(&self, max: usize) {
        self.room.resize(max);
    }

    /// Open sessions in no order, at most [`MOST_ROWS`] of each worker.
    pub fn rows(&self) -> Vec<SessionRow> {
        self.handles.iter().flat_map(|handle| handle.shard.rows(MOST_ROWS)).collect()
    }

    /// The sessions that ended last, newest first; at most [`KEPT`](super::ended::KEPT) of each worker.
    pub fn recent_ends(&self) -> Vec<Ended> {
        let mut ended: Vec<Ended> =
            self.handles.iter().flat_map(|handle| handle.shard.ended.list()).collect();
        ended.sort_by_key(|ended| std::cmp::Reverse(ended.at));
        ended
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop_accepting();
        self.handles = Arc::from([]);
    }
}

/// Gives the connection to the worker with the fewest sessions; to the one that has accepted it, `here`, without a
/// detour.
///
/// # Errors
/// When the connection had to be closed, for want of something that the next one will lack too.
pub(super) fn place(
    here: &Arc<Worker>,
    siblings: &[Handle],
    permit: OwnedSemaphorePermit,
    accepted: Accepted,
) -> io::Result<()> {
    let load = |handle: &Handle| handle.load.load(Relaxed);
    let Some(least) = siblings.iter().min_by_key(|handle| load(handle)) else { return Ok(()) };
    let least = if load(&siblings[here.index]) == load(least) { &siblings[here.index] } else { least };
    least.load.fetch_add(1, Relaxed);
    let (load, debt) = (Arc::clone(&least.load), Arc::clone(&least.debt));
    let place = Place { permit: Some(permit), load, debt };
    if Arc::ptr_eq(&least.shard, &here.shard) {
        return here.serve(accepted, place);
    }
    if least.inbox.send(Job::Serve(accepted, place)).is_err() {
        tracing::error!("a worker is gone; the connection was closed");
    }
    Ok(())
}

impl Worker {
    async fn run(self: Arc<Self>, mut jobs: mpsc::UnboundedReceiver<Job>, siblings: Arc<[Handle]>) {
        self.keep(Worker::follow_table);
        self.keep(Worker::relay);
        let (panics, mut listeners) = (self.panics.clone(), Vec::new());
        // Sessions are tasks of their own. The job that it came from is lost, so this comes to an end.
        while panics.caught(Part::Worker, self.work(&mut jobs, &siblings, &mut listeners)).await.is_none() {}
    }

    /// Does something for as long as the thread lives, whatever happens.
    fn keep<F>(self: &Arc<Self>, work: impl Fn(Arc<Self>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            worker.panics.again(Part::Worker, || work(Arc::clone(&worker))).await;
        });
    }

    async fn work(
        self: &Arc<Self>,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
        siblings: &Arc<[Handle]>,
        listeners: &mut Vec<(AbortHandle, watch::Receiver<Service>)>,
    ) {
        loop {
            let job = tokio::select! {
                // In order: who was accepted before a stop is served.
                biased;
                job = jobs.recv() => job,
                // After a stop the thread lives as long as a session does.
                () = self.sessions.wait() => return,
            };
            match job {
                // One that fails is told of with its end, and keeps its place here for a moment.
                Some(Job::Serve(accepted, place)) => _ = self.serve(accepted, place),
                Some(Job::Listen(listener)) => {
                    // Those that were closed are no loss.
                    listeners.retain(|(_, service)| service.has_changed().is_ok());
                    let service = listener.service.clone();
                    let accepting = listener::run(listener, Arc::clone(self), Arc::clone(siblings));
                    listeners.push((tokio::spawn(accepting).abort_handle(), service));
                }
                Some(Job::Pulse(answer)) => {
                    // Whoever does not wait any more has drawn its conclusion.
                    listeners.retain(|(_, service)| service.has_changed().is_ok());
                    let _ = answer.send(!listeners.iter().any(|(task, _)| task.is_finished()));
                }
                None => return,
            }
        }
    }

    async fn relay(self: Arc<Self>) {
        while let Err(error) = self.engine.run().await {
            tracing::error!(worker = self.index, %error, "the sessions stand still for a moment");
            tokio::time::sleep(STANDSTILL).await;
        }
    }

    /// Each new table first ends what it does not keep, then wakes who waits for it.
    async fn follow_table(self: Arc<Self>) {
        let mut follower = self.board.cell.follow();
        while follower.changed().await {
            let cut = self.shard.enforce(&self.board.cell.load());
            if cut > 0 {
                tracing::info!(worker = self.index, sessions = cut, "sessions cut by the new table");
            }
            self.board.changed.notify_waiters();
        }
        // Whoever published is gone: there is no new table to wait for, and a return would only begin this anew.
        std::future::pending().await
    }

    /// Whoever panics here has ended, and nobody else.
    ///
    /// # Errors
    /// When the system lets it watch no more. The session has ended then.
    fn serve(self: &Arc<Self>, accepted: Accepted, place: Place) -> io::Result<()> {
        let Accepted { socket, client, access, pool } = accepted;
        let id = NEXT_ID.fetch_add(1, Relaxed);
        let enter = || self.shard.enter(Session::new(id, self.index, client, pool));
        let Some(ending) = self.panics.catch(Part::Session, enter) else { return Ok(()) };
        // From here on its end counts it.
        catch_unwind(AssertUnwindSafe(|| self.begin(socket, access, ending, place))).unwrap_or(Ok(()))
    }

    fn begin(
        self: &Arc<Self>,
        socket: OwnedFd,
        access: Arc<Access>,
        ending: Ending,
        place: Place,
    ) -> io::Result<()> {
        let session = Arc::clone(&ending.session);
        let stream = match self.engine.adopt(socket) {
            Ok(stream) => stream,
            Err(error) => {
                session.remark(format!("it could not be watched: {error}"));
                // So that this worker does not look idle, and is given the next one at once.
                tokio::spawn(async move {
                    tokio::time::sleep(listener::PAUSE).await;
                    drop(place);
                });
                return Err(error);
            }
        };
        let task = self.sessions.spawn(session::run(Arc::clone(self), stream, access, ending, place));
        session.runs_in(task.abort_handle());
        Ok(())
    }

    /// Tells control what happened on a member's data port.
    pub(super) fn tell(&self, pool: &Pool, member: Arc<str>, kind: TroubleKind) {
        let (cluster, pool) = (pool.options.cluster, Arc::clone(&pool.options.name));
        (self.trouble.0)(Trouble { cluster, pool, member, kind });
    }
}

#[cfg(test)]
mod tests;
