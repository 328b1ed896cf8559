//! Pressure: who does not read slows down who writes, and memory stays what it was.

use pilotfish::proxy::{Keepalive, TcpOptions};
use pilotfish::stats::End;

use socket2::SockRef;
use tokio::net::TcpSocket;

use super::alone::{alone, resident};
use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::WELCOME;
use super::pattern::STRETCH;
use super::peer::Peer;
use super::{ALL_BUFFERS, DEADLINE, until};

#[tokio::test]
async fn a_reader_that_stops_stops_its_writer_and_nothing_is_lost() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let (mut client, mut backend) = bench.primary.session(&member).await;

    let (inward, outward) = (client.fill(ALL_BUFFERS).await, backend.fill(ALL_BUFFERS).await);
    assert!(inward > 0 && inward < ALL_BUFFERS, "{inward}");
    assert!(outward > 0 && outward < ALL_BUFFERS, "{outward}");
    // Neither direction waits for the other.
    backend.hear_pattern(inward).await;
    client.say(b"and on").await;
    backend.hear(b"and on").await;
    client.hear_pattern(outward).await;
    client.finish();
    backend.hear_end().await;
    backend.finish();
    client.hear_end().await;

    bench.primary.ended(End::ClientClosed, 1).await;
    let counts = bench.primary.stats.members()[0].1;
    let (inward, outward) = (inward + b"and on".len(), WELCOME.len() + outward);
    assert_eq!((counts.bytes_in, counts.bytes_out), (inward as u64, outward as u64));
}

/// TCP_USER_TIMEOUT would end a session whose receiver pauses, and no test has the time to wait for that.
#[tokio::test]
async fn a_pause_may_take_as_long_as_it_likes_if_the_peer_is_alive() {
    let member = Member::start("a").await;
    let peer = Peer::connect(member.at).await;
    let socket = SockRef::from(&peer.stream);
    let keepalive = Keepalive { idle: DEADLINE, interval: DEADLINE, count: 3 };
    let options = TcpOptions { keepalive: Some(keepalive), user_timeout: None };
    options.apply(&socket).expect("an open socket");
    assert_eq!(socket.tcp_user_timeout().expect("an open socket"), None);
    assert!(socket.keepalive().expect("an open socket"));
}

/// Small buffers and packets as on a real network. Over the loopback's own packets of 64 KiB the kernel holds
/// megabytes for each session, and 200 full ones would need more of its memory than there is.
fn narrow_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    let options = SockRef::from(&socket);
    options.set_tcp_mss(1400).expect("a new socket");
    options.set_recv_buffer_size(64 * 1024).expect("a new socket");
    options.set_send_buffer_size(64 * 1024).expect("a new socket");
    socket
}

#[test]
fn idle_sessions_hold_no_buffer_and_full_ones_no_more_than_one_each_way() {
    const SESSIONS: usize = 200;
    /// What one direction may hold for a receiver that does not take it.
    const REST: usize = 64 * 1024;
    /// Fills the sockets behind pilotfish, so that something is left over in between.
    const ENOUGH: usize = 1_500_000;
    /// For everything else: the sockets of the test, the sessions themselves, the allocator.
    const SLACK: usize = 6_000_000;
    alone("proxy::pressure::idle_sessions_hold_no_buffer_and_full_ones_no_more_than_one_each_way", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start_on("a", narrow_socket()));
        bench.publish([member.writer()]);
        let mut sessions = Vec::new();
        let mut before = 0;
        for number in 0..=SESSIONS {
            let client = Peer::through(narrow_socket(), bench.primary.at).await;
            let (mut client, mut backend) = member.welcome(client).await;
            for _ in 0..3 {
                tokio::join!(client.say_pattern(STRETCH), backend.hear_pattern(STRETCH));
                tokio::join!(backend.say_pattern(STRETCH), client.hear_pattern(STRETCH));
            }
            sessions.push((client, backend));
            if number == 0 {
                before = resident();
            }
        }
        let idle = resident().saturating_sub(before);
        assert!(idle < SLACK, "{idle} bytes for {SESSIONS} idle sessions");

        let mut full = tokio::task::JoinSet::new();
        for (number, (client, backend)) in sessions.into_iter().enumerate() {
            let (mut writer, reader) = if number % 2 == 0 { (client, backend) } else { (backend, client) };
            full.spawn(async move { (writer.fill(ENOUGH).await, writer, reader) });
        }
        let full = full.join_all().await;
        let stalled = resident().saturating_sub(before);
        assert!(stalled < SESSIONS * REST + 2 * SLACK, "{stalled} bytes for {SESSIONS} full sessions");

        for (sent, mut writer, mut reader) in full {
            reader.hear_pattern(sent).await;
            tokio::join!(writer.say(b"and on"), reader.hear(b"and on"));
        }
        until("all gone", || bench.workers.open_sessions() == 0).await;
    });
}
