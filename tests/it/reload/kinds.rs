//! Each kind of change: who is served by it, and who notices nothing.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::config::{Config, Listen, LogLevel, Replicas};
use serde_json::json;

use super::Live;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::postgres::Client;
use crate::control::within;

fn listen() -> Listen {
    SocketAddr::new(own_address(), 0).into()
}

#[tokio::test]
async fn a_cluster_that_comes_serves_and_the_others_notice_nothing() {
    let (sales, stock) =
        (FakeCluster::start("sales", &["a", "b"]).await, FakeCluster::start("stock", &["c"]).await);
    let (live, one) = Live::clusters(&[&sales]).await;
    let at = live.pool("sales", "primary").await;
    let (mut stays, _) = Client::enter(at).await;
    let mut two = crate::control::served::config(&[&stock, &sales]);
    two.admin.listen = one.admin.listen;
    two.clusters[0].name = Some("stock".to_owned());
    two.clusters[1] = one.clusters[0].clone();
    let told = live.change(&two).await.expect("a good configuration");
    assert!(
        told.needs_restart.is_empty() && told.applied.iter().any(|key| key.starts_with("clusters")),
        "{told:?}"
    );
    live.served.until_condition("ok").await;
    let (_, name) = Client::enter(live.pool("stock", "primary").await).await;
    assert_eq!(name, "c");
    assert_eq!(live.pool("sales", "primary").await, at, "the socket stays");
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");

    // A dead one costs the others nothing: it has no node that answers.
    let gone = FakeCluster::start("gone", &["z"]).await;
    let mut three = two.clone();
    three.clusters.push(crate::control::served::config(&[&gone]).clusters[0].clone());
    gone.node("z").patroni.stop().await;
    live.change(&three).await.expect("a good configuration");
    let before = sales.node("a").patroni.count("/leader");
    within("the usual checks", sales.node("a").patroni.asked("/leader", 20)).await;
    assert!(sales.node("a").patroni.count("/leader") >= before + 20);
    let (_, name) = Client::enter(at).await;
    assert_eq!(name, "a");
}

#[tokio::test]
async fn what_went_drains_and_then_is_cut() {
    let (sales, stock) =
        (FakeCluster::start("sales", &["a"]).await, FakeCluster::start("stock", &["c"]).await);
    let (live, both) = Live::clusters(&[&sales, &stock]).await;
    live.served.until("both", |status| status["clusters"][1]["condition"] == "ok").await;
    let at = live.pool("stock", "primary").await;
    let (mut ends, _) = Client::enter(at).await;
    let (mut stays, _) = Client::enter(live.pool("sales", "primary").await).await;
    let mut one = both.clone();
    one.clusters.truncate(1);
    one.drain_timeout = Duration::from_millis(1500);
    live.change(&one).await.expect("a good configuration");
    assert!(tokio::net::TcpStream::connect(at).await.is_err(), "nobody is let in any more");
    let status = live.status().await;
    assert_eq!(status["clusters"].as_array().map(Vec::len), Some(1));
    let draining = status["reloads"]["draining"].as_array().expect("a list");
    assert_eq!(draining.len(), 1, "only where somebody is: {status}");
    let told = (&draining[0]["cluster"], &draining[0]["pool"], &draining[0]["sessions"]);
    assert_eq!(told, (&json!("stock"), &json!("primary"), &json!(1)));
    assert!(draining[0]["cut_in_s"].as_f64().is_some_and(|left| left <= 1.5), "{status}");
    assert_eq!(ends.ask("still").await.expect("an answer"), "c:still", "it may finish");
    ends.end().await.expect_err("after its time it is cut");
    assert_eq!(stays.ask("here").await.expect("an answer"), "a:here");
    live.served.until("an end of that", |status| status["reloads"]["draining"] == json!([])).await;
    // It comes back as one that was never there.
    live.change(&both).await.expect("a good configuration");
    let (_, name) = Client::enter(live.pool("stock", "primary").await).await;
    assert_eq!(name, "c");
}

/// Without a writer for as long as the test lasts, and with a client that waits for one.
async fn with_a_held_client(cluster: &FakeCluster) -> (Live, Config, Client) {
    cluster.say("a", 503, json!({}));
    let mut before = crate::control::served::config(&[cluster]);
    before.clusters[0].name = Some("sales".to_owned());
    let live = Live::begin(before.clone());
    live.served.until_condition("no_writer").await;
    let held = Client::knock(live.pool("sales", "primary").await).await;
    live.served.until("a held client", |status| status["clusters"][0]["pools"][0]["held"] == 1).await;
    (live, before, held)
}

/// A pool goes with a client that it holds: the client is told so, and the end has a cause of its own.
async fn is_told(live: &Live, held: Client) {
    let told = held.end().await.expect("an end in order");
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("C57P03\0") && told.contains("the configuration has no such pool any more"),
        "{told}"
    );
    let ended = within("the end in the list", async {
        loop {
            let ends = crate::control::http::get(live.served.admin, "/api/v1/ends").await.json();
            if let Some(end) = ends.get(0) {
                break end.clone();
            }
        }
    })
    .await;
    let seen = ["cause", "side", "phase", "pool"].map(|key| ended[key].as_str().unwrap_or_default());
    assert_eq!(seen, ["drain_expired", "pilotfish", "waiting", "primary"], "{ended}");
}

