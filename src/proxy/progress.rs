//! How far a session has come, and how it went: what its row and its last line tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::stats::{Active, Admission, End, Phase};

/// How far a session has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub phase: Phase,
    pub cluster: Arc<str>,
    /// The member dialled or connected to, and the count that it holds there.
    pub on: Option<(Arc<str>, Active)>,
    /// This side's address towards the member: `pg_stat_activity.client_port` on the server.
    pub backend: Option<(SocketAddr, SocketAddr)>,
    pub dialled: Duration,
    pub cut: Option<End>,
    /// In a box: there may be many thousand sessions, and most have none of it.
    pub rare: Option<Box<Rare>>,
    /// Its place among those that the pool's limits allow.
    pub admission: Option<Admission>,
}

/// What only befalls some.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub held: Duration,
    pub queued: Duration,
    /// Of so many that waited for room when it began to; itself among them.
    pub queue_place: usize,
    /// Dials that failed.
    pub retries: u32,
    pub detail: Option<String>,
}

static NOTHING: Rare =
    Rare { held: Duration::ZERO, queued: Duration::ZERO, queue_place: 0, retries: 0, detail: None };

impl Progress {
    pub fn new() -> Progress {
        Progress {
            phase: Phase::Greeting,
            cluster: Arc::from(""),
            on: None,
            backend: None,
            dialled: Duration::ZERO,
            cut: None,
            rare: None,
            admission: None,
        }
    }

    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING)
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}
