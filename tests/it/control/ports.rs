//! A pool with a port of its own on the members: who is dead there is out of that pool only.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::config::{Fallback, Replicas};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::cluster::FakeCluster;
use super::fake::Answer;
use super::http;
use super::pools::pool;
use super::postgres::{Client, Server};
use super::rig::Lines;
use super::served::{Served, config};

fn unfit(status: &Value, of: &str, member: &str) -> Value {
    let members = pool(status, of)["members"].as_array().expect("members");
    members.iter().find(|known| known["name"] == member).expect("a member of that name")["unfit"].clone()
}

#[tokio::test]
async fn a_dead_port_takes_its_member_out_of_that_pool_only() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    // A port that is free on both addresses, and a pooler there on one of them.
    let [at_a, at_b] = ["a", "b"].map(|name| cluster.node(name).server.address.ip());
    let reserved = TcpListener::bind((at_a, 0)).await.expect("a free port");
    let port = reserved.local_addr().expect("an address").port();
    let pooler = Server::start_at("pooler of b", SocketAddr::new(at_b, port)).await;
    drop(reserved);
    let mut config = config(&[&cluster]);
    config.clusters[0].primary.as_mut().expect("it is there").port = Some(port);
    let pools = &mut config.clusters[0].replicas;
    pools.push(Replicas { name: "pooled".to_owned(), port: Some(port), ..pools[0].clone() });
    let served = Served::start(config);
    let routed = |primary: Value, replicas: Value, pooled: Value| {
        move |s: &Value| {
            let is = |name: &str, wanted: &Value| pool(s, name)["routable"] == *wanted;
            is("primary", &primary) && is("replicas", &replicas) && is("pooled", &pooled)
        }
    };
    // The writer is well, but nobody is at its port: writers are held.
    let status = served.until("one pooler", routed(json!([]), json!(["b"]), json!(["b"]))).await;
    assert_eq!(status["clusters"][0]["condition"], "ok");
    assert_eq!([unfit(&status, "primary", "a"), unfit(&status, "pooled", "b")], [json!("port"), Value::Null]);
    let mut held = Client::knock(served.pool("primary")).await;
    served.until("a held client", |s| pool(s, "primary")["held"] == 1).await;
    assert_eq!(Client::enter(served.pool("pooled")).await.1, "pooler of b");
    assert_eq!(Client::enter(served.pool("replicas")).await.1, "b");
    let _pooler_of_a = Server::start_at("pooler of a", SocketAddr::new(at_a, port)).await;
    assert_eq!(held.welcome().await, "pooler of a");
    served.until("both poolers", routed(json!(["a"]), json!(["b"]), json!(["b"]))).await;

    // Without it the leader stands in for the pool, and the node serves the other pool as before.
    pooler.stop().await;
    let status = served.until("a dead pooler", routed(json!(["a"]), json!(["b"]), json!(["a"]))).await;
    assert_eq!(
        [unfit(&status, "pooled", "b"), unfit(&status, "replicas", "b")],
        [json!("port"), Value::Null]
    );
    assert_eq!(Client::enter(served.pool("pooled")).await.1, "pooler of a");
    assert_eq!(Client::enter(served.pool("replicas")).await.1, "b");
    pooler.resume().await;
    served.until("it is back", routed(json!(["a"]), json!(["b"]), json!(["b"]))).await;
}

#[tokio::test]
async fn an_operator_weighs_members_and_0_takes_no_more() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    cluster.say("c", 503, json!({"tags": {"weight": 7}}));
    let mut watch = super::rig::often(cluster.seeds());
    watch.steward.readers[0].fallback = false;
    let rig = super::rig::Rig::start(vec![watch]);
    rig.settled("a", &["b", "c"]).await;
    let weights = || -> Vec<(String, u16)> {
        let routes = rig.routes(0);
        let pool = routes.pool("replicas").expect("a pool");
        let of = |candidate: &pilotfish::routing::Candidate| {
            (pool.backends[candidate.backend].name.to_string(), candidate.weight)
        };
        pool.candidates.iter().map(of).collect()
    };
    assert_eq!(weights(), [("b".to_owned(), 100), ("c".to_owned(), 100)]);
    assert!(rig.weigh(Some("replicas"), "b", Some(0)).await);
    assert_eq!(weights(), [("c".to_owned(), 100)]);
    assert!(rig.weigh(None, "c", Some(3)).await && rig.weigh(None, "b", None).await);
    assert_eq!(weights(), [("b".to_owned(), 100), ("c".to_owned(), 3)]);
    assert!(!rig.weigh(None, "nobody", Some(3)).await && !rig.weigh(Some("none"), "b", Some(3)).await);
}

