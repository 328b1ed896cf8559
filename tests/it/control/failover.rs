//! Whole failovers as clients live through them, against fakes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::FakeCluster;
use super::fake::Answer;
use super::postgres::Client;
use super::served::Served;
use super::within;

fn cluster_of(status: &Value) -> &Value {
    &status["clusters"][0]
}

/// One of the first cluster's pools.
fn pool<'a>(status: &'a Value, name: &str) -> &'a Value {
    let pools = cluster_of(status)["pools"].as_array().expect("pools");
    pools.iter().find(|pool| pool["name"] == name).expect("a pool of that name")
}

fn ends(status: &Value, name: &str, cause: &str) -> u64 {
    let ends = pool(status, name)["ends"].as_array().expect("ends");
    ends.iter().find(|end| end["cause"] == cause).map_or(0, |end| end["count"].as_u64().expect("a count"))
}

#[tokio::test]
async fn a_switchover_step_by_step() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let served = Served::cluster(&cluster).await;
    let before = served.until("all readers", |s| pool(s, "replicas")["routable"] == json!(["b", "c"])).await;
    let (mut writer, on) = Client::enter(served.pool("primary")).await;
    assert_eq!(on, "a");
    let (mut reader, on) = Client::enter(served.pool("replicas")).await;
    assert!(["b", "c"].contains(&&*on), "{on}");

    // The old leader stops: whoever is there may finish, whoever comes waits.
    cluster.say("a", 200, json!({"role": "primary", "state": "stopping"}));
    let status = served.until_condition("leaving").await;
    assert_eq!(
        (&pool(&status, "primary")["routable"], &cluster_of(&status)["writer"]),
        (&json!([]), &json!(null))
    );
    let mut held = Client::knock(served.pool("primary")).await;
    served.until("a held client", |s| pool(s, "primary")["held"] == 1).await;
    assert_eq!(writer.ask("on").await.expect("an open session"), "a:on");

    // It gives up the lock: whoever still is there must go.
    cluster.say("a", 503, json!({"state": "stopped"}));
    let status = served.until_condition("no_writer").await;
    assert!(writer.end().await.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    served.until("the end of a session", |s| ends(s, "primary", "role_lost") == 1).await;
    assert_eq!(pool(&status, "replicas")["routable"], json!(["b", "c"]));

    // The new one holds the lock but does not take writes yet.
    cluster.say("b", 200, json!({}));
    let status = served.until_condition("promoting").await;
    assert_eq!(
        (&pool(&status, "primary")["held"], &cluster_of(&status)["writer"]),
        (&json!(1), &json!(null))
    );

    cluster.promote("b");
    let status = served.until_condition("ok").await;
    assert_eq!((&cluster_of(&status)["writer"], &cluster_of(&status)["timeline"]), (&json!("b"), &json!(2)));
    assert_eq!(held.welcome().await, "b");
    assert_eq!(reader.ask("on").await.expect("a reader's session goes on"), format!("{on}:on"));

    // Readers follow: the new leader is none, the old one is.
    let status = served.until("new readers", |s| pool(s, "replicas")["routable"] == json!(["a", "c"])).await;
    let (_again, on) = Client::enter(served.pool("replicas")).await;
    assert!(["a", "c"].contains(&&*on), "{on}");
    assert_eq!(cluster_of(&status)["failovers"], 1);
    let over = |s: &Value| cluster_of(s)["incidents"][0]["ongoing"] == false;
    let incident = cluster_of(&served.until("the end of the incident", over).await)["incidents"][0].clone();
    let told = ["writer_before", "writer_after", "held", "cut", "failed"].map(|key| incident[key].clone());
    assert_eq!(told, [json!("a"), json!("b"), json!(1), json!(1), json!(0)], "{incident:#}");
    let epoch = |status: &Value| cluster_of(status)["epoch"].as_u64().expect("an epoch");
    assert!(epoch(&status) >= epoch(&before) + 4);
}

