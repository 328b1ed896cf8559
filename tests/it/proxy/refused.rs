//! Clients that cannot be served are told so, in a way that their drivers understand.

use std::time::Duration;

use pilotfish::stats::End;
use tokio_postgres::NoTls;

use super::bench::{Bench, Setup};
use super::member::{Absent, Member};
use super::packets::{GSSENC_REQUEST, SSL_REQUEST, WELCOME, startup};
use super::peer::Peer;
use super::within;

const SHORT: Duration = Duration::from_millis(60);

fn short() -> Setup {
    Setup { hold: SHORT, ..Setup::default() }
}

#[tokio::test]
async fn who_waited_in_vain_is_told_why() {
    let bench = Bench::new(short());
    bench.publish([]);
    let expected = "pilotfish: no writer for cluster \"demo\" within 0 s: nobody holds the leader lock";
    // Encryption is declined first, once for each way in which it is asked for.
    for (times, requests) in
        (1..).zip([&[][..], &[SSL_REQUEST], &[GSSENC_REQUEST], &[GSSENC_REQUEST, SSL_REQUEST]])
    {
        let mut client = bench.primary.client().await;
        for request in requests {
            client.say(request).await;
            client.hear(b"N").await;
        }
        client.say(&startup(0, "app")).await;
        let refused = client.hear_refusal().await;
        assert_eq!((&refused.sqlstate[..], &refused.message[..]), ("57P03", expected), "{requests:?}");
        drop(client);
        bench.primary.ended(End::HoldExpired, times).await;
    }
    bench.emptied().await;
}

#[tokio::test]
async fn who_insists_on_encryption_hangs_up_and_is_counted_once() {
    let bench = Bench::new(short());
    bench.publish([]);
    let mut client = bench.primary.client_saying(&SSL_REQUEST).await;
    client.hear(b"N").await;
    drop(client);
    bench.emptied().await;
    assert_eq!(bench.primary.ends(), [(End::HoldExpired, 1)]);
}

#[tokio::test]
async fn the_last_failed_dial_is_named() {
    let (bench, absent) = (Bench::new(short()), Absent::reserve("a"));
    bench.publish([absent.writer()]);
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    let message = client.hear_refusal().await.message;
    assert!(message.ends_with(": a: Connection refused (os error 111)"), "{message}");
}

#[tokio::test]
async fn without_a_hold_nobody_waits() {
    let bench = Bench::new(Setup { hold: Duration::ZERO, ..Setup::default() });
    bench.publish([]);
    let mut client = bench.replicas.client_saying(&startup(0, "app")).await;
    let refused = client.hear_refusal().await;
    assert_eq!(refused.sqlstate, "57P03", "{refused:?}");
    drop(client);
    bench.replicas.ended(End::HoldExpired, 1).await;
    assert_eq!(bench.replicas.stats.hold_seconds.snapshot().count, 0);
}

#[tokio::test]
async fn more_than_allowed_do_not_wait() {
    let (bench, member) = (Bench::new(Setup { max_held: 3, ..Setup::default() }), Member::start("a").await);
    bench.publish([]);
    let hello = startup(0, "app");
    let mut held = Vec::new();
    for number in 1..=3 {
        held.push(bench.primary.client_saying(&hello).await);
        bench.primary.holds(number).await;
    }
    let mut fourth = bench.primary.client_saying(&hello).await;
    let refused = fourth.hear_refusal().await;
    assert_eq!(refused.sqlstate, "53300", "{refused:?}");
    drop(fourth);
    bench.primary.ended(End::HoldFull, 1).await;
    // A place that is free again is taken.
    held.pop();
    bench.primary.holds(2).await;
    held.push(bench.primary.client_saying(&hello).await);
    bench.primary.holds(3).await;
    bench.publish([member.writer()]);
    for _ in 0..3 {
        member.session_saying(&hello).await;
    }
}

/// A client that has been told does not take a place from those who may still hope.
#[tokio::test]
async fn who_was_told_holds_no_place_although_it_stays() {
    let bench = Bench::new(short());
    bench.publish([]);
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    client.hear_refusal().await;
    assert_eq!(bench.primary.stats.clients(), 1);
    bench.primary.holds(0).await;
    assert_eq!(bench.primary.stats.clients(), 1, "it would have gone by itself");
}

#[tokio::test]
async fn a_driver_understands() {
    let (bench, member) = (Bench::new(short()), Member::start("a").await);
    let config = format!("host=127.0.0.1 port={} user=app dbname=app", bench.primary.at.port());
    bench.publish([]);
    let error =
        within("a refusal", tokio_postgres::connect(&config, NoTls)).await.err().expect("nobody there");
    assert_eq!(error.code().map(|code| code.code()), Some("57P03"), "{error}");

    bench.publish([member.writer()]);
    let serve = async {
        let mut backend: Peer = member.session().await;
        backend.say(WELCOME).await;
        backend
    };
    let (connected, _backend) =
        tokio::join!(within("a connection", tokio_postgres::connect(&config, NoTls)), serve);
    let _ = connected.expect("a server that welcomes everybody");
}
