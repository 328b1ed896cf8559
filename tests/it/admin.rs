//! What the admin side shows, and what it lets nobody do.

mod actions;
mod crowd;
mod drawings;
pub mod exposition;
mod findings;
mod guard;
pub mod haproxy;
mod live;
mod panics;
mod pictures;
mod size;
pub mod tls;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::exposition::Exposition;
use crate::control::cluster::FakeCluster;
use crate::control::fake::Answer;
use crate::control::http::{get, request};
use crate::control::postgres::Client;
use crate::control::served::{Served, config};
use crate::control::within;

/// The shape that scripts build on: every key that is here is there, with a value of the kind that is here.
fn assert_shaped(path: &str, shape: &Value, value: &Value) {
    match (shape, value) {
        (Value::Object(shape), Value::Object(value)) => {
            for (key, inner) in shape {
                let found = value.get(key).unwrap_or_else(|| panic!("{path} has no {key}"));
                assert_shaped(&format!("{path}.{key}"), inner, found);
            }
        }
        (Value::Array(shape), Value::Array(value)) => {
            assert!(!value.is_empty(), "{path} is empty");
            value.iter().for_each(|value| assert_shaped(&format!("{path}[]"), &shape[0], value));
        }
        (Value::Null, value) => {
            assert!(value.is_null() || value.is_u64() || value.is_string(), "{path}: {value}")
        }
        (Value::Number(shape), Value::Number(value)) => {
            assert!(shape.is_f64() || value.is_u64(), "{path}: {value} is not whole");
        }
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => {}
        (shape, value) => panic!("{path}: {value} is not like {shape}"),
    }
}

#[tokio::test]
async fn the_status_has_the_shape_that_was_promised() {
    let cluster = FakeCluster::start("demo", &["patroni1", "patroni2"]).await;
    let served = Served::cluster(&cluster).await;
    let (_writer, _) = Client::enter(served.pool("primary")).await;
    // A lag takes a check of both, the leader's first.
    let ready = |s: &Value| s["clusters"][0]["members"][1]["lag_bytes"] == 0 && s["sessions"] == 1;
    let status = served.until("a reader and its lag", ready).await;
    let check = json!({"ago_s": 0.4, "duration_ms": 3.1, "status": 200, "error": null});
    let member = json!({
        "name": "patroni2", "host": "10.0.0.2", "port": 5432, "class": "writer", "role": "primary",
        "state": "running", "timeline": 2, "lag_bytes": null, "admin": "ready", "last_check": check,
        "sessions": 3, "bytes_in": 1, "bytes_out": 2,
    });
    let pool = json!({
        "name": "primary", "listen": ["0.0.0.0:5000"], "routable": ["patroni2"], "sessions": 3, "held": 0,
        "sessions_total": 41,
    });
    let shape = json!({
        "version": "…", "pid": 1, "uptime_s": 12.3, "ready": true,
        "clusters": [{
            "name": "demo", "epoch": 7, "timeline": 2, "writer": "patroni2", "condition": "ok",
            "members": [member], "pools": [pool],
        }],
    });
    assert_shaped("status", &shape, &status);
    let writer = &status["clusters"][0]["members"][0];
    assert_eq!(
        (&writer["class"], &writer["lag_bytes"], &writer["sessions"]),
        (&json!("writer"), &json!(null), &json!(1))
    );
    let listen = status["clusters"][0]["pools"][0]["listen"][0].as_str().expect("an address");
    assert_eq!(listen, served.pool("primary").to_string());
    let sessions = get(served.admin, "/api/v1/sessions").await.json();
    let session = json!([{"id": 1, "cluster": "demo", "pool": "primary", "client": "…", "member": "patroni1",
        "backend": "…", "backend_client_port": 1, "phase": "relaying", "age_s": 0.1, "bytes_in": 1, "bytes_out": 1}]);
    assert_shaped("sessions", &session, &sessions);
    assert_eq!((&sessions[0]["phase"], &sessions[0]["member"]), (&json!("relaying"), &json!("patroni1")));
}

#[tokio::test]
async fn the_age_of_a_check_is_that_of_now() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut config = config(&[&cluster]);
    config.clusters[0].patroni.interval = Duration::from_secs(3600);
    let served = Served::start(config);
    served.until_condition("ok").await;
    let old = |s: &Value| {
        s["clusters"][0]["members"][0]["last_check"]["ago_s"].as_f64().is_some_and(|ago| ago > 1.5)
    };
    let status = served.until("an old check", old).await;
    let member = &status["clusters"][0]["members"][0];
    assert!(member["class_for_s"].as_f64().is_some_and(|s| s > 1.0), "{member}");
    assert!(status["clusters"][0]["writer_for_s"].as_f64().is_some_and(|s| s > 1.0), "{member}");
}

