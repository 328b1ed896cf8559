//! How many sessions a pool may have. Each limit can be changed while sessions run; those over it stay.
//!
//! A client counts from the moment that it is known who it is, whether it has said something or not: one that connects and
//! is silent takes a place as well.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// More than the ports of a host allow, and what an operator may set at most.
pub const MOST_SESSIONS: usize = 10_000_000;

/// A number that may be changed at any time; none at first.
#[derive(Debug)]
pub struct Limit(AtomicUsize);

const NONE: usize = usize::MAX;

impl Default for Limit {
    fn default() -> Limit {
        Limit(AtomicUsize::new(NONE))
    }
}

impl Limit {
    pub fn get(&self) -> Option<usize> {
        Some(self.0.load(Relaxed)).filter(|limit| *limit != NONE)
    }

    /// Whoever waits for room is to be called after it has been raised.
    pub fn set(&self, limit: Option<usize>) {
        self.0.store(limit.unwrap_or(NONE), Relaxed);
    }

    /// No limit allows everything.
    pub fn allows(&self, count: usize) -> bool {
        count <= self.0.load(Relaxed)
    }
}

/// Whom a client is counted as, and drawn to a member as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    Ip(IpAddr),
    /// A user of this host, by number: whoever comes through a unix socket has no address.
    Uid(u32),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Origin {
        Origin::Ip(address)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Ip(address) => address.fmt(f),
            Origin::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// Clients over a limit that are told so at one time: each waits for its first packet, and is closed at once if that are
/// too many.
const MOST_TOLD: usize = 1000;

/// The limits of one pool, and who counts by now.
#[derive(Debug, Default)]
pub struct Limits {
    /// Clients at one time, waiting ones among them.
    pub sessions: Limit,
    /// Clients of one origin.
    pub per_client: Limit,
    /// Clients that may wait for room on a member.
    pub queued: Limit,
    queue_timeout_ms: AtomicU64,
    admitted: AtomicUsize,
    clients: Mutex<HashMap<Origin, usize>>,
    told: AtomicUsize,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The pool has as many clients as it may.
    Pool(usize),
    /// This many of them are of the client's origin, which is all that may.
    Client(usize),
}

/// A client that counts, until it goes.
#[derive(Debug)]
pub struct Admission {
    limits: Arc<Limits>,
    /// Counted by it.
    origin: Option<Origin>,
}

/// A client over a limit that is being told so, until it goes.
#[derive(Debug)]
pub struct Telling(Arc<Limits>);

impl Limits {
    /// Lets a client in, unless that is one too many.
    ///
    /// # Errors
    /// With the limit.
    pub fn admit(self: &Arc<Self>, client: Origin) -> Result<Admission, Over> {
        let admitted = self.admitted.fetch_add(1, Relaxed) + 1;
        let mut admission = Admission { limits: Arc::clone(self), origin: None };
        if !self.sessions.allows(admitted) {
            return Err(Over::Pool(admitted - 1));
        }
        // Origins are counted only where it matters, so one that came before the limit was set is not counted.
        if self.per_client.get().is_some() {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_default();
            if !self.per_client.allows(*count + 1) {
                return Err(Over::Client(*count));
            }
            *count += 1;
            admission.origin = Some(client);
        }
        Ok(admission)
    }

    /// Room to tell one more client that it is over a limit; `None`: enough are told already.
    pub fn tell(self: &Arc<Self>) -> Option<Telling> {
        let telling = Telling(Arc::clone(self));
        (self.told.fetch_add(1, Relaxed) < MOST_TOLD).then_some(telling)
    }

    pub fn admitted(&self) -> usize {
        self.admitted.load(Relaxed)
    }

    pub fn queue_timeout(&self) -> Duration {
        Duration::from_millis(self.queue_timeout_ms.load(Relaxed))
    }

    pub fn set_queue_timeout(&self, timeout: Duration) {
        self.queue_timeout_ms.store(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.told.fetch_sub(1, Relaxed);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limits.admitted.fetch_sub(1, Relaxed);
        let Some(origin) = self.origin else { return };
        let mut clients = self.limits.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_over_a_limit_is_told_which_and_who_goes_makes_room() {
        let limits = Arc::new(Limits::default());
        let [a, b] = [Origin::Ip(IpAddr::from([10, 0, 0, 1])), Origin::Uid(1000)];
        let uncounted = limits.admit(a).expect("no limit");
        limits.sessions.set(Some(4));
        limits.per_client.set(Some(2));
        let (first, _second) = (limits.admit(a).expect("room"), limits.admit(a).expect("room"));
        assert_eq!(limits.admit(a).expect_err("a third"), Over::Client(2));
        let _other = limits.admit(b).expect("room for another origin");
        assert_eq!((limits.admit(b).expect_err("a fifth"), limits.admitted()), (Over::Pool(4), 4));
        drop(first);
        let _again = limits.admit(a).expect("room again");
        drop(uncounted);
        assert_eq!(limits.admit(a).expect_err("a third"), Over::Client(2));
        assert_eq!(limits.admitted(), 3, "whoever was refused does not count");
        limits.per_client.set(None);
        limits.admit(a).expect("no limit any more");
    }

    #[test]
    fn only_so_many_are_told_at_one_time() {
        let limits = Arc::new(Limits::default());
        let mut told: Vec<Telling> = (0..MOST_TOLD).filter_map(|_| limits.tell()).collect();
        assert_eq!((told.len(), limits.tell().is_none()), (MOST_TOLD, true));
        told.pop();
        assert!(limits.tell().is_some(), "a place is free again");
    }
}
