//! The life of one session.
//!
//! Greeting: read the first packet. Waiting: pick a backend, dial it, wait for its first byte, and hold the client while
//! there is none that serves. Relaying: bytes. Each step returns either what the next one needs or the session's end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{DialError, dial, reset_on_close};
use super::first_packet::{self, FirstPacket, Parse};
use super::hold::{self, Hold, Round, Seeker};
use super::refusal::{CANNOT_CONNECT_NOW, PROTOCOL_VIOLATION, Refusal, TOO_MANY_CONNECTIONS};
use super::relay::relay;
use super::reply::{self, Reply};
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

/// A connection to a backend that has taken the first packet and begun to answer.
struct Connection {
    backend: TcpStream,
    stats: Arc<MemberStats>,
    member: Arc<str>,
}

/// How it went with one backend.
enum Attempt {
    Connected(Connection),
    /// Not reached, or not able to serve: others may be.
    Failed(String),
    /// It lost its role meanwhile; a new table says who has it.
    Moved,
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
                stats.caution.raise();
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
    let routes = worker.board.routes(pool);
    session.waits(Arc::clone(&routes.cluster));
    if let Some(Greeting { kind: FirstPacket::Cancel, bytes }) = &greeting {
        let _permit = worker.cancels.acquire().await;
        cancel::forward(&routes, bytes, pool.options.connect_timeout).await;
        return Err(End::Cancel);
    }
    let mut attempts = Attempts::new(worker, session, &client, greeting.as_ref());
    match attempts.run().await {
        Ok(connection) => Ok((client, connection)),
        Err(end) => {
            let refusal = attempts.refusal(end);
            if let (Some(greeting), Some(refusal)) = (greeting, refusal) {
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
    client: &'a TcpStream,
    greeting: Option<&'a Greeting>,
    /// How long the client was held, once that is over.
    waited: Option<Duration>,
    /// Why the last dial failed, for the client that waited in vain.
    last_failure: Option<String>,
}

impl Seeker for Attempts<'_> {
    type Served = Connection;

    async fn round(&mut self, routes: &Routes, hold: &mut Option<Hold>) -> Result<Round<Connection>, End> {
        let mut tried = Vec::new();
        while let Some(index) = self.pick(routes, &tried) {
            let backend = &routes.backends[index];
            self.session.heads_for(Some(backend));
            let attempt = self.try_one(backend, hold).await?;
            match attempt {
                Attempt::Connected(connection) => return Ok(Round::Served(connection)),
                Attempt::Moved => {
                    self.session.heads_for(None);
                    return Ok(Round::Failed);
                }
                Attempt::Failed(why) => self.last_failure = Some(format!("{}: {why}", backend.name)),
            }
            self.session.heads_for(None);
            tried.push(index);
        }
        Ok(if tried.is_empty() { Round::Nobody } else { Round::Failed })
    }

    async fn left(&self) {
        hold::left(self.client).await;
    }
}

impl<'a> Attempts<'a> {
    fn new(
        worker: &'a Worker,
        session: &'a Session,
        client: &'a TcpStream,
        greeting: Option<&'a Greeting>,
    ) -> Attempts<'a> {
        Attempts { worker, session, client, greeting, pool: &session.pool, waited: None, last_failure: None }
    }

    async fn run(&mut self) -> Result<Connection, End> {
        let mut hold = None;
        let outcome = self.worker.board.until_served(self.pool, &mut hold, self).await;
        self.waited = hold.map(|hold| hold.since.elapsed());
        if let Some(waited) = self.waited {
            self.session.was_held(waited);
        }
        outcome
    }

    /// Dials, passes on the first packet, and waits for the first sign that the backend serves this session. Until
    /// then the client has seen nothing, and another backend may be tried in its place.
    async fn try_one(&mut self, backend: &Backend, hold: &mut Option<Hold>) -> Result<Attempt, End> {
        if !self.pause_if_cautious(backend).await {
            return Ok(Attempt::Moved);
        }
        let started = Instant::now();
        let dialled = self.dial(backend).await;
        self.session.has_dialled(started.elapsed(), dialled.is_err());
        let mut attempt = match dialled {
            Err(DialError::Local(error)) => return Ok(Attempt::Failed(format!("{error} (on this side)"))),
            Err(DialError::Member(error)) => Attempt::Failed(error.to_string()),
            Ok(stream) => self.confirm(backend, stream, hold).await?,
        };
        if let Attempt::Connected(Connection { backend: stream, .. }) = &attempt {
            match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer)) => self.session.relays(local, peer),
                _ => attempt = Attempt::Failed("it hung up at once".to_owned()),
            }
        }
        if let Attempt::Failed(_) = &attempt {
            self.worker.tell(self.pool, Arc::clone(&backend.name), TroubleKind::DialFailed);
        }
        Ok(attempt)
    }

    /// Lets the check of a backend that has just hung up on others come first; `false` when it lost its role by that.
    async fn pause_if_cautious(&self, backend: &Backend) -> bool {
        let caution = &backend.stats_of(self.pool.options.choice).caution;
        let Some(pause) = caution.remaining() else { return true };
        let changed = self.worker.board.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.still_allows(backend) {
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.still_allows(backend)
    }

    /// Waits for the backend's first byte. Nothing is awaited between its last look at the table and the relay, so
    /// that a later table finds the session on its member.
    async fn confirm(
        &mut self,
        backend: &Backend,
        stream: TcpStream,
        hold: &mut Option<Hold>,
    ) -> Result<Attempt, End> {
        let mut patience = self.reply_patience(hold.as_ref());
        loop {
            let changed = self.worker.board.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.still_allows(backend) {
                reset_on_close(&stream);
                return Ok(Attempt::Moved);
            }
            let reply = match self.greeting {
                // Whether a server of another protocol speaks first is not known.
                None => Reply::Serves,
                Some(_) => tokio::select! {
                    reply = reply::first(&stream) => reply,
                    () = changed => continue,
                    () = hold::left(self.client) => return Err(End::ClientLeft),
                    () = sleep_until(patience) => {
                        patience = self.hold_for_reply(backend, hold)?;
                        continue;
                    }
                },
            };
            return Ok(match reply {
                Reply::Serves if self.still_allows(backend) => Attempt::Connected(Connection {
                    backend: stream,
                    stats: Arc::clone(backend.stats_of(self.pool.options.choice)),
                    member: Arc::clone(&backend.name),
                }),
                Reply::Serves => Attempt::Moved,
                Reply::NotNow(why) => Attempt::Failed(why),
            });
        }
    }

    /// A backend that is slow to answer does not make the client count as held at once.
    fn reply_patience(&self, hold: Option<&Hold>) -> Instant {
        hold.map_or_else(|| Instant::now() + self.pool.options.connect_timeout, Hold::until)
    }

    /// The backend took the connection but says nothing, as a frozen one does: from now on the client is held.
    fn hold_for_reply(&mut self, backend: &Backend, hold: &mut Option<Hold>) -> Result<Instant, End> {
        self.last_failure = Some(format!("{}: it takes connections but does not answer", backend.name));
        self.worker.tell(self.pool, Arc::clone(&backend.name), TroubleKind::DialFailed);
        match hold {
            Some(_) => Err(End::HoldExpired),
            None => Ok(hold.insert(Hold::start(self.pool)?).until()),
        }
    }

    fn still_allows(&self, backend: &Backend) -> bool {
        let routes = self.worker.board.routes(self.pool);
        let index = routes.backends.iter().position(|candidate| candidate.name == backend.name);
        index.is_some_and(|index| match self.pool.options.choice {
            Choice::Writer => routes.writer == Some(index),
            Choice::Reader { .. } => routes.readers.contains(&index) || routes.fallback == Some(index),
        })
    }

    fn pick(&self, routes: &Routes, tried: &[usize]) -> Option<usize> {
        let turn = if tried.is_empty() { self.pool.turn.fetch_add(1, Relaxed) } else { 0 };
        let draw = Draw { tried, turn, random: self.worker.random(), client: self.session.client.ip() };
        pick(routes, self.pool.options.choice, draw)
    }

    /// Connects and passes on the first packet: a backend that does not take it has not been reached.
    async fn dial(&self, backend: &Backend) -> Result<TcpStream, DialError> {
        let mut stream = dial(&backend.addresses, self.pool.options.connect_timeout).await?;
        if let Some(greeting) = self.greeting {
            stream.write_all(&greeting.bytes).await.map_err(DialError::Member)?;
        }
        Ok(stream)
    }

    /// What the client is told about an end that is ours.
    fn refusal(&self, end: End) -> Option<Refusal> {
        let routes = self.worker.board.routes(self.pool);
        let wanted = match self.pool.options.choice {
            Choice::Writer => "writer",
            Choice::Reader { .. } => "reader",
        };
        let why = self.last_failure.as_deref().unwrap_or(&routes.reason);
        let cluster = &routes.cluster;
        let (sqlstate, message) = match end {
            End::HoldExpired => {
                let seconds = self.waited.unwrap_or_default().as_secs_f64();
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
