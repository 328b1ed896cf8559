//! Dialling: what is refused is tried again, what is silent is given up, and what has lost its role is left.

use std::time::{Duration, Instant};

use pilotfish::proxy::TroubleKind;
use pilotfish::stats::End;

use super::bench::{Bench, Place, Setup};
use super::member::{Absent, Member};
use super::packets::{WELCOME, startup};
use super::until;

#[tokio::test]
async fn a_refused_dial_is_tried_again() {
    let (bench, absent) = (Bench::new(Setup::default()), Absent::reserve("a"));
    bench.publish([absent.writer()]);
    let hello = startup(0, "app");
    let mut client = bench.primary.client_saying(&hello).await;
    bench.primary.holds(1).await;
    until("three dials", || bench.primary.dials() >= 3).await;
    let (_, counts) = &bench.primary.stats.members()[0];
    assert!(counts.failed_dials >= 3 && counts.total == 0, "{counts:?}");
    assert_eq!(bench.troubles()[0], ("a".to_owned(), TroubleKind::DialFailed));

    let member = absent.arrives();
    let mut backend = member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
    bench.primary.holds(0).await;
}

#[tokio::test]
async fn a_dial_that_nobody_answers_is_given_up_and_tried_again() {
    let bench = Bench::new(Setup { connect_timeout: Duration::from_millis(50), ..Setup::default() });
    let (member, mut filler) = Absent::reserve("a").falls_silent().await;
    bench.publish([member.writer()]);
    let hello = startup(0, "app");
    let mut client = bench.primary.client_saying(&hello).await;
    until("two dials", || bench.primary.dials() >= 2).await;
    assert!(bench.troubles().contains(&("a".to_owned(), TroubleKind::DialFailed)));

    let mut first = member.session().await;
    assert_eq!(first.peer_port(), filler.port());
    let mut backend = member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
    first.say(b"filled").await;
    filler.hear(b"filled").await;
}

/// The failover that matters: the old writer's host is dead, and clients are knocking there when the new one is known.
#[tokio::test]
async fn a_dial_under_way_is_left_for_the_new_writer() {
    let hello = startup(0, "app");
    for old_writer_stays_a_member in [true, false] {
        let bench = Bench::new(Setup::default());
        let (a, _filler) = Absent::reserve("a").falls_silent().await;
        let b = Member::start("b").await;
        bench.publish([a.writer(), b.reader()]);
        let mut client = bench.primary.client_saying(&hello).await;
        until("the dial", || bench.workers.rows().iter().any(|row| row.member.as_deref() == Some("a"))).await;
        let changed = Instant::now();
        if old_writer_stays_a_member {
            bench.publish([a.place(), b.writer()]);
        } else {
            bench.publish([b.writer()]);
        }
        let mut backend = b.session_saying(&hello).await;
        backend.say(WELCOME).await;
        client.hear(WELCOME).await;
        assert!(changed.elapsed() < Setup::default().connect_timeout / 2, "{:?}", changed.elapsed());
        assert_eq!(bench.primary.ends(), []);
        let active: Vec<u64> =
            bench.primary.stats.members().iter().map(|(_, counts)| counts.active).collect();
        assert_eq!(active, [0, 1]);
    }
}

/// The same where nobody may wait: who was on the way to the wrong place has not waited.
#[tokio::test]
async fn a_dial_under_way_goes_to_the_new_writer_even_without_a_hold() {
    let bench = Bench::new(Setup { hold: Duration::ZERO, ..Setup::default() });
    let (a, _filler) = Absent::reserve("a").falls_silent().await;
    let b = Member::start("b").await;
    bench.publish([a.writer(), b.reader()]);
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    until("the dial", || bench.workers.rows().iter().any(|row| row.member.as_deref() == Some("a"))).await;
    bench.publish([a.place(), b.writer()]);
    let mut backend = b.session_saying(&startup(0, "app")).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
}

/// Waits until a client is on its way to a member.
async fn dials(bench: &Bench) {
    until("the dial", || bench.workers.rows().iter().any(|row| row.member.is_some())).await;
}

#[tokio::test]
async fn every_address_of_a_member_is_tried() {
    let (bench, absent) = (Bench::new(Setup::default()), Absent::reserve("a"));
    let member = Member::start("a").await;
    bench.publish([Place { addresses: vec![absent.at, member.at], ..member.writer() }]);
    bench.primary.session(&member).await;
    assert_eq!((bench.primary.dials(), bench.troubles()), (1, vec![]));
}

#[tokio::test]
async fn a_member_whose_name_does_not_resolve_yet_is_waited_for() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([Place { addresses: vec![], ..member.writer() }]);
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    bench.primary.holds(1).await;
    bench.publish([member.writer()]);
    let mut backend = member.session_saying(&startup(0, "app")).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
}

#[tokio::test]
async fn who_leaves_during_a_dial_is_let_go() {
    let bench = Bench::new(Setup::default());
    let (silent, _filler) = Absent::reserve("a").falls_silent().await;
    bench.publish([silent.writer()]);
    let client = bench.primary.client_saying(&startup(0, "app")).await;
    dials(&bench).await;
    client.finish();
    bench.primary.ended(End::ClientLeft, 1).await;
    bench.emptied().await;
    assert_eq!((bench.primary.dials(), bench.troubles()), (0, vec![]));
}

#[tokio::test]
async fn a_held_client_whose_dial_is_under_way_is_told_of_a_stop_at_once() {
    let bench = Bench::new(Setup::default());
    let (silent, _filler) = Absent::reserve("a").falls_silent().await;
    bench.publish([]);
    let mut client = bench.primary.client_saying(&startup(0, "app")).await;
    bench.primary.holds(1).await;
    bench.publish([silent.writer()]);
    dials(&bench).await;
    let stopped = Instant::now();
    bench.workers.stop_accepting();
    assert_eq!(client.hear_refusal().await.sqlstate, "57P03");
    assert!(stopped.elapsed() < Setup::default().connect_timeout / 2, "{:?}", stopped.elapsed());
}

/// A thousand clients that wait for a server to come back do not keep it from doing so.
#[tokio::test]
async fn all_held_clients_together_dial_with_moderation() {
    const MOST_PER_SECOND: f64 = 6_000.0;
    let (bench, absent) = (Bench::new(Setup::default()), Absent::reserve("a"));
    bench.publish([]);
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        clients.push(bench.primary.client_saying(&startup(0, "app")).await);
    }
    bench.primary.holds(1_000).await;
    bench.publish([absent.writer()]);
    // The first round of all comes at once.
    until("the first round", || bench.primary.dials() >= 1_000).await;
    let (before, began) = (bench.primary.dials(), Instant::now());
    until("more rounds", || bench.primary.dials() >= before + 2_000).await;
    let rate = (bench.primary.dials() - before) as f64 / began.elapsed().as_secs_f64();
    assert!(rate < MOST_PER_SECOND, "{rate:.0} dials a second");
}
