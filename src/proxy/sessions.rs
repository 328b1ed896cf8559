//! The open sessions of one worker: what operators list and what a new table cuts.
//!
//! A session enters when it is accepted and leaves with its task, whichever way that ends, through [`Ending`]: the
//! one place where an end is counted and logged. Cutting a session drops its task, and with it the sockets: with a
//! reset, but for that of a client which no server has yet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::AbortHandle;

use super::Pool;
use super::access::ClientAddress;
use super::ended::{Ended, Recent};
use super::progress::{Progress, Rare};
use super::proxy_protocol::Proxied;
pub use super::session_row::SessionRow;
use super::tcplog::{self, Line};
use crate::routing::{Backend, ClusterId, Table};
use crate::stats::{Active, End, Gauge, Over, Panics, Part, Phase, PoolStats, termination};
use crate::topology::Fate;

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// Unique within this process.
    pub id: u64,
    /// Where the connection comes from.
    connection: ClientAddress,
    /// Who is behind it, when a trusted proxy has said so.
    proxied: OnceLock<Box<Proxied>>,
    pub pool: Arc<Pool>,
    pub(super) worker: usize,
    accepted_at: Instant,
    progress: Mutex<Progress>,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    task: OnceLock<AbortHandle>,
}

/// The sessions of one worker.
#[derive(Debug, Default)]
pub struct Shard {
    open: Mutex<HashMap<u64, Arc<Session>>>,
    pub ended: Recent,
    /// The open sessions of all shards.
    census: Arc<AtomicU64>,
    panics: Panics,
}

