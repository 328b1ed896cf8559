//! What is given to whom asks for more than can be drawn, at each path.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotfish::admin::caller::Peer;
use pilotfish::admin::drawings::Form;
use pilotfish::admin::haproxy::order::{Order, carry_out};
use pilotfish::admin::haproxy::request::{self, Scope, Wish};
use pilotfish::admin::places::Places;
use pilotfish::admin::server::{self, Door, OpenDoor};
use pilotfish::admin::{Sources, routes};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::size::sources;
use crate::control::http::{Response, exchange, get};

const LAST: &str = "the last drawing";

const UP: Wish = Wish { form: request::Form::Json, scope: Scope { up: true, no_maint: false } };
const PATHS: [(&str, Form); 10] = [
    ("/", Form::Page),
    ("/part/sessions", Form::SessionList),
    ("/api/v1/status", Form::Status),
    ("/api/v1/sessions", Form::Sessions),
    ("/api/v1/events", Form::Events),
    ("/api/v1/ends", Form::Ends),
    ("/api/v1/history", Form::History),
    ("/metrics", Form::Metrics),
    ("/metrics?names=haproxy", Form::HaproxyMetrics),
    ("/;json;up", Form::HaproxyRows(UP)),
];

async fn serve(sources: &Arc<Sources>) -> (SocketAddr, OpenDoor, DropGuard) {
    let stop = CancellationToken::new();
    let (router, panics) = (routes::router(Arc::clone(sources)), sources.inbox.panics.clone());
    let (doors, _) = server::start(router, std::future::pending(), stop.clone(), panics).expect("a thread");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (_, tls) = watch::channel(None);
    let door = doors.open(doors.ready(Door::Network { listener, tls }).expect("a door"));
    (address, door, stop.drop_guard())
}

/// A drawing that costs all that there is for long.
fn exhaust(sources: &Sources, form: Form) {
    const LONG: Duration = Duration::from_secs(3600);
    sources.live.drawings.spend(Instant::now() + LONG, form, LONG, &LAST.into());
}

#[tokio::test]
async fn each_path_gives_its_last_drawing_when_its_budget_is_spent() {
    let sources = Arc::new(sources());
    let (address, _door, _stop) = serve(&sources).await;
    let mut kinds = Vec::new();
    for (path, _) in PATHS {
        let answer = get(address, path).await;
        assert!(answer.status == 200 && answer.body != LAST, "{path}: {}", answer.head);
        kinds.push(answer.header("content-type").map(str::to_owned));
    }
    PATHS.into_iter().for_each(|(_, form)| exhaust(&sources, form));
    for ((path, _), kind) in PATHS.into_iter().zip(kinds) {
        let answer = get(address, path).await;
        assert!(answer.status == 200 && answer.body == LAST, "{path}: {}", answer.head);
        assert_eq!(answer.header("content-type"), kind.as_deref(), "{path}");
    }
}

#[tokio::test]
async fn a_search_beyond_the_budget_is_refused_and_the_page_is_not() {
    let sources = Arc::new(sources());
    let (address, _door, _stop) = serve(&sources).await;
    exhaust(&sources, Form::Search);
    for path in ["/?q=app", "/part/sessions?q=psql"] {
        let refused = get(address, path).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{path}");
        assert!(refused.body.contains("too many searches at one time; try again in a second"), "{refused:?}");
    }
    assert_eq!(get(address, "/").await.status, 200);
}

/// A change by somebody at the unix socket.
async fn post(sources: &Arc<Sources>, path: &str) -> Response {
    let (near, far) = tokio::io::duplex(1 << 16);
    let peer = Peer::Socket { uid: 0 };
    let (place, leave) = (Arc::new(Places::new(1).take(peer).await), CancellationToken::new());
    let (router, panics) = (routes::router(Arc::clone(sources)), sources.inbox.panics.clone());
    let headers = [("Host", "localhost"), ("Content-Type", "application/json")];
    let served = server::exchange(far, router, peer, &place, &leave, &panics);
    tokio::join!(exchange(near, "POST", path, &headers, "{}"), served).0
}

/// By the API and by HAProxy's runtime socket; a reload has a test of its own.
#[tokio::test]
async fn whoever_looks_after_a_change_does_not_get_the_last_drawing() {
    let sources = Arc::new(sources());
    let (address, _door, _stop) = serve(&sources).await;
    exhaust(&sources, Form::Page);
    let path = "/api/v1/clusters/production-0/members/patroni1/close-sessions";
    assert_eq!(post(&sources, path).await.status, 200);
    assert_ne!(get(address, "/").await.body, LAST);
    let key = sources.served.load().pools[0].key();
    for order in [
        Order::Limit { pool: key, member: None, limit: Some(7) },
        Order::Close { session: 7 },
        Order::Clear { all: true },
    ] {
        exhaust(&sources, Form::HaproxyRows(UP));
        assert_eq!(get(address, "/;json;up").await.body, LAST);
        carry_out(&sources, 0, order.clone()).await;
        assert_ne!(get(address, "/;json;up").await.body, LAST, "{order:?}");
    }
}
