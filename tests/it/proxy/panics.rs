//! Panics in the data plane: one session is lost, or none.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use pilotfish::stats::{End, Part};

use super::bench::{Bench, Setup};
use super::member::{Absent, Member};
use super::packets::startup;
use super::peer::Peer;
use super::{DEADLINE, until};

/// Whoever wakes it panics: so a test can have a fault in the middle of what only answers.
pub struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a fault, as the test wants it");
    }
}

impl Bomb {
    pub fn waker() -> Waker {
        Waker::from(Arc::new(Bomb))
    }
}

/// Sessions on a worker, and what each of them must still be able to do.
async fn talk(sessions: &mut [(Peer, Peer)]) {
    for (client, backend) in sessions {
        client.say(b"question").await;
        backend.hear(b"question").await;
        backend.say(b"answer").await;
        client.hear(b"answer").await;
    }
}

#[tokio::test]
async fn sessions_that_panic_one_after_the_other_take_nobody_along_and_leave_nothing_behind() {
    const OTHERS: usize = 50;
    const TIMES: u64 = 200;
    // Room for one more: a place that was not given back would be missed.
    let bench = Bench::new(Setup { max_sessions: OTHERS + 1, fallback: false, ..Setup::default() });
    let (a, gone) = (Member::start("a").await, Absent::reserve("b"));
    bench.publish([a.writer(), gone.reader()]);
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(bench.primary.session(&a).await);
    }
    for _ in 0..TIMES / 2 {
        // One that panics while it is held, and one at its first dial.
        bench.faulty.store(false, Relaxed);
        let mut held = bench.replicas.client_saying(&startup(0, "app")).await;
        bench.replicas.holds(1).await;
        bench.faulty.store(true, Relaxed);
        held.hear_end().await;
        bench.replicas.client_saying(&startup(0, "app")).await.hear_end().await;
    }
    talk(&mut others).await;
    bench.replicas.ended(End::Panicked, TIMES).await;
    until("nobody but the others", || bench.workers.open_sessions() == OTHERS).await;
    let stats = &bench.replicas.stats;
    let active: u64 = stats.members().iter().map(|(_, counts)| counts.active).sum();
    assert_eq!((stats.clients(), stats.held(), active), (0, 0, 0));
    assert_eq!(bench.panics.of(Part::Session), TIMES);
    assert_eq!(bench.primary.ends(), []);
    let mut last = [bench.primary.session(&a).await];
    talk(&mut last).await;
    assert!(bench.workers.standing_still(DEADLINE).await.is_empty());
}

#[tokio::test]
async fn a_worker_that_panics_beside_its_sessions_goes_on_with_all_of_them() {
    let bench = Bench::new(Setup::default());
    let a = Member::start("a").await;
    bench.publish([a.writer()]);
    let mut sessions = vec![bench.primary.session(&a).await];
    let count = || bench.panics.of(Part::Worker);
    while count() == 0 {
        let mut asked = Box::pin(bench.workers.standing_still(Duration::from_secs(3600)));
        // If it has not answered yet, it will wake whoever asks.
        if asked.as_mut().poll(&mut Context::from_waker(&Bomb::waker())).is_pending() {
            until("the panic", || count() == 1).await;
        }
    }
    talk(&mut sessions).await;
    sessions.push(bench.primary.session(&a).await);
    bench.publish([a.writer(), Absent::reserve("b").reader()]);
    talk(&mut sessions).await;
    assert!(bench.workers.standing_still(DEADLINE).await.is_empty());
    assert_eq!((count(), bench.primary.ends()), (1, Vec::new()));
}