#[tokio::test]
async fn a_node_dies_and_clients_only_wait() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let served = Served::cluster(&cluster).await;
    let a = cluster.node("a");
    tokio::join!(a.patroni.stop(), a.server.stop());
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::knock(served.pool("primary")).await);
    }
    // Nobody else leads yet: the silent leader is still dialled, in vain.
    served.until("held clients", |s| pool(s, "primary")["held"] == 20).await;
    served.until_condition("unreachable").await;
    cluster.promote("b");
    let promoted = Instant::now();
    for client in &mut clients {
        assert_eq!(client.welcome().await, "b");
    }
    let status = served.until("readers", |s| pool(s, "replicas")["routable"] == json!(["c"])).await;
    assert!(promoted.elapsed() < Duration::from_secs(5), "{:?}", promoted.elapsed());
    assert_eq!(
        (&pool(&status, "primary")["held"], &cluster_of(&status)["failovers"]),
        (&json!(0), &json!(1))
    );
    let a = cluster_of(&status)["members"][0].clone();
    assert_eq!((&a["name"], &a["class"]), (&json!("a"), &json!("silent")));
    let error = a["last_check"]["error"].as_str().expect("an error");
    assert!(error.starts_with("refused: Connection refused"), "{error}");
    assert!(a["failed_dials"].as_u64().expect("a count") >= 20, "{a}");
}

#[tokio::test]
async fn a_frozen_patroni_disturbs_no_session() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut config = super::served::config(&[&cluster]);
    config.clusters[0].patroni.timeout = Duration::from_millis(500);
    let served = Served::start(config);
    served.until_condition("ok").await;
    let (mut writer, _) = Client::enter(served.pool("primary")).await;
    let healthy = Answer::Json(200, cluster.report("a", json!({"role": "primary"})).to_string());
    cluster.node("a").patroni.answer("/leader", Answer::Never);
    let status = served.until_condition("unreachable").await;
    assert_eq!(cluster_of(&status)["writer"], "a", "silent and alone: it is still used");
    assert_eq!(cluster_of(&status)["members"][0]["last_check"]["error"], "timeout: no answer in time");
    assert_eq!(Client::enter(served.pool("primary")).await.1, "a");
    assert_eq!(writer.ask("on").await.expect("an open session"), "a:on");
    cluster.node("a").patroni.answer("/leader", healthy);
    let status = served.until_condition("ok").await;
    assert_eq!((ends(&status, "primary", "role_lost"), &cluster_of(&status)["failovers"]), (0, &json!(0)));
}

#[tokio::test]
async fn a_server_that_restarts_in_place_is_waited_for_and_asked_about() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut config = super::served::config(&[&cluster]);
    // So seldom that only a trouble can be the reason of a check.
    config.clusters[0].patroni.interval = Duration::from_secs(3600);
    let served = Served::start(config);
    served.until_condition("ok").await;
    let a = cluster.node("a");
    a.server.stop().await;
    let checked = a.patroni.asked("/leader", 2);
    let mut client = Client::knock(served.pool("primary")).await;
    within("checks for a refused dial", checked).await;
    served.until("a held client", |s| pool(s, "primary")["held"] == 1).await;
    a.server.resume().await;
    assert_eq!(client.welcome().await, "a");
}

#[tokio::test]
async fn clusters_do_not_touch_each_other() {
    let (one, other) =
        tokio::join!(FakeCluster::start("one", &["a", "b"]), FakeCluster::start("other", &["x", "y"]));
    let mut config = super::served::config(&[&one, &other]);
    let name = |pool: &mut Option<pilotfish::config::Primary>| {
        pool.as_mut().expect("a pool").name = "other".to_owned()
    };
    name(&mut config.clusters[1].primary);
    let served = Served::start(config);
    served
        .until("two writers", |s| s["clusters"][0]["writer"] == "a" && s["clusters"][1]["writer"] == "x")
        .await;
    let (mut here, _) = Client::enter(served.pool("primary")).await;
    let (there, _) = Client::enter(served.pool("other")).await;
    other.promote("y");
    assert!(there.end().await.is_err(), "the writer is another");
    assert_eq!(Client::enter(served.pool("other")).await.1, "y");
    assert_eq!(here.ask("on").await.expect("an open session"), "a:on");
    let status = served.until("the end of a failover", |s| s["clusters"][1]["condition"] == "ok").await;
    assert_eq!(
        (&status["clusters"][0]["failovers"], &status["clusters"][1]["failovers"]),
        (&json!(0), &json!(1))
    );
}
