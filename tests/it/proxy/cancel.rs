//! Cancel requests: to every member, and never more of them at once than is good for the descriptors.

use std::time::Duration;

use pilotfish::proxy::cancel::MAX_UNDER_WAY;
use pilotfish::stats::End;

use super::bench::{Bench, Setup};
use super::member::{Absent, Member};
use super::packets::{WELCOME, cancel, startup};
use super::peer::Peer;
use super::until;

#[tokio::test]
async fn a_cancel_request_reaches_every_member_that_its_pool_may_be_on() {
    let bench = Bench::new(Setup { connect_timeout: Duration::from_millis(50), ..Setup::default() });
    let (a, c) = (Member::start("a").await, Member::start("c").await);
    let absent = Absent::reserve("b");
    let (silent, _filler) = Absent::reserve("d").falls_silent().await;
    bench.publish([a.writer(), absent.reader(), c.reader(), silent.reader()]);
    for (port, length) in [(&bench.primary, 16), (&bench.replicas, 268)] {
        let request = cancel(length, 0xab);
        let mut client = port.client_saying(&request).await;
        // The members act at the same time; each closes when the signal is sent.
        let members = if port.at == bench.primary.at { &[&a][..] } else { &[&a, &c] };
        let mut asked = Vec::new();
        for member in members {
            asked.push(member.session_saying(&request).await);
        }
        for mut peer in asked {
            peer.finish();
            peer.hear_end().await;
        }
        client.hear_end().await;
        port.ended(End::Cancel, 1).await;
    }
    bench.emptied().await;
    assert_eq!(bench.troubles(), []);
}

#[tokio::test]
async fn a_flood_of_cancel_requests_waits_its_turn_and_lets_others_pass() {
    const FLOOD: usize = 2_000;
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let request = cancel(16, 7);
    let mut clients = Vec::new();
    for _ in 0..FLOOD {
        clients.push(bench.primary.client_saying(&request).await);
    }
    let mut under_way = Vec::new();
    for _ in 0..MAX_UNDER_WAY {
        under_way.push(member.session_saying(&request).await);
    }
    until("every request read", || bench.primary.stats.clients() == FLOOD).await;
    // The next connection is not one more of the flood.
    let hello = startup(0, "app");
    let mut other = bench.primary.client_saying(&hello).await;
    let mut served = member.session_saying(&hello).await;
    served.say(WELCOME).await;
    other.hear(WELCOME).await;
    member.is_left_alone();

    drop(under_way);
    for _ in MAX_UNDER_WAY..FLOOD {
        let mut next: Peer = member.session_saying(&request).await;
        next.finish();
        next.hear_end().await;
    }
    for mut client in clients {
        client.hear_end().await;
    }
    bench.primary.ended(End::Cancel, FLOOD as u64).await;
    other.say(WELCOME).await;
    served.hear(WELCOME).await;
}
