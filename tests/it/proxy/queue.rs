//! Limits over real sockets: nobody comes over one, everyone is served in his order, and whoever leaves makes room.

use std::time::Duration;

use pilotfish::proxy::SessionLimits;
use pilotfish::stats::End;

use super::bench::{Bench, Port, Setup};
use super::member::Member;
use super::packets::{WELCOME, cancel, startup};
use super::peer::Peer;
use super::until;

fn bench(workers: usize, limits: SessionLimits) -> Bench {
    Bench::new(Setup { workers, limits, ..Setup::default() })
}

async fn queued(port: &Port, clients: usize) {
    until(&format!("{clients} queued"), || port.stats.queue.waiting() == clients).await;
}

/// What a refused client hears: the error, and the end.
async fn refusal(mut client: Peer) -> String {
    String::from_utf8_lossy(&client.hear_all().await).into_owned()
}

#[tokio::test]
async fn two_hundred_clients_never_are_more_than_ten_at_the_server_and_are_served_in_order() {
    const CLIENTS: usize = 200;
    const LIMIT: usize = 10;
    let limits = SessionLimits { per_member: Some(LIMIT), ..SessionLimits::default() };
    let (bench, member) = (bench(2, limits), Member::start("a").await);
    bench.publish([member.writer()]);
    let name = |number: usize| startup(0, &format!("client{number:03}"));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(bench.primary.client_saying(&name(number)).await);
        // Each is in its place before the next one comes.
        let seen = || {
            let active: u64 = bench.primary.stats.members().iter().map(|(_, counts)| counts.active).sum();
            active as usize + bench.primary.stats.queue.waiting() == number + 1
        };
        until("a place", seen).await;
    }
    queued(&bench.primary, CLIENTS - LIMIT).await;
    let mut open = std::collections::VecDeque::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        if number >= LIMIT {
            let (client, _served): (Peer, Peer) = open.pop_front().expect("ten are open");
            member.is_left_alone();
            client.finish();
        }
        let mut served = member.session_saying(&name(number)).await;
        served.say(WELCOME).await;
        client.hear(WELCOME).await;
        open.push_back((client, served));
        assert!(bench.primary.stats.member("a").active() <= LIMIT as u64);
    }
    assert_eq!(bench.primary.stats.queue.seconds.snapshot().count, (CLIENTS - LIMIT) as u64);
    drop(open);
    bench.emptied().await;
}

#[tokio::test]
async fn whoever_leaves_the_queue_or_waits_for_too_long_makes_place() {
    let limits = SessionLimits {
        per_member: Some(1),
        queue_timeout: Duration::from_millis(1500),
        queued: 2,
        ..SessionLimits::default()
    };
    let (bench, member) = (bench(1, limits), Member::start("a").await);
    bench.publish([member.writer()]);
    let hello = startup(0, "app");
    let open = bench.primary.session(&member).await;
    let leaves = bench.primary.client_saying(&hello).await;
    queued(&bench.primary, 1).await;
    let expires = bench.primary.client_saying(&hello).await;
    queued(&bench.primary, 2).await;
    let told = refusal(bench.primary.client_saying(&hello).await).await;
    assert!(
        told.contains("C53300") && told.contains("max_queued") && told.contains("max_sessions_per_member"),
        "{told}"
    );
    bench.primary.ended(End::QueueFull, 1).await;
    drop(leaves);
    bench.primary.ended(End::ClientLeft, 1).await;
    let told = refusal(expires).await;
    assert!(told.contains("C53300") && told.contains("queue_timeout of 1.5s"), "{told}");
    bench.primary.ended(End::QueueExpired, 1).await;
    queued(&bench.primary, 0).await;
    // The place of the one session is free for the next.
    drop(open);
    let _next = bench.primary.session(&member).await;
}

