//! Processes whose places were taken, while they drain, as the one that serves now sees them.
//!
//! Each tells how many sessions it has left, over the connection by which it was succeeded. Whoever takes this process's place
//! is given these connections too. So the process that serves knows of all that drain, and each of them who serves: when that
//! one dies, nobody accepts any more.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::letter::{FromNew, FromOld, Letters, PassedFormer, line};
use crate::admin::upgrade::{Draining, Upgrade};

/// All that drain.
#[derive(Debug, Clone)]
pub(in crate::app) struct Formers {
    /// Where it is shown what is left of them.
    upgrade: Upgrade,
    followed: Arc<Mutex<Vec<Former>>>,
}

#[derive(Debug)]
struct Former {
    pid: u32,
    stream: StdStream,
    _following: AbortOnDropHandle<()>,
}

impl Formers {
    pub fn new(upgrade: Upgrade) -> Formers {
        Formers { upgrade, followed: Arc::default() }
    }

    fn followed(&self) -> MutexGuard<'_, Vec<Former>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows this one to its end. To be called within the runtime.
    pub fn follow(&self, PassedFormer { pid, sessions, cut_in_ms }: PassedFormer, stream: StdStream) {
        self.upgrade.drains(pid, Some((sessions, Duration::from_millis(cut_in_ms))));
        let letters = stream.set_nonblocking(true).and_then(|()| stream.try_clone());
        let letters = letters.and_then(UnixStream::from_std).map(Letters::new);
        let letters = match letters {
            Ok(letters) => letters,
            Err(error) => {
                self.upgrade.drains(pid, None);
                return tracing::warn!(pid, %error, "what is left of the process before this one is not followed");
            }
        };
        // Its end may be heard of at once, and is to find it here.
        let mut followed = self.followed();
        let following = AbortOnDropHandle::new(tokio::spawn(self.clone().hear(pid, letters)));
        followed.push(Former { pid, stream, _following: following });
    }

    async fn hear(self, pid: u32, mut letters: Letters<UnixStream>) {
        loop {
            match letters.next().await {
                Ok(Some(FromOld::Open { sessions, cut_in_ms })) => {
                    self.upgrade.drains(pid, Some((sessions, Duration::from_millis(cut_in_ms))));
                }
                // The rest of one that another process has begun to read, or one of another version.
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => break,
            }
        }
        tracing::info!(pid, "the process before this one has ended");
        self.upgrade.drains(pid, None);
        self.followed().retain(|former| former.pid != pid);
    }

    /// What a process needs to follow them.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pass_on(&self) -> io::Result<Vec<(OwnedFd, PassedFormer)>> {
        let draining = self.upgrade.draining();
        let pass_on = |former: &Former| {
            let left = draining.iter().find(|draining| draining.pid == former.pid);
            let left = left.map_or((0, Duration::ZERO), |&Draining { sessions, until, .. }| {
                (sessions, until.saturating_duration_since(Instant::now()))
            });
            let cut_in_ms = u64::try_from(left.1.as_millis()).unwrap_or(u64::MAX);
            let passed = PassedFormer { pid: former.pid, sessions: left.0, cut_in_ms };
            Ok((former.stream.try_clone()?.into(), passed))
        };
        self.followed().iter().map(pass_on).collect()
    }

    /// Another process follows them from now on.
    pub fn leave(&self) {
        self.followed().clear();
    }

    /// This process will end as it should.
    pub fn part(&self) {
        self.followed().iter_mut().for_each(|former| tell(&mut former.stream, &FromNew::Parting));
    }
}

/// Whoever drains may have ended.
pub(super) fn tell(stream: &mut StdStream, letter: &FromNew) {
    let _ = stream.write_all(line(letter).as_bytes());
}
