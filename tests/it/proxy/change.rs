//! A new table: what it ends, what it leaves alone, and what it sends elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::proxy::SessionRow;
use pilotfish::stats::{End, Phase};
use tokio::io::AsyncReadExt;

use super::ALL_BUFFERS;
use super::bench::{Bench, Place, Setup};
use super::member::Member;
use super::packets::startup;
use super::peer::Peer;
use super::until;

/// How busy a session is when its member loses the role.
#[derive(Debug, Clone, Copy)]
enum Traffic {
    Idle,
    /// The client does not read, and its socket is full.
    ClientIsFull,
    /// The member does not read, and its socket is full.
    BackendIsFull,
}

#[tokio::test]
async fn writers_are_cut_at_once_and_readers_stay() {
    const ROUNDS: usize = 5;
    /// Long for a loopback, short for a person, and not so short that a busy machine fails it.
    const AT_ONCE: Duration = Duration::from_millis(50);
    let bench = Bench::new(Setup::default());
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    bench.publish([a.reader(), b.writer()]);
    let (mut reader, mut reads) = bench.replicas.session(&a).await;
    let mut times = 0;
    for traffic in [Traffic::Idle, Traffic::ClientIsFull, Traffic::BackendIsFull] {
        let mut durations = Vec::new();
        for _ in 0..ROUNDS {
            bench.publish([Place { reader: true, ..a.writer() }, b.place()]);
            let (mut client, mut backend) = bench.primary.session(&a).await;
            match traffic {
                Traffic::Idle => 0,
                Traffic::ClientIsFull => backend.fill(ALL_BUFFERS).await,
                Traffic::BackendIsFull => client.fill(ALL_BUFFERS).await,
            };
            let changed = Instant::now();
            bench.publish([a.reader(), b.writer()]);
            times += 1;
            bench.primary.ended(End::RoleLost, times).await;
            durations.push(changed.elapsed());
            client.hear_reset().await;
            backend.hear_reset().await;
        }
        durations.sort();
        assert!(durations[ROUNDS / 2] < AT_ONCE, "{traffic:?}: {durations:?}");
    }
    reader.say(b"still here").await;
    reads.hear(b"still here").await;
    assert_eq!(bench.primary.ends(), [(End::RoleLost, times)]);
    assert_eq!(bench.replicas.ends(), []);
}

#[tokio::test]
async fn sessions_of_a_member_that_is_gone_are_cut_in_both_pools() {
    let bench = Bench::new(Setup { fallback: false, ..Setup::default() });
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    bench.publish([Place { reader: true, ..a.writer() }]);
    let (mut writer, mut writes) = bench.primary.session(&a).await;
    let (mut reader, mut reads) = bench.replicas.session(&a).await;
    bench.publish([b.writer()]);
    for peer in [&mut writer, &mut writes, &mut reader, &mut reads] {
        peer.hear_reset().await;
    }
    for port in [&bench.primary, &bench.replicas] {
        port.ended(End::MemberGone, 1).await;
    }
    bench.emptied().await;
}

#[tokio::test]
async fn a_drained_member_keeps_its_sessions_and_gets_no_new_ones() {
    let bench = Bench::new(Setup::default());
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    bench.publish([a.reader(), b.writer()]);
    let (mut old, mut served) = bench.replicas.session(&a).await;
    bench.publish([a.place(), b.writer()]);
    let _new = bench.replicas.session(&b).await;
    old.say(b"still here").await;
    served.hear(b"still here").await;
    a.is_left_alone();
}

/// Waits for the end of a connection, and lets go of `open` then.
async fn outlast(mut peer: Peer, open: Arc<()>) {
    let _ = peer.stream.read_to_end(&mut Vec::new()).await;
    drop((peer, open));
}

#[tokio::test]
async fn whatever_the_moment_of_the_change_nobody_is_lost_and_nobody_stays_behind() {
    const CLIENTS: usize = 400;
    const CLIENTS_PER_CHANGE: u64 = 7;
    let bench = Bench::new(Setup { workers: 2, ..Setup::default() });
    let (a, b) = (Member::start("a").await, Member::start("b").await);
    let (a_writes, b_writes) = ([a.writer(), b.place()], [a.place(), b.writer()]);
    let (on_a, at_all) = (Arc::new(()), Arc::new(()));
    a.welcome_all(Arc::clone(&on_a));
    b.welcome_all(Arc::new(()));

    let relayed = || -> u64 { bench.primary.stats.members().iter().map(|(_, counts)| counts.total).sum() };
    let mut tables = [a_writes, b_writes.clone()].into_iter().cycle();
    for number in 0..CLIENTS as u64 {
        if number % CLIENTS_PER_CHANGE == 0 {
            // The last ones are still on their way, those before them have a session.
            until("sessions", || relayed() + CLIENTS_PER_CHANGE >= number).await;
            bench.publish(tables.next().expect("for ever"));
        }
        let client = bench.primary.client_saying(&startup(0, "app")).await;
        tokio::spawn(outlast(client, Arc::clone(&at_all)));
    }
    bench.publish(b_writes);
    let cut = || usize::try_from(bench.primary.stats.ends(End::RoleLost)).expect("few");
    until("everybody on the last writer or cut", || {
        let rows = bench.workers.rows();
        let there = |row: &SessionRow| row.phase == Phase::Relaying && row.member.as_deref() == Some("b");
        rows.iter().all(there) && rows.len() + cut() == CLIENTS
    })
    .await;
    until("the cut ones gone", || Arc::strong_count(&at_all) == 1 + CLIENTS - cut()).await;
    until("nobody left on the old writer", || Arc::strong_count(&on_a) == 2).await;

    assert_eq!(relayed(), CLIENTS as u64, "each client had one session, and lost it only to a change");
    assert_eq!(bench.primary.ends(), [(End::RoleLost, cut() as u64)]);
}
