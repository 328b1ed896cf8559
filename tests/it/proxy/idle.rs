//! Sessions in which nothing moves: for ever, unless somebody has set a limit.

use std::time::{Duration, Instant};

use pilotfish::proxy::IdleLimits;
use pilotfish::stats::End;

use super::bench::{Bench, Setup};
use super::member::Member;

const LIMIT: Duration = Duration::from_secs(1);

fn setup(idle: IdleLimits) -> Setup {
    Setup { idle, ..Setup::default() }
}

#[tokio::test]
async fn an_idle_session_ends_by_the_limit_that_was_set_and_not_before() {
    for (idle, end) in [
        (IdleLimits { client: Some(LIMIT), ..IdleLimits::default() }, End::ClientIdle),
        (IdleLimits { backend: Some(LIMIT), ..IdleLimits::default() }, End::BackendIdle),
        (IdleLimits { client: None, backend: None, tunnel: Some(LIMIT) }, End::TunnelIdle),
    ] {
        let (bench, member) = (Bench::new(setup(idle)), Member::start("a").await);
        bench.publish([member.writer()]);
        let (mut client, mut backend) = bench.primary.session(&member).await;
        let began = Instant::now();
        client.hear_reset().await;
        backend.hear_reset().await;
        // The last byte came a moment before that clock was started.
        assert!(began.elapsed() >= LIMIT - Duration::from_millis(100), "{end}: {:?}", began.elapsed());
        bench.primary.ended(end, 1).await;
        bench.emptied().await;
    }
}

#[tokio::test]
async fn whoever_says_something_in_time_stays() {
    let idle = IdleLimits { client: Some(3 * LIMIT), ..IdleLimits::default() };
    let (bench, member) = (Bench::new(setup(idle)), Member::start("a").await);
    bench.publish([member.writer()]);
    let (mut client, mut backend) = bench.primary.session(&member).await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(LIMIT / 2);
    while began.elapsed() < 5 * LIMIT {
        ticks.tick().await;
        // One direction is enough.
        backend.say(b"news").await;
        client.hear(b"news").await;
    }
    client.hear_reset().await;
    bench.primary.ended(End::ClientIdle, 1).await;
}

#[tokio::test]
async fn a_client_that_waits_for_a_member_is_not_idle() {
    let idle = IdleLimits { client: Some(LIMIT), backend: Some(LIMIT), tunnel: None };
    let (bench, member) = (Bench::new(setup(idle)), Member::start("a").await);
    bench.publish([member.place()]);
    let hello = super::packets::startup(0, "app");
    let mut client = bench.primary.client_saying(&hello).await;
    bench.primary.holds(1).await;
    tokio::time::sleep(2 * LIMIT).await;
    bench.publish([member.writer()]);
    let mut backend = member.session_saying(&hello).await;
    backend.say(b"R").await;
    client.hear(b"R").await;
}
