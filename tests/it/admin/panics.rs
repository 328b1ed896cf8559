//! Panics on the admin side, how those of all parts are shown, and how ends are.

use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;

use axum::Router;
use axum::extract::{Extension, Path, State};
use axum::routing::get;
use pilotfish::admin::actions::set_state;
use pilotfish::admin::caller::{Caller, Peer, Role};
use pilotfish::admin::haproxy::command::{self, Desk, Level, Reply};
use pilotfish::admin::haproxy::order::carry_out;
use pilotfish::admin::server::{self, Door};
use pilotfish::admin::{Sources, dashboard, metrics, view};
use pilotfish::stats::{End, Panics, Part};
use pilotfish::topology::Operator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::exposition::Exposition;
use super::size::sources;
use crate::control::cluster::FakeCluster;
use crate::control::rig::{Lines, Rig};
use crate::control::{http, within};
use crate::proxy::panics::Bomb;

async fn faulty() -> &'static str {
    panic!("a fault, as the test wants it")
}

#[tokio::test]
async fn a_request_that_panics_is_told_so_and_the_next_one_is_answered_on_the_same_connection() {
    let (panics, stop) = (Panics::default(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let router = Router::new().route("/faulty", get(faulty)).route("/", get(async || "well"));
    let idle = std::future::pending();
    let (doors, _thread) = server::start(router, idle, stop, panics.clone()).expect("a thread");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (_certificates, tls) = watch::channel(None);
    let _door = doors.open(doors.ready(Door::Network { listener, tls }).expect("a door"));
    let mut kept = TcpStream::connect(address).await.expect("a door");
    kept.write_all(
        b"GET /faulty HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await
    .expect("an open connection");
    let mut answers = String::new();
    within("both answers", kept.read_to_string(&mut answers)).await.expect("text");
    assert!(
        answers.starts_with("HTTP/1.1 500 ") && answers.contains("a fault inside pilotfish"),
        "{answers}"
    );
    assert!(answers.contains("HTTP/1.1 200 ") && answers.ends_with("well"), "{answers}");
    for times in 2..200 {
        assert_eq!(http::get(address, "/faulty").await.status, 500);
        assert_eq!(panics.of(Part::Admin), times);
    }
    assert_eq!(http::get(address, "/").await.body, "well");
}

#[tokio::test]
async fn panics_are_counted_by_part_and_among_the_findings() {
    let sources = sources();
    assert!(view::status(&sources).findings.is_empty());
    let told = "pilotfish itself has a fault";
    assert!(!dashboard::draw(&sources, "").expect("a page").contains(told));
    sources.inbox.panics.count(Part::Relay);
    sources.inbox.panics.count(Part::Poller);
    sources.inbox.panics.count(Part::Poller);
    let status = view::status(&sources);
    let [finding] = &status.findings[..] else { panic!("{:?}", status.findings) };
    assert_eq!(finding.code, "panicked");
    assert!(
        finding.evidence.starts_with("By part: relay 1, poller 2. The last time 0.0 s ago"),
        "{finding:?}"
    );
    assert!(dashboard::draw(&sources, "").expect("a page").contains(told));
    let page = Exposition::parse(&metrics::encode(&sources, false).expect("metrics"));
    let counts: Vec<(String, f64)> = page
        .of("pilotfish_panics_total")
        .map(|sample| (sample.labels["part"].clone(), sample.value))
        .collect();
    let expected = [
        ("session", 0.0),
        ("relay", 1.0),
        ("worker", 0.0),
        ("poller", 2.0),
        ("control", 0.0),
        ("admin", 0.0),
    ];
    assert_eq!(counts, expected.map(|(part, count)| (part.to_owned(), count)));
}

#[tokio::test]
async fn every_way_to_end_is_counted_under_its_own_cause() {
    let sources = sources();
    let served = sources.served.load();
    let stats = &served.pools[0].pool.stats;
    for (times, end) in (1..).zip(End::ALL) {
        (0..times).for_each(|_| stats.count_end(end));
    }
    let page = Exposition::parse(&metrics::encode(&sources, false).expect("metrics"));
    let cluster = sources.pictures.all()[0].name.to_string();
    let pool = [("cluster", &*cluster), ("pool", &*served.pools[0].pool.options.name)];
    for (times, end) in (1..).zip(End::ALL) {
        let labels = [&pool[..], &[("cause", end.as_str())]].concat();
        assert_eq!(page.value("pilotfish_session_ends_total", &labels), f64::from(times), "{end}");
    }
}

/// Asks until control has panicked before it has answered, and gives what was said then.
async fn unanswered<T>(rig: &Rig, mut ask: impl AsyncFnMut() -> T, is_answered: impl Fn(&T) -> bool) -> T {
    let mut changes = rig.follow();
    let said = async {
        loop {
            // Whoever shows the next picture panics; mostly that is of what is asked for here.
            let mut change = pin!(changes.changed());
            let _ = change.as_mut().poll(&mut Context::from_waker(&Bomb::waker()));
            let said = ask().await;
            if !is_answered(&said) {
                return said;
            }
        }
    };
    within("a panic", said).await
}

const NOT_KNOWN: &str = "Whether it was done is not known";

#[tokio::test]
async fn a_change_that_control_panics_at_is_not_told_as_one_of_an_unknown_member() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(cluster.seeds());
    rig.settled("a", &["b"]).await;
    let sources = Arc::new(Sources { inbox: rig.inbox.clone(), pictures: rig.pictures.clone(), ..sources() });
    let peer = Peer::Socket { uid: 0 };
    let caller = Caller { user: Some("alice".to_owned()), role: Role::Operator, peer };
    let drain = async || {
        let (sources, caller) = (State(Arc::clone(&sources)), Extension(caller.clone()));
        let place = Path(("demo".to_owned(), "b".to_owned()));
        set_state(sources, caller, place, Ok(r#"{"state":"drain"}"#.into())).await
    };
    let refusal = unanswered(&rig, drain, Result::is_ok).await.expect_err("no answer");
    assert!(refusal.status == 500 && refusal.error.contains(NOT_KNOWN), "{refusal:?}");
    let told = "an operator set the state of a member, and control had a fault";
    assert_eq!(lines.containing(told), 1);
    rig.until("the wish", |picture| {
        picture.members.iter().any(|each| each.member.name == "b" && each.operator == Operator::Drain)
    })
    .await;
}

#[tokio::test]
async fn a_weight_that_control_panics_at_is_not_told_as_one_of_an_unknown_server() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(cluster.seeds());
    rig.settled("a", &["b"]).await;
    let sources = Sources { inbox: rig.inbox.clone(), pictures: rig.pictures.clone(), ..sources() };
    let weigh = async || {
        let desk = Desk { sources: &sources, level: Level::Admin, highest: Level::Admin, path: "" };
        let words = ["set", "weight", "replicas/b", "7"].map(str::to_owned);
        let Reply::Order(order) = command::run(desk, &words) else { panic!("no order") };
        carry_out(&sources, 0, order).await
    };
    let said = unanswered(&rig, weigh, |said| said.is_empty()).await;
    assert!(said.contains(NOT_KNOWN), "{said}");
    assert_eq!(lines.containing("an operator set the weight of a member, and control had a fault"), 1);
}
