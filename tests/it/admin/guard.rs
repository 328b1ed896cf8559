//! Who is let in, and what is refused in which words.

use std::net::SocketAddr;

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::prelude::{BASE64_STANDARD, Engine};
use pilotfish::config::{Role, Secret, User};
use serde_json::json;
use tokio::net::TcpStream;

use super::exposition::Exposition;
use crate::control::cluster::FakeCluster;
use crate::control::http::{Response, exchange};
use crate::control::served::{Served, config};

/// Fast to check, unlike what an operator should use.
fn hash(secret: &str) -> Secret {
    let params = Params::new(64, 1, 1, None).expect("parameters");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let salt = SaltString::from_b64("c29tZXNhbHQ").expect("salt");
    Secret::Hash(argon2.hash_password(secret.as_bytes(), &salt).expect("a hash").to_string())
}

/// With an operator alice (a password), and a viewer prometheus (a token).
async fn with_users(cluster: &FakeCluster) -> (Served, tempfile::NamedTempFile) {
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "t0ken\nand a second line\n").expect("a file");
    let mut config = config(&[cluster]);
    let user = |name: &str, role, password, token| User { name: name.to_owned(), role, password, token };
    config.admin.users = vec![
        user("alice", Role::Operator, Some(hash("open sesame")), None),
        user("prometheus", Role::Viewer, None, Some(Secret::File(token.path().to_owned()))),
    ];
    config.admin.allowed_hosts = vec!["lb.example.org".to_owned()];
    (Served::start(config), token)
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let stream = TcpStream::connect(address).await.expect("a listener");
    let host = address.to_string();
    let own = [("Host", host.as_str())];
    let own = if headers.iter().any(|(name, _)| *name == "Host") { &own[1..] } else { &own[..] };
    exchange(stream, method, path, &[own, headers].concat(), body).await
}

/// The words of a refusal.
fn error(response: &Response) -> String {
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    response.json()["error"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
}

#[tokio::test]
async fn without_users_everybody_on_loopback_looks_and_nobody_changes() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let who = send(served.admin, "GET", "/api/v1/whoami", &[("Authorization", "Bearer whatever")], "").await;
    assert_eq!(who.json(), json!({"user": null, "role": "viewer"}));
    let path = "/api/v1/clusters/demo/members/a/state";
    let json = [("Content-Type", "application/json")];
    let refused = send(served.admin, "POST", path, &json, r#"{"state":"drain"}"#).await;
    assert_eq!(refused.status, 403);
    assert!(error(&refused).contains("unix socket"), "{refused:?}");
    assert_eq!(served.until_condition("ok").await["clusters"][0]["members"][0]["admin"], "ready");
}

#[tokio::test]
async fn logins_and_roles() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, _token) = with_users(&cluster).await;
    let alice = basic("alice", "open sesame");
    for (login, path, status, who) in [
        (None, "/livez", 200, None),
        (None, "/api/v1/status", 401, None),
        (None, "/", 401, None),
        (None, "/metrics", 401, None),
        (None, "/nothing", 401, None),
        (Some(alice.as_str()), "/api/v1/whoami", 200, Some(json!({"user": "alice", "role": "operator"}))),
        (Some("bearer t0ken"), "/api/v1/whoami", 200, Some(json!({"user": "prometheus", "role": "viewer"}))),
        (Some("Bearer t0ken"), "/metrics", 200, None),
        (Some(&basic("alice", "open sesame ")), "/", 401, None),
        (Some(&basic("bob", "open sesame")), "/", 401, None),
        (Some(&basic("prometheus", "t0ken")), "/", 401, None),
        (Some("Bearer open sesame"), "/", 401, None),
        (Some("Bearer "), "/", 401, None),
        (Some("Basic %%%"), "/", 401, None),
        (Some("Digest x"), "/", 401, None),
        // Once more, now from memory.
        (Some(&alice), "/api/v1/whoami", 200, Some(json!({"user": "alice", "role": "operator"}))),
    ] {
        let headers: Vec<_> = login.iter().map(|login| ("Authorization", *login)).collect();
        let response = send(served.admin, "GET", path, &headers, "").await;
        assert_eq!(response.status, status, "{login:?} {path}: {response:?}");
        who.inspect(|who| assert_eq!(response.json(), *who));
        if status == 401 {
            assert!(response.header("www-authenticate").is_some_and(|c| c.starts_with("Basic realm=")));
            assert!(!error(&response).is_empty());
        }
    }
    let scrape = send(served.admin, "GET", "/metrics", &[("Authorization", "Bearer t0ken")], "").await;
    let failures = |reason| {
        Exposition::parse(&scrape.body).value("pilotfish_admin_login_failures_total", &[("reason", reason)])
    };
    assert_eq!((failures("wrong"), failures("throttled")), (4.0, 0.0));
}

