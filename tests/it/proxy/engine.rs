//! The engine of a worker without the worker: two sockets in, the end of the session out.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pilotfish::proxy::engine::Engine;
use pilotfish::proxy::relay::{Meter, Tools};
use pilotfish::proxy::stream::Stream;
use pilotfish::proxy::{Keepalive, Protocol, TcpOptions};
use pilotfish::stats::{End, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::kernel::connection;
use super::member::{Absent, Member};
use super::peer::Peer;
use super::{ALL_BUFFERS, within};

/// An engine that runs.
pub struct Rig {
    engine: Arc<Engine<Tally>>,
}

/// What was delivered.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub inward: Arc<AtomicUsize>,
    pub outward: Arc<AtomicUsize>,
    /// Does not survive the first byte.
    faulty: bool,
}

/// A session that is being relayed.
pub struct Session {
    pub client: Peer,
    pub backend: Peer,
    pub tally: Tally,
    end: JoinHandle<End>,
}

impl Meter for Tally {
    fn delivered(&self, to: Side, bytes: usize) {
        assert!(!self.faulty, "a fault, as the test wants it");
        let tally = if to == Side::Client { &self.outward } else { &self.inward };
        tally.fetch_add(bytes, Relaxed);
    }
}

impl Rig {
    pub fn new(tools: Tools) -> Rig {
        let rig = Rig::at_rest(tools);
        rig.run();
        rig
    }

    /// One that does not run yet.
    fn at_rest(tools: Tools) -> Rig {
        Rig { engine: Arc::new(Engine::with(tools).expect("an engine")) }
    }

    fn run(&self) {
        tokio::spawn({
            let engine = Arc::clone(&self.engine);
            async move {
                loop {
                    let engine = Arc::clone(&engine);
                    // As a worker does: after a fault it is run again.
                    let _ = tokio::spawn(async move { engine.run().await }).await;
                }
            }
        });
    }

    pub async fn session(&self) -> Session {
        self.session_with(Tally::default()).await
    }

    async fn session_with(&self, tally: Tally) -> Session {
        let (client, backend) = (self.connection().await, self.connection().await);
        self.relay(client, backend, tally)
    }

    /// A connection that is not relayed yet, and its other end.
    async fn connection(&self) -> (Peer, Stream) {
        let (peer, socket) = pair().await;
        (peer, self.engine.adopt(socket).expect("a socket to watch"))
    }

    fn relay(&self, client: (Peer, Stream), backend: (Peer, Stream), tally: Tally) -> Session {
        let ((client, client_side), (backend, backend_side)) = (client, backend);
        let (engine, meter) = (Arc::clone(&self.engine), tally.clone());
        let relay = async move { engine.relay(client_side, backend_side, Protocol::Postgresql, meter).await };
        let end = tokio::spawn(relay);
        Session { client, backend, tally, end }
    }
}

impl Session {
    /// Waits for the end, which must be this one.
    pub async fn ends_as(&mut self, expected: End) {
        let end = within("the end of the session", &mut self.end).await;
        assert_eq!(end.expect("no panic"), expected);
    }

    /// Bytes delivered from the client and to it.
    pub fn delivered(&self) -> (usize, usize) {
        (self.tally.inward.load(Relaxed), self.tally.outward.load(Relaxed))
    }
}

/// Both ends of a connection.
async fn pair() -> (Peer, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let peer = Peer::connect(listener.local_addr().expect("an address")).await;
    let (accepted, _) = within("a connection", listener.accept()).await.expect("a connection");
    accepted.set_nodelay(true).expect("an open socket");
    (peer, accepted.into_std().expect("an open socket").into())
}

