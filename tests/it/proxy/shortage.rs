//! Shortages of this process: it waits, without haste and without an end, until there is enough again.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::sync::Arc;

use pilotfish::proxy::TcpOptions;
use pilotfish::proxy::listener::{self, ListenAddress, Service};
use pilotfish::stats::End;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;

use super::alone::{WorkersClock, alone};
use super::bench::{Bench, Setup, listen_at};
use super::member::Member;
use super::packets::{WELCOME, startup};
use super::peer::Peer;
use super::until;

/// Takes every descriptor that this process may have, until they are given back one by one.
pub fn take_all_descriptors() -> Vec<File> {
    let open = fs::read_dir("/proc/self/fd").expect("descriptors");
    let highest = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok()).max();
    let limit = getrlimit(Resource::Nofile);
    let few = Rlimit { current: highest.map(|highest| highest + 8), ..limit };
    setrlimit(Resource::Nofile, few).expect("a lower limit");
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn without_descriptors_it_waits_for_some() {
    alone("proxy::shortage::without_descriptors_it_waits_for_some", async {
        let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
        bench.publish([member.writer()]);
        let hello = startup(0, "app");
        let socket = TcpSocket::new_v4().expect("a socket");
        let workers = WorkersClock::new();
        let mut descriptors = take_all_descriptors();
        let mut client = Peer::through(socket, bench.primary.at).await;
        client.say(&hello).await;

        workers.stands_still().await;
        assert_eq!(bench.workers.open_sessions(), 0);

        // One is enough to accept, but not to dial. The member is not to blame.
        descriptors.pop();
        bench.primary.holds(1).await;
        until("dials", || bench.primary.dials() >= 2).await;
        assert_eq!(bench.troubles(), []);

        // One for the dial, one for the member to accept it.
        descriptors.truncate(descriptors.len() - 2);
        let mut backend = member.session_saying(&hello).await;
        backend.say(WELCOME).await;
        client.hear(WELCOME).await;
        bench.primary.holds(0).await;
    });
}

#[tokio::test]
async fn above_the_limit_of_sessions_the_kernel_keeps_the_queue() {
    let (bench, member) =
        (Bench::new(Setup { max_sessions: 2, ..Setup::default() }), Member::start("a").await);
    bench.publish([member.writer()]);
    let hello = startup(0, "app");
    let (first, _) = bench.primary.session(&member).await;
    let _second = bench.primary.session(&member).await;
    let mut third = bench.primary.client_saying(&hello).await;
    assert_eq!(bench.workers.open_sessions(), 2);
    member.is_left_alone();
    first.reset();
    let mut backend = member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    third.hear(WELCOME).await;
    bench.primary.ended(End::ClientReset, 1).await;
}

/// The same when the limit is reached among those that are accepted in one go.
#[tokio::test]
async fn who_comes_together_with_others_waits_for_a_place_too() {
    let (bench, member) =
        (Bench::new(Setup { max_sessions: 2, ..Setup::default() }), Member::start("a").await);
    bench.publish([member.writer()]);
    let anywhere = ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into());
    let bound = listener::bind(&listen_at(anywhere, TcpOptions::default())).expect("a free port");
    let ListenAddress::Ip(at) = bound.address else { panic!("no IP address") };
    let hello = startup(0, "app");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Peer::connect(at).await;
        client.say(&hello).await;
        clients.push(client);
    }
    let service = Service { pool: Arc::clone(&bench.primary.pool), access: Arc::default() };
    let _listening = bench.serve(bound, service);
    let (_first, _second) = (member.session_saying(&hello).await, member.session_saying(&hello).await);
    assert_eq!(bench.workers.open_sessions(), 2);
    member.is_left_alone();
    clients.remove(0).reset();
    let mut backend = member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    clients[1].hear(WELCOME).await;
}
