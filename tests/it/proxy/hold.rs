//! Waiting for a member: who waits goes on in turn, with everything that it said meanwhile.

use pilotfish::proxy::Protocol;
use pilotfish::stats::{End, Phase};

use super::alone::{WorkersClock, alone};
use super::bench::{Bench, Setup};
use super::member::Member;
use super::packets::{SSL_REQUEST, WELCOME, startup};
use super::until;

#[tokio::test]
async fn a_client_waits_for_a_writer_and_goes_on() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.reader()]);
    for hello in [startup(0, "app"), SSL_REQUEST.to_vec()] {
        let mut client = bench.primary.client_saying(&hello).await;
        bench.primary.holds(1).await;
        let row = &bench.workers.rows()[0];
        assert_eq!((row.phase, &row.member, row.backend_local), (Phase::Waiting, &None, None));
        // A table that changes nothing for it.
        bench.publish([member.place()]);
        bench.publish([member.writer()]);
        let mut backend = member.session_saying(&hello).await;
        backend.say(WELCOME).await;
        client.hear(WELCOME).await;
        bench.primary.holds(0).await;
        bench.publish([member.reader()]);
        client.hear_reset().await;
    }
    assert_eq!(bench.primary.stats.hold_seconds.snapshot().count, 2);
    bench.emptied().await;
}

#[tokio::test]
async fn held_clients_go_on_in_the_order_in_which_they_came() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([]);
    let mut clients = Vec::new();
    for number in 1..=100 {
        clients.push(bench.primary.client_saying(&startup(0, &format!("app{number:03}"))).await);
        bench.primary.holds(number).await;
    }
    bench.publish([member.writer()]);
    for number in 1..=100 {
        member.session_saying(&startup(0, &format!("app{number:03}"))).await;
    }
}

#[tokio::test]
async fn what_a_held_client_has_sent_meanwhile_is_delivered() {
    let hello = startup(0, "app");
    let client_hello = [&[0x16, 3, 1, 2, 0][..], &[7; 512]].concat();
    for (protocol, packet, rest) in [
        (Protocol::Postgresql, &hello[..], &b"and more"[..]),
        (Protocol::Postgresql, &SSL_REQUEST, b"and more"),
        (Protocol::Postgresql, &client_hello, b""),
        (Protocol::Tcp, b"any bytes", b""),
    ] {
        let bench = Bench::new(Setup { protocol, ..Setup::default() });
        let member = Member::start("a").await;
        bench.publish([]);
        let bytes = [packet, rest].concat();
        let mut client = bench.primary.client_saying(&bytes).await;
        bench.primary.holds(1).await;
        // This one has said all that it will, and still wants its answer.
        let mut finished = bench.primary.client_saying(&bytes).await;
        bench.primary.holds(2).await;
        finished.finish();
        bench.publish([member.writer()]);
        // Whichever of them is the first to be woken.
        let mut backends = [member.session_saying(packet).await, member.session_saying(packet).await];
        for backend in &mut backends {
            backend.say(WELCOME).await;
        }
        for client in [&mut client, &mut finished] {
            client.hear(WELCOME).await;
        }
        for backend in &mut backends {
            backend.hear(rest).await;
        }
    }
}

#[tokio::test]
async fn a_held_client_that_leaves_frees_its_place() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([]);
    let hello = startup(0, "app");
    let clients = [
        bench.primary.client_saying(&hello).await,
        bench.primary.client_saying(&hello).await,
        bench.primary.client_saying(&[&hello[..], b"and more"].concat()).await,
    ];
    let stays = bench.primary.client_saying(&hello).await;
    bench.primary.holds(4).await;
    let [first, second, third] = clients;
    first.finish();
    bench.primary.ended(End::ClientLeft, 1).await;
    second.reset();
    bench.primary.ended(End::ClientLeft, 2).await;
    third.reset();
    bench.primary.ended(End::ClientLeft, 3).await;
    bench.primary.holds(1).await;
    bench.publish([member.writer()]);
    member.session_saying(&hello).await;
    until("its dial", || bench.primary.dials() == 1).await;
    drop((first, stays));
}

#[test]
fn held_clients_cost_no_time() {
    alone("proxy::hold::held_clients_cost_no_time", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
        bench.publish([]);
        let hello = startup(0, "app");
        let mut clients = Vec::new();
        for number in 0..100 {
            clients.push(bench.primary.client_saying(&[&hello[..], b"and more"].concat()).await);
            if number % 2 == 0 {
                clients[number].finish();
            }
        }
        bench.primary.holds(100).await;
        let workers = WorkersClock::new();
        workers.stands_still().await;
        // The same while a server takes its time to answer.
        bench.publish([member.writer()]);
        let mut backends = Vec::new();
        for _ in 0..100 {
            backends.push(member.session_saying(&hello).await);
        }
        workers.stands_still().await;
        for backend in &mut backends {
            backend.say(WELCOME).await;
            backend.hear(b"and more").await;
        }
    });
}
