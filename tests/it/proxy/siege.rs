//! Clients and servers that do their worst, many at once, beside a session that goes on: what they take, how long they
//! stay, and what that session notices.

mod garbage;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pilotfish::proxy::Ended;
use pilotfish::stats::End;
use pilotfish::topology::Fate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::alone::{alone, resident};
use super::bench::{Bench, Place, Setup};
use super::flood::{self, Flood, Sent, cancelling};
use super::member::Member;
use super::packets::{SSL_REQUEST, WELCOME, client_hello, startup};
use super::peer::Peer;
use super::{DEADLINE, until, within};

/// Of each kind at once.
const MANY: usize = 200;
/// What one of them may take, with the test's own end of it and what the allocator keeps.
const MOST_BYTES_EACH: usize = 16 * 1024;
/// What a client here reads into.
const LISTENS_BYTES: usize = 16 * 1024;
/// For everything else of the process.
const SLACK: usize = 8_000_000;
/// The beginning of what a server answers to a ClientHello.
const SERVER_HELLO: &[u8] = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03";
/// What 99 of 100 pings beside them stay below. Whoever holds a worker up does so for seconds; a test is not optimised and
/// shares the machine, so how little it is without others is printed, not judged.
const PING: Duration = Duration::from_millis(500);
const PINGS: usize = 300;
/// Between two pings that go on for long.
const PAUSE: Duration = Duration::from_millis(1);

/// A session beside all that, which is to notice nothing.
struct Beside {
    client: Peer,
    backend: Peer,
}

impl Beside {
    /// There and back.
    async fn ping(&mut self) -> Duration {
        let begun = Instant::now();
        self.client.say(b"there").await;
        self.backend.hear(b"there").await;
        self.backend.say(b"and back").await;
        self.client.hear(b"and back").await;
        begun.elapsed()
    }

    async fn notices_nothing(&mut self, of: &str) {
        let mut pings = Vec::new();
        for _ in 0..PINGS {
            pings.push(self.ping().await);
        }
        let p99 = p99(pings);
        println!("{of}: p99 {p99:?}");
        assert!(p99 < PING, "{of}: 99 of 100 pings within {p99:?}");
    }
}

/// What 99 of 100 stay below.
fn p99(mut pings: Vec<Duration>) -> Duration {
    pings.sort();
    pings[pings.len() * 99 / 100]
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

#[test]
fn ten_thousand_cancel_requests_a_second_bother_nobody() {
    alone("proxy::siege::ten_thousand_cancel_requests_a_second_bother_nobody", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
        bench.publish([member.writer()]);
        let mut beside = beside(&bench, &member).await;
        let asked = cancelling(member);
        let (before, begun) = (resident(), Instant::now());
        let flood = Flood::begin(bench.primary.at);
        let (mut pings, mut most) = (Vec::new(), 0);
        let mut ping = async || {
            pings.push(beside.ping().await);
            most = most.max(resident());
            // It is not to be a flood itself.
            sleep(PAUSE).await;
        };
        while !flood.is_over() {
            ping().await;
        }
        let Sent { offered, kept_out } = flood.sent();
        let sent = (offered - kept_out) as u64;
        // What it left behind is still a flood.
        while bench.primary.stats.ends(End::Cancel) < sent && begun.elapsed() < DEADLINE {
            ping().await;
        }
        let (took, worst, grown) = (begun.elapsed(), p99(pings), most.saturating_sub(before));
        println!(
            "{:.0} cancel requests a second offered, {kept_out} in all kept out, {:.0} a second passed on; p99 {worst:?}, \
             {grown} bytes more",
            offered as f64 / flood::LASTS.as_secs_f64(),
            sent as f64 / took.as_secs_f64(),
        );
        assert!(offered >= flood::AT_LEAST, "{offered} offered");
        // A machine that is too slow for all of them has a whole queue of them all the same.
        assert!(sent as usize >= offered.min(flood::queue()), "{kept_out} of {offered} kept out");
        bench.primary.ended(End::Cancel, sent).await;
        assert_eq!(asked.load(Relaxed) as u64, sent, "every request arrives, and as it was");
        assert!(worst < PING, "99 of 100 pings within {worst:?}");
        assert!(grown < Setup::default().max_sessions * MOST_BYTES_EACH / 4, "{grown} bytes more");
        alone_again(&bench).await;
        beside.notices_nothing("the end of the flood").await;
    });
}

/// Sends a byte now and then until it is not listened to any more.
async fn dribble(mut client: Peer) {
    while client.stream.write_all(b"x").await.is_ok() {
        sleep(20 * PAUSE).await;
    }
}

