//! The relay: every byte, in order, both ways, and each end as it was meant.

use pilotfish::proxy::Protocol;
use pilotfish::stats::End;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use super::ALL_BUFFERS;
use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::{WELCOME, startup};
use super::pattern::Pattern;
use super::peer::Peer;
use super::within;

/// One direction of a made-up session.
#[derive(Debug, Clone)]
struct Flow {
    /// Sizes of the writes, and how often they are gone through.
    writes: Vec<usize>,
    rounds: usize,
    /// The most that the receiver reads at once.
    read: usize,
    /// After how many calls each end dozes off for a moment.
    writer_rests: usize,
    reader_rests: usize,
}

/// Who ends its stream although the other has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Client,
    Backend,
}

#[derive(Debug, Clone)]
pub struct Plan {
    protocol: Protocol,
    first: First,
    inward: Flow,
    outward: Flow,
}

fn flow() -> impl Strategy<Value = Flow> {
    let size = prop_oneof![1..100_usize, 1_000..20_000_usize, 60_000..200_000_usize];
    let writes = prop::collection::vec(size, 0..12);
    (writes, 1..4_usize, 500..100_000_usize, 1..40_usize, 1..40_usize).prop_map(
        |(writes, rounds, read, writer_rests, reader_rests)| Flow {
            writes,
            rounds,
            read,
            writer_rests,
            reader_rests,
        },
    )
}

pub fn plan() -> impl Strategy<Value = Plan> {
    let protocol = prop_oneof![Just(Protocol::Postgresql), Just(Protocol::Tcp)];
    let first = prop_oneof![Just(First::Client), Just(First::Backend)];
    (protocol, first, flow(), flow()).prop_map(|(protocol, first, inward, outward)| Plan {
        protocol,
        first,
        inward,
        outward,
    })
}

impl Flow {
    fn bytes(&self) -> usize {
        self.writes.iter().sum::<usize>() * self.rounds
    }

    /// Sends it all, then ends the stream once `may_end` says so.
    async fn send(&self, mut to: WriteHalf<'_>, may_end: impl Future) {
        let mut pattern = Pattern::default();
        for (number, &size) in self.writes.iter().cycle().take(self.writes.len() * self.rounds).enumerate() {
            let piece = pattern.next(size);
            to.write_all(piece).await.expect("a receiver");
            pattern.advance(piece.len());
            doze(number, self.writer_rests).await;
        }
        may_end.await;
        to.shutdown().await.expect("a receiver");
    }

    /// Hears it all and the end of the stream.
    async fn hear(&self, mut from: ReadHalf<'_>) {
        let mut pattern = Pattern::default();
        let mut buffer = vec![0; self.read];
        for number in 0.. {
            match from.read(&mut buffer).await.expect("no reset") {
                0 => break,
                read => pattern.check(&buffer[..read]),
            }
            doze(number, self.reader_rests).await;
        }
        assert_eq!(pattern.position(), self.bytes(), "bytes in all");
    }
}

async fn doze(call: usize, every: usize) {
    if call.is_multiple_of(every) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

impl Plan {
    async fn play(&self) {
        let bench = Bench::new(Setup { protocol: self.protocol, ..Setup::default() });
        let member = Member::start("a").await;
        bench.publish([member.writer()]);
        let (mut client, mut backend) = bench.primary.session(&member).await;
        let end = self.converse(&mut client, &mut backend).await;
        bench.primary.ended(end, 1).await;
        bench.emptied().await;
        let counts = bench.primary.stats.members()[0].1;
        // PostgreSQL's first packet is passed on before the relay begins; of another protocol, nothing is known.
        let first = if self.protocol == Protocol::Tcp { startup(0, "app").len() } else { 0 };
        let (inward, outward) = self.bytes();
        let (inward, outward) = (first + inward, WELCOME.len() + outward);
        assert_eq!((counts.bytes_in, counts.bytes_out), (inward as u64, outward as u64));
    }

    /// Bytes from the client and to it.
    pub fn bytes(&self) -> (usize, usize) {
        (self.inward.bytes(), self.outward.bytes())
    }

    /// Says and hears it all over an open session; how that should end.
    pub async fn converse(&self, client: &mut Peer, backend: &mut Peer) -> End {
        let (client_in, client_out) = client.stream.split();
        let (backend_in, backend_out) = backend.stream.split();
        let (heard_client, client_has_ended) = oneshot::channel();
        let (heard_backend, backend_has_ended) = oneshot::channel();
        let client_first = self.first == First::Client;
        let conversation = async {
            tokio::join!(
                self.inward.send(client_out, async { client_first || backend_has_ended.await.is_ok() }),
                self.outward.send(backend_out, async { !client_first || client_has_ended.await.is_ok() }),
                async {
                    self.inward.hear(backend_in).await;
                    let _ = heard_client.send(());
                },
                async {
                    self.outward.hear(client_in).await;
                    let _ = heard_backend.send(());
                },
            )
        };
        within("the conversation", conversation).await;

        if client_first { End::ClientClosed } else { End::BackendClosed }
    }
}

#[test]
fn every_byte_arrives_whatever_the_pace_and_whoever_ends_first() {
    let config = Config { cases: 24, max_shrink_iters: 30, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = TestRunner::new(config).run(&plan(), |plan| {
        runtime.block_on(plan.play());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn whoever_has_ended_its_stream_still_hears_the_other_out() {
    const ANSWER: usize = 10_000_000;
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let (mut client, mut backend) = bench.primary.session(&member).await;
    client.finish();
    backend.hear_end().await;
    tokio::join!(backend.say_pattern(ANSWER), client.hear_pattern(ANSWER));
    backend.finish();
    client.hear_end().await;
    bench.primary.ended(End::ClientClosed, 1).await;

    let (mut client, mut backend) = bench.primary.session(&member).await;
    backend.finish();
    client.hear_end().await;
    tokio::join!(client.say_pattern(ANSWER), backend.hear_pattern(ANSWER));
    client.finish();
    backend.hear_end().await;
    bench.primary.ended(End::BackendClosed, 1).await;
}

#[tokio::test]
async fn a_reset_arrives_as_a_reset() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    // Each breaks off while nothing flows, while it reads no more, and while it is not read.
    for times in 1..=3 {
        let (mut client, mut backend) = bench.primary.session(&member).await;
        match times {
            1 => client.say(b"half a que").await,
            2 => _ = backend.fill(ALL_BUFFERS).await,
            _ => _ = client.fill(ALL_BUFFERS).await,
        }
        client.reset();
        backend.hear_reset().await;
        bench.primary.ended(End::ClientReset, times).await;

        let (mut client, mut backend) = bench.primary.session(&member).await;
        match times {
            1 => backend.say(b"half an answ").await,
            2 => _ = client.fill(ALL_BUFFERS).await,
            _ => _ = backend.fill(ALL_BUFFERS).await,
        }
        backend.reset();
        client.hear_reset().await;
        bench.primary.ended(End::BackendReset, times).await;
    }
    bench.emptied().await;
}

/// A server that is shut down says so and leaves, even in the middle of what its clients send.
#[tokio::test]
async fn a_server_s_last_words_arrive_although_it_listens_no_more() {
    const LAST_WORDS: &[u8] = b"FATAL: terminating connection due to administrator command";
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    for _ in 0..10 {
        let (mut client, mut backend) = bench.primary.session(&member).await;
        client.fill(ALL_BUFFERS).await;
        backend.say(LAST_WORDS).await;
        backend.reset();
        client.hear(LAST_WORDS).await;
        client.hear_reset().await;
    }
}
