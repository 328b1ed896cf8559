//! The server's first answer: until it comes, the client has seen nothing and can still be sent elsewhere.

use std::time::Duration;

use pilotfish::proxy::TroubleKind;
use pilotfish::stats::End;
use tokio::io::AsyncReadExt;

use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::{SSL_REQUEST, WELCOME, error, startup};
use super::peer::Peer;
use super::until;

/// How long a server may be silent before it counts as frozen.
const PATIENCE: Duration = Duration::from_millis(50);

fn impatient() -> Setup {
    Setup { connect_timeout: PATIENCE, ..Setup::default() }
}

#[tokio::test]
async fn a_server_that_cannot_serve_just_now_is_asked_again() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let hello = startup(0, "app");
    let mut client = bench.primary.client_saying(&hello).await;
    for sqlstate in ["57P01", "57P02", "57P03"] {
        let mut backend = member.session_saying(&hello).await;
        backend.say(&error(sqlstate, "the database system is starting up")).await;
        bench.primary.holds(1).await;
    }
    // One that hangs up before it has said anything has not served either.
    drop(member.session_saying(&hello).await);
    let mut backend = member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
    bench.primary.holds(0).await;
    assert_eq!(bench.troubles(), vec![("a".to_owned(), TroubleKind::DialFailed); 4]);
    assert_eq!(bench.primary.ends(), []);
}

#[tokio::test]
async fn any_other_error_is_the_client_s() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let hello = startup(0, "app");
    for (times, sqlstate) in (1..).zip(["28P01", "3D000", "53300"]) {
        let mut client = bench.primary.client_saying(&hello).await;
        let mut backend = member.session_saying(&hello).await;
        backend.say(&error(sqlstate, "no")).await;
        drop(backend);
        assert_eq!(client.hear_refusal().await.sqlstate, sqlstate);
        drop(client);
        bench.primary.ended(End::BackendClosed, times).await;
    }
}

#[tokio::test]
async fn readers_are_sent_on_from_a_server_that_cannot_serve_and_from_a_frozen_one() {
    let hello = startup(0, "app");
    for is_frozen in [false, true] {
        let bench = Bench::new(impatient());
        let (a, w) = (Member::start("a").await, Member::start("w").await);
        // With one reader and the primary behind it, the order is certain.
        bench.publish([a.reader(), w.writer()]);
        let mut client = bench.replicas.client_saying(&hello).await;
        let mut first = a.session_saying(&hello).await;
        if !is_frozen {
            first.say(&error("57P03", "the database system is starting up")).await;
        }
        let mut second = w.session_saying(&hello).await;
        second.say(WELCOME).await;
        client.hear(WELCOME).await;
        assert_eq!(bench.troubles(), [("a".to_owned(), TroubleKind::DialFailed)]);
        assert_eq!(bench.replicas.stats.hold_seconds.snapshot().count, 0);
    }
}

#[tokio::test]
async fn a_frozen_writer_is_waited_for_until_it_answers_or_another_takes_over() {
    let hello = startup(0, "app");
    for takes_over in [false, true] {
        let bench = Bench::new(impatient());
        let (a, b) = (Member::start("a").await, Member::start("b").await);
        bench.publish([a.writer(), b.reader()]);
        let mut client = bench.primary.client_saying(&hello).await;
        let frozen = a.session_saying(&hello).await;
        bench.primary.holds(1).await;
        assert_eq!(bench.troubles(), [("a".to_owned(), TroubleKind::DialFailed)]);
        // A table that changes nothing for it.
        bench.publish([a.writer(), b.place()]);
        let mut backend = if takes_over {
            bench.publish([a.place(), b.writer()]);
            b.session_saying(&hello).await
        } else {
            a.is_left_alone();
            frozen
        };
        backend.say(WELCOME).await;
        client.hear(WELCOME).await;
        bench.primary.holds(0).await;
        assert_eq!(bench.primary.stats.hold_seconds.snapshot().count, 1);
    }
}

