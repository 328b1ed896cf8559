//! Which path answers what.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};

use super::{Sources, dashboard, metrics, view};

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
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .layer(middleware::map_response(harden))
        .with_state(sources)
}

async fn page(State(sources): Shared) -> Response {
    match dashboard::draw(&view::status(&sources)) {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be drawn: {error}\n"))
            .into_response(),
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

/// The page loads nothing from elsewhere and is shown inside nothing; answers are always new.
async fn harden(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
