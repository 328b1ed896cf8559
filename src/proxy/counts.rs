//! Where the bytes of a session are counted.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::relay::Meter;
use super::sessions::Session;
use crate::stats::{MemberStats, Side};

/// Counts for the session's log line and, through its member's cell, for the pool.
#[derive(Debug)]
pub struct Counts {
    pub session: Arc<Session>,
    pub member: Arc<MemberStats>,
}

impl Meter for Counts {
    fn delivered(&self, to: Side, bytes: usize) {
        // Built this way by `make bench` only, to show what counting costs.
        if cfg!(feature = "uncounted") {
            return;
        }
        let Counts { session, member } = self;
        let bytes = bytes as u64;
        match to {
            Side::Client => {
                session.bytes_out.fetch_add(bytes, Relaxed);
                member.add_bytes_out(session.worker, bytes);
            }
            _ => {
                session.bytes_in.fetch_add(bytes, Relaxed);
                member.add_bytes_in(session.worker, bytes);
            }
        }
    }
}