/// Every metric of the contract: its name, kind and labels.
const METRICS: [(&str, &str, &str); 14] = [
    ("pilotfish_sessions_total", "counter", "cluster member pool"),
    ("pilotfish_sessions_active", "gauge", "cluster member pool"),
    ("pilotfish_session_ends_total", "counter", "cause cluster pool"),
    ("pilotfish_bytes_total", "counter", "cluster direction member pool"),
    ("pilotfish_held", "gauge", "cluster pool"),
    ("pilotfish_hold_seconds", "histogram", "cluster pool"),
    ("pilotfish_writer", "gauge", "cluster member"),
    ("pilotfish_writers_claiming", "gauge", "cluster"),
    ("pilotfish_member_class", "gauge", "class cluster member"),
    ("pilotfish_member_lag_bytes", "gauge", "cluster member"),
    ("pilotfish_check_duration_seconds", "histogram", "cluster member"),
    ("pilotfish_table_epoch", "gauge", "cluster"),
    ("pilotfish_failovers_total", "counter", "cluster"),
    ("pilotfish_connect_seconds", "histogram", "cluster pool"),
];

#[tokio::test]
async fn every_metric_of_the_contract_is_there_and_counts() {
    let (one, other) =
        tokio::join!(FakeCluster::start("demo", &["a", "b"]), FakeCluster::start("demo", &["x"]));
    let mut config = config(&[&one, &other]);
    config.clusters[1].replicas.clear();
    let served = Served::start(config);
    let lag = |s: &Value| s["clusters"][0]["members"][1]["lag_bytes"].clone();
    let two = |s: &Value| {
        s["clusters"][0]["readers"] == json!(["b"]) && s["clusters"][1]["writer"] == "x" && lag(s) == 0
    };
    let status = served.until("two clusters", two).await;
    let (mut open, _) = Client::enter(served.pool("primary")).await;
    let (done, _) = Client::enter(served.pool("replicas")).await;
    assert_eq!(open.ask("12345").await.expect("an open session"), "a:12345");
    drop(done);
    served.until("the end of a session", |s| s["clusters"][0]["pools"][1]["ends"][0]["count"] == 1).await;

    let response = get(served.admin, "/metrics").await;
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = Exposition::parse(&response.body);
    for (name, kind, labels) in METRICS {
        assert_eq!(page.kinds.get(name).map(String::as_str), Some(kind), "{name}");
        let sample = if kind == "histogram" { format!("{name}_sum") } else { name.to_owned() };
        let mut count = 0;
        for sample in page.of(&sample) {
            let known: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(known.join(" "), labels, "{name}");
            count += 1;
        }
        assert!(count > 0, "{name} has no sample");
    }
    let cluster = ("cluster", status["clusters"][0]["name"].as_str().expect("a name"));
    let on_a = [cluster, ("pool", "primary"), ("member", "a")];
    assert_eq!(page.value("pilotfish_sessions_active", &on_a), 1.0);
    assert_eq!(page.value("pilotfish_sessions_total", &on_a), 1.0);
    let bytes = |way| page.value("pilotfish_bytes_total", &[&on_a[..], &[("direction", way)]].concat());
    assert!(bytes("in") >= 8.0 && bytes("out") > bytes("in"), "{} {}", bytes("in"), bytes("out"));
    let replicas = [cluster, ("pool", "replicas")];
    let ended = [&replicas[..], &[("cause", "client_closed")]].concat();
    assert_eq!(page.value("pilotfish_session_ends_total", &ended), 1.0);
    assert_eq!(page.value("pilotfish_connect_seconds_count", &replicas), 1.0);
    let writer = |member| page.value("pilotfish_writer", &[cluster, ("member", member)]);
    assert_eq!((writer("a"), writer("b")), (1.0, 0.0));
    assert_eq!(page.value("pilotfish_writers_claiming", &[cluster]), 1.0);
    assert_eq!(page.value("pilotfish_member_class", &[cluster, ("member", "b"), ("class", "reader")]), 1.0);
}

