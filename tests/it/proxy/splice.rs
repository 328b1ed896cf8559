//! Bulk by way of pipes: the same bytes, the same ends, and pipes that are given back.

use std::fs;

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use pilotfish::proxy::relay::{Meter, Relay, Tools, Turn};
use pilotfish::proxy::socket::{News, Socket};
use pilotfish::proxy::splice::Pipes;
use pilotfish::stats::{End, Side};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::ALL_BUFFERS;
use super::alone::alone;
use super::engine::{Rig, Session};
use super::relay::plan;
use super::shortage::take_all_descriptors;
use super::until;

/// Ways to move bytes: how many pipes there are, and after how many bytes in a row they are used.
#[derive(Debug, Clone, Copy)]
struct Way {
    pipes: usize,
    bulk_after: usize,
}

const COPIED: Way = Way { pipes: 0, bulk_after: 200_000 };
const SPLICED: Way = Way { pipes: 16, bulk_after: 0 };
const WAYS: [Way; 4] =
    [COPIED, SPLICED, Way { pipes: 1, bulk_after: 0 }, Way { pipes: 16, bulk_after: 200_000 }];

impl Way {
    fn rig(self) -> Rig {
        Rig::new(Tools::new(Pipes::new(self.pipes), self.bulk_after))
    }
}

#[test]
fn every_byte_arrives_whichever_way_it_goes() {
    let config = Config { cases: 32, max_shrink_iters: 30, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let way = prop::sample::select(WAYS.to_vec());
    let outcome = TestRunner::new(config).run(&(way, plan()), |(way, plan)| {
        runtime.block_on(async {
            let mut session = way.rig().session().await;
            let end = plan.converse(&mut session.client, &mut session.backend).await;
            session.ends_as(end).await;
            assert_eq!(session.delivered(), plan.bytes());
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_reset_arrives_as_a_reset_whatever_is_under_way() {
    for way in WAYS {
        let rig = way.rig();
        for stalled in 0..3 {
            let mut session = rig.session().await;
            stall(&mut session, stalled).await;
            let Session { client, mut backend, .. } = session;
            client.reset();
            backend.hear_reset().await;

            let mut session = rig.session().await;
            stall(&mut session, stalled).await;
            let Session { mut client, backend, .. } = session;
            backend.reset();
            client.hear_reset().await;
        }
    }
}

/// Fills neither direction, the one from the client, or the one to it.
async fn stall(session: &mut Session, which: usize) {
    match which {
        0 => {
            session.client.say(b"half a que").await;
            session.backend.hear(b"half a que").await;
        }
        1 => _ = session.client.fill(ALL_BUFFERS).await,
        _ => _ = session.backend.fill(ALL_BUFFERS).await,
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_writer_and_nothing_is_lost() {
    for way in WAYS {
        let mut session = way.rig().session().await;
        let Session { client, backend, .. } = &mut session;
        let (inward, outward) = (client.fill(ALL_BUFFERS).await, backend.fill(ALL_BUFFERS).await);
        assert!(inward > 0 && inward < ALL_BUFFERS, "{way:?}: {inward}");
        assert!(outward > 0 && outward < ALL_BUFFERS, "{way:?}: {outward}");
        // The end waits behind what is under way.
        client.finish();
        backend.hear_pattern(inward).await;
        backend.hear_end().await;
        client.hear_pattern(outward).await;
        backend.finish();
        client.hear_end().await;
        session.ends_as(End::ClientClosed).await;
        assert_eq!(session.delivered(), (inward, outward));
    }
}

/// Ends of pipes that this process has open.
fn pipe_ends() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("descriptors");
    let is_pipe = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("pipe:");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter(is_pipe).count()
}

async fn transfer(session: &mut Session, bytes: usize) {
    let Session { client, backend, .. } = session;
    tokio::join!(backend.say_pattern(bytes), client.hear_pattern(bytes));
    // Then it is no bulk transfer any more, and looks for no pipe.
    client.say(b"thanks").await;
    backend.hear(b"thanks").await;
}

#[test]
fn idle_sessions_have_no_pipe_and_those_that_are_cut_short_leave_none() {
    alone("proxy::splice::idle_sessions_have_no_pipe_and_those_that_are_cut_short_leave_none", async {
        let before = pipe_ends();
        let rig = Way { pipes: 2, bulk_after: 200_000 }.rig();
        let mut idle = Vec::new();
        for _ in 0..8 {
            let mut session = rig.session().await;
            transfer(&mut session, 1_000_000).await;
            idle.push(session);
        }
        // Each has found the pipe that the one before has given back.
        assert_eq!(pipe_ends(), before + 2);

        let (mut first, mut second) = (rig.session().await, rig.session().await);
        first.backend.fill(ALL_BUFFERS).await;
        let stalled = second.backend.fill(ALL_BUFFERS).await;
        assert_eq!(pipe_ends(), before + 4);
        // Who finds none copies.
        transfer(&mut idle[0], 1_000_000).await;
        assert_eq!(pipe_ends(), before + 4);
        // What is in the pipe of the one goes with it, and not to another.
        first.client.reset();
        until("the pipe is closed", || pipe_ends() == before + 2).await;
        transfer(&mut idle[1], 1_000_000).await;
        second.client.hear_pattern(stalled).await;
        transfer(&mut idle[2], 1_000_000).await;
        assert_eq!(pipe_ends(), before + 4);
    });
}

#[test]
fn without_descriptors_bytes_are_copied() {
    alone("proxy::splice::without_descriptors_bytes_are_copied", async {
        let before = pipe_ends();
        let rig = SPLICED.rig();
        let mut session = rig.session().await;
        let mut spare = std::fs::File::open("/dev/null").ok();
        let descriptors = take_all_descriptors();
        transfer(&mut session, 5_000_000).await;
        spare.take();
        assert_eq!(pipe_ends(), before);
        drop(descriptors);
        while pipe_ends() == before {
            transfer(&mut session, 1_000_000).await;
        }
    });
}

/// Two ends of a connection; the second does not block.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let outer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("a connection");
    inner.set_nonblocking(true).expect("an open socket");
    (outer, inner)
}

struct Uncounted;

impl Meter for Uncounted {
    fn delivered(&self, _: Side, _: usize) {}
}

/// Or an answer that nobody reads on would keep the worker awake for as long as the session lives.
#[test]
fn a_transfer_gathers_while_it_pours_and_not_while_its_reader_has_stopped() {
    let mut tools = Tools::new(Pipes::new(1), 0);
    let ((_client, to), (mut backend, from)) = (connection(), connection());
    let (to, from) = (Socket::new(to, Side::Client), Socket::new(from, Side::Backend));
    let mut relay = Relay::new(to, from, false, Uncounted);
    let piece = vec![0; 100_000];
    assert!(!relay.gathers());
    backend.write_all(&piece).expect("room");
    relay.hear(Side::Backend, News { readable: true, ..News::default() });
    assert!(matches!(relay.turn(&mut tools), Turn::Waits | Turn::GoesOn) && relay.gathers());
    // Nothing has come three times.
    for _ in 0..3 {
        relay.collect();
        relay.turn(&mut tools);
    }
    assert!(!relay.gathers());

    backend.set_nonblocking(true).expect("an open socket");
    while backend.write(&piece).is_ok() {
        relay.hear(Side::Backend, News { readable: true, ..News::default() });
        while relay.turn(&mut tools) == Turn::GoesOn {}
    }
    assert!(!relay.gathers());
}
