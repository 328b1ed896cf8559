//! Several pools of readers through the whole process: each port leads where its pool's rules say.

use pilotfish::config::{Fallback, Replicas};
use serde_json::{Value, json};

use super::cluster::FakeCluster;
use super::http;
use super::postgres::Client;
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
    pools.push(reporting);
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
    let _waits = Client::knock(served.pool("reporting")).await;
    served
        .until("a held client", |s| pool(s, "reporting")["held"] == 1 && pool(s, "replicas")["held"] == 0)
        .await;
}
