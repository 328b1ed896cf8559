//! The life of one session.
//!
//! Greeting: read the first packet. Waiting: pick a backend, dial it, wait for its first byte, and hold the client while
//! there is none that serves. Relaying: bytes. Each step returns either what the next one needs or the session's end.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::access::{Access, announcement};
use super::connect::{DialError, dial};
use super::counts::Counts;
use super::first_packet::FirstPacket;
use super::greeting::{Greeting, greet};
use super::hold::{self, Hold, Round, Seeker};
use super::queue::{Claim, Turn};
use super::relayed::relayed;
use super::reply::{self, Reply};
use super::room::Place;
use super::sessions::{Ending, Session};
use super::stream::Stream;
use super::surplus::{self, Surplus};
use super::worker::Worker;
use super::{Pool, Protocol, TroubleKind, cancel};
use crate::routing::pick::{Draw, pick};
use crate::routing::{Backend, Picked, PoolRoutes, Routes};
use crate::stats::{End, MemberStats};

mod refused;

/// How often it is looked whether a pause is over: soon after the answer that ends it.
const CAUTION_STEP: Duration = Duration::from_millis(10);

/// What may be meant by a server that hangs up.
const HEADER_HINT: &str = "send_proxy is set, and a server that does not expect the PROXY protocol does so";

/// A connection to a backend that has taken the first packet and begun to answer.
struct Connection {
    backend: Stream,
    stats: Arc<MemberStats>,
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
///
/// Written so that little is left of it while bytes flow, which may be for days: what opening needs is in a box of its
/// own, given back before.
pub fn run(
    worker: Arc<Worker>,
    client: Stream,
    access: Arc<Access>,
    mut ending: Ending,
    place: Place,
) -> impl Future<Output = ()> + Send {
    let is_bare =
        ending.session.pool.options.protocol == Protocol::Tcp && access.is_wary_of(ending.session.client());
    let opening = Box::pin(open(Arc::clone(&worker), client, access, Arc::clone(&ending.session)));
    async move {
        // Kept until the end; moved, it would be here twice.
        let _place = &place;
        let relaying = match opening.await {
            Err(end) => return ending.set(end),
            Ok((client, Connection { backend, stats })) => {
                let counts = Counts { session: Arc::clone(&ending.session), member: stats };
                relayed(&worker.engine, client, backend, counts, is_bare)
            }
        };
        let end = relaying.await;
        ending.set(end);
        let session = &ending.session;
        let hung_up = matches!(end, End::BackendClosed | End::BackendReset | End::BackendTimeout);
        if hung_up && let Some(member) = session.was_hung_up_on() {
            worker.tell(&session.pool, member, TroubleKind::Hangup);
        }
    }
}

/// Everything before the first relayed byte.
async fn open(
    worker: Arc<Worker>,
    mut client: Stream,
    access: Arc<Access>,
    session: Arc<Session>,
) -> Result<(Stream, Connection), End> {
    let (worker, session) = (&*worker, &*session);
    let pool = &*session.pool;
    session.is_for(Arc::clone(&worker.board.routes(pool).cluster));
    access.admit(&mut client, session).await?;
    let surplus = enter(worker, session)?;
    let greeting = match (pool.options.protocol, &surplus) {
        (Protocol::Postgresql, None) => Some(greet(&mut client, session, pool.options.first_packet).await?),
        (Protocol::Postgresql, Some(surplus)) => Some(surplus.greet(&mut client, session).await?),
        (Protocol::Tcp, None) => None,
        (Protocol::Tcp, Some(surplus)) => return Err(surplus::end(surplus.over)),
    };
    if let Some(Greeting { kind: FirstPacket::Cancel, bytes }) = &greeting {
        let _permit = worker.cancels.acquire().await;
        let routes = worker.board.routes(pool);
        session.waits(Arc::clone(&routes.cluster));
        if let Some(routes) = pool.routes_in(&routes) {
            let request = [announcement(&client, session), bytes.clone()].concat();
            cancel::forward(routes, &request, pool.options.connect_timeout).await;
        }
        return Err(End::Cancel);
    }
    let over = surplus.as_ref().map(|surplus| surplus.over);
    let mut attempts = Attempts::new(worker, session, &client, greeting.as_ref());
    let outcome = match over {
        None => attempts.run().await,
        Some(over) => Err(surplus::end(over)),
    };
    match outcome {
        Ok(connection) => Ok((client, connection)),
        Err(end) => {
            let refusal = attempts.refusal(end, over);
            if let (Some(greeting), Some(refusal)) = (greeting, refusal) {
                session.remark(refusal.message.clone());
                refusal.tell(client, greeting.kind).await;
            }
            Err(end)
        }
    }
}

/// Counts the client against its pool's limits, before it has said anything: a silent one takes a place, too.
fn enter(worker: &Worker, session: &Session) -> Result<Option<Surplus>, End> {
    let Err(over) = session.enters_pool() else { return Ok(None) };
    session.waits(Arc::clone(&worker.board.routes(&session.pool).cluster));
    Surplus::new(over, session).map(Some)
}

/// The search for a backend: picks, dials and waits until one has taken the first packet.
struct Attempts<'a> {
    worker: &'a Worker,
    session: &'a Session,
    pool: &'a Pool,
    client: &'a Stream,
    greeting: Option<&'a Greeting>,
    /// How long the client was held, once that is over.
    waited: Option<Duration>,
    /// Why the last dial failed, for the client that waited in vain.
    last_failure: Option<String>,
    /// In the queue for room on a member.
    turn: Turn,
}

