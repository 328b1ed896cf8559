//! The runtime socket: lines in, answers out. An empty line ends each answer.
//!
//! Without `prompt` a connection is over after its first lines, as with HAProxy, so that `socat` and scripts see the end
//! of the answer. Everything has a limit: connections, the length of a line, how long the next one may take and how long
//! an answer may wait for its reader.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::super::Sources;
use super::command::{self, Desk, Level, Reply};
use super::{order, words};
use crate::admin::server::WatchedSocket;
use crate::stats::Part;

/// Tools that ask at one time; more wait in the kernel's backlog. HAProxy's `stats maxconn` is 10.
pub const MAX_CONNECTIONS: usize = 32;
/// With its end. HAProxy 2.6 answers a line that is so long and hangs up on a longer one: with room for one more byte, that
/// is its `tune.bufsize` of 16 KiB.
pub const MAX_LINE_BYTES: usize = 16 * 1024 - 1;
/// HAProxy's default `stats timeout`.
const PATIENCE: Duration = Duration::from_secs(10);
/// When accepting fails for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A runtime socket.
#[derive(Debug)]
pub struct RuntimeSocket {
    pub socket: WatchedSocket,
    pub path: String,
    /// What whoever can open it may do, at the time.
    pub level: watch::Receiver<Level>,
}

/// Serves until it is told to close; whoever is in may stay.
pub async fn run(sources: Arc<Sources>, socket: RuntimeSocket, close: CancellationToken) {
    tokio::select! {
        () = close.cancelled() => {}
        () = accept_all(&sources, socket) => {}
    }
}

async fn accept_all(sources: &Arc<Sources>, socket: RuntimeSocket) {
    sources.inbox.panics.again(Part::Admin, || accept_from(sources, &socket)).await;
}

async fn accept_from(sources: &Arc<Sources>, RuntimeSocket { socket, path, level }: &RuntimeSocket) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let path: Arc<str> = Arc::from(&**path);
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = socket.listener.accept().await;
        let highest = *level.borrow();
        let visit = Visit { sources: Arc::clone(sources), path: Arc::clone(&path), highest };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(async move {
                let _place = place;
                let served = async { visit.serve(stream.peer_cred()?.uid(), stream).await };
                if let Some(Err(error)) = visit.sources.inbox.panics.caught(Part::Admin, served).await {
                    tracing::debug!(%error, "a client of the runtime socket is gone");
                }
            })),
            Err(error) => {
                tracing::debug!(%error, "a client of the runtime socket is not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A client of the socket, and what it may do.
#[derive(Debug)]
pub struct Visit {
    pub sources: Arc<Sources>,
    /// Of the socket, as the configuration has it.
    pub path: Arc<str>,
    pub highest: Level,
}

/// What a client has changed of its own connection.
struct Manner {
    level: Level,
    prompt: bool,
    patience: Duration,
    over: bool,
}

impl Visit {
    /// Answers until one side has had enough; `uid` is whose process is at the other end.
    ///
    /// # Errors
    /// The other end is gone, says nothing for too long, or takes no answer.
    pub async fn serve<S>(&self, uid: u32, mut stream: S) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut manner = Manner { level: self.highest, prompt: false, patience: PATIENCE, over: false };
        let mut lines = Vec::new();
        while !manner.over {
            let ended = fill(&mut stream, &mut lines, manner.patience).await?;
            if ended && lines.is_empty() {
                break;
            }
            for line in take_lines(&mut lines, ended) {
                if line.len() >= MAX_LINE_BYTES {
                    return too_long(stream).await;
                }
                for words in words::commands(&line) {
                    let answer = self.answer(&words, &mut manner, uid).await;
                    if manner.over {
                        return Ok(());
                    }
                    give(&mut stream, &answer, manner.prompt).await?;
                }
            }
            if lines.len() >= MAX_LINE_BYTES {
                return too_long(stream).await;
            }
            // HAProxy hangs up when the first lines are answered, unless it was told to prompt.
            manner.over |= ended || !manner.prompt;
        }
        stream.shutdown().await
    }

    async fn answer(&self, words: &[String], manner: &mut Manner, uid: u32) -> String {
        let desk =
            Desk { sources: &self.sources, level: manner.level, highest: self.highest, path: &self.path };
        match command::run(desk, words) {
            Reply::Text(text) => return text,
            // A task of its own: what was begun is done and in the log, whether or not somebody still waits.
            Reply::Order(order) => {
                let sources = Arc::clone(&self.sources);
                let done = tokio::spawn(async move { order::carry_out(&sources, uid, order).await });
                return done.await.unwrap_or_else(|_| "It failed; see the log.\n".to_owned());
            }
            Reply::Prompt => manner.prompt = !manner.prompt,
            Reply::Lower(level) => manner.level = level,
            Reply::Patience(seconds) => manner.patience = Duration::from_secs(seconds),
            Reply::Quit => manner.over = true,
        }
        String::new()
    }
}

/// Reads until there is a whole line or too much of one; says whether the client has no more to say.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    lines: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<bool> {
    let read = async {
        while !lines.contains(&b'\n') && lines.len() < MAX_LINE_BYTES {
            if stream.read_buf(lines).await? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    };
    tokio::time::timeout(patience, read).await.map_err(io::Error::from)?
}

/// Takes the whole lines out, and the last one without its end if there will be no more of it.
fn take_lines(lines: &mut Vec<u8>, ended: bool) -> Vec<String> {
    let whole = match ended {
        true => lines.len(),
        false => lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1),
    };
    let taken: Vec<u8> = lines.drain(..whole).collect();
    String::from_utf8_lossy(&taken).lines().map(str::to_owned).collect()
}

async fn too_long(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    give(&mut stream, "The command is too long.\n", false).await?;
    stream.shutdown().await
}

async fn give(stream: &mut (impl AsyncWrite + Unpin), answer: &str, prompt: bool) -> io::Result<()> {
    let end = if prompt { "\n> " } else { "\n" };
    let told = [answer, end].concat();
    tokio::time::timeout(PATIENCE, stream.write_all(told.as_bytes())).await.map_err(io::Error::from)?
}
