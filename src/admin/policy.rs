//! What a browser may do with an answer: nothing, unless it is the page, which may run what it came with.
//!
//! The page is one document with its script and style inside. Their digests stand in its Content-Security-Policy, so
//! that whatever else should find its way into the page is not run.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine};

use super::secret::sha256;

const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The `Content-Security-Policy` of a page with these scripts and styles within `<script>` and `<style>`, letter for
/// letter. The page may also talk to this host, and its search is a form that works without its script.
///
/// A handler puts it into its answer; [`harden`] leaves it there.
pub fn page(scripts: &[&str], styles: &[&str]) -> HeaderValue {
    let sources = |texts: &[&str]| -> String {
        let hashes = texts.iter().map(|text| format!(" 'sha256-{}'", BASE64_STANDARD.encode(sha256(text))));
        if texts.is_empty() { " 'none'".to_owned() } else { hashes.collect() }
    };
    let (scripts, styles) = (sources(scripts), sources(styles));
    let policy = format!(
        "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; connect-src 'self'; \
         script-src{scripts}; style-src{styles}"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(NOTHING))
}

/// For every answer: always new, shown inside nothing, taken for nothing that it is not.
pub async fn harden(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING));
    response
}
