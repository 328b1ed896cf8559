//! Which path answers what.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use super::readiness::{self, Wanted};
use super::refusal::Refusal;
use super::stream::{self, Form};
use super::{
    Sources, actions, dashboard, guard, haproxy, incidents, listing, metrics, past, policy, upgrade, view,
};

type Shared = State<Arc<Sources>>;

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
        .route("/api/v1/status", get(|State(sources): Shared| async move { Json(view::status(&sources)) }))
        .route(
            "/api/v1/sessions",
            get(|State(sources): Shared| async move { Json(listing::sessions(&sources)) }),
        )
        .route(
            "/api/v1/events",
            get(|State(sources): Shared| async move { Json(incidents::events(&sources)) }),
        )
        .route("/api/v1/whoami", get(actions::whoami))
        .route("/api/v1/ends", get(|State(sources): Shared| async move { Json(listing::ends(&sources)) }))
        .route("/api/v1/history", get(|State(sources): Shared| async move { Json(past::past(&sources)) }))
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
    let page = html(dashboard::draw(&sources, &parameter(&uri, "q")));
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
    html(dashboard::draw_sessions(&sources, &parameter(&uri, "q")))
}

fn html(drawn: askama::Result<String>) -> Response {
    match drawn {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be drawn: {error}\n"))
            .into_response(),
    }
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
    let as_haproxy = match &*parameter(&uri, "names") {
        "" => false,
        "haproxy" => true,
        other => {
            let error = format!("names={other}: expected haproxy, or nothing");
            return Refusal::new(StatusCode::BAD_REQUEST, error).into_response();
        }
    };
    match metrics::encode(&sources, as_haproxy) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readiness(State(sources): Shared, uri: Uri) -> (StatusCode, String) {
    let wanted = Wanted { pool: parameter(&uri, "pool"), cluster: parameter(&uri, "cluster") };
    readiness::readiness(&sources, &wanted)
}