#[tokio::test]
async fn guessing_is_slow_and_the_right_password_does_not_help_then() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, _token) = with_users(&cluster).await;
    let wrong = basic("alice", "guess");
    let mut last = 0;
    for _ in 0..12 {
        last = send(served.admin, "GET", "/", &[("Authorization", &wrong)], "").await.status;
    }
    assert_eq!(last, 429);
    let right = [("Authorization", basic("alice", "open sesame"))];
    let right: Vec<(&str, &str)> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = send(served.admin, "GET", "/", &right, "").await;
    let seconds: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!(refused.status == 429 && (1..=7).contains(&seconds), "{refused:?}");
    assert!(error(&refused).contains(&format!("in {seconds} s")));
    assert_eq!(send(served.admin, "GET", "/livez", &right, "").await.status, 200);
}

#[tokio::test]
async fn very_many_right_logins_at_one_time_are_none_too_many() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, _token) = with_users(&cluster).await;
    let (address, right) = (served.admin, basic("alice", "open sesame"));
    let logins: Vec<_> = (0..40)
        .map(|_| {
            let right = right.clone();
            tokio::spawn(async move {
                send(address, "GET", "/", &[("Authorization", right.as_str())], "").await.status
            })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.expect("no panic"), 200);
    }
}

#[tokio::test]
async fn names_that_are_not_ours_are_not_answered() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, _token) = with_users(&cluster).await;
    let login = ("Authorization", "Bearer t0ken");
    for (headers, status) in [
        (&[("Host", "localhost:7000")][..], 200),
        (&[("Host", "LB.example.org")], 200),
        (&[("Host", "[::1]:7000")], 200),
        (&[("Host", "evil.example")], 421),
        (&[("Host", "lb.example.org.evil.example:7000")], 421),
        (&[("Host", "")], 421),
        (&[("Host", "localhost"), ("Host", "localhost")], 400),
    ] {
        for path in ["/api/v1/status", "/livez", "/metrics"] {
            let response = send(served.admin, "GET", path, &[headers, &[login]].concat(), "").await;
            assert_eq!(response.status, status, "{headers:?} {path}: {response:?}");
            if status == 421 {
                assert!(error(&response).contains("admin.allowed_hosts"), "{response:?}");
            }
        }
    }
    let whole = send(served.admin, "GET", "http://evil.example/livez", &[login], "").await;
    assert_eq!(whole.status, 421, "{whole:?}");
    let none = TcpStream::connect(served.admin).await.expect("a listener");
    assert_eq!(exchange(none, "GET", "/livez", &[], "").await.status, 400);
}