#[tokio::test]
async fn who_waits_for_a_frozen_writer_can_leave_is_told_when_time_is_up_and_when_pilotfish_stops() {
    let hello = startup(0, "app");
    let hold = Duration::from_millis(200);
    let (bench, member) = (Bench::new(Setup { hold, ..impatient() }), Member::start("a").await);
    bench.publish([member.writer()]);
    let mut client = bench.primary.client_saying(&hello).await;
    let refused = client.hear_refusal().await;
    assert_eq!(refused.sqlstate, "57P03", "{refused:?}");
    assert!(refused.message.ends_with("a: it takes connections but does not answer"), "{refused:?}");
    drop(client);
    bench.primary.ended(End::HoldExpired, 1).await;

    let (bench, member) = (Bench::new(impatient()), Member::start("a").await);
    bench.publish([member.writer()]);
    let leaves = bench.primary.client_saying(&hello).await;
    let mut plain = bench.primary.client_saying(&hello).await;
    let mut wary = bench.primary.client_saying(&SSL_REQUEST).await;
    bench.primary.holds(3).await;
    leaves.reset();
    bench.primary.ended(End::ClientLeft, 1).await;
    bench.primary.holds(2).await;
    bench.workers.stop_accepting();
    assert_eq!(plain.hear_refusal().await.sqlstate, "57P03");
    wary.hear(b"N").await;
    wary.say(&hello).await;
    assert_eq!(wary.hear_refusal().await.sqlstate, "57P03");
    drop((plain, wary));
    bench.primary.ended(End::Shutdown, 2).await;
    bench.emptied().await;
}

/// The server ends the session, and the client accepts that.
async fn hang_up(backend: Peer, mut client: Peer) {
    backend.finish();
    client.hear_end().await;
}

#[tokio::test]
async fn after_a_hangup_new_sessions_let_the_check_come_first() {
    let bench = Bench::new(Setup::default());
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    bench.publish([a.writer(), b.reader()]);
    let (client, backend) = bench.primary.session(&a).await;
    hang_up(backend, client).await;
    until("the hangup told", || bench.troubles().contains(&("a".to_owned(), TroubleKind::Hangup))).await;
    let mut next = bench.primary.client_saying(&startup(0, "app")).await;
    bench.publish([a.place(), b.writer()]);
    let mut backend = b.session_saying(&startup(0, "app")).await;
    backend.say(WELCOME).await;
    next.hear(WELCOME).await;
    // And if the check has nothing to say, they go on.
    hang_up(backend, next).await;
    bench.primary.session(&b).await;
}

/// What PostgreSQL does with a PROXY protocol header, and what pgbouncer does.
#[tokio::test]
async fn a_server_that_hangs_up_on_a_header_is_suspected_not_to_understand_it() {
    let setup = Setup { send_proxy: true, hold: Duration::from_millis(500), ..Setup::default() };
    let (bench, member) = (Bench::new(setup), Member::start("a").await);
    bench.publish([member.writer()]);
    let misread = |likely| {
        let stats = bench.primary.stats.member("a");
        until("a verdict on the header", move || stats.misread.is_likely() == likely)
    };
    let hello = startup(0, "app");
    let mut client = bench.primary.client_saying(&hello).await;
    for _ in 0..3 {
        drop(member.session().await);
    }
    misread(true).await;
    let serve = async {
        // Held in vain, or done at the last try: it is told in either case.
        loop {
            drop(member.session().await);
        }
    };
    let refused = tokio::select! {
        refused = client.hear_refusal() => refused,
        () = serve => unreachable!("it has no end"),
    };
    assert!(refused.message.contains("send_proxy is set"), "{refused:?}");
    // Its answer shows that it does.
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    let mut backend = member.session().await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
    misread(false).await;
    for _ in 0..3 {
        let mut client = bench.primary.client_saying(&startup(0, "app")).await;
        let mut backend = member.session().await;
        // The header of two IPv4 addresses and the hello, lest closing resets what is said.
        let mut sent = vec![0; 28 + hello.len()];
        backend.stream.read_exact(&mut sent).await.expect("all of it");
        backend.say(&error("08P01", "bad packet header")).await;
        drop(backend);
        assert_eq!(client.hear_refusal().await.sqlstate, "08P01", "it is passed on");
    }
    misread(true).await;
}
