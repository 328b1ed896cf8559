//! Waiting for somebody to connect to.
//!
//! A failover takes a moment; a client that waits through it never learns of it. Held clients are woken by each new
//! table in the order in which they came, and try again. They stop waiting when their time is up, when they leave,
//! or when pilotfish stops; and only so many are held at once.

use std::io;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Pool;
use crate::stats::{End, Gauge};

/// How soon a dial that failed is tried again although the table has not changed. A postmaster that is restarted
/// in place refuses for a moment without any check noticing.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What each held client adds to that, so that all of them together dial no more than 5,000 times a second.
const RETRY_SPREAD: Duration = Duration::from_micros(200);

/// One client's wait, from the first time that nobody was there.
#[derive(Debug)]
pub struct Hold {
    pub since: Instant,
    until: Instant,
    _place: Gauge,
}

/// Why a client looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is a new table.
    Table,
    /// A failed dial is due again.
    Retry,
}

impl Hold {
    /// # Errors
    /// With the end of the session when waiting is not allowed, or as many as allowed wait already.
    pub fn start(pool: &Pool) -> Result<Hold, End> {
        if pool.options.hold.is_zero() {
            return Err(End::HoldExpired);
        }
        let place = pool.stats.hold(pool.options.max_held).ok_or(End::HoldFull)?;
        let since = Instant::now();
        Ok(Hold { since, until: since + pool.options.hold, _place: place })
    }

    /// Waits for a reason to look again; `table_changed` must have been armed before the table was last loaded.
    ///
    /// # Errors
    /// With the end of the session.
    pub async fn wait(
        &self,
        pool: &Pool,
        client: &TcpStream,
        table_changed: impl Future<Output = ()>,
        dial_failed: bool,
        stop: &CancellationToken,
    ) -> Result<Woken, End> {
        let held = u32::try_from(pool.stats.held()).unwrap_or(u32::MAX);
        let pause = RETRY_AFTER.max(RETRY_SPREAD.saturating_mul(held));
        tokio::select! {
            // In order: a client that may go on does, even if its time is up at this very moment.
            biased;
            () = table_changed => Ok(Woken::Table),
            () = stop.cancelled() => Err(End::Shutdown),
            () = left(client) => Err(End::ClientLeft),
            () = sleep_until(self.until) => Err(End::HoldExpired),
            () = tokio::time::sleep(pause), if dial_failed => Ok(Woken::Retry),
        }
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    pub fn until(&self) -> Instant {
        self.until
    }
}

/// Resolves when the client has hung up. What it may have sent meanwhile stays unread; a client that has sent
/// something and then closed only its sending side still wants its answer.
pub(super) async fn left(client: &TcpStream) {
    loop {
        let Ok(ready) = client.ready(Interest::READABLE | Interest::ERROR).await else { return };
        if ready.is_error() {
            return;
        }
        let unread = client.try_io(Interest::READABLE, || match recv(client, &mut [0], RecvFlags::PEEK) {
            Ok((_, 0)) => Ok(()),
            // Nothing to do with it yet: "would block" clears the readiness, so that only news wakes this task.
            Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        });
        match unread {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ready.is_read_closed() => {
                let _ = client.ready(Interest::ERROR).await;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}