impl Seeker for Attempts<'_> {
    type Served = Connection;

    async fn round(&mut self, routes: &Routes, hold: &mut Option<Hold>) -> Result<Round<Connection>, End> {
        // A cluster may learn its name only while the client waits.
        self.session.waits(Arc::clone(&routes.cluster));
        let Some(of_pool) = self.pool.routes_in(routes) else { return Ok(Round::Nobody) };
        let mut tried = Vec::new();
        let mut turn = std::mem::take(&mut self.turn);
        let worker = self.worker;
        loop {
            let pick = |routes: &PoolRoutes| self.pick(routes, &tried);
            let claim = worker.board.claim(self.pool, routes, &mut turn, worker.index, &*self, pick).await;
            self.session.was_queued(turn.waited(), turn.place());
            let (index, active) = match claim? {
                Claim::Taken(index, active) => (index, active),
                Claim::Nobody => break,
                Claim::Moved => {
                    self.turn = turn;
                    return Ok(Round::Moved);
                }
            };
            tried.push(index);
            let is_last = !matches!(self.pick(of_pool, &tried), Picked::Backend(_));
            let backend = &of_pool.backends[index];
            self.session.heads_for(Some((backend, active)));
            match self.try_one(backend, is_last, hold).await? {
                Attempt::Connected(connection) => return Ok(Round::Served(connection)),
                Attempt::Moved => {
                    self.session.heads_for(None);
                    self.turn = turn;
                    return Ok(Round::Moved);
                }
                Attempt::Failed(why) => self.last_failure = Some(format!("{}: {why}", backend.name)),
            }
            self.session.heads_for(None);
        }
        if tried.is_empty() {
            self.turn = turn;
            // What failed before is no longer why the client waits.
            self.last_failure = None;
            return Ok(Round::Nobody);
        }
        // Until its next try it does not stand in the way of others.
        turn.step_aside();
        self.turn = turn;
        Ok(Round::Failed)
    }

    async fn left(&self) {
        hold::left(self.client).await;
    }
}

impl<'a> Attempts<'a> {
    fn new(
        worker: &'a Worker,
        session: &'a Session,
        client: &'a Stream,
        greeting: Option<&'a Greeting>,
    ) -> Attempts<'a> {
        Attempts {
            worker,
            session,
            client,
            greeting,
            pool: &session.pool,
            waited: None,
            last_failure: None,
            turn: Turn::default(),
        }
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

    /// Tries a backend for as long as the table allows it and the client is there.
    async fn try_one(
        &mut self,
        backend: &Backend,
        is_last: bool,
        hold: &mut Option<Hold>,
    ) -> Result<Attempt, End> {
        let (board, pool, client) = (&self.worker.board, self.pool, self.client);
        let (has_spoken, is_held) = (self.greeting.is_some(), hold.is_some());
        tokio::select! {
            biased;
            attempt = self.reach(backend, is_last, hold) => attempt,
            () = board.displaced(pool, backend) => Ok(Attempt::Moved),
            () = hold::left(client), if has_spoken => Err(End::ClientLeft),
            end = board.sent_away(pool), if is_held => Err(end),
        }
    }