#[tokio::test]
async fn the_queue_crosses_a_failover() {
    let limits = SessionLimits { per_member: Some(1), ..SessionLimits::default() };
    let bench = bench(2, limits);
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    bench.publish([a.writer()]);
    let (mut cut, _on_a) = bench.primary.session(&a).await;
    let (first, second) = (startup(0, "first"), startup(0, "second"));
    let mut one = bench.primary.client_saying(&first).await;
    queued(&bench.primary, 1).await;
    let _two = bench.primary.client_saying(&second).await;
    queued(&bench.primary, 2).await;
    bench.publish([a.place(), b.place()]);
    cut.hear_reset().await;
    bench.primary.holds(2).await;
    queued(&bench.primary, 0).await;
    bench.publish([a.place(), b.writer()]);
    let mut served = b.session_saying(&first).await;
    served.say(WELCOME).await;
    one.hear(WELCOME).await;
    queued(&bench.primary, 1).await;
    drop((one, served));
    b.session_saying(&second).await;
}

#[tokio::test]
async fn a_full_member_is_passed_over_while_another_has_room() {
    let limits = SessionLimits { per_member: Some(2), ..SessionLimits::default() };
    let bench = bench(1, limits);
    let members = [Member::start("a").await, Member::start("b").await];
    bench.publish(members.iter().map(Member::reader));
    // One member may have more at run time.
    bench.replicas.stats.limit_members(Some("b"), Some(4));
    members.into_iter().for_each(|member| member.welcome_all(Default::default()));
    let mut clients = Vec::new();
    for _ in 0..7 {
        clients.push(bench.replicas.client_saying(&startup(0, "app")).await);
    }
    queued(&bench.replicas, 1).await;
    let active = || -> Vec<u64> {
        bench.replicas.stats.members().into_iter().map(|(_, counts)| counts.active).collect()
    };
    assert_eq!(active(), [2, 4]);
    // A raised limit calls those that wait.
    bench.replicas.stats.limit_members(None, None);
    queued(&bench.replicas, 0).await;
    until("all seven served", || active().iter().sum::<u64>() == 7).await;
}

#[tokio::test]
async fn who_comes_over_a_limit_is_told_which() {
    let hello = startup(0, "app");
    for (limits, end, words) in [
        (SessionLimits { sessions: Some(2), ..SessionLimits::default() }, End::PoolLimit, "its max_sessions"),
        (
            SessionLimits { per_client: Some(2), ..SessionLimits::default() },
            End::ClientLimit,
            "its max_sessions_per_client",
        ),
    ] {
        let (bench, member) = (bench(1, limits), Member::start("a").await);
        bench.publish([member.writer()]);
        let first = bench.primary.session(&member).await;
        let _second = bench.primary.session(&member).await;
        let told = refusal(bench.primary.client_saying(&hello).await).await;
        assert!(told.contains("C53300") && told.contains(words) && told.contains("raise"), "{told}");
        bench.primary.ended(end, 1).await;
        drop(first);
        until("room", || bench.primary.stats.limits.admitted() == 1).await;
        let _fourth = bench.primary.session(&member).await;
    }
}

/// A client counts from its connection on: whoever only connects would keep no place otherwise, and come over any limit.
#[tokio::test]
async fn silent_connections_count_and_a_cancel_request_does_not_need_a_place() {
    let limits = SessionLimits { per_client: Some(2), ..SessionLimits::default() };
    let (bench, member) = (bench(1, limits), Member::start("a").await);
    bench.publish([member.writer()]);
    let admitted = |number| {
        let stats = &bench.primary.stats;
        until("clients that count", move || stats.limits.admitted() == number)
    };
    let silent = [bench.primary.client().await, bench.primary.client().await];
    admitted(2).await;
    let told = refusal(bench.primary.client_saying(&startup(0, "app")).await).await;
    assert!(told.contains("127.0.0.1 has 2 sessions already"), "{told}");
    bench.primary.ended(End::ClientLimit, 1).await;
    // One more that says nothing is not waited for as long as others are.
    let mut third = bench.primary.client().await;
    third.hear_end().await;
    bench.primary.ended(End::ClientLimit, 2).await;
    let mut client = bench.primary.client().await;
    client.say(&cancel(16, 1)).await;
    drop(member.session_saying(&cancel(16, 1)).await);
    client.hear_end().await;
    bench.primary.ended(End::Cancel, 1).await;
    drop(silent);
    admitted(0).await;
    let _served = bench.primary.session(&member).await;
}