impl Session {
    pub fn new(id: u64, worker: usize, connection: ClientAddress, pool: Arc<Pool>) -> Session {
        Session {
            id,
            connection,
            proxied: OnceLock::new(),
            pool,
            worker,
            accepted_at: Instant::now(),
            progress: Mutex::new(Progress::new()),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            task: OnceLock::new(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who the client is: as far as is known by now, and for good once it was let in.
    pub fn client(&self) -> ClientAddress {
        self.proxied().map_or(self.connection, |proxied| ClientAddress::of(proxied.source))
    }

    pub fn is_proxied(&self, proxied: Proxied) {
        self.proxied.get_or_init(|| Box::new(proxied));
    }

    pub fn proxied(&self) -> Option<Proxied> {
        self.proxied.get().map(|proxied| **proxied)
    }

    /// The task that runs this session, to be dropped when it is cut; it may have been cut from another thread before.
    pub fn runs_in(&self, task: AbortHandle) {
        let task = self.task.get_or_init(|| task);
        if self.progress().cut.is_some() {
            task.abort();
        }
    }

    /// Who is refused before it waits is told of with the cluster too.
    pub fn is_for(&self, cluster: Arc<str>) {
        self.progress().cluster = cluster;
    }

    pub fn waits(&self, cluster: Arc<str>) {
        let mut progress = self.progress();
        progress.phase = Phase::Waiting;
        progress.cluster = cluster;
    }

    /// Counts the session among those of its pool until it ends.
    ///
    /// # Errors
    /// With the limit that it would be over.
    pub fn enters_pool(&self) -> Result<(), Over> {
        let admission = self.pool.stats.limits.admit(self.client().origin())?;
        self.progress().admission = Some(admission);
        Ok(())
    }

    /// Has room on the member that it is about to dial; `None` gives it back.
    pub fn heads_for(&self, backend: Option<(&Backend, Active)>) {
        let on = backend.map(|(backend, active)| (Arc::clone(&backend.name), active));
        // What was there before is given back after the lock.
        let _before = std::mem::replace(&mut self.progress().on, on);
    }

    pub fn has_dialled(&self, took: Duration, failed: bool) {
        let mut progress = self.progress();
        progress.dialled = took;
        if failed {
            progress.rare_mut().retries += 1;
            if let Some((_, active)) = &progress.on {
                active.member().count_failed_dial(self.worker);
            }
        }
        self.pool.stats.connect_seconds.observe(took);
    }

    /// For room on a member, in all; `place` is how many waited when it began to, itself among them.
    pub fn was_queued(&self, duration: Duration, place: usize) {
        if duration.is_zero() && place == 0 {
            return;
        }
        let mut progress = self.progress();
        let rare = progress.rare_mut();
        rare.queued = rare.queued.max(duration);
        rare.queue_place = place;
    }

    pub fn was_held(&self, duration: Duration) {
        self.progress().rare_mut().held = duration;
        self.pool.stats.count_hold(duration);
    }

    /// From now on bytes flow.
    pub fn relays(&self, local: SocketAddr, peer: SocketAddr) {
        let mut progress = self.progress();
        progress.phase = Phase::Relaying;
        progress.backend = Some((local, peer));
        self.pool.stats.first_session.stop();
        if let Some((_, active)) = &progress.on {
            active.member().count_session(self.worker);
            active.member().refusals.served();
        }
    }

    /// All bytes so far, either way.
    pub fn moved(&self) -> u64 {
        self.bytes_in.load(Relaxed).wrapping_add(self.bytes_out.load(Relaxed))
    }

    /// The member that has ended this session, if nobody has told of it lately.
    pub fn was_hung_up_on(&self) -> Option<Arc<str>> {
        let progress = self.progress();
        let (member, active) = progress.on.as_ref()?;
        active.member().caution.raise().then(|| Arc::clone(member))
    }

    /// Words for the log line of the end.
    pub fn remark(&self, detail: impl Into<String>) {
        self.progress().rare_mut().detail = Some(detail.into());
    }

    /// Ends the session from outside.
    pub fn cut(&self, end: End) {
        self.progress().cut.get_or_insert(end);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// What a new table means for this session: the cause to cut it for, if any. One that does not relay yet looks
    /// at the table itself, and may go elsewhere.
    fn verdict(&self, table: &Table) -> Option<End> {
        let progress = self.progress();
        if progress.phase != Phase::Relaying {
            return None;
        }
        let (member, _) = progress.on.as_ref()?;
        // Without routes of its cluster or pool nobody would tell it that a role was lost.
        let Some(routes) = table.cluster(self.pool.options.cluster) else { return Some(End::MemberGone) };
        let Some(backend) = self.pool.routes_in(routes)?.backend(member) else {
            return Some(End::MemberGone);
        };
        match backend.fate {
            Fate::Keep => None,
            Fate::RoleLost => Some(End::RoleLost),
            Fate::Gone => Some(End::MemberGone),
            Fate::Withdrawn => Some(End::Withdrawn),
        }
    }

    /// Whether it is on this member of this cluster, or about to be.
    fn is_on(&self, cluster: ClusterId, member: &str) -> bool {
        let on = |(name, _): &(Arc<str>, Active)| **name == *member;
        self.pool.options.cluster == cluster && self.progress().on.as_ref().is_some_and(on)
    }

    pub fn row(&self) -> SessionRow {
        let progress = self.progress();
        SessionRow {
            id: self.id,
            cluster: progress.cluster.to_string(),
            pool: self.pool.options.name.to_string(),
            client: self.client(),
            member: progress.on.as_ref().map(|(member, _)| member.to_string()),
            backend_local: progress.backend.map(|(local, _)| local),
            backend_peer: progress.backend.map(|(_, peer)| peer),
            phase: progress.phase,
            age: self.accepted_at.elapsed(),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

impl Session {
    fn ended(&self, progress: &Progress, end: End) -> Ended {
        Ended {
            id: self.id,
            cluster: Arc::clone(&progress.cluster),
            pool: Arc::clone(&self.pool),
            client: self.client(),
            member: progress.on.as_ref().map(|(member, _)| Arc::clone(member)),
            backend_local: progress.backend.map(|(local, _)| local),
            end,
            phase: progress.phase,
            at: Instant::now(),
            age: self.accepted_at.elapsed(),
            held: progress.rare().held,
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

impl Shard {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of several that count their sessions together.
    pub fn of(census: Arc<AtomicU64>, panics: Panics) -> Shard {
        Shard { census, panics, ..Shard::default() }
    }

    /// Lists the session until the returned guard goes.
    pub fn enter(self: &Arc<Self>, session: Session) -> Ending {
        let session = Arc::new(session);
        self.open().insert(session.id, Arc::clone(&session));
        self.census.fetch_add(1, Relaxed);
        let client = session.pool.stats.client();
        Ending { session, shard: Arc::clone(self), end: End::Internal, _client: client }
    }

    pub fn len(&self) -> usize {
        self.open().len()
    }

    pub fn is_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Whether somebody waits for a member, or is being told that there is none.
    pub fn is_anybody_held(&self) -> bool {
        self.open().values().any(|session| session.progress().phase == Phase::Waiting)
    }

    /// At most `limit` sessions. The lock is held only to see which there are: the worker waits for it.
    pub fn rows(&self, limit: usize) -> Vec<SessionRow> {
        let listed: Vec<Arc<Session>> = self.open().values().take(limit).map(Arc::clone).collect();
        listed.iter().map(|session| session.row()).collect()
    }

    /// Cuts what the table does not keep; says how many.
    pub fn enforce(&self, table: &Table) -> usize {
        self.cut_where(|session| session.verdict(table))
    }

    pub fn cut_all(&self, end: End) -> usize {
        self.cut_where(|_| Some(end))
    }

    /// Cuts the sessions on one member, those of one pool or all; says how many.
    pub fn cut_on(&self, cluster: ClusterId, pool: Option<&str>, member: &str, end: End) -> usize {
        let of_pool = |session: &Session| pool.is_none_or(|pool| *session.pool.options.name == *pool);
        self.cut_where(|session| (of_pool(session) && session.is_on(cluster, member)).then_some(end))
    }

    /// Cuts the sessions that these counters count, those that wait for a member only with `waiting`; says how many.
    pub fn cut_pool(&self, stats: &Arc<PoolStats>, waiting: bool, end: End) -> usize {
        let is_doomed = |session: &Session| waiting || session.progress().phase != Phase::Waiting;
        self.cut_where(|session| {
            (Arc::ptr_eq(&session.pool.stats, stats) && is_doomed(session)).then_some(end)
        })
    }

    /// Cuts the session with this number; says whether there is one.
    pub fn cut_one(&self, id: u64, end: End) -> bool {
        self.open().get(&id).map(|session| session.cut(end)).is_some()
    }

    fn cut_where(&self, verdict: impl Fn(&Session) -> Option<End>) -> usize {
        let open = self.open();
        let doomed = open.values().filter_map(|session| Some((session, verdict(session)?)));
        doomed.map(|(session, end)| session.cut(end)).count()
    }
}

/// Ends a session when it goes: counts, logs and takes it off the list. An end that nobody named is a fault of ours.
#[derive(Debug)]
pub struct Ending {
    pub session: Arc<Session>,
    shard: Arc<Shard>,
    end: End,
    _client: Gauge,
}

impl Ending {
    pub fn set(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let session = &self.session;
        self.shard.open().remove(&session.id);
        let mut progress = session.progress();
        let (end, panicked) = match (std::thread::panicking(), self.end) {
            (true, _) => (End::Panicked, Some(Part::Session)),
            (false, End::Panicked) => (End::Panicked, Some(Part::Relay)),
            (false, own) => (progress.cut.unwrap_or(own), None),
        };
        panicked.into_iter().for_each(|part| self.shard.panics.count(part));
        session.pool.stats.count_end(end);
        log_end(session, &progress, end);
        log_as_haproxy(session, &progress, end, self.shard.census.fetch_sub(1, Relaxed));
        self.shard.ended.note(session.ended(&progress, end));
        progress.on = None;
        progress.admission = None;
    }
}

/// One line for each session. Port checks come every second and carry no news: they are for `debug`.
fn log_end(session: &Session, progress: &Progress, end: End) {
    let Rare { held, queued, detail, .. } = progress.rare();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                cluster = &*progress.cluster,
                pool = &*session.pool.options.name,
                client = %session.client(),
                member = progress.on.as_ref().map(|(member, _)| &**member),
                backend = progress.backend.map(|(_, peer)| tracing::field::display(peer)),
                backend_local = progress.backend.map(|(local, _)| tracing::field::display(local)),
                cause = end.as_str(),
                side = end.side().as_str(),
                phase = progress.phase.as_str(),
                bytes_in = session.bytes_in.load(Relaxed),
                bytes_out = session.bytes_out.load(Relaxed),
                held_ms = held.as_millis() as u64,
                queued_ms = (!queued.is_zero()).then_some(queued.as_millis() as u64),
                connect_ms = progress.dialled.as_micros() as f64 / 1000.0,
                duration_ms = session.accepted_at.elapsed().as_millis() as u64,
                detail = detail.as_deref(),
                "session ended"
            )
        };
    }
    match end {
        End::ClientProbe => line!(debug),
        End::Internal | End::Panicked => line!(error),
        _ => line!(info),
    }
}

/// The same end as a line for readers of HAProxy's log, if this log is one. `all`: the process's open sessions.
fn log_as_haproxy(session: &Session, progress: &Progress, end: End, all: u64) {
    if !tracing::enabled!(target: tcplog::TARGET, tracing::Level::INFO) {
        return;
    }
    let stats = &session.pool.stats;
    let (age, is_relaying) = (session.accepted_at.elapsed(), progress.phase == Phase::Relaying);
    let Rare { held, queued, queue_place, retries, .. } = *progress.rare();
    let waited = held + queued;
    let itself = u64::from(progress.on.is_some());
    let of_member = progress.on.as_ref().map_or(0, |(_, active)| active.member().active());
    let of_backend: u64 = stats.members().iter().map(|(_, counts)| counts.active).sum();
    let letters = termination(end, progress.phase, !waited.is_zero());
    let line = Line {
        client: session.client(),
        accepted_at: SystemTime::now() - age,
        pool: &session.pool.options.name,
        member: progress.on.as_ref().map(|(member, _)| &**member),
        waited_ms: (is_relaying || !waited.is_zero()).then_some(waited.as_millis()),
        dialled_ms: is_relaying.then_some(progress.dialled.as_millis()),
        total_ms: age.as_millis(),
        bytes_out: session.bytes_out.load(Relaxed),
        termination: letters,
        open: [
            all,
            stats.clients() as u64,
            of_backend.saturating_sub(itself),
            of_member.saturating_sub(itself),
        ],
        retries,
        queue_place,
        cause: (letters != ['-', '-']).then_some(end.as_str()),
    };
    match end {
        End::ClientProbe => tracing::debug!(target: tcplog::TARGET, "{line}"),
        _ => tracing::info!(target: tcplog::TARGET, "{line}"),
    }
}