    /// Dials, passes on the first packet, and waits for the first sign that the backend serves this session. Until
    /// then the client has seen nothing, and another backend may be tried in its place.
    async fn reach(
        &mut self,
        backend: &Backend,
        is_last: bool,
        hold: &mut Option<Hold>,
    ) -> Result<Attempt, End> {
        let stats = &backend.stats;
        while let Some(pause) = stats.caution.remaining() {
            // The check of a backend that has just hung up on others comes first; what it says is in the table then.
            tokio::time::sleep(pause.min(CAUTION_STEP)).await;
        }
        let started = Instant::now();
        let dialled = self.dial(backend).await;
        self.session.has_dialled(started.elapsed(), matches!(dialled, Err(DialError::Member(_))));
        let reached = match dialled {
            Err(error @ DialError::Local(_)) => return Ok(Attempt::Failed(error.to_string())),
            Err(DialError::Member(error)) => Err(error.to_string()),
            Ok(stream) => {
                let reply = self.confirm(backend, &stream, is_last, hold).await?;
                self.judge_header(backend, &reply);
                match reply {
                    Reply::Serves | Reply::Violation => Ok(stream),
                    Reply::NotNow(why) => Err(why),
                    Reply::HungUp(why) if self.pool.options.send_proxy => {
                        Err(format!("{why}; {HEADER_HINT}"))
                    }
                    Reply::HungUp(why) => Err(why),
                }
            }
        };
        // From here to the relay nothing is awaited, so that a later table finds the session on its member.
        let connected = reached.and_then(|stream| match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(peer)) => Ok((stream, local, peer)),
            _ => Err("it hung up at once".to_owned()),
        });
        match connected {
            Ok(_) if !self.worker.board.allows(self.pool, backend) => Ok(Attempt::Moved),
            Ok((stream, local, peer)) => {
                self.session.relays(local, peer);
                Ok(Attempt::Connected(Connection { backend: stream, stats: Arc::clone(stats) }))
            }
            Err(why) => {
                self.was_refused(backend);
                Ok(Attempt::Failed(why))
            }
        }
    }

    /// Waits for the backend's first bytes. One that takes the connection but says nothing, as a frozen one does, is
    /// passed over; where there is no other, the client is held.
    async fn confirm(
        &mut self,
        backend: &Backend,
        stream: &Stream,
        is_last: bool,
        hold: &mut Option<Hold>,
    ) -> Result<Reply, End> {
        const SILENT: &str = "it takes connections but does not answer";
        match self.greeting.map(|greeting| greeting.kind) {
            // Whether a server of another protocol speaks first is not known; one that starts with TLS waits for the
            // rest of the client's first message.
            None | Some(FirstPacket::DirectTls) => return Ok(Reply::Serves),
            Some(_) => {}
        }
        if let Ok(reply) = timeout(self.pool.options.connect_timeout, reply::first(stream)).await {
            return Ok(reply);
        }
        if !is_last {
            return Ok(Reply::NotNow(SILENT.to_owned()));
        }
        self.last_failure = Some(format!("{}: {SILENT}", backend.name));
        self.was_refused(backend);
        let until = match hold {
            Some(hold) => hold.until(),
            None => hold.insert(Hold::start(self.pool)?).until(),
        };
        tokio::select! {
            reply = reply::first(stream) => Ok(reply),
            end = self.worker.board.sent_away(self.pool) => Err(end),
            () = sleep_until(until) => Err(End::HoldExpired),
        }
    }

    fn was_refused(&self, backend: &Backend) {
        backend.stats.refusals.failed(self.pool.stats.held() > 0);
        self.worker.tell(self.pool, Arc::clone(&backend.name), TroubleKind::DialFailed);
    }

    /// Where members are sent a PROXY protocol header, tells when one does not seem to understand it, and when it does.
    fn judge_header(&self, backend: &Backend, reply: &Reply) {
        let answers_show =
            !matches!(self.greeting.map(|greeting| greeting.kind), None | Some(FirstPacket::DirectTls));
        if !self.pool.options.send_proxy || !answers_show {
            return;
        }
        let (pool, member, misread) = (&*self.pool.options.name, &*backend.name, &backend.stats.misread);
        match reply {
            Reply::HungUp(_) | Reply::Violation if misread.hung_up() => {
                let advice = "set send_proxy: off, or have what listens there expect the header";
                tracing::warn!(pool, member, advice, "the member hangs up on the PROXY protocol header");
            }
            Reply::Serves if misread.answered() => {
                tracing::info!(pool, member, "the member understands the PROXY protocol header");
            }
            _ => {}
        }
    }

    fn pick(&self, routes: &PoolRoutes, tried: &[usize]) -> Picked {
        let turn = if tried.is_empty() { self.pool.turn.fetch_add(1, Relaxed) } else { 0 };
        let draw =
            Draw { tried, turn, random: self.worker.dice.roll(), client: self.session.client().origin() };
        match pick(routes, self.pool.options.balance, draw) {
            // There was room, on one that could not be reached: that is to be tried again, not to be waited for.
            Picked::Full if !tried.is_empty() => Picked::Nobody,
            picked => picked,
        }
    }

    /// Connects and passes on the first packet: a backend that does not take it has not been reached.
    async fn dial(&self, backend: &Backend) -> Result<Stream, DialError> {
        let options = &self.pool.options;
        let connect = |address| self.worker.engine.connect(address, options.tcp);
        let mut stream = dial(&backend.addresses, options.connect_timeout, connect).await?;
        let mut first = announcement(self.client, self.session);
        first.extend(self.greeting.iter().flat_map(|greeting| &greeting.bytes));
        stream.write_all(&first).await.map_err(DialError::Member)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// There may be many thousand that do nothing. tokio rounds what it adds to this up to a multiple of 128.
    #[test]
    fn little_is_kept_of_a_session_while_it_is_relayed() {
        assert!(bytes_of(run) <= 152, "the future: {}", bytes_of(run));
        assert!(size_of::<Session>() <= 304, "the row: {}", size_of::<Session>());
    }
}
