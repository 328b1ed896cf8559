//! Stopping: no new connections, those who wait are told, those who work may finish, and the rest is cut.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pilotfish::proxy::listener::{self, ListenAddress, Service};
use pilotfish::stats::End;
use tokio::net::TcpStream;

use super::ALL_BUFFERS;
use super::bench::{Bench, Setup, listen_at};
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

/// What the service manager's watchdog looks at.
#[tokio::test]
async fn a_worker_whose_listener_has_ended_by_itself_stands_still() {
    const SOON: Duration = Duration::from_secs(5);
    let bench = Bench::new(Setup { workers: 2, ..Setup::default() });
    assert_eq!(bench.workers.standing_still(SOON).await, [0; 0]);
    // epoll takes no ordinary file, so this listener gives up at once.
    let here = || ListenAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let mut bound = listener::bind(&listen_at(here(), Setup::default().tcp)).expect("a free port");
    bound.socket = std::sync::Arc::new(tempfile::tempfile().expect("a file").into());
    let service = || Service { pool: Arc::clone(&bench.primary.pool), access: Arc::default() };
    let broken = bench.workers.listen(bound, service());
    let found = async { while bench.workers.standing_still(SOON).await != [0] {} };
    within("the worker of that listener", found).await;
    // One that was closed is no loss.
    broken.close(SOON);
    let another = listener::bind(&listen_at(here(), Setup::default().tcp)).expect("a free port");
    bench.workers.listen(another, service()).close(SOON);
    assert_eq!(bench.workers.standing_still(SOON).await, [0; 0]);
    // Nobody is to accept any more, and the threads have ended or will.
    bench.workers.stop_accepting();
    assert_eq!(bench.workers.standing_still(SOON).await, [0; 0]);
}
