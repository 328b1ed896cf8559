//! The first packet: what is passed on as it came, and what costs no member a connection.

use pilotfish::stats::End;

use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::{GSSENC_REQUEST, SSL_REQUEST, WELCOME, client_hello, startup};
use super::until;

#[tokio::test]
async fn first_packets_are_passed_on_as_they_came() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    // What comes behind the packet in one go stays behind it.
    for (packet, rest) in [
        (&SSL_REQUEST[..], &b""[..]),
        (&SSL_REQUEST, b"too early"),
        (&GSSENC_REQUEST, b""),
        (&startup(0, "app"), b""),
        (&startup(2, "app"), b"too early"),
        (&startup(0, &"x".repeat(9_000)), b""),
        (&client_hello(), b""),
    ] {
        let whole = [packet, rest].concat();
        for pieces in [whole.len(), 1.max(whole.len() / 100)] {
            let mut client = bench.primary.client().await;
            for piece in whole.chunks(pieces) {
                client.say(piece).await;
                tokio::task::yield_now().await;
            }
            let mut backend = member.session_saying(packet).await;
            backend.say(WELCOME).await;
            client.hear(WELCOME).await;
            backend.hear(rest).await;
        }
    }
}

#[tokio::test]
async fn garbage_is_answered_and_reaches_no_member() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let with_length = |length: u32| [&length.to_be_bytes()[..], &startup(0, "app")[4..]].concat();
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: db.example\r\nAccept: */*\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &with_length(0),
        &with_length(7),
        &with_length(10_001),
        &with_length(u32::MAX),
    ];
    for (times, bytes) in (1..).zip(garbage) {
        let mut client = bench.primary.client_saying(bytes).await;
        let refused = client.hear_refusal().await;
        assert_eq!(refused.sqlstate, "08P01", "{refused:?}");
        drop(client);
        bench.primary.ended(End::ClientGarbage, times).await;
    }
    bench.emptied().await;
    assert_eq!(bench.primary.dials(), 0);
    member.is_left_alone();
}

#[tokio::test]
async fn who_says_nothing_costs_no_member_and_leaves_nothing_behind() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let mut silent = bench.primary.client().await;
    // A port check: connects, and closes or breaks off.
    for times in [1, 3] {
        drop(bench.primary.client().await);
        bench.primary.ended(End::ClientProbe, times).await;
        bench.primary.client().await.reset();
        bench.primary.ended(End::ClientProbe, times + 1).await;
    }
    let mut halfway = bench.primary.client_saying(&startup(0, "app")[..11]).await;
    halfway.finish();
    halfway.hear_end().await;
    bench.primary.ended(End::ClientClosed, 1).await;

    assert_eq!(bench.workers.open_sessions(), 1);
    // An end is counted before its client is not.
    until("one client", || bench.primary.stats.clients() == 1).await;
    assert_eq!(bench.primary.dials(), 0);
    silent.finish();
    silent.hear_end().await;
    bench.primary.ended(End::ClientProbe, 5).await;
    bench.emptied().await;
    member.is_left_alone();
}
