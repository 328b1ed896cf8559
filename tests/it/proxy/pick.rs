//! Who gets a new session: which reader, in whose stead, and which worker runs it.

use std::sync::Arc;

use pilotfish::proxy::TroubleKind;
use pilotfish::stats::Phase;

use super::bench::{Bench, Setup};
use super::member::{Absent, Member};
use super::packets::{WELCOME, startup};
use super::until;

#[tokio::test]
async fn readers_are_spread_evenly() {
    let bench = Bench::new(Setup { workers: 2, ..Setup::default() });
    let members = [Member::start("a").await, Member::start("b").await, Member::start("c").await];
    let writer = Member::start("w").await;
    bench.publish(members.iter().map(Member::reader).chain([writer.writer()]));
    members.into_iter().for_each(|member| member.welcome_all(Arc::default()));
    let mut clients = Vec::new();
    for number in 1..=30 {
        clients.push(bench.replicas.client_saying(&startup(0, "app")).await);
        let relayed = || bench.workers.rows().iter().filter(|row| row.phase == Phase::Relaying).count();
        until("a session", || relayed() == number).await;
    }
    let sessions: Vec<(String, u64)> =
        bench.replicas.stats.members().into_iter().map(|(name, counts)| (name, counts.active)).collect();
    assert_eq!(sessions, [("a", 10), ("b", 10), ("c", 10), ("w", 0)].map(|(name, n)| (name.to_owned(), n)));
}

#[tokio::test]
async fn the_primary_reads_when_nobody_else_does_and_only_if_it_may() {
    let hello = startup(0, "app");
    let member = Member::start("a").await;
    let bench = Bench::new(Setup { fallback: true, ..Setup::default() });
    bench.publish([member.writer()]);
    let _session = bench.replicas.session(&member).await;

    let bench = Bench::new(Setup { fallback: false, ..Setup::default() });
    bench.publish([member.writer()]);
    let _client = bench.replicas.client_saying(&hello).await;
    bench.replicas.holds(1).await;
    assert_eq!(bench.replicas.dials(), 0);
    bench.publish([super::bench::Place { reader: true, ..member.writer() }]);
    member.session_saying(&hello).await;
}

/// One answers for the others: as long as the client has seen nothing, it can be sent elsewhere.
#[tokio::test]
async fn a_reader_that_refuses_is_passed_over_and_reported() {
    let bench = Bench::new(Setup { hold: std::time::Duration::ZERO, ..Setup::default() });
    let (absent, member) = (Absent::reserve("a"), Member::start("b").await);
    bench.publish([absent.reader(), member.reader()]);
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(bench.replicas.session(&member).await);
    }
    let troubles = bench.troubles();
    assert!(!troubles.is_empty());
    assert!(
        troubles.iter().all(|trouble| *trouble == ("a".to_owned(), TroubleKind::DialFailed)),
        "{troubles:?}"
    );
    let counts: Vec<_> = bench.replicas.stats.members().into_iter().map(|(_, counts)| counts).collect();
    assert_eq!((counts[0].failed_dials, counts[0].total), (troubles.len() as u64, 0));
    assert_eq!((counts[1].failed_dials, counts[1].total, counts[1].active), (0, 20, 20));
}

#[tokio::test]
async fn a_session_is_listed_with_both_its_ends() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let (mut client, mut backend) = bench.primary.session(&member).await;
    let out = WELCOME.len() as u64 + 3;
    client.say(b"12345").await;
    backend.hear(b"12345").await;
    backend.say(b"123").await;
    client.hear(b"123").await;
    until("the bytes counted", || bench.workers.rows()[0].bytes_out == out).await;
    let [row] = &bench.workers.rows()[..] else { panic!("one session") };
    assert_eq!((&row.cluster[..], &row.pool[..], row.member.as_deref()), ("demo", "primary", Some("a")));
    assert_eq!((row.phase, row.bytes_in, row.bytes_out), (Phase::Relaying, 5, out));
    assert_eq!(row.client.to_string(), format!("127.0.0.1:{}", client.port()));
    // What the server shows as client_port in pg_stat_activity.
    assert_eq!(row.backend_local.map(|local| local.port()), Some(backend.peer_port()));
    assert_eq!(row.backend_peer, Some(member.at));
}

#[tokio::test]
async fn each_new_session_goes_to_the_least_loaded_worker() {
    for workers in [2, 4] {
        let bench = Bench::new(Setup { workers, ..Setup::default() });
        let member = Member::start("a").await;
        bench.publish([member.writer()]);
        let mut sessions = Vec::new();
        for _ in 0..50 {
            sessions.push(bench.primary.session(&member).await);
        }
        // Only here is it told which worker counted what.
        let told = format!("{:?}", bench.primary.stats.member("a"));
        let loads: Vec<usize> = told
            .split("active: ")
            .skip(1)
            .map(|rest| rest.split(',').next().expect("a number").parse())
            .collect::<Result<_, _>>()
            .expect("numbers");
        let (fullest, emptiest) =
            (loads.iter().max().expect("workers"), loads.iter().min().expect("workers"));
        assert!(loads.len() == workers && fullest - emptiest <= 1, "{loads:?}");
    }
}
