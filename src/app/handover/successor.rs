//! The process that is to take this one's place, as this one sees it. The only file that names command-fds.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::group::Group;
use super::launch::{LAUNCH, Launch};
use super::letter::{Estate, FromNew, FromOld, Letters, line};

/// The first descriptor that is passed, by sd_listen_fds(3).
const FIRST: i32 = 3;
/// A program that was told to accept does so at once.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Why it failed was said before it ended.
const REASON_WITHIN: Duration = Duration::from_millis(100);
/// Who has been ended has lost its descriptors within this time.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// Of the environment: what is meant for this process only.
const OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"];

/// It accepts; this process is to accept no more.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    group: Group,
    pid: u32,
    letters: Letters<OwnedReadHalf>,
    out: OwnedWriteHalf,
    pub version: String,
}

/// How a process that accepted has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum End {
    /// As it should, and it has said so.
    Parted,
    /// Nobody accepts any more.
    Died,
}

/// Why it does not accept.
#[derive(Debug)]
enum Failure {
    Ended,
    Other(String),
}

impl Successor {
    /// Starts the program and hears of it until it accepts. When it fails, or this is dropped before, all that came of it is
    /// ended.
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
        match successor.get_to_accept(estate, within).await {
            Ok(()) => {
                successor.group.let_go().await;
                Ok(successor)
            }
            Err(failure) => Err(successor.end(failure).await),
        }
    }

    async fn get_to_accept(&mut self, estate: Estate, within: Duration) -> Result<(), Failure> {
        let ready = tokio::time::timeout(within, self.get_ready(estate)).await;
        ready.unwrap_or_else(|_| {
            let seconds = within.as_secs_f64();
            Err(Failure::Other(format!("it was not ready within {seconds} s, and was ended")))
        })?;
        self.tell(&FromOld::Take).await.map_err(|error| Failure::Other(error.to_string()))?;
        match tokio::time::timeout(TAKEN_WITHIN, self.hear()).await {
            Ok(Ok(FromNew::Taken)) => Ok(()),
            Ok(Ok(other)) => Err(Failure::Other(format!("it said {other:?} when it was to accept"))),
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                Err(Failure::Other("it was ready, but did not begin to accept, and was ended".to_owned()))
            }
        }
    }

    async fn get_ready(&mut self, estate: Estate) -> Result<(), Failure> {
        // Whatever was started may never read it: that is its end or the end of patience, not an error here.
        let _ = self.tell(&FromOld::Estate(estate)).await;
        loop {
            match self.hear().await? {
                FromNew::Begun { pid } => {
                    self.pid = pid;
                    self.group.stays(pid);
                }
                FromNew::Ready { version } => {
                    self.version = version;
                    return Ok(());
                }
                other => return Err(Failure::Other(format!("it said {other:?} before it was ready"))),
            }
        }
    }

    /// Ends all that came of it; says why.
    async fn end(mut self, failure: Failure) -> String {
        let status = self.group.end().await;
        let problem = match (failure, status) {
            (Failure::Other(problem), _) => problem,
            (Failure::Ended, Some(status)) if self.pid == 0 => {
                format!("it ended before it was ready ({status}); see the lines before")
            }
            (Failure::Ended, _) => "it ended before it was ready; see the lines before".to_owned(),
        };
        // Passed together, so whoever has this one has the others.
        match tokio::time::timeout(CLOSED_WITHIN, self.letters.closed()).await {
            Ok(()) => problem,
            Err(_) => format!(
                "{problem}; a process that came of it still has the listening sockets: find it with ss -ltnp, and end it"
            ),
        }
    }

    /// Of the process that stays.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// This process accepts no more, and drains.
    ///
    /// # Errors
    /// The other one has ended.
    pub async fn tell_open(&mut self, sessions: usize, cut_in: Duration) -> io::Result<()> {
        let cut_in_ms = u64::try_from(cut_in.as_millis()).unwrap_or(u64::MAX);
        self.tell(&FromOld::Open { sessions, cut_in_ms }).await
    }

    /// Waits for its end, or for the word that it will. When another process takes its place, that one is meant from then on.
    pub async fn ends(&mut self) -> End {
        loop {
            match self.letters.next().await {
                Ok(Some(FromNew::Parting)) => return End::Parted,
                Ok(Some(FromNew::FollowedBy { pid })) => {
                    let before = std::mem::replace(&mut self.pid, pid);
                    tracing::info!(
                        pid,
                        before,
                        "a newer process has taken the place of the one that had taken this one's"
                    );
                }
                // Of another version.
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(None) | Err(_) => return End::Died,
            }
        }
    }

    async fn tell(&mut self, letter: &FromOld) -> io::Result<()> {
        self.out.write_all(line(letter).as_bytes()).await
    }

    /// # Errors
    /// It has failed or ended. Its end is not waited for by the end of the connection, which others may have by now.
    async fn hear(&mut self) -> Result<FromNew, Failure> {
        let heard = tokio::select! {
            biased;
            heard = self.letters.next() => heard,
            () = self.group.fails() => {
                let reason = tokio::time::timeout(REASON_WITHIN, self.letters.next()).await;
                reason.unwrap_or(Ok(None))
            }
        };
        match heard {
            Ok(Some(FromNew::Failed { reason })) => Err(Failure::Other(reason)),
            Ok(Some(letter)) => Ok(letter),
            Ok(None) => Err(Failure::Ended),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Failure::Other(format!("it cannot be understood: {error}")))
            }
            Err(_) => Err(Failure::Ended),
        }
    }
}

async fn spawn(launch: &Launch, sockets: Vec<OwnedFd>) -> Result<Successor, String> {
    let program = launch.program().display().to_string();
    let words = |error: io::Error| format!("{program} cannot be started: {error}");
    launch.verify().map_err(|problem| words(io::Error::other(problem)))?;
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
    let started = tokio::task::spawn_blocking(move || Group::start(&mut command));
    let group = started.await.map_err(|error| words(error.into()))?.map_err(words)?;
    ours.set_nonblocking(true).map_err(words)?;
    let (letters, out) = UnixStream::from_std(ours).map_err(words)?.into_split();
    Ok(Successor { group, pid: 0, letters: Letters::new(letters), out, version: String::new() })
}
