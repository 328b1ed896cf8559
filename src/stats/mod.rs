//! What is counted, and where the counts live.
//!
//! Data workers write, the admin side reads when somebody asks. Each worker has a cell of its own on its own cache
//! lines in every member's counters, so a count is one uncontended relaxed add and readers sum the cells. Gauges are
//! raised and lowered by guards, never by pairs of calls.
//!
//! Knows nothing about metrics formats, tables or sessions.

mod caution;
mod end;
mod histogram;
mod limits;
mod misread;
mod panics;
mod queue;
mod refusals;
mod stopwatch;
mod termination;

pub use caution::Caution;
pub use end::{End, Phase, Side};
pub use histogram::{Histogram, Snapshot};
pub use limits::{Admission, Limit, Limits, MOST_SESSIONS, Origin, Over, Telling};
pub use misread::Misread;
pub use panics::{APART, Panics, Part};
pub use queue::{Queue, Ticket, Wait};
pub use refusals::Refusals;
pub use stopwatch::Stopwatch;
pub use termination::termination;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The counters of one pool, by member and in all.
#[derive(Debug)]
pub struct PoolStats {
    workers: usize,
    held: AtomicUsize,
    waits: Mutex<Waits>,
    /// Clients that are connected, whatever they wait for.
    clients: AtomicUsize,
    pub hold_seconds: Histogram,
    pub connect_seconds: Histogram,
    /// Armed when a writer comes: tells when the first session ran on it.
    pub first_session: Stopwatch,
    longest_hold_us: AtomicU64,
    ends: [AtomicU64; End::ALL.len()],
    pub limits: Arc<Limits>,
    pub queue: Arc<Queue>,
    /// Some member has had a limit: from then on whoever comes takes a ticket.
    queues: AtomicBool,
    /// Of members without one of their own.
    member_limit: Limit,
    members: Mutex<BTreeMap<String, Arc<MemberStats>>>,
}

/// The counters of one member within one pool.
#[derive(Debug)]
pub struct MemberStats {
    cells: Box<[Cell]>,
    pub caution: Caution,
    pub refusals: Refusals,
    /// Of the PROXY protocol header, where the pool sends one.
    pub misread: Misread,
    /// Sessions dialling or relaying now, in one number for all workers.
    taken: AtomicUsize,
    limit: Limit,
    /// Where those wait that have found no room.
    queue: Arc<Queue>,
}

/// One worker's counts, alone on its cache lines (two, since x86 fetches them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell {
    active: AtomicU64,
    total: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    failed_dials: AtomicU64,
}

/// A member's counts, summed over the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberCounts {
    /// Sessions dialling or relaying now.
    pub active: u64,
    /// Sessions that a connection was made for, ever.
    pub total: u64,
    /// From clients to the member.
    pub bytes_in: u64,
    /// From the member to clients.
    pub bytes_out: u64,
    pub failed_dials: u64,
}

impl PoolStats {
    pub fn new(workers: usize) -> PoolStats {
        PoolStats {
            workers,
            held: AtomicUsize::new(0),
            waits: Mutex::default(),
            clients: AtomicUsize::new(0),
            hold_seconds: Histogram::default(),
            connect_seconds: Histogram::default(),
            first_session: Stopwatch::default(),
            longest_hold_us: AtomicU64::new(0),
            ends: std::array::from_fn(|_| AtomicU64::new(0)),
            limits: Arc::default(),
            queue: Arc::default(),
            queues: AtomicBool::new(false),
            member_limit: Limit::default(),
            members: Mutex::default(),
        }
    }

    /// The counters of a member, made at its first mention and kept for as long as the pool lives.
    pub fn member(&self, name: &str) -> Arc<MemberStats> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = members.get(name) {
            return Arc::clone(known);
        }
        let cells = (0..self.workers).map(|_| Cell::default()).collect();
        let made = Arc::new(MemberStats {
            cells,
            caution: Caution::default(),
            refusals: Refusals::default(),
            misread: Misread::default(),
            taken: AtomicUsize::new(0),
            limit: Limit::default(),
            queue: Arc::clone(&self.queue),
        });
        made.limit.set(self.member_limit.get());
        members.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    /// How many sessions one member may have; `member` or else each of them, now and later. Whoever waits is called.
    pub fn limit_members(&self, member: Option<&str>, limit: Option<usize>) {
        match member {
            Some(member) => self.member(member).limit.set(limit),
            None => {
                let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
                self.member_limit.set(limit);
                members.values().for_each(|member| member.limit.set(limit));
            }
        }
        self.queues.fetch_or(limit.is_some(), SeqCst);
        self.queue.call();
    }

