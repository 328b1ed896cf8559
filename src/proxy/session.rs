//! The life of one session.
//!
//! Greeting: read the first packet. Waiting: pick a backend, dial it, and hold the client while there is none.
//! Relaying: bytes. Each step returns either what the next one needs or the session's end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::connect::{DialError, dial};
use super::first_packet::{self, FirstPacket, Parse};
use super::hold::Hold;
use super::refusal::{CANNOT_CONNECT_NOW, PROTOCOL_VIOLATION, Refusal, TOO_MANY_CONNECTIONS};
use super::relay::relay;
use super::sessions::{Ending, Session};
use super::worker::Worker;
use super::{Pool, Protocol, Trouble, TroubleKind, cancel};
use crate::routing::pick::{Draw, pick};
use crate::routing::{Backend, Choice, Routes};
use crate::stats::{End, MemberStats};

/// How long a client may take for its first packet. A person does not type it; PostgreSQL itself allows a minute
/// for the whole login.
const GREETING_PATIENCE: Duration = Duration::from_secs(30);

/// A client's first packet as it came, with what it means.
struct Greeting {
    kind: FirstPacket,
    bytes: Vec<u8>,
}

/// A connection to a backend that has already been sent the first packet.
struct Connection {
    backend: TcpStream,
    stats: Arc<MemberStats>,
    member: Arc<str>,
}

/// Walks a session through its life. `ending` records how it went, also when this future is dropped midway.
pub async fn run(worker: Arc<Worker>, client: TcpStream, mut ending: Ending) {
    let session = Arc::clone(&ending.session);
    // Boxed: what opening needs is given back before the long part, which holds next to nothing.
    let end = match Box::pin(open(&worker, client, &session)).await {
        Err(end) => end,
        Ok((client, connection)) => {
            let Connection { backend, stats, member } = connection;
            let end = relay(client, backend, &(&*session, &*stats)).await;
            if matches!(end, End::BackendClosed | End::BackendReset) {
                worker.tell(&session.pool, member, TroubleKind::Hangup);
            }
            end
        }
    };
    ending.set(end);
}

/// Everything before the first relayed byte.
async fn open(
    worker: &Worker,
    mut client: TcpStream,
    session: &Session,
) -> Result<(TcpStream, Connection), End> {
    let pool = &*session.pool;
    let greeting = match pool.options.protocol {
        Protocol::Postgresql => greet(&mut client, session).await?,
        Protocol::Tcp => None,
    };
    let routes = worker.routes(pool);
    session.waits(Arc::clone(&routes.cluster));
    if let Some(Greeting { kind: FirstPacket::Cancel, bytes }) = &greeting {
        let _permit = worker.cancels.acquire().await;
        cancel::forward(&routes, bytes, pool.options.connect_timeout).await;
        return Err(End::Cancel);
    }
    let first_bytes = greeting.as_ref().map_or(&[][..], |greeting| &greeting.bytes);
    let mut attempts = Attempts::new(worker, session);
    match attempts.run(&client, first_bytes).await {
        Ok(connection) => Ok((client, connection)),
        Err(end) => {
            if let Some(greeting) = greeting
                && let Some(refusal) = attempts.refusal(end)
            {
                session.remark(refusal.message.clone());
                refusal.tell(client, greeting.kind).await;
            }
            Err(end)
        }
    }
}

/// Reads the first packet. What comes behind it in the same segment is kept with it.
async fn greet(client: &mut TcpStream, session: &Session) -> Result<Option<Greeting>, End> {
    let mut bytes = Vec::new();
    let mut wanted = 8;
    let deadline = Instant::now() + GREETING_PATIENCE;
    loop {
        // Never more room than the packet needs: a length is only a claim.
        bytes.reserve_exact(wanted - bytes.len());
        let read = tokio::time::timeout_at(deadline, client.read_buf(&mut bytes)).await;
        match read.map_err(|_| End::ClientSilent)?.map_err(|_| End::ClientReset)? {
            0 if bytes.is_empty() => return Err(End::ClientProbe),
            0 => return Err(End::ClientClosed),
            _ => {}
        }
        match first_packet::parse(&bytes) {
            Parse::Need(length) => wanted = length,
            Parse::Done(kind, _) => return Ok(Some(Greeting { kind, bytes })),
            Parse::Garbage(why) => {
                session.remark(why);
                let message = format!("pilotfish: {why}");
                let hint = "This port speaks PostgreSQL; is the client's address the right one?".to_owned();
                let refusal = Refusal { sqlstate: PROTOCOL_VIOLATION, message, hint };
                let _ = timeout(Duration::from_secs(1), client.write_all(&refusal.encode())).await;
                return Err(End::ClientGarbage);
            }
        }
    }
}

/// The search for a backend: picks, dials and waits until one has taken the first packet.
struct Attempts<'a> {
    worker: &'a Worker,
    session: &'a Session,
    pool: &'a Pool,
    hold: Option<Hold>,
    /// Why the last dial failed, for the client that waited in vain.
    last_failure: Option<String>,
}

