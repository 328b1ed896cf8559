//! Panics in the control plane: what was found out stays in use, and finding out goes on.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pilotfish::control::poller::{Poller, PollerOptions};
use pilotfish::control::{ClusterPicture, Event, Inbox, MemberPicture, Names, Reconfiguration};
use pilotfish::routing::{ClusterId, Kind, Routes};
use pilotfish::stats::Part;
use pilotfish::topology::{Silence, SilenceKind};

use super::cluster::FakeCluster;
use super::rig::{Rig, Watch, class, often};
use super::within;
use crate::proxy::panics::Bomb;

/// Who takes new sessions of the primary pool.
fn writers(routes: &Routes) -> Vec<String> {
    let primary = routes.pools.iter().find(|pool| pool.kind == Kind::Primary).expect("a primary pool");
    let takers = primary.candidates.iter().map(|candidate| &primary.backends[candidate.backend]);
    takers.map(|backend| backend.name.to_string()).collect()
}

async fn counted(inbox: &Inbox, part: Part, times: u64) {
    let count = async {
        while inbox.panics.of(part) < times {
            tokio::task::yield_now().await;
        }
    };
    within("panics", count).await;
}

#[tokio::test]
async fn a_poller_that_panics_asks_again_within_a_second_and_the_table_stays() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(cluster.seeds());
    rig.settled("a", &["b"]).await;
    let before = rig.routes(0);
    let faulty = Arc::new(AtomicBool::new(true));
    let fault = Arc::clone(&faulty);
    let options = PollerOptions { fast_interval: Duration::from_millis(10), first_after: Duration::ZERO };
    let ask = move || {
        let fault = Arc::clone(&fault);
        async move {
            assert!(!fault.load(Relaxed), "a fault, as the test wants it");
            Event::Undiscovered { cluster: ClusterId::default(), problem: "it asks again".to_owned() }
        }
    };
    let _poller = Poller::start(options, Duration::from_millis(10), rig.inbox.clone(), ask);
    counted(&rig.inbox, Part::Poller, 3).await;
    assert!(Arc::ptr_eq(&before, &rig.routes(0)), "the table has changed");
    faulty.store(false, Relaxed);
    let (mended, panics) = (Instant::now(), rig.inbox.panics.of(Part::Poller));
    rig.until("a check", |picture| picture.discovery_problem.as_deref() == Some("it asks again")).await;
    assert!(mended.elapsed() < Duration::from_secs(1), "{:?}", mended.elapsed());
    println!("asked again {:?} after the last panic", mended.elapsed());
    assert_eq!((rig.inbox.panics.of(Part::Poller), writers(&rig.routes(0))), (panics, vec!["a".to_owned()]));
}

/// The real checks, and the real search for members: their deadline is past the end of time, which no clock can add up.
#[tokio::test]
async fn a_check_that_panics_is_one_without_an_answer_and_so_is_a_search_for_members() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(cluster.seeds());
    rig.settled("a", &["b"]).await;
    let faulty = Watch { timeout: Duration::MAX, ..often(cluster.seeds()) };
    let (serve, shown) = (vec![(ClusterId(0), faulty.options(&Names::default()))], vec![ClusterId(0)]);
    assert!(rig.inbox.try_reconfigure(Reconfiguration { serve, shown, ..Reconfiguration::default() }));
    let is_fault = |silence: &Silence| silence.kind == SilenceKind::Fault;
    let picture = rig
        .until("checks that panic", |picture| {
            let last = |m: &MemberPicture| m.checks.last.clone().and_then(|check| check.silence);
            picture.members.iter().all(|member| last(member).as_ref().is_some_and(is_fault))
                && picture.discovery_problem.is_some()
        })
        .await;
    let problem = picture.discovery_problem.clone().expect("it was waited for");
    let told = picture.members[0].checks.last.clone().and_then(|check| check.silence).expect("a silence");
    assert_eq!(problem, told.detail);
    assert_eq!(writers(&picture.routes), ["a"], "a silence of all takes nothing away");
    counted(&rig.inbox, Part::Poller, 10).await;
    assert!(rig.inbox.turns().await);
}

/// A check was made, and what it said is not known: it says no more than a silence, for as long as there is no other.
#[tokio::test]
async fn an_answer_that_control_panics_at_counts_as_a_check_without_one() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let rig = Rig::watch(cluster.seeds());
    let before = rig.settled("a", &[]).await;
    let failures = |picture: &ClusterPicture| picture.members[0].checks.failures;
    assert_eq!(failures(&before), 0);
    let mut changes = rig.follow();
    // Whoever shows the next picture panics, until it is one of an answer.
    let heard = async {
        loop {
            let count = rig.inbox.panics.of(Part::Control);
            let mut change = pin!(changes.changed());
            if change.as_mut().poll(&mut Context::from_waker(&Bomb::waker())).is_pending() {
                counted(&rig.inbox, Part::Control, count + 1).await;
            }
            let picture = rig.picture(0);
            let last = picture.members[0].checks.last.clone().expect("there were checks");
            if let Some(silence) = last.silence {
                break (silence, last.status, picture);
            }
        }
    };
    let (silence, status, picture) = within("a check without an answer", heard).await;
    assert_eq!((silence.kind, status, failures(&picture)), (SilenceKind::Fault, None, 1), "{silence:?}");
    assert_eq!(writers(&picture.routes), ["a"], "a silence alone takes nothing away");
    rig.until("the next answer", |picture| {
        picture.members[0].checks.last.as_ref().is_some_and(|last| last.status == Some(200))
    })
    .await;
    assert_eq!(failures(&rig.picture(0)), 1);
}

/// Whatever was lost on the way, between a decision and its table too, is made up for.
#[tokio::test]
async fn control_that_panics_at_every_event_goes_on_and_catches_up_when_it_no_longer_does() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(cluster.seeds());
    rig.settled("a", &["b"]).await;
    let before = rig.routes(0);
    // Whoever shows a new picture panics: after the decision, and before its table is out.
    let panicking = async {
        let mut changes = rig.follow();
        loop {
            let mut change = pin!(changes.changed());
            match change.as_mut().poll(&mut Context::from_waker(&Bomb::waker())) {
                Poll::Ready(_) => {}
                Poll::Pending => {
                    let count = rig.inbox.panics.of(Part::Control);
                    counted(&rig.inbox, Part::Control, count + 1).await;
                }
            }
        }
    };
    let many = async {
        counted(&rig.inbox, Part::Control, 5).await;
        cluster.promote("b");
        let asked = cluster.node("b").patroni.count("/leader");
        cluster.node("b").patroni.asked("/leader", asked + 5).await;
        counted(&rig.inbox, Part::Control, 50).await;
    };
    tokio::select! {
        () = panicking => {}
        () = many => {}
    }
    let mended = Instant::now();
    rig.settled("b", &["a"]).await;
    let caught_up = async {
        while writers(&rig.routes(0)) != ["b"] {
            tokio::task::yield_now().await;
        }
    };
    within("the table", caught_up).await;
    println!("caught up {:?} after the last panic", mended.elapsed());
    assert!(mended.elapsed() < Duration::from_secs(1), "{:?}", mended.elapsed());
    assert!(rig.inbox.turns().await && !Arc::ptr_eq(&before, &rig.routes(0)));
    rig.until("the answer of b", |picture| class(picture, "b") == Some("writer")).await;
}
