//! What a request has to pass: the name of this host, the login, and for changes that nobody else's page sent it.
//!
//! Browsers add a remembered login to whatever a page makes them send, so a change must show that it was not some
//! other page: it is a POST with JSON, which other sites cannot send unasked, and what the browser says of where it
//! comes from (Origin, Sec-Fetch-Site) has to be here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Sources;
use super::caller::{Caller, Peer, Role};
use super::refusal::Refusal;

/// Answers anybody: load balancers and supervisors have no login.
const OPEN_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// For every request: lets in, and notes who it is as a [`Caller`].
pub async fn admit(State(sources): State<Arc<Sources>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let caller = match peer {
        Some(Peer::Socket { uid }) => {
            let (user, peer) = (Some(format!("uid {uid}")), Peer::Socket { uid });
            Ok(Caller { user, role: Role::Operator, peer })
        }
        Some(peer @ Peer::Network { address, .. }) => match check_host(&sources, &request) {
            Err(refusal) => Err(refusal),
            Ok(()) if OPEN_PATHS.contains(&request.uri().path()) => {
                Ok(Caller { user: None, role: Role::Viewer, peer })
            }
            Ok(()) => {
                let login = sources.gate.admit(request.headers(), address.ip()).await;
                login.map(|(user, role)| Caller { user, role, peer })
            }
        },
        None => Err(Refusal::new(StatusCode::FORBIDDEN, "this connection has no other end")),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Every name that the request gives this host has to be one of its own.
fn check_host(sources: &Sources, request: &Request) -> Result<(), Refusal> {
    let mut given = request.headers().get_all(HOST).iter();
    let host = given.next();
    if given.next().is_some() || (host.is_none() && request.version() >= Version::HTTP_11) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "give one header Host"));
    }
    let host = host.map(|host| host.to_str().unwrap_or(""));
    let named = [host, request.uri().authority().map(|authority| authority.as_str())];
    let hosts = sources.gate.hosts();
    match named.into_iter().flatten().find(|authority| !hosts.allow(authority)) {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this host is not known by the name in the request; use its address, or add the name to admin.allowed_hosts",
        )),
    }
}

/// For changes: an operator, JSON, and from nobody else's page. Requests of other methods do not come here.
pub async fn change(State(sources): State<Arc<Sources>>, request: Request, next: Next) -> Response {
    if let Err(refusal) = may_change(&sources, &request) {
        return refusal.into_response();
    }
    let answer = next.run(request).await;
    sources.live.drawings.forget();
    answer
}

fn may_change(sources: &Sources, request: &Request) -> Result<(), Refusal> {
    let forbidden = |error: &str| Err(Refusal::new(StatusCode::FORBIDDEN, error));
    let Some(caller) = request.extensions().get::<Caller>() else { return forbidden("nobody is known") };
    if let Peer::Network { encrypted, .. } = caller.peer {
        check_origin(request.headers(), encrypted)?;
    }
    if caller.role < Role::Operator {
        return match &caller.user {
            Some(user) => forbidden(&format!("{user} is a viewer; changes need the role operator")),
            None if sources.gate.users().are_nobody() => forbidden(
                "changes need an operator, and no users are configured; use the unix socket (admin.socket), \
                 or give somebody the role operator under admin.users",
            ),
            None => forbidden("changes need the role operator"),
        };
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => {
            let error = "send JSON, with the header Content-Type: application/json";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
        }
    }
}

/// A page that came over TLS may send to here without it: a proxy before us ended it. Not the other way round, since a
/// page that came without TLS may be anybody's.
fn check_origin(headers: &HeaderMap, encrypted: bool) -> Result<(), Refusal> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let schemes = if encrypted { &["https"][..] } else { &["http", "https"] };
    let is_ours = |origin: &HeaderValue| {
        schemes.iter().any(|scheme| origin.as_bytes() == format!("{scheme}://{host}").as_bytes())
    };
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| !is_ours(origin));
    let elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
    match foreign || elsewhere {
        true => Err(Refusal::new(StatusCode::FORBIDDEN, "changes are taken from pilotfish's own page only")),
        false => Ok(()),
    }
}