#[tokio::test]
async fn a_change_shows_that_no_other_page_sent_it() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, _token) = with_users(&cluster).await;
    served_is_ready(&served).await;
    let host = served.admin.to_string();
    let own = format!("http://{host}");
    let (alice, json) = (basic("alice", "open sesame"), "application/json");
    let (login, viewer) = (("Authorization", alice.as_str()), ("Authorization", "Bearer t0ken"));
    let drain = r#"{"state":"drain"}"#;
    let kind = ("Content-Type", json);
    let long = format!("{{\"state\":\"{}\"}}", "x".repeat(5000));
    for (headers, body, status, words) in [
        (&[viewer, kind][..], drain, 403, "prometheus is a viewer"),
        (&[kind], drain, 401, "log in"),
        (&[login], drain, 415, "application/json"),
        (&[login, ("Content-Type", "text/plain")], drain, 415, "application/json"),
        (&[login, ("Content-Type", "application/x-www-form-urlencoded")], drain, 415, "application/json"),
        (&[login, kind, ("Origin", "http://evil.example")], drain, 403, "own page"),
        (&[login, kind, ("Origin", "null")], drain, 403, "own page"),
        (&[login, kind, ("Origin", &own.replace("http", "ftp"))], drain, 403, "own page"),
        (&[login, kind, ("Origin", &own), ("Origin", "http://evil.example")], drain, 403, "own page"),
        (&[login, kind, ("Origin", &format!("{own}0"))], drain, 403, "own page"),
        (&[login, kind, ("Sec-Fetch-Site", "cross-site")], drain, 403, "own page"),
        (&[login, kind, ("Sec-Fetch-Site", "same-site")], drain, 403, "own page"),
        (&[login, kind], "", 400, "not JSON"),
        (&[login, kind], "{", 400, "not JSON"),
        (&[login, kind], "[]", 422, "not as expected"),
        (&[login, kind], "{}", 422, "missing field `state`"),
        (&[login, kind], r#"{"state":"off"}"#, 422, "ready, drain or maint"),
        (&[login, kind], r#"{"state":"drain","force":true}"#, 422, "unknown field `force`"),
        (&[login, kind], &long, 413, "larger than 4096 bytes"),
    ] {
        let path = "/api/v1/clusters/demo/members/a/state";
        let response = send(served.admin, "POST", path, headers, body).await;
        assert_eq!(response.status, status, "{headers:?} {body}: {response:?}");
        assert!(error(&response).contains(words), "{response:?}");
    }
    for (path, words) in [
        ("/api/v1/clusters/other/members/a/state", "there is demo"),
        ("/api/v1/clusters/demo/members/b/state", "it has a"),
    ] {
        let response = send(served.admin, "POST", path, &[login, kind], drain).await;
        assert_eq!(response.status, 404, "{response:?}");
        assert!(error(&response).contains(words), "{response:?}");
    }
    let path = "/api/v1/clusters/demo/members/a/state";
    assert_eq!(send(served.admin, "GET", path, &[login], "").await.status, 405);
    let admin = |response: Response| response.json()["clusters"][0]["members"][0]["admin"].clone();
    assert_eq!(admin(send(served.admin, "GET", "/api/v1/status", &[login], "").await), "ready");
    // As from a page that a proxy before it served over TLS.
    let proxied = [login, kind, ("Origin", &own.replace("http", "https"))];
    let ready = r#"{"state":"ready"}"#;
    assert_eq!(send(served.admin, "POST", path, &proxied, ready).await.status, 200);
    let charset = ("Content-Type", "application/json; charset=utf-8");
    let good = [login, charset, ("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")];
    let response = send(served.admin, "POST", path, &good, drain).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(admin(send(served.admin, "GET", "/api/v1/status", &[login], "").await), "drain");
}

async fn served_is_ready(served: &Served) {
    let ready = async { while crate::control::http::get(served.admin, "/readyz").await.status != 200 {} };
    crate::control::within("a table", ready).await;
}

/// What stands between `<tag>` and `</tag>`.
fn inline<'a>(document: &'a str, tag: &str) -> Vec<&'a str> {
    let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
    document.split(begin.as_str()).skip(1).filter_map(|rest| Some(rest.split_once(&end)?.0)).collect()
}

#[tokio::test]
async fn the_page_runs_only_what_it_came_with() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let page = send(served.admin, "GET", "/", &[], "").await;
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(!policy.contains("unsafe"), "{policy}");
    for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
        let directive =
            policy.split("; ").find_map(|part| part.strip_prefix(directive)).expect("a directive");
        let inline = inline(&page.body, tag);
        for text in &inline {
            let hash = BASE64_STANDARD.encode(pilotfish::admin::secret::sha256(text));
            assert!(directive.contains(&format!("'sha256-{hash}'")), "{tag}: {policy}");
        }
        assert_eq!(directive.matches("sha256-").count(), inline.len(), "{tag}: {policy}");
    }
}
