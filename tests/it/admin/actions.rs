//! What an operator changes, over the unix socket.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::control::cluster::FakeCluster;
use crate::control::http::{Response, exchange};
use crate::control::postgres::Client;
use crate::control::served::{Served, config};

struct Console {
    socket: PathBuf,
    _folder: TempDir,
}

impl Console {
    async fn serve(cluster: &FakeCluster) -> (Served, Console) {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("admin.sock");
        let mut config = config(&[cluster]);
        config.admin.socket = Some(socket.clone());
        let served = Served::start(config);
        served.until_condition("ok").await;
        (served, Console { socket, _folder: folder })
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        let headers = [("Host", "whatever"), ("Content-Type", "application/json")];
        exchange(connect(&self.socket).await, "POST", path, &headers, &body.to_string()).await
    }

    async fn set(&self, member: &str, state: &str) -> Value {
        let path = format!("/api/v1/clusters/demo/members/{member}/state");
        let response = self.post(&path, json!({ "state": state })).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }
}

async fn connect(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).await.expect("a socket")
}

fn admin_of(status: &Value, member: &str) -> Value {
    let members = status["clusters"][0]["members"].as_array().expect("members");
    members.iter().find(|m| m["name"] == member).map_or(Value::Null, |m| m["admin"].clone())
}

#[tokio::test]
async fn whoever_may_open_the_socket_is_an_operator_by_user_id() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let (served, console) = Console::serve(&cluster).await;
    let who = exchange(connect(&console.socket).await, "GET", "/api/v1/whoami", &[("Host", "x")], "").await;
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(who.json(), json!({"user": format!("uid {uid}"), "role": "operator"}));
    let mode = std::fs::metadata(&console.socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    // JSON all the same: a form that was misled to a socket is none of ours.
    let path = "/api/v1/reload";
    let plain = exchange(connect(&console.socket).await, "POST", path, &[("Host", "x")], "{}").await;
    assert_eq!(plain.status, 415);
    let reload = console.post(path, json!({})).await;
    assert_eq!(reload.status, 422, "{reload:?}");
    assert!(reload.json()["problems"][0].as_str().is_some_and(|p| p.contains("no file")), "{reload:?}");
    let metrics =
        exchange(connect(&console.socket).await, "GET", "/metrics", &[("Host", "x")], "").await.body;
    assert!(metrics.contains("pilotfish_reloads_total{result=\"rejected\"} 1\n"), "{metrics}");
    assert!(metrics.contains("pilotfish_last_reload_successful 0\n"), "{metrics}");
    drop(served);
}

#[tokio::test]
async fn a_drained_reader_takes_no_new_sessions_until_it_is_ready_whatever_its_cluster_does() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let (served, console) = Console::serve(&cluster).await;
    served.until("readers", |s| s["clusters"][0]["readers"] == json!(["b", "c"])).await;
    let told = console.set("b", "drain").await;
    assert_eq!(
        told,
        json!({"cluster": "demo", "member": "b", "state": "drain", "before": "ready", "note": null})
    );
    let status = served.until("one reader", |s| s["clusters"][0]["readers"] == json!(["c"])).await;
    assert_eq!(admin_of(&status, "b"), "drain");
    for _ in 0..3 {
        assert_eq!(Client::enter(served.pool("replicas")).await.1, "c");
    }
    // It leaves the list and comes back under another address: still drained.
    cluster.tell_members(&["a", "c"]);
    cluster.node("b").patroni.answer("/leader", crate::control::fake::Answer::Reset);
    served.until("b gone silent", |s| s["clusters"][0]["members"][1]["class"] == "silent").await;
    cluster.tell_members(&["a", "b", "c"]);
    cluster.say("b", 503, json!({}));
    let back = |s: &Value| s["clusters"][0]["members"][1]["class"] == "reader";
    assert_eq!(admin_of(&served.until("b back", back).await, "b"), "drain");
    assert_eq!(console.set("b", "maint").await["before"], "drain");
    assert_eq!(console.set("b", "ready").await["before"], "maint");
    served.until("both readers", |s| s["clusters"][0]["readers"] == json!(["b", "c"])).await;
}

#[tokio::test]
async fn what_it_means_to_drain_the_writer_is_said() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let (served, console) = Console::serve(&cluster).await;
    let (mut open, _) = Client::enter(served.pool("primary")).await;
    let told = console.set("a", "drain").await;
    let note = told["note"].as_str().expect("a note");
    assert!(note.contains("new writers wait") && note.contains("switchover"), "{note}");
    let status = served.until("no writer", |s| s["clusters"][0]["writer"].is_null()).await;
    let reason = status["clusters"][0]["reason"].as_str().expect("a reason");
    assert_eq!(reason, "a is the writer, but an operator set it to drain: new writers wait");
    let mut held = Client::knock(served.pool("primary")).await;
    served.until("a held client", |s| s["clusters"][0]["pools"][0]["held"] == 1).await;
    assert_eq!(open.ask("still").await.expect("an open session"), "a:still");
    assert_eq!(console.set("a", "ready").await["note"], Value::Null);
    assert_eq!(held.welcome().await, "a");
}

#[tokio::test]
async fn the_sessions_of_one_member_are_closed_and_counted_as_such() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let (served, console) = Console::serve(&cluster).await;
    served.until("a reader", |s| s["clusters"][0]["readers"] == json!(["b"])).await;
    let (mut writer, _) = Client::enter(served.pool("primary")).await;
    let (reader, on) = Client::enter(served.pool("replicas")).await;
    assert_eq!(on, "b");
    let path = "/api/v1/clusters/demo/members/b/close-sessions";
    let closed = console.post(path, json!({})).await;
    assert_eq!(closed.json(), json!({"cluster": "demo", "member": "b", "closed": 1}));
    assert!(reader.end().await.is_err(), "a reset says that the end was not the server's");
    let ends = |s: &Value| s["clusters"][0]["pools"][1]["ends"].clone();
    let counted = served.until("the end", |s| ends(s)[0]["count"] == 1).await;
    assert_eq!(ends(&counted)[0], json!({"cause": "operator", "side": "pilotfish", "count": 1}));
    assert_eq!(writer.ask("still").await.expect("an open session"), "a:still");
    assert_eq!(console.post(path, json!({})).await.json()["closed"], 0);
    assert_eq!(console.post(path, json!({"all": true})).await.status, 422);
}