/// Nothing is wrong with the cluster, and yet nobody can write: that is to be said wherever one looks.
#[tokio::test]
async fn a_port_that_is_dead_on_every_member_is_said_everywhere() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let at_a = cluster.node("a").server.address.ip();
    let reserved = TcpListener::bind((at_a, 0)).await.expect("a free port");
    let port = reserved.local_addr().expect("an address").port();
    drop(reserved);
    let mut config = config(&[&cluster]);
    let primary = config.clusters[0].primary.as_mut().expect("it is there");
    (primary.port, primary.hold) = (Some(port), Duration::ZERO);
    let served = Served::start(config);
    let why = format!("a takes no connections at port {port}: Connection refused (os error 111)");
    let vacant = |s: &Value| pool(s, "primary")["vacancy"]["cause"] == "port";
    let status = served.until("a dead port", vacant).await;
    assert_eq!(pool(&status, "primary")["vacancy"]["reason"], *why);
    assert_eq!(pool(&status, "replicas")["vacancy"], Value::Null);
    let (cluster_shown, headline) = (&status["clusters"][0], &status["clusters"][0]["headline"]);
    assert_eq!((&cluster_shown["condition"], &cluster_shown["writer"]), (&json!("ok"), &json!("a")));
    assert_eq!((&headline["level"], &headline["title"]), (&json!("critical"), &json!("a takes no sessions")));
    let what = format!("a leads, but nobody takes the sessions of primary: {why}.");
    assert_eq!(headline["what"], *what);
    let page = http::get(served.admin, "/").await.body;
    assert!(page.contains(&format!("Routes to nobody: {why}.")), "{page}");
    let refused = Client::knock(served.pool("primary")).await.end().await.expect("a refusal");
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(refused.contains(&format!("no writer for cluster \"demo\" within 0 s: {why}")), "{refused}");

    let ready = async |query: &str| {
        let response = http::get(served.admin, &format!("/readyz{query}")).await;
        (response.status, response.body)
    };
    let yes = (200, "ready\n".to_owned());
    let no = (503, "nobody takes the sessions of primary of demo: port\n".to_owned());
    for (query, expected) in [
        ("", &yes),
        ("?pool=primary", &no),
        ("?pool=primary&cluster=demo", &no),
        ("?cluster=demo", &no),
        ("?pool=replicas", &yes),
        ("?pool=nobody", &(404, "there is no such pool\n".to_owned())),
        ("?pool=primary&cluster=other", &(404, "there is no such pool\n".to_owned())),
    ] {
        assert_eq!(ready(query).await, *expected, "{query}");
    }
    for typo in ["?pol=primary", "?pool=primary&pool=nope"] {
        let (status, body) = ready(typo).await;
        assert!(
            status == 400 && body.contains("pool=NAME") | body.contains("twice"),
            "{typo}: {status} {body}"
        );
    }
    assert_eq!(lines.containing("nobody takes the pool's sessions"), 1);
    assert!(lines.containing("the port takes no connections") >= 1, "it was dead from the start");
    assert!(
        lines.containing("\"cluster\":\"demo\",\"pool\":\"primary\",\"member\":\"a\",\"port\":") >= 1,
        "and it is said whose it is"
    );
    let _pooler = Server::start_at("pooler of a", SocketAddr::new(at_a, port)).await;
    served.until("a pooler", |s| pool(s, "primary")["routable"] == json!(["a"])).await;
    assert_eq!(ready("?pool=primary").await, yes);
    assert_eq!(lines.containing("the pool's sessions are taken again"), 1);
    assert_eq!(lines.containing("nobody takes the pool's sessions"), 1);
}

/// A node that has not been asked yet may become a replica, but says nothing of the writer's port. And whatever comes of
/// it, the log has each vacancy's begin and end once.
#[tokio::test]
async fn a_node_that_joins_ends_a_vacancy_or_leaves_it_as_it_is() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    cluster.tell_members(&["a"]);
    let (slow, report) = (Duration::from_secs(1), cluster.report("b", json!({})).to_string());
    cluster.node("b").patroni.answer("/leader", Answer::Json(503, report).after(slow));
    let at_a = cluster.node("a").server.address.ip();
    let reserved = TcpListener::bind((at_a, 0)).await.expect("a free port");
    let port = reserved.local_addr().expect("an address").port();
    drop(reserved);
    let mut config = config(&[&cluster]);
    let demo = &mut config.clusters[0];
    demo.patroni.endpoints.truncate(1);
    demo.primary.as_mut().expect("it is there").port = Some(port);
    demo.replicas[0].fallback = Fallback::None;
    let served = Served::start(config);
    let because = |primary: &'static str, replicas: &'static str| {
        move |s: &Value| {
            let cause = |name: &str| pool(s, name)["vacancy"]["cause"].clone();
            cause("primary") == primary && cause("replicas") == replicas
        }
    };
    served.until("nobody anywhere", because("port", "no_replica")).await;
    let told = "nobody takes the pool's sessions";
    assert_eq!(lines.containing(told), 2);
    cluster.tell_members(&["a", "b"]);
    let status = served.until("a node that has not answered", because("port", "unknown")).await;
    assert_eq!(status["clusters"][0]["headline"]["level"], "critical");
    served.until("its first answer", |s| pool(s, "replicas")["routable"] == json!(["b"])).await;
    assert_eq!((lines.containing(told), lines.containing("the pool's sessions are taken again")), (2, 1));
}
