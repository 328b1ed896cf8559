//! Clients and servers that do their worst, many at once, beside a session that goes on: what they take, how long they
//! stay, and what that session notices.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pilotfish::stats::End;
use pilotfish::topology::Fate;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::alone::{alone, resident};
use super::bench::{Bench, Place, Setup};
use super::member::Member;
use super::packets::{SSL_REQUEST, WELCOME, cancel, startup};
use super::peer::Peer;
use super::{until, within};

/// Of each kind at once.
const MANY: usize = 200;
/// What one of them may take, with the test's own end of it and what the allocator keeps.
const MOST_BYTES_EACH: usize = 16 * 1024;
/// What a client here reads into.
const LISTENS_BYTES: usize = 16 * 1024;
/// For everything else of the process.
const SLACK: usize = 8_000_000;
/// What 99 of 100 pings beside them stay below. Whoever holds a worker up does so for seconds; a test is not optimised and
/// shares the machine, so how little it is without others is printed, not judged.
const PING: Duration = Duration::from_millis(500);
const PINGS: usize = 300;
const CANCELS_A_SECOND: f64 = 10_000.0;
const FLOOD: Duration = Duration::from_secs(2);

/// A session beside all that, which is to notice nothing.
struct Beside {
    client: Peer,
    backend: Peer,
}

impl Beside {
    /// There and back, again and again; what 99 of 100 stay below.
    async fn ping(&mut self) -> Duration {
        let mut took = Vec::new();
        for _ in 0..PINGS {
            let begun = Instant::now();
            self.client.say(b"there").await;
            self.backend.hear(b"there").await;
            self.backend.say(b"and back").await;
            self.client.hear(b"and back").await;
            took.push(begun.elapsed());
        }
        took.sort();
        took[took.len() * 99 / 100]
    }

    async fn notices_nothing(&mut self, of: &str) {
        let p99 = self.ping().await;
        println!("{of}: p99 {p99:?}");
        assert!(p99 < PING, "{of}: 99 of 100 pings within {p99:?}");
    }
}

/// How far a client comes before it stalls, breaks off or ends.
fn steps() -> Vec<(&'static str, Vec<u8>)> {
    let hello = startup(0, "app");
    vec![
        ("nothing", vec![]),
        ("half a length", hello[..2].to_vec()),
        ("half a StartupMessage", hello[..hello.len() / 2].to_vec()),
        ("a length of 10,000 and no more", 10_000_u32.to_be_bytes().to_vec()),
        ("half an SSLRequest", SSL_REQUEST[..6].to_vec()),
        ("an SSLRequest", SSL_REQUEST.to_vec()),
        ("a StartupMessage", hello),
    ]
}

async fn many(bench: &Bench, bytes: &[u8]) -> Vec<Peer> {
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(bench.primary.client_saying(bytes).await);
    }
    clients
}

async fn beside(bench: &Bench, member: &Member) -> Beside {
    let (client, backend) = bench.primary.session(member).await;
    Beside { client, backend }
}

/// All but the session beside are gone.
async fn alone_again(bench: &Bench) {
    until("only the session beside", || bench.primary.stats.clients() == 1).await;
}

#[test]
fn clients_that_stall_reset_or_half_close_at_any_step_bother_nobody() {
    alone("proxy::siege::clients_that_stall_reset_or_half_close_at_any_step_bother_nobody", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
        bench.publish([member.writer()]);
        let mut beside = beside(&bench, &member).await;
        beside.notices_nothing("nobody").await;
        // Their servers take the first packet and say nothing.
        member.serve_all(async |mut session| drop(session.stream.read_to_end(&mut Vec::new()).await));
        let before = resident();
        for (step, bytes) in steps() {
            let stalled = many(&bench, &bytes).await;
            until(step, || bench.primary.stats.clients() == MANY + 1).await;
            beside.notices_nothing(&format!("{MANY} stalled after {step}")).await;
            let grown = resident().saturating_sub(before);
            assert!(grown < MANY * MOST_BYTES_EACH + SLACK, "{step}: {grown} bytes for {MANY}");
            stalled.into_iter().for_each(Peer::reset);
            alone_again(&bench).await;

            let mut halves = many(&bench, &bytes).await;
            halves.iter().for_each(Peer::finish);
            beside.notices_nothing(&format!("{MANY} half closed after {step}")).await;
            for half in &mut halves {
                let _ = within("the other half", half.stream.read_to_end(&mut Vec::new())).await;
            }
            drop(halves);
            alone_again(&bench).await;
        }
        let grown = resident().saturating_sub(before);
        println!("{grown} bytes more after {} clients", steps().len() * MANY * 2);
        assert!(grown < SLACK, "{grown} bytes are kept");
        assert_eq!(bench.workers.open_sessions(), 1);
    });
}

/// As many a second as are wanted, or as the machine lets it; says how many.
fn flood(at: SocketAddr) -> usize {
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < FLOOD {
        if (sent as f64) < begun.elapsed().as_secs_f64() * CANCELS_A_SECOND {
            flood_one(at, sent).expect("a listener, and a free port");
            sent += 1;
        } else {
            std::thread::yield_now();
        }
    }
    sent
}

