//! Which path answers what.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use super::stream::{self, Form};
use super::{Sources, dashboard, metrics, past, view};

type Shared = State<Arc<Sources>>;

/// The whole admin side.
pub fn router(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/v1/status", get(|State(sources): Shared| async move { Json(view::status(&sources)) }))
        .route(
            "/api/v1/sessions",
            get(|State(sources): Shared| async move { Json(view::sessions(&sources)) }),
        )
        .route("/api/v1/events", get(|State(sources): Shared| async move { Json(view::events(&sources)) }))
        .route("/api/v1/ends", get(|State(sources): Shared| async move { Json(view::ends(&sources)) }))
        .route("/api/v1/history", get(|State(sources): Shared| async move { Json(past::past(&sources)) }))
        .route("/api/v1/stream", get(stream))
        .route("/part/sessions", get(session_list))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .layer(middleware::map_response(harden))
        .with_state(sources)
}

async fn page(State(sources): Shared, uri: Uri) -> Response {
    (
        [(header::CONTENT_SECURITY_POLICY, PAGE_POLICY.clone())],
        html(dashboard::draw(&sources, &parameter(&uri, "q"))),
    )
        .into_response()
}

/// The page runs what it came with and nothing else, and talks to this host only. The search is a form that also works
/// without its script.
static PAGE_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "{NOTHING}; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; form-action 'self'",
        digest(dashboard::SCRIPT),
        digest(dashboard::STYLE)
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(NOTHING))
});

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
            return (StatusCode::BAD_REQUEST, Json(serde_json::json!({ "error": error }))).into_response();
        }
    };
    match sources.live.hub.join(form) {
        Some(frames) => ([(header::CONTENT_TYPE, stream::CONTENT_TYPE)], Body::new(frames)).into_response(),
        None => {
            let error = format!("{} streams are open already; close one", stream::MOST_STREAMS);
            let answer = Json(serde_json::json!({ "error": error }));
            (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
        }
    }
}

async fn scrape(State(sources): Shared) -> Response {
    match metrics::encode(&sources) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Ready from the first table to the beginning of a stop.
async fn readiness(State(sources): Shared) -> (StatusCode, &'static str) {
    if sources.stopping.load(Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if sources.pictures.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not every cluster has been asked yet\n")
    }
}

const NOTHING: &str = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// An answer loads nothing from elsewhere and is shown inside nothing; answers are always new.
async fn harden(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING));
    response
}
