//! The process that is to take this one's place, as this one sees it. The only file that names command-fds.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::launch::{LAUNCH, Launch};
use super::letter::{Estate, FromNew, FromOld, line};

/// The first descriptor that is passed, by sd_listen_fds(3).
const FIRST: i32 = 3;
/// A program that was told to accept does so at once.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// A program that has closed its side ends within this time, or is ended.
const END_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);
/// All that a new process has to say, and far more.
const MOST_BYTES: u64 = 1 << 20;
/// Of the environment: what is meant for this process only.
const OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"];

/// It accepts; this process is to accept no more.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    /// What was started, which starts what stays.
    child: Child,
    pid: Option<Pid>,
    letters: BufReader<Take<OwnedReadHalf>>,
    out: OwnedWriteHalf,
    pub version: String,
    /// Until then it is ended with this.
    accepts: bool,
}

impl Successor {
    /// Starts the program and hears of it until it accepts. Dropped before that, the program is ended.
    ///
    /// # Errors
    /// In words, why this process has to go on.
    pub async fn start(
        launch: &Launch,
        sockets: Vec<OwnedFd>,
        estate: Estate,
        within: Duration,
    ) -> Result<Successor, String> {
        let mut successor = spawn(launch, sockets).await?;
        let getting_ready = successor.get_ready(estate);
        let ready = tokio::time::timeout(within, getting_ready).await;
        ready.unwrap_or_else(|_| {
            Err(format!("it was not ready within {} s, and was ended", within.as_secs_f64()))
        })?;
        successor.tell(&FromOld::Take).await.map_err(|error| error.to_string())?;
        match tokio::time::timeout(TAKEN_WITHIN, successor.hear()).await {
            Ok(Ok(FromNew::Taken)) => {
                successor.accepts = true;
                Ok(successor)
            }
            Ok(Ok(other)) => Err(format!("it said {other:?} when it was to accept")),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err("it was ready, but did not begin to accept, and was ended".to_owned()),
        }
    }

    async fn get_ready(&mut self, estate: Estate) -> Result<(), String> {
        // Whatever was started may never read it: that is its end or the end of patience, not an error here.
        let _ = self.tell(&FromOld::Estate(estate)).await;
        loop {
            match self.hear().await? {
                FromNew::Begun { pid } => {
                    self.pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                    reap(&mut self.child).await;
                }
                FromNew::Ready { version } => {
                    self.version = version;
                    return Ok(());
                }
                other => return Err(format!("it said {other:?} before it was ready")),
            }
        }
    }

    /// Of the process that stays.
    pub fn pid(&self) -> u32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// This process accepts no more, and drains.
    ///
    /// # Errors
    /// The other one has ended.
    pub async fn tell_open(&mut self, sessions: usize, cut_in: Duration) -> io::Result<()> {
        let cut_in_ms = u64::try_from(cut_in.as_millis()).unwrap_or(u64::MAX);
        self.tell(&FromOld::Open { sessions, cut_in_ms }).await
    }

    async fn tell(&mut self, letter: &FromOld) -> io::Result<()> {
        self.out.write_all(line(letter).as_bytes()).await
    }

    /// # Errors
    /// It has failed or ended: in its words, or by its exit.
    async fn hear(&mut self) -> Result<FromNew, String> {
        let mut line = String::new();
        let read = self.letters.read_line(&mut line).await;
        if read.is_ok_and(|length| length > 0) {
            return match serde_json::from_str(&line) {
                Ok(FromNew::Failed { reason }) => Err(reason),
                Ok(letter) => Ok(letter),
                Err(error) => Err(format!("it cannot be understood: {error}")),
            };
        }
        // Nobody has the other end any more, so the number may be another process's by now.
        Err(match (self.pid.take(), reap(&mut self.child).await) {
            (None, Some(status)) => format!("it ended before it was ready ({status}); see the lines before"),
            _ => "it ended before it was ready; see the lines before".to_owned(),
        })
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.accepts {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It has the other end of the connection, so it is still this process that has this number.
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

async fn spawn(launch: &Launch, sockets: Vec<OwnedFd>) -> Result<Successor, String> {
    let words = |error: io::Error| format!("{} cannot be started: {error}", launch.program().display());
    let (ours, theirs) = StdStream::pair().map_err(words)?;
    let passed = sockets.into_iter().chain([theirs.into()]);
    let mappings: Vec<FdMapping> =
        (FIRST..).zip(passed).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
    let mut command = launch.command(LAUNCH);
    for name in OWN {
        command.env_remove(name);
    }
    command.env("LISTEN_FDS", mappings.len().to_string());
    command.fd_mappings(mappings).map_err(|error| words(io::Error::other(error)))?;
    // It copies the tables of this process's memory, which may be large.
    let started = tokio::task::spawn_blocking(move || command.spawn());
    let child = started.await.map_err(|error| words(error.into()))?.map_err(words)?;
    ours.set_nonblocking(true).map_err(words)?;
    let (letters, out) = UnixStream::from_std(ours).map_err(words)?.into_split();
    let letters = BufReader::new(letters.take(MOST_BYTES));
    Ok(Successor { child, pid: None, letters, out, version: String::new(), accepts: false })
}

/// How it ended, or that it had to be ended.
async fn reap(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + END_WITHIN;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(LOOK).await,
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
    let _ = child.kill();
    child.wait().ok()
}