#[test]
fn ten_thousand_cancel_requests_a_second_bother_nobody() {
    alone("proxy::siege::ten_thousand_cancel_requests_a_second_bother_nobody", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
        bench.publish([member.writer()]);
        let mut beside = beside(&bench, &member).await;
        // PostgreSQL closes when it has sent the signal.
        member.serve_all(async |mut session| drop(session.stream.read(&mut [0; 16]).await));
        let (before, at) = (resident(), bench.primary.at);
        let flood = std::thread::spawn(move || flood(at));
        let mut worst = Duration::ZERO;
        while !flood.is_finished() {
            worst = worst.max(beside.ping().await);
        }
        let sent = flood.join().expect("no panic");
        let grown = resident().saturating_sub(before);
        let rate = sent as f64 / FLOOD.as_secs_f64();
        println!("{rate:.0} cancel requests a second: p99 {worst:?}, {grown} bytes more");
        assert!(worst < PING, "{rate:.0} a second: 99 of 100 pings within {worst:?}");
        assert!(grown < Setup::default().max_sessions * MOST_BYTES_EACH / 4, "{grown} bytes more");
        alone_again(&bench).await;
        bench.primary.ended(End::Cancel, sent as u64).await;
        beside.notices_nothing("the end of the flood").await;
    });
}

/// Sends one and does not wait for what comes of it. From many addresses, as one has not so many ports.
fn flood_one(at: SocketAddr, number: usize) -> io::Result<()> {
    let from = Ipv4Addr::new(127, 0, 1, 1 + (number % 200) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&at.into())?;
    TcpStream::from(socket).write_all(&cancel(16, 7))
}

/// What a server does once it has taken a connection and said its first bytes.
#[derive(Debug, Clone, Copy)]
enum Act {
    Reset,
    Stall,
    HalfClose,
    /// Says them again and again.
    Flood,
}

impl Act {
    async fn on(self, mut session: Peer, first: &[u8]) {
        let stream = &mut session.stream;
        let _ = stream.write_all(first).await;
        match self {
            Act::Reset => return session.reset(),
            Act::HalfClose => session.finish(),
            Act::Flood => while session.stream.write_all(&first.repeat(1000)).await.is_ok() {},
            Act::Stall => {}
        }
        let _ = session.stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Listens for a while and then leaves, as whoever is tired of it would.
async fn listen(mut client: Peer) {
    let mut heard = vec![0; LISTENS_BYTES];
    let listen = async { while client.stream.read(&mut heard).await.is_ok_and(|length| length > 0) {} };
    let _ = timeout(Duration::from_secs(1), listen).await;
}

#[test]
fn servers_that_send_garbage_stall_or_reset_at_any_step_bother_nobody_else() {
    alone("proxy::siege::servers_that_send_garbage_stall_or_reset_at_any_step_bother_nobody_else", async {
        let good = Member::start("good").await;
        let (hold, connect_timeout) = (Duration::from_millis(300), Duration::from_millis(100));
        let bench = Bench::new(Setup { hold, connect_timeout, ..Setup::default() });
        bench.publish([good.writer()]);
        let mut beside = beside(&bench, &good).await;
        let before = resident();
        for (what, first, act) in [
            ("a reset after the accept", &b""[..], Act::Reset),
            ("a stall after the accept", b"", Act::Stall),
            ("a half-close after the accept", b"", Act::HalfClose),
            ("a reset after the answer to an SSLRequest", b"S", Act::Reset),
            ("a stall after the answer to an SSLRequest", b"S", Act::Stall),
            ("half a message and a half-close", b"R\0\0", Act::HalfClose),
            ("garbage without an end", b"\xff\xff\xff\xff\xff", Act::Flood),
            ("a reset in the middle of the relay", WELCOME, Act::Reset),
            ("a stall in the middle of the relay", WELCOME, Act::Stall),
            ("a half-close in the middle of the relay", WELCOME, Act::HalfClose),
        ] {
            let bad = Member::start("bad").await;
            // The session on the good one stays; new ones go to the bad one.
            bench.publish([Place { writers: Fate::Keep, ..good.reader() }, bad.writer()]);
            bad.serve_all(move |session| act.on(session, first));
            let hello = if first == b"S" { SSL_REQUEST.to_vec() } else { startup(0, "app") };
            let clients: JoinSet<()> = many(&bench, &hello).await.into_iter().map(listen).collect();
            beside.notices_nothing(&format!("{MANY} servers with {what}")).await;
            let grown = resident().saturating_sub(before);
            assert!(grown < MANY * (LISTENS_BYTES + MOST_BYTES_EACH) + SLACK, "{what}: {grown} bytes");
            within(what, clients.join_all()).await;
            alone_again(&bench).await;
        }
        assert_eq!(bench.workers.open_sessions(), 1);
    });
}