#[tokio::test]
async fn a_session_that_panics_takes_none_of_fifty_others_along() {
    let rig = Rig::new(Tools::default());
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(rig.session().await);
    }
    let faulty = || Tally { faulty: true, ..Tally::default() };
    for other in &mut others {
        other.client.say(b"before").await;
        // One by a byte that comes while it is relayed, one by a byte that had come before.
        let mut late = rig.session_with(faulty()).await;
        late.client.say(b"now").await;
        let (mut client, backend) = (rig.connection().await, rig.connection().await);
        client.0.say(b"early").await;
        assert!(within("bytes", client.1.look(&mut [0; 5])).await.expect("an open socket") > 0);
        let early = rig.relay(client, backend, faulty());
        for mut panicked in [late, early] {
            panicked.ends_as(End::Panicked).await;
            panicked.client.hear_reset().await;
            panicked.backend.hear_reset().await;
        }
    }
    for mut other in others {
        other.backend.hear(b"before").await;
        other.backend.say(b"after").await;
        other.client.hear(b"after").await;
        other.client.finish();
        other.backend.hear_end().await;
        other.backend.finish();
        other.ends_as(End::ClientClosed).await;
    }
}

#[tokio::test]
async fn a_session_that_is_dropped_is_reset_and_leaves_its_seat_to_the_next() {
    let rig = Rig::new(Tools::default());
    for _ in 0..3 {
        let mut session = rig.session().await;
        session.client.say(b"question").await;
        session.backend.hear(b"question").await;
        session.end.abort();
        session.client.hear_reset().await;
        session.backend.hear_reset().await;
    }
}

/// What has come is not told again.
#[tokio::test]
async fn what_came_before_the_relay_is_passed_on() {
    let rig = Rig::new(Tools::default());
    let (mut client, mut backend) = (rig.connection().await, rig.connection().await);
    client.0.say(b"early").await;
    client.0.finish();
    backend.0.say(b"bird").await;
    for (_, side) in [&client, &backend] {
        assert!(within("bytes", side.look(&mut [0; 9])).await.expect("an open socket") > 0);
    }
    let mut session = rig.relay(client, backend, Tally::default());
    session.backend.hear(b"early").await;
    session.backend.hear_end().await;
    session.client.hear(b"bird").await;
    session.backend.finish();
    session.ends_as(End::ClientClosed).await;
}

/// More than one turn may move, and nobody else keeps the engine going.
#[tokio::test]
async fn much_that_came_before_the_relay_is_passed_on_too() {
    let rig = Rig::new(Tools::default());
    let (client, mut backend) = (rig.connection().await, rig.connection().await);
    let sent = backend.0.fill(ALL_BUFFERS).await;
    let mut session = rig.relay(client, backend, Tally::default());
    session.client.hear_pattern(sent).await;
    session.backend.finish();
    session.client.hear_end().await;
    session.client.finish();
    session.ends_as(End::BackendClosed).await;
}