#[test]
fn clients_without_a_whole_first_packet_are_given_up_when_its_time_is_over() {
    alone("proxy::siege::clients_without_a_whole_first_packet_are_given_up_when_its_time_is_over", async {
        let first_packet = Duration::from_millis(200);
        let bench = Bench::new(Setup { first_packet, ..Setup::default() });
        let member = Member::start("a").await;
        bench.publish([member.writer()]);
        let mut beside = beside(&bench, &member).await;
        let before = resident();
        let given_up = async |step: &str, times: usize| {
            bench.primary.ended(End::ClientSilent, (times * MANY) as u64).await;
            alone_again(&bench).await;
            for Ended { end, age, .. } in bench.workers.recent_ends().iter().take(MANY) {
                assert_eq!(*end, End::ClientSilent, "{step}");
                assert!((first_packet..first_packet + PING).contains(age), "{step}: {age:?}");
            }
        };
        let unfinished = &steps()[..5];
        for (times, (step, bytes)) in (1..).zip(unfinished) {
            let clients = many(&bench, bytes).await;
            beside.notices_nothing(&format!("{MANY} silent after {step}")).await;
            for mut client in clients {
                client.hear_end().await;
            }
            given_up(step, times).await;
        }
        // Nor does it help to say a little all the time.
        let claim = [10_000_u32.to_be_bytes(), [0, 3, 0, 0]].concat();
        let dribbling: JoinSet<()> = many(&bench, &claim).await.into_iter().map(dribble).collect();
        beside.notices_nothing(&format!("{MANY} with a byte now and then")).await;
        given_up("a byte now and then", unfinished.len() + 1).await;
        within("the last byte", dribbling.join_all()).await;

        let grown = resident().saturating_sub(before);
        assert!(grown < SLACK, "{grown} bytes are kept");
        assert_eq!(bench.primary.dials(), 1, "the session beside");
        member.is_left_alone();
        drop(beside);
        bench.emptied().await;
    });
}

/// A session that has agreed on TLS, which passes through; of what either side says then, a half has come.
async fn handshake(bench: &Bench, member: &Member) -> (Peer, Peer) {
    let mut client = bench.primary.client_saying(&SSL_REQUEST).await;
    let mut backend = member.session_saying(&SSL_REQUEST).await;
    backend.say(b"S").await;
    client.hear(b"S").await;
    let hello = client_hello();
    let half = &hello[..hello.len() / 2];
    client.say(half).await;
    backend.hear(half).await;
    backend.say(SERVER_HELLO).await;
    client.hear(SERVER_HELLO).await;
    (client, backend)
}

#[test]
fn tls_handshakes_that_stall_last_until_a_peer_ends_them_and_bother_nobody() {
    alone("proxy::siege::tls_handshakes_that_stall_last_until_a_peer_ends_them_and_bother_nobody", async {
        let first_packet = Duration::from_millis(200);
        let bench = Bench::new(Setup { first_packet, ..Setup::default() });
        let member = Member::start("a").await;
        bench.publish([member.writer()]);
        let mut beside = beside(&bench, &member).await;
        let before = resident();
        for end in [End::ClientReset, End::BackendReset, End::ClientClosed] {
            let mut stalled = Vec::new();
            for _ in 0..MANY {
                stalled.push(handshake(&bench, &member).await);
            }
            let all_there = Instant::now();
            beside.notices_nothing(&format!("{MANY} stalled within a TLS handshake")).await;
            // They have had their first packet: how long the rest takes is not asked.
            sleep((2 * first_packet).saturating_sub(all_there.elapsed())).await;
            assert_eq!(bench.primary.stats.clients(), MANY + 1);
            let grown = resident().saturating_sub(before);
            assert!(grown < MANY * MOST_BYTES_EACH + SLACK, "{grown} bytes for {MANY}");
            for (mut client, mut backend) in stalled {
                match end {
                    End::ClientReset => {
                        client.reset();
                        backend.hear_reset().await;
                    }
                    End::BackendReset => {
                        backend.reset();
                        client.hear_reset().await;
                    }
                    _ => {
                        client.finish();
                        backend.hear_end().await;
                        backend.finish();
                        client.hear_end().await;
                    }
                }
            }
            bench.primary.ended(end, MANY as u64).await;
            alone_again(&bench).await;
            beside.notices_nothing(&format!("{MANY} x {end}")).await;
        }
        drop(beside);
        bench.emptied().await;
    });
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