#[tokio::test]
async fn ready_means_a_table_and_no_stop() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    for node in &cluster.nodes {
        node.patroni.answer("/leader", Answer::Never);
    }
    let mut config = config(&[&cluster]);
    config.clusters[0].patroni.timeout = Duration::from_secs(600);
    config.drain_timeout = Duration::from_secs(600);
    let mut served = Served::start(config);
    let state = async |path| {
        let response = get(served.admin, path).await;
        (response.status, response.body)
    };
    assert_eq!(state("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(state("/readyz").await, (503, "not every cluster has been asked yet\n".to_owned()));
    let status = get(served.admin, "/api/v1/status").await.json();
    assert_eq!((&status["ready"], &status["clusters"][0]["condition"]), (&json!(false), &json!("starting")));
    assert_eq!(get(served.admin, "/").await.status, 200);
    Exposition::parse(&get(served.admin, "/metrics").await.body);
    drop(served);

    cluster.lead("a");
    served = Served::cluster(&cluster).await;
    let (mut open, _) = Client::enter(served.pool("primary")).await;
    let state = async |path| {
        let response = get(served.admin, path).await;
        (response.status, response.body)
    };
    assert_eq!(state("/readyz").await, (200, "ready\n".to_owned()));
    served.signal();
    served.until("a stop", |s| s["stopping"] == true && s["ready"] == false).await;
    assert_eq!(state("/readyz").await, (503, "stopping\n".to_owned()));
    assert_eq!(state("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(open.ask("on").await.expect("an open session"), "a:on");
    served.signal();
    assert_eq!(served.stopped().await.cut, 1);
}

#[tokio::test]
async fn names_are_shown_as_they_are_and_never_as_markup() {
    let odd = r#"<b>&"'\"#;
    let cluster = FakeCluster::start("<i>demo", &["a", odd]).await;
    cluster.say("a", 200, json!({"role": "primary", "tags": {"<u>": "</title><script>"}}));
    let mut served = Served::cluster(&cluster).await;
    let status = served.until("a reader", |s| s["clusters"][0]["readers"] == json!([odd])).await;
    assert_eq!(
        (&status["clusters"][0]["name"], &status["clusters"][0]["members"][0]["name"]),
        (&json!("<i>demo"), &json!(odd))
    );
    cluster.say(odd, 503, json!({"role": "<em>", "state": "<s>"}));
    served.until("a strange state", |s| s["clusters"][0]["members"][0]["state"] == "<s>").await;
    let page = get(served.admin, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for markup in ["<b>&", "<i>", "<u>", "<em>", "<s>", "</title><script", "&\"", "{{", "{%"] {
        assert!(!page.body.contains(markup), "{markup} in {}", page.body);
    }
    let plain =
        page.body.replace("&#60;", "<").replace("&#62;", ">").replace("&#34;", "\"").replace("&#39;", "'");
    assert!(plain.replace("&#38;", "&").contains(odd), "{}", page.body);
    assert!(page.body.contains("<th scope=\"row\">a<br>"), "{}", page.body);
    assert_eq!((page.body.matches("<script>").count(), page.body.matches("<style>").count()), (1, 1));
    for exception in [" style=", " onclick=", "javascript:"] {
        assert!(!page.body.contains(exception), "{exception} in {}", page.body);
    }
    for reference in ["://", "src=", "href=\"//", "url(", "@import", "<link", "<iframe"] {
        assert!(!page.body.contains(reference), "{reference} in {}", page.body);
    }
    let metrics = Exposition::parse(&get(served.admin, "/metrics").await.body);
    assert_eq!(metrics.value("pilotfish_writer", &[("cluster", "<i>demo"), ("member", odd)]), 0.0);
    served.signal();
    served.stopped().await;
}

#[tokio::test]
async fn every_answer_forbids_what_no_page_needs() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let mut answers = Vec::new();
    for path in ["/", "/api/v1/status", "/api/v1/sessions", "/api/v1/events", "/metrics", "/livez", "/readyz"]
    {
        answers.push((200, get(served.admin, path).await));
        answers.push((405, request(served.admin, "POST", path).await));
        answers.push((200, request(served.admin, "HEAD", path).await));
    }
    for path in ["/nothing", "/api/v1/", "/api/v1/status/", "//", "/%2e%2e/", "/metrics/../livez"] {
        answers.push((404, get(served.admin, path).await));
    }
    for (status, response) in answers {
        assert_eq!(response.status, status, "{response:?}");
        let policy = response.header("content-security-policy").expect("a policy");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.header(name), Some(value), "{name}: {response:?}");
        }
    }
}

/// Sends `bytes` and waits for the end of the connection: what came, and after how long.
async fn provoke(served: &Served, bytes: &[u8]) -> (String, Duration) {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(served.admin).await.expect("a listener");
    // The other side may have had enough before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("the end of a connection", stream.read_to_end(&mut answer)).await;
    (String::from_utf8_lossy(&answer).into_owned(), begin.elapsed())
}

#[tokio::test]
async fn who_does_not_finish_a_request_is_not_waited_for() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let long = [b"GET /livez HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 40_000]].concat();
    let asked = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mute, slow, idle, (garbage, at_once), (long, _)) = tokio::join!(
        provoke(&served, b""),
        provoke(&served, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"),
        provoke(&served, asked),
        provoke(&served, b"\x16\x03\x01 this is TLS\r\n\r\n"),
        provoke(&served, &long),
    );
    for (what, (answer, took)) in [("mute", &mute), ("slow", &slow), ("idle", &idle)] {
        assert!((4..15).contains(&took.as_secs()), "{what}: {answer:?} after {took:?}");
    }
    assert!(idle.0.starts_with("HTTP/1.1 200 OK\r\n") && idle.0.ends_with("ok\n"), "{}", idle.0);
    assert!(
        garbage.starts_with("HTTP/1.1 400 ") && at_once < Duration::from_secs(4),
        "{garbage:?} after {at_once:?}"
    );
    assert!(long.starts_with("HTTP/1.1 431 "), "{long:?}");
}