    /// Of members that have none of their own.
    pub fn member_limit(&self) -> Option<usize> {
        self.member_limit.get()
    }

    /// Whether a client may have to wait for room on a member.
    pub fn has_queue(&self) -> bool {
        self.queues.load(Relaxed)
    }

    /// Every member ever mentioned with its counts, by name.
    pub fn members(&self) -> Vec<(String, MemberCounts)> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().map(|(name, stats)| (name.clone(), stats.counts())).collect()
    }

    pub fn count_end(&self, end: End) {
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    pub fn ends(&self, end: End) -> u64 {
        self.ends[end as usize].load(Relaxed)
    }

    /// A client's wait is over, one way or the other.
    pub fn count_hold(&self, waited: Duration) {
        self.hold_seconds.observe(waited);
        self.longest_hold_us.fetch_max(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The longest wait since the last reset, of those that are held now and of those that were.
    pub fn longest_hold(&self) -> Duration {
        let of_those_that_were = Duration::from_micros(self.longest_hold_us.load(Relaxed));
        self.oldest_wait().map_or(of_those_that_were, |wait| wait.max(of_those_that_were))
    }

    pub fn reset_longest_hold(&self) {
        self.longest_hold_us.store(0, Relaxed);
    }

    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Since when sessions that were sent to this member have not come through.
    pub fn refused_since(&self, member: &str) -> Option<Instant> {
        self.member(member).refusals.since(self.held() > 0)
    }

    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// Counts a connected client until the guard goes.
    pub fn client(self: &Arc<Self>) -> Gauge {
        Gauge::raise(self, |pool| &pool.clients).0
    }

    /// Counts a held client until the guard goes; `None` when `limit` clients are held already.
    pub fn hold(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let (gauge, before) = Gauge::raise(self, |pool| &pool.held);
        (before < limit).then(|| Place { number: self.waits().begin(), gauge })
    }

    /// How long the held client has waited that has waited longest.
    pub fn oldest_wait(&self) -> Option<Duration> {
        self.waits().since.values().next().map(Instant::elapsed)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when each held client waits, in the order in which they came: the first has waited longest, however many
/// sessions there are.
#[derive(Debug, Default)]
struct Waits {
    since: BTreeMap<u64, Instant>,
    begun: u64,
}

impl Waits {
    fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.since.insert(self.begun, Instant::now());
        self.begun
    }
}

/// A held client's place among its pool's.
#[derive(Debug)]
pub struct Place {
    number: u64,
    gauge: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.pool.waits().since.remove(&self.number);
    }
}

/// Keeps one of a pool's gauges raised by one.
#[derive(Debug)]
pub struct Gauge {
    pool: Arc<PoolStats>,
    which: fn(&PoolStats) -> &AtomicUsize,
}

impl Gauge {
    /// With the count before.
    fn raise(pool: &Arc<PoolStats>, which: fn(&PoolStats) -> &AtomicUsize) -> (Gauge, usize) {
        let before = which(pool).fetch_add(1, Relaxed);
        (Gauge { pool: Arc::clone(pool), which }, before)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.which)(&self.pool).fetch_sub(1, Relaxed);
    }
}

impl MemberStats {
    pub fn counts(&self) -> MemberCounts {
        self.cells.iter().fold(MemberCounts::default(), |sum, cell| MemberCounts {
            active: sum.active.wrapping_add(cell.active.load(Relaxed)),
            total: sum.total + cell.total.load(Relaxed),
            bytes_in: sum.bytes_in + cell.bytes_in.load(Relaxed),
            bytes_out: sum.bytes_out + cell.bytes_out.load(Relaxed),
            failed_dials: sum.failed_dials + cell.failed_dials.load(Relaxed),
        })
    }

    /// Sessions dialling or relaying now, over all workers.
    pub fn active(&self) -> u64 {
        self.cells.iter().map(|cell| cell.active.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    /// How many sessions it may have.
    pub fn limit(&self) -> Option<usize> {
        self.limit.get()
    }

    pub fn has_room(&self) -> bool {
        self.limit.allows(self.taken.load(SeqCst) + 1)
    }

    pub fn add_bytes_in(&self, worker: usize, bytes: u64) {
        self.cells[worker].bytes_in.fetch_add(bytes, Relaxed);
    }

    pub fn add_bytes_out(&self, worker: usize, bytes: u64) {
        self.cells[worker].bytes_out.fetch_add(bytes, Relaxed);
    }

    pub fn count_session(&self, worker: usize) {
        self.cells[worker].total.fetch_add(1, Relaxed);
    }

    pub fn count_failed_dial(&self, worker: usize) {
        self.cells[worker].failed_dials.fetch_add(1, Relaxed);
    }

    /// Counts a session as active on this member until the guard goes; `None` when it has as many as it may.
    pub fn activate(self: &Arc<Self>, worker: usize) -> Option<Active> {
        let take = |taken: usize| self.limit.allows(taken + 1).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, take).ok()?;
        self.cells[worker].active.fetch_add(1, Relaxed);
        Some(Active { member: Arc::clone(self), worker })
    }
}

/// A session that counts as active on a member.
#[derive(Debug)]
pub struct Active {
    member: Arc<MemberStats>,
    worker: usize,
}

impl Active {
    pub fn member(&self) -> &MemberStats {
        &self.member
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.member.cells[self.worker].active.fetch_sub(1, Relaxed);
        // In this order: see the queue.
        self.member.taken.fetch_sub(1, SeqCst);
        self.member.queue.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_workers_and_guards_give_back() {
        let pool = PoolStats::new(2);
        let member = pool.member("patroni1");
        let (first, second) = (member.activate(0), member.activate(1));
        assert!(first.is_some() && second.is_some());
        member.add_bytes_in(0, 3);
        member.add_bytes_in(1, 4);
        assert_eq!((member.active(), member.counts().bytes_in), (2, 7));
        drop((first, second));
        assert_eq!(pool.members(), vec![("patroni1".to_owned(), member.counts())]);
        assert_eq!(member.active(), 0);
    }

    #[test]
    fn no_more_sessions_are_on_a_member_than_its_limit() {
        let pool = PoolStats::new(1);
        let known = pool.member("a");
        assert!(!pool.has_queue() && known.has_room());
        pool.limit_members(None, Some(1));
        let (later, on_known) = (pool.member("b"), known.activate(0).expect("room"));
        assert!(pool.has_queue() && known.activate(0).is_none() && !known.has_room());
        pool.limit_members(Some("a"), Some(2));
        let second = known.activate(0).expect("more room");
        assert_eq!((known.limit(), later.limit(), pool.member_limit()), (Some(2), Some(1), Some(1)));
        drop((on_known, second));
        assert_eq!((known.active(), known.has_room()), (0, true));
        pool.limit_members(None, None);
        assert!([&known, &later].iter().all(|member| member.limit().is_none()) && pool.has_queue());
    }

    #[test]
    fn no_more_clients_are_held_than_the_limit() {
        let pool = Arc::new(PoolStats::new(1));
        let first = pool.hold(1);
        assert!(first.is_some() && pool.hold(1).is_none());
        drop(first);
        assert_eq!(pool.held(), 0);
        assert!(pool.hold(1).is_some());
    }

    #[test]
    fn the_oldest_wait_is_that_of_who_came_first_and_is_still_held() {
        let pool = Arc::new(PoolStats::new(1));
        assert_eq!(pool.oldest_wait(), None);
        let first = pool.hold(usize::MAX);
        let between = Instant::now();
        let rest: Vec<_> = (0..20_000).map(|_| pool.hold(usize::MAX)).collect();
        let at_least = between.elapsed();
        assert!(pool.oldest_wait().is_some_and(|wait| wait >= at_least));
        drop(first);
        assert!(pool.oldest_wait().is_some_and(|wait| wait <= between.elapsed()));
        drop(rest);
        assert_eq!(pool.oldest_wait(), None);
    }
}