#[tokio::test]
async fn a_dial_succeeds_or_says_why_not() {
    let rig = Rig::new(Tools::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    let mut dialled = rig.engine.connect(at, TcpOptions::default()).await.expect("a connection");
    assert_eq!(dialled.peer_addr().expect("a connection"), at);
    let (accepted, from) = within("a connection", listener.accept()).await.expect("a connection");
    assert_eq!(dialled.local_addr().expect("a connection"), from);
    let mut peer = Peer::new(accepted);
    dialled.write_all(b"question").await.expect("a listener");
    peer.hear(b"question").await;
    peer.say(b"answer").await;
    let mut heard = [0; 6];
    within("an answer", dialled.read_exact(&mut heard)).await.expect("an answer");
    assert_eq!(&heard, b"answer");
    drop(listener);
    let refused = rig.engine.connect(at, TcpOptions::default()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// A dial that nobody answers at first, for the queue of the listener is full, and the listener.
async fn unanswered(rig: &Rig) -> (JoinHandle<io::Result<Stream>>, Member, Peer) {
    let (member, filler) = Absent::reserve("a").falls_silent().await;
    let (engine, at) = (Arc::clone(&rig.engine), member.at);
    let mut dial = Box::pin(async move { engine.connect(at, TcpOptions::default()).await });
    tokio::select! {
        biased;
        _ = &mut dial => panic!("somebody has answered"),
        () = std::future::ready(()) => {}
    }
    (tokio::spawn(dial), member, filler)
}

/// The kernel knocks again after a second.
#[tokio::test]
async fn a_dial_that_has_to_wait_is_told_how_it_went() {
    let rig = Rig::new(Tools::default());
    let (answered, member, filler) = unanswered(&rig).await;
    let (refused, gone, _other_filler) = unanswered(&rig).await;
    drop(gone);
    assert_eq!(member.session().await.peer_port(), filler.port());
    let mut dialled = within("an answer", answered).await.expect("no panic").expect("a connection");
    let mut accepted = member.session().await;
    dialled.write_all(b"question").await.expect("a listener");
    accepted.hear(b"question").await;
    let refused = within("a refusal", refused).await.expect("no panic").expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// A server that does not react keeps no port; a client may still read why it was refused.
#[tokio::test]
async fn before_the_relay_what_was_dialled_is_reset_and_what_was_accepted_ends_in_order() {
    let rig = Rig::new(Tools::default());
    let (mut client, accepted) = rig.connection().await;
    drop(accepted);
    client.hear_end().await;
    let server = Member::start("a").await;
    let dialled = rig.engine.connect(server.at, TcpOptions::default()).await.expect("a connection");
    let mut session = server.session().await;
    drop(dialled);
    session.hear_reset().await;
}

/// Less than a tick of the engine, the first of which comes at once. In the clock of a test that has paused it only what is
/// waited for takes time.
const MOMENT: Duration = Duration::from_millis(500);

/// More than are taken from the kernel at once.
#[tokio::test]
async fn many_that_speak_at_the_same_time_are_all_heard() {
    const MANY: usize = 300;
    let rig = Rig::new(Tools::default());
    let mut connections = Vec::new();
    for _ in 0..MANY {
        connections.push(rig.connection().await);
    }
    for (peer, _) in &connections {
        assert_eq!(peer.stream.try_write(b"a").expect("room"), 1);
    }
    tokio::time::pause();
    let began = Instant::now();
    for (_, stream) in &connections {
        assert_eq!(within("news", stream.look(&mut [0])).await.expect("an open socket"), 1);
    }
    assert!(began.elapsed() < MOMENT, "{:?}", began.elapsed());
}

/// More than get it in one round.
#[tokio::test]
async fn keepalive_comes_for_many_at_the_same_time() {
    const MANY: usize = 100;
    let rig = Rig::at_rest(Tools::default());
    let member = Member::start("a").await;
    let seconds = Duration::from_secs;
    let keepalive = Keepalive { idle: seconds(700), interval: seconds(3), count: 2 };
    let options = TcpOptions { keepalive: Some(keepalive), user_timeout: None };
    let mut sessions = Vec::new();
    for _ in 0..MANY {
        let dialled = rig.engine.connect(member.at, options).await.expect("a connection");
        let backend = (member.session().await, dialled);
        sessions.push(rig.relay(rig.connection().await, backend, Tally::default()));
    }
    let is_asked = |session: &Session| {
        let ours = connection(session.backend.peer_port(), session.backend.port());
        ours.is_some_and(|ours| ours.asked_in.is_some())
    };
    tokio::time::pause();
    let began = Instant::now();
    rig.run();
    super::until("keepalive of the last", || is_asked(&sessions[MANY - 1])).await;
    assert!(began.elapsed() < MOMENT, "{:?}", began.elapsed());
}

/// An end of the stream is none of the connection.
#[tokio::test]
async fn a_connection_breaks_with_a_reset() {
    let rig = Rig::new(Tools::default());
    let (mut peer, stream) = rig.connection().await;
    peer.say(b"last words").await;
    peer.finish();
    assert!(within("bytes", stream.look(&mut [0; 9])).await.expect("an open socket") > 0);
    let breaks = tokio::spawn(async move { stream.breaks().await });
    // Whose news come later are told later.
    let (mut other, other_stream) = rig.connection().await;
    other.say(b"news of another").await;
    within("news", other_stream.look(&mut [0])).await.expect("an open socket");
    assert!(!breaks.is_finished());
    peer.reset();
    within("the break", breaks).await.expect("no panic");
}

/// A transfer that never lets the worker rest. It ends with the test.
async fn keep_busy(rig: &Rig) -> Tally {
    let Session { client, backend, tally, end } = rig.session().await;
    let (mut sink, mut source) = (client.stream, backend.stream);
    // One that gives up when it is kept waiting would end on a crowded machine.
    tokio::spawn(async move { tokio::io::copy(&mut tokio::io::repeat(7), &mut source).await });
    tokio::spawn(async move { tokio::io::copy(&mut sink, &mut tokio::io::sink()).await });
    tokio::spawn(end);
    super::until("the bulk transfer is under way", || tally.outward.load(Relaxed) > 10_000_000).await;
    tally
}

/// While one session has more to move than can ever be done, each message of another gets its turn.
#[tokio::test]
async fn a_bulk_transfer_does_not_keep_others_waiting() {
    /// What a worker may move of one bulk transfer while a message waits to be read, and again while its answer does.
    const MOST_PER_MESSAGE: usize = 4 << 20;
    const MESSAGES: usize = 50;
    let rig = Rig::new(Tools::default());
    let tally = keep_busy(&rig).await;
    let mut other = rig.session().await;
    let before = tally.outward.load(Relaxed);
    for _ in 0..MESSAGES {
        other.client.say(b"ping").await;
        other.backend.hear(b"ping").await;
        other.backend.say(b"pong").await;
        other.client.hear(b"pong").await;
    }
    let moved = tally.outward.load(Relaxed) - before;
    assert!(
        moved > 0 && moved < MESSAGES * MOST_PER_MESSAGE,
        "{moved} bytes while {MESSAGES} messages waited"
    );
}

/// Nor what comes with time.
#[tokio::test]
async fn a_farewell_beside_a_bulk_transfer_is_passed_on_in_the_end() {
    /// Together they leave the engine no moment without work.
    const TRANSFERS: usize = 16;
    let rig = Rig::new(Tools::default());
    let mut tally = keep_busy(&rig).await;
    for _ in 1..TRANSFERS {
        tally = keep_busy(&rig).await;
    }
    let mut session = rig.session().await;
    session.client.say(b"X\0\0\0\x04").await;
    session.client.finish();
    session.backend.hear(b"X\0\0\0\x04").await;
    session.backend.hear_end().await;
    let before = tally.outward.load(Relaxed);
    super::until("the bulk transfer goes on", || tally.outward.load(Relaxed) > before).await;
}

/// Who closes first keeps the address, and pilotfish has only so many towards one server.
#[tokio::test]
async fn a_server_that_is_told_farewell_closes_first() {
    const FAREWELL: &[u8] = b"X\0\0\0\x04";
    let rig = Rig::new(Tools::default());
    for (last_words, closes_first) in [(FAREWELL, true), (b"S\0\0\0\x04", false)] {
        let mut session = rig.session().await;
        let (server, pilotfish) = (session.backend.port(), session.backend.peer_port());
        session.client.say(last_words).await;
        session.client.finish();
        session.backend.hear(last_words).await;
        if !closes_first {
            session.backend.hear_end().await;
        }
        session.backend.finish();
        session.backend.hear_end().await;
        session.client.hear_end().await;
        session.ends_as(End::ClientClosed).await;
        let is_kept = connection(pilotfish, server).is_some_and(|connection| connection.is_kept);
        assert_eq!(is_kept, !closes_first);
    }
}

/// One that does not care for farewells, or cannot just now, is told in the end.
#[tokio::test]
async fn a_server_that_does_not_close_after_a_farewell_is_told_of_the_end() {
    let rig = Rig::new(Tools::default());
    let mut session = rig.session().await;
    session.client.say(b"X\0\0\0\x04").await;
    session.client.finish();
    session.backend.hear(b"X\0\0\0\x04").await;
    session.backend.hear_end().await;
    session.backend.say(b"and yet").await;
    session.backend.finish();
    session.client.hear(b"and yet").await;
    session.client.hear_end().await;
    session.ends_as(End::ClientClosed).await;
}
