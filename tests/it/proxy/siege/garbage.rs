//! Garbage in the middle of a session: nobody looks at it there, so it passes as it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pilotfish::stats::End;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::ReadHalf;
use tokio::task::JoinSet;

use super::super::alone::{alone, resident};
use super::super::bench::{Bench, Setup};
use super::super::member::Member;
use super::super::packets::{SSL_REQUEST, TERMINATE, cancel, error, startup};
use super::super::pattern::Pattern;
use super::super::peer::Peer;
use super::super::within;
use super::{LISTENS_BYTES, MOST_BYTES_EACH, SLACK, alone_again, beside};

/// Sessions full of garbage, and how much of it each side says at once.
const BABBLERS: usize = 20;
const GARBAGE_BYTES: usize = 1024 * 1024;

/// A mebibyte of noise, after words of the protocol that mean nothing there and others that may look like an end.
fn garbage(seed: usize) -> Vec<u8> {
    let words = [
        &SSL_REQUEST,
        &startup(0, "app")[..],
        &cancel(16, 7),
        &error("57P01", "go away"),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        &[0xff; 64],
        TERMINATE,
    ];
    let mut bytes = words.concat();
    let mut noise = Pattern::default();
    noise.advance(seed);
    while bytes.len() < GARBAGE_BYTES {
        let piece = noise.next(GARBAGE_BYTES - bytes.len());
        bytes.extend(piece);
        noise.advance(piece.len());
    }
    bytes
}

/// Hears these bytes and no others.
async fn hear_same(mut from: ReadHalf<'_>, expected: &[u8]) {
    let (mut heard, mut room) = (0, vec![0; LISTENS_BYTES]);
    while heard < expected.len() {
        let most = room.len().min(expected.len() - heard);
        let read = from.read(&mut room[..most]).await.expect("no reset");
        assert!(read > 0 && room[..read] == expected[heard..heard + read], "other bytes from {heard} on");
        heard += read;
    }
}

/// Both say their garbage at once, again and again until it is over; says how often.
async fn babble(
    (mut client, mut backend): (Peer, Peer),
    garbage: Arc<[Vec<u8>; 2]>,
    over: Arc<AtomicBool>,
) -> usize {
    let (mut rounds, [inward, outward]) = (0, &*garbage);
    while !over.load(Relaxed) || rounds == 0 {
        let (client_in, mut client_out) = client.stream.split();
        let (backend_in, mut backend_out) = backend.stream.split();
        let both_ways = async {
            tokio::join!(
                async { client_out.write_all(inward).await.expect("a reader") },
                async { backend_out.write_all(outward).await.expect("a reader") },
                hear_same(backend_in, inward),
                hear_same(client_in, outward),
            )
        };
        within("garbage both ways", both_ways).await;
        // The last word of a client that leaves. This one does not.
        client.say(TERMINATE).await;
        backend.hear(TERMINATE).await;
        rounds += 1;
    }
    client.finish();
    backend.hear_end().await;
    backend.finish();
    client.hear_end().await;
    rounds
}

#[test]
fn garbage_within_a_session_passes_as_it_came_and_bothers_nobody_else() {
    alone(
        "proxy::siege::garbage::garbage_within_a_session_passes_as_it_came_and_bothers_nobody_else",
        async {
            let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
            bench.publish([member.writer()]);
            let mut beside = beside(&bench, &member).await;
            let (both, over) = (Arc::new([garbage(0), garbage(4711)]), Arc::new(AtomicBool::new(false)));
            let before = resident();
            let mut sessions = JoinSet::new();
            for _ in 0..BABBLERS {
                let session = bench.primary.session(&member).await;
                sessions.spawn(babble(session, Arc::clone(&both), Arc::clone(&over)));
            }
            beside.notices_nothing(&format!("{BABBLERS} sessions full of garbage")).await;
            let grown = resident().saturating_sub(before);
            over.store(true, Relaxed);
            let rounds: usize = sessions.join_all().await.into_iter().sum();
            println!("{rounds} MiB of garbage each way, {grown} bytes more");
            assert!(grown < BABBLERS * (2 * LISTENS_BYTES + MOST_BYTES_EACH) + SLACK, "{grown} bytes");
            bench.primary.ended(End::ClientClosed, BABBLERS as u64).await;
            alone_again(&bench).await;
            drop(beside);
            bench.emptied().await;
        },
    );
}
