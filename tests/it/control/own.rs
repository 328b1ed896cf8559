//! A member that is said to be where pilotfish itself listens: each session to it would come back as a new one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::cluster::FakeCluster;
use super::fake::{Answer, own_address};
use super::http;
use super::pools::pool;
use super::postgres::Client;
use super::rig::Lines;
use super::served::{Served, config};
use crate::reload::Live;

/// CancelRequest (protocol 3.0): length, code, process, key.
const CANCEL: &[u8] = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02";

/// `/cluster` has this member at this address, and all others where they are.
fn misplace(cluster: &FakeCluster, name: &str, at: SocketAddr) {
    let mut members: Vec<Value> = ["a", "b"].map(|name| cluster.node(name).as_member()).into();
    for member in members.iter_mut().filter(|member| member["name"] == name) {
        (member["host"], member["port"]) = (json!(at.ip().to_string()), json!(at.port()));
    }
    cluster.tell(Answer::Json(200, cluster.members(members)));
}

fn findings(status: &Value) -> Vec<&Value> {
    let findings = status["clusters"][0]["findings"].as_array().expect("findings");
    findings.iter().filter(|finding| finding["code"] == "own_listener").collect()
}

#[tokio::test]
async fn a_writer_that_is_said_to_be_where_pilotfish_listens_is_not_dialled_and_that_is_told_once() {
    let here = own_address();
    for listen in [here, IpAddr::V4(Ipv4Addr::UNSPECIFIED)] {
        let (lines, _guard) = Lines::capture();
        let cluster = FakeCluster::start("demo", &["a", "b"]).await;
        let mut config = config(&[&cluster]);
        config.clusters[0].primary.as_mut().expect("it is there").listen =
            vec![SocketAddr::new(listen, 0).into()];
        let served = Served::start(config);
        let own = SocketAddr::new(here, served.pool("primary").port());
        misplace(&cluster, "a", own);
        let vacant = |s: &Value| pool(s, "primary")["vacancy"]["cause"] == "own_listener";
        let status = served.until("an address that leads back", vacant).await;
        let why = format!("a is not dialled: its address {own} is this balancer's own listener");
        assert_eq!(pool(&status, "primary")["vacancy"]["reason"], *why);
        let headline = &status["clusters"][0]["headline"];
        assert_eq!(headline["title"], "a takes no sessions");
        let [finding] = findings(&status)[..] else { panic!("one finding: {status}") };
        assert!(
            finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("connect_address")),
            "{finding}"
        );

        // Whoever comes is one client and waits; a cancel request does not go round either.
        let mut held = Client::knock(own).await;
        let canceller = Client::say(own, CANCEL).await;
        assert_eq!(canceller.end().await.expect("an end in order"), b"");
        let status = served.until("a held client", |s| pool(s, "primary")["held"] == 1).await;
        assert_eq!(pool(&status, "primary")["clients"], 1);
        let ends = http::get(served.admin, "/api/v1/ends").await.body;
        let ends: Vec<Value> = serde_json::from_str(&ends).expect("JSON");
        let causes: Vec<&Value> = ends.iter().map(|end| &end["cause"]).collect();
        assert_eq!(causes, ["cancel"], "nobody else has come");

        misplace(&cluster, "a", cluster.node("a").server.address);
        assert_eq!(held.welcome().await, "a");
        for line in ["the member is not dialled", "the member is no longer said to be here"] {
            assert_eq!(lines.containing(line), 1, "{line}");
        }
        assert_eq!(lines.containing(&format!("\"member\":\"a\",\"address\":\"{own}\"")), 2);
        assert!(findings(&served.until("its own address", |s| !vacant(s)).await).is_empty());
    }
}

#[tokio::test]
async fn a_reader_that_is_said_to_be_here_leaves_its_sessions_to_the_others() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let served = Served::start(config(&[&cluster]));
    misplace(&cluster, "b", served.pool("replicas"));
    let stands_in = |s: &Value| pool(s, "replicas")["routable"] == json!(["a"]);
    let status = served.until("the leader reads", |s| stands_in(s) && !findings(s).is_empty()).await;
    assert!(findings(&status)[0]["what"].as_str().is_some_and(|what| what.starts_with("b is not dialled")));
    assert_eq!(Client::enter(served.pool("replicas")).await.1, "a");
}

#[tokio::test]
async fn a_listener_that_a_reload_puts_at_a_members_address_is_known_before_anybody_comes_to_it() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let (live, mut config) = Live::clusters(&[&cluster]).await;
    let server = &cluster.node("a").server;
    Client::enter(live.served.pool("primary")).await;
    server.stop().await;
    config.clusters[0].replicas[0].listen.push(server.address.into());
    live.change(&config).await.expect("a free address");
    let cause = |status: &Value| pool(status, "primary")["vacancy"]["cause"].clone();
    assert_eq!(cause(&live.status().await), "own_listener");
    config.clusters[0].replicas[0].listen.pop();
    live.change(&config).await.expect("the same as before");
    assert_eq!(cause(&live.status().await), Value::Null);
    server.resume().await;
    assert_eq!(Client::enter(live.served.pool("primary")).await.1, "a");
}
