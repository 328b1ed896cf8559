//! Reloads that fail: everything stays as it was, and everybody is told.

use std::net::{SocketAddr, TcpListener};

use pilotfish::config::Config;

use super::Live;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::postgres::Client;

#[tokio::test]
async fn an_address_that_is_taken_keeps_all_as_it_was() {
    let (sales, stock) =
        (FakeCluster::start("sales", &["a"]).await, FakeCluster::start("stock", &["c"]).await);
    let (live, before) = Live::clusters(&[&sales]).await;
    let (mut stays, _) = Client::enter(live.pool("sales", "primary").await).await;
    let status = live.status().await;
    let mut after = crate::control::served::config(&[&sales, &stock]);
    after.clusters[0] = before.clusters[0].clone();
    after.clusters[1].name = Some("stock".to_owned());
    after.clusters[0].primary.as_mut().expect("it is there").hold = std::time::Duration::ZERO;
    let taken = TcpListener::bind(SocketAddr::new(own_address(), 0)).expect("a free port");
    let address = taken.local_addr().expect("an address");
    after.clusters[1].replicas[0].listen = vec![address.into()];
    let free = std::mem::replace(&mut after.admin.listen, before.admin.listen);
    assert!(free.is_some());
    let rejected = live.change(&after).await.expect_err("the address is taken");
    assert!(rejected.problems[0].contains(&format!("cannot listen on {address}")), "{rejected:?}");
    let now = live.status().await;
    for key in ["clusters", "max_sessions"] {
        let count = |status: &serde_json::Value| status[key].as_array().map(Vec::len);
        assert_eq!(count(&now), count(&status));
    }
    assert_eq!(now["clusters"][0]["pools"][0]["listen"], status["clusters"][0]["pools"][0]["listen"]);
    // What had been bound before is free again.
    let at = after.clusters[1].primary.as_ref().expect("it is there").listen.clone();
    assert_eq!(at.len(), 1);
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
    drop(taken);
    live.change(&after).await.expect("the address is free");
    let (_, name) = Client::enter(live.pool("stock", "primary").await).await;
    assert_eq!(name, "c");
}

#[tokio::test]
async fn a_broken_file_keeps_all_and_says_why() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, _) = Live::clusters(&[&cluster]).await;
    let (mut stays, _) = Client::enter(live.pool("sales", "primary").await).await;
    let broken =
        Config::parse("config.yaml", "clusters: [{patroni: a, hold: 1}]\nworkers: many\n", &|_| None);
    let rejected = live.read(broken).await.expect_err("two mistakes");
    assert_eq!(rejected.problems.len(), 2, "{rejected:?}");
    let told = live.status().await["reloads"].clone();
    assert_eq!((&told["applied"], &told["rejected"]), (&0.into(), &1.into()), "{told}");
    assert_eq!(told["problems"], serde_json::json!(rejected.problems));
    let metrics = crate::control::http::get(live.served.admin, "/metrics").await.body;
    assert!(metrics.contains("pilotfish_last_reload_successful 0"), "{metrics}");
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
}
