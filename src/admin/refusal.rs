//! Why a request is not served: one sentence with what to do, as JSON.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Becomes `{"error": ...}` with its status.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub error: String,
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: error.into(), header: None }
    }

    /// A panic has come in between.
    pub fn fault() -> Refusal {
        let error = "a fault inside pilotfish; see its log. Whether it was done is not known";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    pub fn with(self, name: HeaderName, value: impl Into<HeaderValue>) -> Refusal {
        Refusal { header: Some((name, value.into())), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