#[tokio::test]
async fn whoever_is_held_by_a_pool_that_went_is_told_so_when_its_time_is_over() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, mut config, held) = with_a_held_client(&cluster).await;
    let (mut reader, name) = Client::enter(live.pool("sales", "replicas").await).await;
    config.clusters[0].primary = None;
    config.drain_timeout = Duration::from_millis(300);
    live.change(&config).await.expect("a good configuration");
    is_told(&live, held).await;
    assert_eq!(reader.ask("here").await.expect("an answer"), format!("{name}:here"));
}

#[tokio::test]
async fn a_pool_that_comes_back_holds_clients_as_before() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, with, held) = with_a_held_client(&cluster).await;
    let mut without = with.clone();
    without.clusters[0].primary = None;
    without.drain_timeout = Duration::ZERO;
    live.change(&without).await.expect("a good configuration");
    is_told(&live, held).await;
    // At once: nobody has forgotten it yet.
    live.change(&with).await.expect("a good configuration");
    let mut held = Client::knock(live.pool("sales", "primary").await).await;
    live.served.until("a held client", |status| status["clusters"][0]["pools"][0]["held"] == 1).await;
    cluster.promote("b");
    assert_eq!(held.welcome().await, "b");
}

/// A pool of readers that gets its name takes nobody over who waits for the writer.
#[tokio::test]
async fn whoever_waits_for_the_writer_is_not_sent_to_readers_of_the_same_name() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, mut config, held) = with_a_held_client(&cluster).await;
    config.clusters[0].primary = None;
    config.clusters[0].replicas[0].name = "primary".to_owned();
    live.change(&config).await.expect("a good configuration");
    is_told(&live, held).await;
    // It serves those who come for readers.
    Client::enter(live.pool("sales", "primary").await).await;
}

#[tokio::test]
async fn a_role_that_is_lost_ends_sessions_of_a_pool_that_went_too() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, both) = Live::clusters(&[&cluster]).await;
    let (mut writer, name) = Client::enter(live.pool("sales", "primary").await).await;
    assert_eq!(name, "a");
    let mut readers_only = both.clone();
    readers_only.clusters[0].primary = None;
    live.change(&readers_only).await.expect("a good configuration");
    assert_eq!(writer.ask("still").await.expect("an answer"), "a:still");
    cluster.promote("b");
    writer.end().await.expect_err("a is not the writer any more");
}

#[tokio::test]
async fn a_pool_that_changes_keeps_its_socket_its_sessions_and_its_counts() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, before) = Live::clusters(&[&cluster]).await;
    let at = live.pool("sales", "primary").await;
    let (mut stays, _) = Client::enter(at).await;
    let mut after = before.clone();
    let primary = after.clusters[0].primary.as_mut().expect("it is there");
    primary.limits.max_sessions = Some(1);
    primary.hold = Duration::from_secs(2);
    after.clusters[0].patroni.interval = Duration::from_millis(40);
    let told = live.change(&after).await.expect("a good configuration");
    assert!(told.applied.iter().any(|key| key == "clusters[0].primary.max_sessions"), "{told:?}");
    let mut refused = Client::knock(at).await;
    assert!(refused.ask("x").await.is_err() || refused.end().await.is_ok(), "one is enough");
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
    let status = live.status().await;
    assert_eq!(status["clusters"][0]["pools"][0]["sessions_total"], 1, "{status}");
    live.change(&before).await.expect("a good configuration");
    let (_, name) = Client::enter(at).await;
    assert_eq!(name, "a");
}

#[tokio::test]
async fn an_address_may_go_to_another_pool_and_pools_may_come_and_go() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, before) = Live::clusters(&[&cluster]).await;
    let (primary, replicas) = (live.pool("sales", "primary").await, live.pool("sales", "replicas").await);
    let mut after = before.clone();
    let reports = Replicas {
        name: "reports".to_owned(),
        listen: vec![listen()],
        ..before.clusters[0].replicas[0].clone()
    };
    after.clusters[0].replicas.push(reports);
    let pools = &mut after.clusters[0];
    std::mem::swap(&mut pools.primary.as_mut().expect("it is there").listen, &mut pools.replicas[0].listen);
    live.change(&after).await.expect("a good configuration");
    let (_, writer) = Client::enter(replicas).await;
    let (_, reader) = Client::enter(primary).await;
    assert_eq!((writer.as_str(), reader.as_str()), ("a", "b"));
    let (_, reader) = Client::enter(live.pool("sales", "reports").await).await;
    assert_eq!(reader, "b");
    live.change(&before).await.expect("a good configuration");
    let (_, writer) = Client::enter(primary).await;
    assert_eq!(writer, "a");
}

#[tokio::test]
async fn the_admin_page_may_move_and_sessions_at_one_time_may_be_others() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, mut config) = Live::clusters(&[&cluster]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    config.max_sessions = Some(77);
    config.admin.socket = Some(socket.clone());
    config.workers = Some(3);
    config.log.level = LogLevel::Debug;
    for _ in 0..2 {
        // They are as they were at the start, until there is another start.
        let told = live.change(&config).await.expect("a good configuration");
        assert_eq!(told.needs_restart, ["log.level", "workers"]);
    }
    assert_eq!(live.status().await["max_sessions"], 77);
    let stream = tokio::net::UnixStream::connect(&socket).await.expect("a listener");
    let answer = crate::control::http::exchange(stream, "GET", "/livez", &[("Host", "localhost")], "").await;
    assert_eq!(answer.status, 200);
    config.admin.socket = None;
    let former = live.served.admin;
    config.admin.listen = Some(SocketAddr::new(own_address(), 0));
    live.change(&config).await.expect("a good configuration");
    assert!(!socket.exists() && tokio::net::TcpStream::connect(former).await.is_err());
}
