//! Clusters of which no node answers, beside one that lives: they cost it nothing.

use std::time::{Duration, Instant};

use super::cluster::FakeCluster;
use super::fake::Answer;
use super::http::get;
use super::postgres::Client;
use super::served::{Served, config};
use super::within;

const DEAD: usize = 12;
/// Each check of a dead node takes so long.
const TIMEOUT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn dead_clusters_cost_a_living_one_nothing() {
    let living = FakeCluster::start("living", &["a", "b"]).await;
    let mut dead = Vec::new();
    for number in 0..DEAD {
        let cluster = FakeCluster::start(&format!("dead{number}"), &["x", "y", "z"]).await;
        for node in &cluster.nodes {
            for path in ["/leader", "/cluster", "/config"] {
                // Takes the connection and the question, and says nothing.
                node.patroni.answer(path, Answer::Never);
            }
        }
        dead.push(cluster);
    }
    let all: Vec<&FakeCluster> = dead.iter().chain([&living]).collect();
    let mut config = config(&all);
    for cluster in &mut config.clusters {
        cluster.patroni.timeout = TIMEOUT;
    }
    let served = Served::start(config);
    let last = |status: &serde_json::Value| status["clusters"][DEAD].clone();
    let begun = Instant::now();
    served.until("the living one", |status| last(status)["condition"] == "ok").await;
    let status = served.until("a status", |_| true).await;
    let at =
        last(&status)["pools"][0]["listen"][0].as_str().expect("an address").parse().expect("an address");
    assert_eq!(Client::enter(at).await.1, "a");
    // It moves on again and again, faster than one check of a dead node.
    for leader in ["b", "a", "b", "a"] {
        let node = living.node(leader);
        within("the usual checks", node.patroni.asked("/leader", 5)).await;
        living.promote(leader);
        served.until("the new leader", |status| last(status)["writer"] == leader).await;
        assert_eq!(Client::enter(at).await.1, leader);
    }
    assert!(begun.elapsed() < TIMEOUT, "it waits for the dead ones: {:?}", begun.elapsed());
    // Each dead node was asked, by one question at a time.
    for node in dead.iter().flat_map(|cluster| &cluster.nodes) {
        assert_eq!((node.patroni.count("/leader"), node.patroni.most_at_once("/leader")), (1, 1));
    }
    assert_eq!(get(served.admin, "/api/v1/status").await.status, 200);
}
