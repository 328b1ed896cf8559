//! What is given to whom asks for more than can be drawn, at each path.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pilotfish::admin::drawings::Form;
use pilotfish::admin::haproxy::request::{self, Scope, Wish};
use pilotfish::admin::server::{self, Door, OpenDoor};
use pilotfish::admin::{Sources, routes};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::size::sources;
use crate::control::http::get;

/// More than a form may save up, so that for a second nothing else is drawn of it.
const LONG: Duration = Duration::from_millis(600);
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

/// A drawing that costs all that there is.
fn exhaust(sources: &Sources, form: Form) {
    let drawn = sources.live.drawings.draw(form, || {
        std::thread::sleep(LONG);
        Ok::<_, Infallible>(LAST)
    });
    drawn.expect("a drawing");
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
    let all: &Sources = &sources;
    std::thread::scope(|threads| {
        for (_, form) in PATHS {
            threads.spawn(move || exhaust(all, form));
        }
    });
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
