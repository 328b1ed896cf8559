//! The sessions that ended last: what each ended of, for whoever asks a moment too late.
//!
//! Each worker keeps its own few, so an end costs one uncontended lock and a handful of words; nothing is formatted
//! before somebody looks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Pool;
use super::access::ClientAddress;
use crate::stats::{End, Phase};

/// Ends kept for each worker: a failover's worth of a busy pool, some 50 KiB.
pub const KEPT: usize = 256;

/// A session that is over.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Unique within this process.
    pub id: u64,
    pub cluster: Arc<str>,
    pub pool: Arc<Pool>,
    pub client: ClientAddress,
    pub member: Option<Arc<str>>,
    /// This side's address of the connection to the member.
    pub backend_local: Option<SocketAddr>,
    pub end: End,
    pub phase: Phase,
    pub at: Instant,
    pub age: Duration,
    pub held: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The newest ends of one worker.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Ended>>);

impl Recent {
    /// Port checks are no news: they would push out everything else within minutes.
    pub fn note(&self, ended: Ended) {
        if ended.end == End::ClientProbe {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT - 1);
        kept.push_front(ended);
    }

    /// Newest first.
    pub fn list(&self) -> Vec<Ended> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
