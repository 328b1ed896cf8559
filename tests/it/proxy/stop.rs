//! Stopping: no new connections, those who wait are told, those who work may finish, and the rest is cut.

use std::io::ErrorKind;

use pilotfish::stats::End;
use tokio::net::TcpStream;

use super::ALL_BUFFERS;
use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::{SSL_REQUEST, startup};
use super::{until, within};

#[tokio::test]
async fn sessions_finish_and_nobody_else_begins() {
    let bench = Bench::new(Setup { workers: 2, ..Setup::default() });
    let member = Member::start("a").await;
    bench.publish([member.reader()]);
    let hello = startup(0, "app");
    let (mut working, mut works) = bench.replicas.session(&member).await;
    let mut plain = bench.primary.client_saying(&hello).await;
    let mut wary = bench.primary.client_saying(&SSL_REQUEST).await;
    bench.primary.holds(2).await;

    bench.workers.stop_accepting();
    let refused = plain.hear_refusal().await;
    assert_eq!((&refused.sqlstate[..], refused.message.contains("stopping")), ("57P03", true), "{refused:?}");
    wary.hear(b"N").await;
    wary.say(&hello).await;
    assert_eq!(wary.hear_refusal().await, refused);
    drop((plain, wary));
    bench.primary.ended(End::Shutdown, 2).await;
    for port in [&bench.primary, &bench.replicas] {
        until("a closed port", || std::net::TcpStream::connect(port.at).is_err()).await;
        let refused = TcpStream::connect(port.at).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    working.say(b"still here").await;
    works.hear(b"still here").await;
    assert_eq!(bench.workers.open_sessions(), 1);
    working.finish();
    works.hear_end().await;
    works.finish();
    working.hear_end().await;
    within("the drain", bench.workers.drained()).await;
    bench.replicas.ended(End::ClientClosed, 1).await;
    assert_eq!(bench.workers.cut_all(), 0);
}

#[tokio::test]
async fn what_is_left_is_cut_and_counted() {
    let bench = Bench::new(Setup { workers: 2, ..Setup::default() });
    let member = Member::start("a").await;
    bench.publish([member.writer()]);
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(bench.primary.session(&member).await);
    }
    let mut silent = bench.primary.client().await;
    until("the silent one", || bench.workers.open_sessions() == 6).await;
    sessions[0].0.fill(ALL_BUFFERS).await;
    sessions[1].1.fill(ALL_BUFFERS).await;
    bench.workers.stop_accepting();
    assert_eq!(bench.workers.cut_all(), 6);
    within("the drain", bench.workers.drained()).await;
    for (client, backend) in &mut sessions {
        client.hear_reset().await;
        backend.hear_reset().await;
    }
    silent.hear_end().await;
    assert_eq!(bench.primary.ends(), [(End::Shutdown, 6)]);
    bench.emptied().await;
}
