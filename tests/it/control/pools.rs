//! Several pools of readers through the whole process: each port leads where its pool's rules say.

use std::time::Duration;

use pilotfish::config::{Fallback, Replicas};
use serde_json::{Value, json};

use super::cluster::FakeCluster;
use super::http;
use super::postgres::Client;
use super::rig::Lines;
use super::served::{Served, config};

/// One of the first cluster's pools.
pub fn pool<'a>(status: &'a Value, name: &str) -> &'a Value {
    let pools = status["clusters"][0]["pools"].as_array().expect("pools");
    pools.iter().find(|pool| pool["name"] == name).expect("a pool of that name")
}

fn unfit<'a>(status: &'a Value, of: &str, member: &str) -> &'a Value {
    let members = pool(status, of)["members"].as_array().expect("members");
    &members.iter().find(|known| known["name"] == member).expect("a member of that name")["unfit"]
}

#[tokio::test]
async fn each_port_leads_to_the_readers_that_its_pool_asks_for() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let behind = json!({"received_location": 67108864, "replayed_location": 67108864 - 1000});
    cluster.say("c", 503, json!({"tags": {"reporting": true}, "xlog": behind}));
    let mut config = config(&[&cluster]);
    let pools = &mut config.clusters[0].replicas;
    pools[0].max_lag = Some(100);
    let mut reporting = Replicas { name: "reporting".to_owned(), ..pools[0].clone() };
    (reporting.max_lag, reporting.fallback) = (None, Fallback::None);
    reporting.require.tags.push(("reporting".to_owned(), "true".to_owned()));
    let brief = Replicas { name: "brief".to_owned(), hold: Duration::ZERO, ..reporting.clone() };
    pools.extend([reporting, brief]);
    let served = Served::start(config);
    let routed = |near: Value, far: Value| {
        move |s: &Value| pool(s, "replicas")["routable"] == near && pool(s, "reporting")["routable"] == far
    };
    let status = served.until("both pools", routed(json!(["b"]), json!(["c"]))).await;
    assert_eq!(status["clusters"][0]["readers"], json!(["b", "c"]));
    assert_eq!([unfit(&status, "replicas", "c"), unfit(&status, "reporting", "b")], ["lagging", "tags"]);
    let mut open = Vec::new();
    for _ in 0..4 {
        for (pool, member) in [("replicas", "b"), ("reporting", "c")] {
            let (client, on) = Client::enter(served.pool(pool)).await;
            assert_eq!(on, member, "{pool}");
            open.push(client);
        }
    }
    let status = served.until("all counted", |s| pool(s, "reporting")["sessions"] == 4).await;
    assert_eq!(
        (&pool(&status, "replicas")["sessions"], &pool(&status, "primary")["sessions"]),
        (&json!(4), &json!(0))
    );
    let metrics = http::get(served.admin, "/metrics").await.body;
    for pool in ["replicas", "reporting"] {
        let line = format!("pilotfish_routable_members{{cluster=\"demo\",pool=\"{pool}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }

    // Without its node the one pool waits, while the other has the leader to fall back to.
    cluster.say("c", 503, json!({"state": "stopped"}));
    cluster.say("b", 503, json!({"state": "stopped"}));
    let status = served.until("no reader", routed(json!(["a"]), json!([]))).await;
    assert_eq!(pool(&status, "replicas")["fallback_in_use"], true);
    let told = Client::knock(served.pool("brief")).await.end().await.expect("a refusal");
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("no reader for pool \"brief\" of cluster \"demo\" within 0 s: "), "{told}");
    let _waits = Client::knock(served.pool("reporting")).await;
    served
        .until("a held client", |s| pool(s, "reporting")["held"] == 1 && pool(s, "replicas")["held"] == 0)
        .await;
}

#[tokio::test]
async fn a_pool_of_readers_has_reasons_of_its_own() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let behind = json!({"received_location": 67108864, "replayed_location": 67108864 - 1000});
    cluster.say("b", 503, json!({"xlog": behind}));
    let mut config = config(&[&cluster]);
    let replicas = &mut config.clusters[0].replicas[0];
    (replicas.max_lag, replicas.fallback, replicas.hold) = (Some(100), Fallback::None, Duration::ZERO);
    let served = Served::start(config);
    let because = |cause: &'static str| move |s: &Value| pool(s, "replicas")["vacancy"]["cause"] == cause;
    let refusal = async || {
        let said = Client::knock(served.pool("replicas")).await.end().await.expect("a refusal");
        String::from_utf8_lossy(&said).into_owned()
    };
    served.until("a replica that is behind", because("unfit")).await;
    let refused = refusal().await;
    let why = "no reader for cluster \"demo\" within 0 s: b lies further behind than max_lag";
    assert!(refused.contains(why), "{refused}");
    // The leader is lost: that is the writers' trouble, not the readers'.
    cluster.say("a", 503, json!({"state": "stopped"}));
    served.until_condition("no_writer").await;
    let refused = refusal().await;
    assert!(refused.contains(why), "{refused}");
    cluster.say("b", 503, json!({"state": "stopped"}));
    let status = served.until("no replica", because("no_replica")).await;
    let finding = &status["clusters"][0]["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["evidence"]),
        (&json!("no_readers"), &json!("No member is a running replica."))
    );
    assert!(refusal().await.contains(": no member is a running replica"));
    // Once for each cause; of the primary pool the lost writer has been told.
    assert_eq!(lines.containing("nobody takes the pool's sessions"), 2);
}

#[tokio::test]
async fn weights_of_who_is_no_member_are_said_once() {
    let (lines, _guard) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut config = config(&[&cluster]);
    config.clusters[0].replicas[0].weights = vec![("b".to_owned(), 50), ("ghost".to_owned(), 7)];
    let served = Served::start(config);
    let told = |s: &Value| pool(s, "replicas")["unknown_weights"] == json!(["ghost"]);
    let status = served.until("an unknown name", told).await;
    let finding = status["clusters"][0]["findings"].as_array().expect("findings");
    assert!(finding.iter().any(|finding| finding["code"] == "unknown_weights"), "{finding:?}");
    // Other decisions follow.
    cluster.promote("b");
    served.until("another writer", |s| s["clusters"][0]["writer"] == "b").await;
    assert_eq!(lines.containing("weights names members that the cluster does not have"), 1);
}
