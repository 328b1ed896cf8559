//! Which path answers what.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};

use super::refusal::Refusal;
use super::{Sources, actions, dashboard, guard, metrics, policy, view};

type Shared = State<Arc<Sources>>;

/// The whole admin side.
pub fn router(sources: Arc<Sources>) -> Router {
    let admit = middleware::from_fn_with_state(Arc::clone(&sources), guard::admit);
    let change = middleware::from_fn_with_state(Arc::clone(&sources), guard::change);
    let changes = Router::new()
        .route("/api/v1/clusters/{cluster}/members/{member}/state", post(actions::set_state))
        .route("/api/v1/clusters/{cluster}/members/{member}/close-sessions", post(actions::close_sessions))
        .route("/api/v1/reload", post(actions::reload))
        .layer(DefaultBodyLimit::max(actions::MAX_BODY_BYTES))
        .route_layer(change);
    Router::new()
        .route("/", get(page))
        .route("/api/v1/status", get(|State(sources): Shared| async move { Json(view::status(&sources)) }))
        .route(
            "/api/v1/sessions",
            get(|State(sources): Shared| async move { Json(view::sessions(&sources)) }),
        )
        .route("/api/v1/events", get(|State(sources): Shared| async move { Json(view::events(&sources)) }))
        .route("/api/v1/whoami", get(actions::whoami))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .merge(changes)
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
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
static PAGE_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let template = include_str!("templates/dashboard.html");
    policy::page(&policy::inline(template, "script"), &policy::inline(template, "style"))
});

async fn page(State(sources): Shared) -> Response {
    match dashboard::draw(&view::status(&sources)) {
        Ok(page) => ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY.clone())], Html(page)).into_response(),
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