impl<'a> Attempts<'a> {
    fn new(worker: &'a Worker, session: &'a Session) -> Attempts<'a> {
        Attempts { worker, session, pool: &session.pool, hold: None, last_failure: None }
    }

    async fn run(&mut self, client: &TcpStream, first_bytes: &[u8]) -> Result<Connection, End> {
        let outcome = self.search(client, first_bytes).await;
        if let Some(hold) = &self.hold {
            self.session.was_held(hold.since.elapsed());
        }
        outcome
    }

    async fn search(&mut self, client: &TcpStream, first_bytes: &[u8]) -> Result<Connection, End> {
        loop {
            // Armed before the table is loaded: a table that comes in between wakes the wait below.
            let changed = self.worker.table_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let routes = self.worker.routes(self.pool);
            let (connection, dial_failed) = self.try_all(&routes, first_bytes).await;
            if let Some(connection) = connection {
                return Ok(connection);
            }
            let hold = match &self.hold {
                Some(hold) if hold.is_over() => return Err(End::HoldExpired),
                Some(hold) => hold,
                None => self.hold.insert(Hold::start(self.pool)?),
            };
            hold.wait(self.pool, client, changed, dial_failed, &self.worker.stop).await?;
        }
    }

    /// Dials every backend that the table allows, each once; the flag says whether one was there but failed.
    async fn try_all(&mut self, routes: &Routes, first_bytes: &[u8]) -> (Option<Connection>, bool) {
        let mut tried = Vec::new();
        while let Some(index) = self.pick(routes, &tried) {
            let backend = &routes.backends[index];
            self.session.heads_for(Some(backend));
            let started = Instant::now();
            let dialled = self.dial(backend, first_bytes).await;
            self.session.has_dialled(started.elapsed(), dialled.is_err());
            match dialled {
                Ok(stream) => match self.settle(backend, stream) {
                    Some(connection) => return (Some(connection), false),
                    // Lost its role meanwhile; the new table says who has it.
                    None => return (None, true),
                },
                Err(error) => {
                    self.last_failure = Some(format!("{}: {error}", backend.name));
                    if let DialError::Member(_) = error {
                        self.worker.tell(self.pool, Arc::clone(&backend.name), TroubleKind::DialFailed);
                    }
                }
            }
            self.session.heads_for(None);
            tried.push(index);
        }
        (None, !tried.is_empty())
    }

    fn pick(&self, routes: &Routes, tried: &[usize]) -> Option<usize> {
        let turn = if tried.is_empty() { self.pool.turn.fetch_add(1, Relaxed) } else { 0 };
        let draw = Draw { tried, turn, random: self.worker.random(), client: self.session.client.ip() };
        pick(routes, self.pool.options.choice, draw)
    }

    /// Connects and passes on the first packet: a backend that does not take it has not been reached.
    async fn dial(&self, backend: &Backend, first_bytes: &[u8]) -> Result<TcpStream, DialError> {
        let mut stream = dial(&backend.addresses, self.pool.options.connect_timeout).await?;
        stream.write_all(first_bytes).await.map_err(DialError::Member)?;
        Ok(stream)
    }

    /// The table may have changed during the dial. From here to the relay nothing is awaited, so that a later table
    /// finds the session on its member.
    fn settle(&self, backend: &Backend, stream: TcpStream) -> Option<Connection> {
        let routes = self.worker.routes(self.pool);
        let index = routes.backends.iter().position(|candidate| candidate.name == backend.name)?;
        let allowed = match self.pool.options.choice {
            Choice::Writer => routes.writer == Some(index),
            Choice::Reader { .. } => routes.readers.contains(&index) || routes.fallback == Some(index),
        };
        let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return None };
        if !allowed {
            self.session.heads_for(None);
            return None;
        }
        self.session.relays(local, peer);
        let stats = match self.pool.options.choice {
            Choice::Writer => &backend.primary_stats,
            Choice::Reader { .. } => &backend.replica_stats,
        };
        Some(Connection { backend: stream, stats: Arc::clone(stats), member: Arc::clone(&backend.name) })
    }

    /// What the client is told about an end that is ours.
    fn refusal(&self, end: End) -> Option<Refusal> {
        let routes = self.worker.routes(self.pool);
        let wanted = match self.pool.options.choice {
            Choice::Writer => "writer",
            Choice::Reader { .. } => "reader",
        };
        let why = self.last_failure.as_deref().unwrap_or(&routes.reason);
        let cluster = &routes.cluster;
        let (sqlstate, message) = match end {
            End::HoldExpired => {
                let seconds = self.hold.as_ref().map_or(0.0, |hold| hold.since.elapsed().as_secs_f64());
                let message =
                    format!("pilotfish: no {wanted} for cluster \"{cluster}\" within {seconds:.0} s: {why}");
                (CANNOT_CONNECT_NOW, message)
            }
            End::HoldFull => {
                let limit = self.pool.options.max_held;
                let message = format!(
                    "pilotfish: no {wanted} for cluster \"{cluster}\" ({why}), and {limit} clients already wait for one"
                );
                (TOO_MANY_CONNECTIONS, message)
            }
            End::Shutdown => (CANNOT_CONNECT_NOW, "pilotfish: this load balancer is stopping".to_owned()),
            _ => return None,
        };
        Some(Refusal { sqlstate, message, hint: String::new() })
    }
}

impl Worker {
    /// Tells control what happened on a member's data port.
    pub(super) fn tell(&self, pool: &Pool, member: Arc<str>, kind: TroubleKind) {
        (self.trouble.0)(Trouble { cluster: pool.options.cluster, member, kind });
    }
}
