//! Which path answers what.

use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};
use serde::Serialize;

use super::drawings::Form as Drawing;
use super::readiness::{self, Wanted};
use super::refusal::Refusal;
use super::stream::{self, Form};
use super::{
    Sources, actions, dashboard, guard, haproxy, incidents, listing, metrics, past, policy, upgrade, view,
};

type Shared = State<Arc<Sources>>;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// The whole admin side.
pub fn router(sources: Arc<Sources>) -> Router {
    let admit = middleware::from_fn_with_state(Arc::clone(&sources), guard::admit);
    let change = middleware::from_fn_with_state(Arc::clone(&sources), guard::change);
    let changes = Router::new()
        .route("/api/v1/clusters/{cluster}/members/{member}/state", post(actions::set_state))
        .route("/api/v1/clusters/{cluster}/members/{member}/close-sessions", post(actions::close_sessions))
        .route("/api/v1/reload", post(actions::reload))
        .route("/api/v1/upgrade", post(upgrade::upgrade))
        .layer(DefaultBodyLimit::max(actions::MAX_BODY_BYTES))
        .route_layer(change);
    Router::new()
        .route("/", get(page))
        .route("/api/v1/status", json(Drawing::Status, view::status))
        .route("/api/v1/sessions", json(Drawing::Sessions, listing::sessions))
        .route("/api/v1/events", json(Drawing::Events, incidents::events))
        .route("/api/v1/whoami", get(actions::whoami))
        .route("/api/v1/ends", json(Drawing::Ends, listing::ends))
        .route("/api/v1/history", json(Drawing::History, past::past))
        .route("/api/v1/stream", get(stream))
        .route("/part/sessions", get(session_list))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .merge(changes)
        .fallback(haproxy_views)
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path takes another method; see the header Allow",
            )
        })
        .layer(admit)
        .layer(middleware::map_response(policy::harden))
        .with_state(sources)
}

/// The digests of what the page has inside, made once.
static PAGE_POLICY: LazyLock<HeaderValue> =
    LazyLock::new(|| policy::page(&[dashboard::SCRIPT], &[dashboard::STYLE]));

async fn page(State(sources): Shared, uri: Uri) -> Response {
    let query = parameter(&uri, "q");
    let form = if query.is_empty() { Drawing::Page } else { Drawing::Search };
    let page = drawn(&sources, form, HTML, || dashboard::draw(&sources, &query));
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY.clone())], page).into_response()
}

/// HAProxy's places of statistics hold semicolons, which no route is made of.
async fn haproxy_views(State(sources): Shared, method: Method, uri: Uri) -> Response {
    match method {
        Method::GET | Method::HEAD => haproxy::request::answer(&sources, &uri),
        _ => Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path").into_response(),
    }
}

/// The tables of sessions alone, for the open page.
async fn session_list(State(sources): Shared, uri: Uri) -> Response {
    let query = parameter(&uri, "q");
    let form = if query.is_empty() { Drawing::SessionList } else { Drawing::Search };
    drawn(&sources, form, HTML, || dashboard::draw_sessions(&sources, &query))
}

/// Answers with what `look` sees, as JSON. Whoever wants a part of it is told that there is none, and not given all.
fn json<T: Serialize + 'static>(form: Drawing, look: fn(&Sources) -> T) -> MethodRouter<Arc<Sources>> {
    get(move |State(sources): Shared, uri: Uri| async move {
        match uri.query().unwrap_or_default() {
            "" => drawn(&sources, form, JSON, || serde_json::to_string(&look(&sources))),
            query => {
                let error =
                    format!("{query:?}: this path takes no parameters, and answers with all there is");
                Refusal::new(StatusCode::BAD_REQUEST, error).into_response()
            }
        }
    })
}

fn drawn<E: Display>(
    sources: &Sources,
    form: Drawing,
    kind: &'static str,
    draw: impl FnOnce() -> Result<String, E>,
) -> Response {
    let drawn = sources.live.drawings.draw(form, draw);
    drawn.map(|drawn| ([(header::CONTENT_TYPE, kind)], drawn)).into_response()
}

/// A parameter of the query; empty when it is not there.
fn parameter(uri: &Uri, name: &str) -> String {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

async fn stream(State(sources): Shared, uri: Uri) -> Response {
    let form = match &*parameter(&uri, "as") {
        "" | "status" => Form::Status,
        "page" => Form::Page,
        other => {
            let error = format!("as={other}: expected status or page");
            return Refusal::new(StatusCode::BAD_REQUEST, error).into_response();
        }
    };
    match sources.live.hub.join(form) {
        Some(frames) => ([(header::CONTENT_TYPE, stream::CONTENT_TYPE)], Body::new(frames)).into_response(),
        None => {
            let error = format!("{} streams are open already; close one", stream::MOST_STREAMS);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).into_response()
        }
    }
}

async fn scrape(State(sources): Shared, uri: Uri) -> Response {
    let form = match &*parameter(&uri, "names") {
        "" => Drawing::Metrics,
        "haproxy" => Drawing::HaproxyMetrics,
        other => {
            let error = format!("names={other}: expected haproxy, or nothing");
            return Refusal::new(StatusCode::BAD_REQUEST, error).into_response();
        }
    };
    let as_haproxy = form == Drawing::HaproxyMetrics;
    drawn(&sources, form, metrics::CONTENT_TYPE, || metrics::encode(&sources, as_haproxy))
}

async fn readiness(State(sources): Shared, uri: Uri) -> Response {
    match Wanted::parse(uri.query().unwrap_or_default()) {
        Ok(wanted) => readiness::readiness(&sources, &wanted).into_response(),
        Err(error) => Refusal::new(StatusCode::BAD_REQUEST, error).into_response(),
    }
}
