//! Who belongs to the cluster, as `/cluster` tells it.

use std::time::Duration;

use pilotfish::control::ClusterPicture;
use serde_json::json;

use super::PATIENCE;
use super::cluster::{FakeCluster, SYSTEM, member, seed};
use super::fake::{Answer, Fake, own_address};
use super::postgres::Server;
use super::rig::{Lines, Rig, Watch, class, condition, names, often};

#[tokio::test]
async fn one_seed_finds_all_members_and_the_name_of_the_cluster() {
    let cluster = FakeCluster::start("orders", &["a", "b", "c"]).await;
    let rig = Rig::watch(vec![seed(&cluster.node("b").patroni.api())]);
    let picture = rig.settled("a", &["b", "c"]).await;
    assert_eq!((&*picture.name, names(&picture)), ("orders", vec!["a", "b", "c"]));
    for (member, node) in picture.members.iter().zip(&cluster.nodes) {
        assert_eq!(member.addresses[..], [node.server.address]);
        assert_eq!(member.member.api, node.patroni.api());
    }
    assert_eq!(&*rig.routes(0).cluster, "orders");
}

#[tokio::test]
async fn a_name_that_was_configured_stays() {
    let cluster = FakeCluster::start("orders", &["a"]).await;
    let mut watch = often(cluster.seeds());
    watch.steward.name = Some("mine".to_owned());
    let rig = Rig::start(vec![watch]);
    assert_eq!(&*rig.settled("a", &[]).await.name, "mine");
}

#[tokio::test]
async fn clusters_of_one_scope_are_told_apart() {
    let (one, other) = tokio::join!(FakeCluster::start("demo", &["a"]), FakeCluster::start("demo", &["b"]));
    let rig = Rig::start(vec![often(one.seeds()), often(other.seeds())]);
    rig.settled("a", &[]).await;
    let second = rig.until_of(1, "the second writer", |picture| condition(picture) == Some("ok")).await;
    assert_ne!(rig.picture(0).name, second.name, "equal labels make the metrics unreadable");
}

#[tokio::test]
async fn a_cluster_that_comes_up_late_has_its_own_name_too() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    for node in &cluster.nodes {
        node.patroni.stop().await;
    }
    let rig = Rig::watch(cluster.seeds());
    rig.until("a first table", |picture| condition(picture) == Some("unreachable")).await;
    for node in &cluster.nodes {
        node.patroni.resume().await;
    }
    let picture = rig.settled("a", &["b"]).await;
    assert_eq!((&*picture.name, &*rig.routes(0).cluster), ("demo", "demo"));
}

/// Seeds know no port of PostgreSQL: 5432 there may be another server.
#[tokio::test]
async fn nobody_is_sent_to_a_guessed_port_while_the_members_are_being_asked_for() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    for node in &cluster.nodes {
        node.patroni.answer("/leader", Answer::Reset);
        let members =
            Answer::Json(200, cluster.members(cluster.nodes.iter().map(|n| n.as_member()).collect()));
        node.patroni.answer("/cluster", members.after(Duration::from_millis(100)));
    }
    let mut watch = often(cluster.seeds());
    watch.timeout = Duration::from_secs(5);
    let rig = Rig::start(vec![watch]);
    rig.until("a first table", |picture| condition(picture) == Some("unreachable")).await;
    cluster.lead("a");
    let is_guess = |address: &std::net::SocketAddr| address.port() == 5432;
    rig.until("a writer", |_| {
        let routes = rig.routes(0);
        let routed = routes.pools.iter().flat_map(|pool| pool.candidates.iter().map(move |c| (pool, c)));
        let mut addresses =
            routed.flat_map(|(pool, candidate)| pool.backends[candidate.backend].addresses.to_vec());
        assert!(!addresses.any(|address| is_guess(&address)), "{routes:?}");
        routes.pool("primary").is_some_and(|pool| !pool.candidates.is_empty())
    })
    .await;
}

#[tokio::test]
async fn a_seed_named_by_host_goes_on_being_asked_there() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let local = Fake::start_on([127, 0, 0, 1].into()).await;
    let server = Server::start("b").await;
    local.answer("/leader", Answer::Json(503, cluster.report("b", json!({})).to_string()));
    let mut b = member("b", &server, &local);
    b["host"] = json!("localhost");
    cluster.tell(Answer::Json(200, cluster.members(vec![cluster.node("a").as_member(), b])));
    let host = format!("localhost:{}", local.address.port());
    let rig = Rig::watch(vec![seed(&cluster.node("a").patroni.api()), seed(&format!("http://{host}"))]);

    let picture = rig.settled("a", &["b"]).await;
    assert_eq!(names(&picture), ["a", "b"]);
    assert_eq!(picture.members[1].member.api, format!("http://{host}"));
    let loopback = |picture: &ClusterPicture| {
        let addresses = &picture.members[1].addresses;
        !addresses.is_empty()
            && addresses.iter().all(|a| a.ip().is_loopback() && a.port() == server.address.port())
    };
    rig.until("the addresses of localhost", loopback).await;
    local.asked("/leader", 5).await;
    assert!(local.requests("/leader").iter().all(|request| request.header("host") == Some(host.as_str())));
    assert_eq!(local.most_at_once("/leader"), 1);
}

#[tokio::test]
async fn ipv6_seeds_and_members() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 on this machine: nothing to try");
        return;
    }
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let local = Fake::start_on("::1".parse().expect("an address")).await;
    let report = cluster.report("b", json!({"role": "primary"}));
    local.answer("/leader", Answer::Json(200, report.to_string()));
    cluster.say("a", 503, json!({}));
    let b = json!({"name": "b", "host": "::1", "port": 5433, "api_url": format!("{}/patroni", local.api())});
    let members = Answer::Json(200, cluster.members(vec![cluster.node("a").as_member(), b]));
    cluster.tell(members.clone());
    local.answer("/cluster", members);
    // Once as a seed, once found by another seed.
    for api in [local.api(), cluster.node("a").patroni.api()] {
        let rig = Rig::watch(vec![seed(&api)]);
        let picture = rig.settled("b", &["a"]).await;
        assert_eq!(picture.members[1].member.api, local.api());
        assert_eq!(picture.members[1].addresses[..], ["[::1]:5433".parse().expect("an address")]);
    }
}

#[tokio::test]
async fn the_last_known_members_outlive_any_answer() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut watch = Watch { timeout: Duration::from_millis(500), ..often(cluster.seeds()) };
    // Discovery comes at ten times the interval.
    watch.steward.interval = Duration::from_millis(10);
    let rig = Rig::start(vec![watch]);
    rig.settled("a", &["b"]).await;
    for (answer, problem) in [
        (Answer::Json(502, "{}".to_owned()), "/cluster was answered with status 502"),
        (Answer::http("200 OK", &[], b"<html>"), "/cluster is not Patroni's JSON: expected value"),
        (Answer::Never, "no answer in time"),
        (Answer::Json(200, r#"{"members": []}"#.to_owned()), "/cluster names no member that can be reached"),
        (
            Answer::Json(200, r#"{"members": [{"name": "a"}]}"#.to_owned()),
            "names no member that can be reached",
        ),
        (Answer::Json(200, cluster.members(vec![anybody(); 65])), "/cluster names 65 members; at most 64"),
    ] {
        cluster.tell(answer);
        let told = |picture: &ClusterPicture| {
            picture.discovery_problem.as_ref().is_some_and(|told| told.contains(problem))
        };
        let picture = rig.until(problem, told).await;
        let writer = picture.decision.as_ref().and_then(|decision| decision.writer.as_deref());
        assert_eq!((names(&picture), writer), (vec!["a", "b"], Some("a")));
    }
    cluster.tell_members(&["a", "b"]);
    rig.until("members again", |picture| picture.discovery_problem.is_none()).await;
}

fn anybody() -> serde_json::Value {
    json!({"name": "a", "host": "127.0.0.1", "port": 5432, "api_url": "http://127.0.0.1:8008/patroni"})
}

#[tokio::test]
async fn another_node_is_asked_when_the_first_cannot_tell() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    cluster.node("a").patroni.answer("/cluster", Answer::Reset);
    cluster.node("b").patroni.answer("/cluster", Answer::Json(503, String::new()));
    let rig = Rig::watch(cluster.seeds());
    let picture = rig.settled("a", &["b", "c"]).await;
    assert_eq!(picture.members[2].member.port, cluster.node("c").server.address.port());
}

#[tokio::test]
async fn a_new_member_is_used_and_one_struck_off_while_silent_stays_listed() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    cluster.tell_members(&["a", "b"]);
    let rig = Rig::watch(vec![seed(&cluster.node("a").patroni.api())]);
    rig.settled("a", &["b"]).await;
    cluster.tell_members(&["a", "b", "c"]);
    rig.settled("a", &["b", "c"]).await;

    cluster.node("b").patroni.stop().await;
    rig.until("a silent b", |picture| class(picture, "b") == Some("silent")).await;
    cluster.tell_members(&["a", "c"]);
    cluster.node("a").patroni.asked("/cluster", 2).await;
    let picture = rig.settled("a", &["c"]).await;
    assert_eq!((names(&picture), class(&picture, "b")), (vec!["a", "b", "c"], Some("silent")));
    let check = picture.members[1].checks.last.as_ref().and_then(|check| check.silence.as_ref());
    assert_eq!(check.map(|silence| silence.kind.as_str()), Some("refused"));
    cluster.node("b").patroni.resume().await;
    rig.settled("a", &["b", "c"]).await;
}

/// Each member is asked, so a `/cluster` that names others each time must not make more and more of them.
#[tokio::test]
async fn members_that_come_and_go_are_not_all_remembered() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let nowhere = own_address();
    let ghost = |number: usize| {
        let api = format!("http://{nowhere}:{}/patroni", 60_001 + number);
        json!({"name": format!("ghost{number}"), "host": nowhere, "port": 60_000, "api_url": api})
    };
    // Many silent members are asked at the fast interval.
    let mut watch = Watch { timeout: PATIENCE, ..often(cluster.seeds()) };
    (watch.steward.interval, watch.steward.fast_interval) =
        (Duration::from_millis(20), Duration::from_millis(200));
    let rig = Rig::start(vec![watch]);
    for round in 0..3 {
        let ghosts = (round * 40..round * 40 + 40).map(ghost);
        let members = cluster.nodes.iter().map(|node| node.as_member()).chain(ghosts).collect();
        cluster.tell(Answer::Json(200, cluster.members(members)));
        let last = format!("ghost{}", round * 40 + 39);
        let picture = rig.until(&last, |picture| names(picture).contains(&&*last)).await;
        assert!(picture.members.len() <= 64, "{} members", picture.members.len());
        assert_eq!(condition(&picture), Some("ok"));
    }
}

#[tokio::test]
async fn a_member_that_moved_is_followed() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let rig = Rig::watch(vec![seed(&cluster.node("a").patroni.api())]);
    rig.settled("a", &["b"]).await;
    let (elsewhere, server) = (Fake::start().await, Server::start("b").await);
    elsewhere.answer("/leader", Answer::Json(503, cluster.report("b", json!({})).to_string()));
    cluster.node("b").patroni.stop().await;
    let members = vec![cluster.node("a").as_member(), member("b", &server, &elsewhere)];
    cluster.tell(Answer::Json(200, cluster.members(members)));
    let there = |p: &ClusterPicture| p.members[1].addresses[..] == [server.address];
    let picture = rig.until("b at its new place", |p| there(p) && class(p, "b") == Some("reader")).await;
    assert_eq!(names(&picture), ["a", "b"]);
}

#[tokio::test]
async fn nodes_of_another_cluster_are_an_alarm_and_tell_no_members() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let other = FakeCluster::start("other", &["x"]).await;
    other.say("x", 200, json!({"role": "primary", "database_system_identifier": "999", "timeline": 9}));
    let seeds = [other.seeds(), cluster.seeds()].concat();
    let rig = Rig::watch(seeds);
    let picture = rig.settled("a", &["b"]).await;
    assert_eq!((&*picture.name, class(&picture, "x")), ("demo", Some("foreign")));
    let alarms = &picture.decision.as_ref().expect("a decision").alarms;
    assert_eq!(alarms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x belongs to another cluster"]);
    cluster.node("a").patroni.asked("/cluster", 3).await;
    assert_eq!(other.node("x").patroni.count("/cluster"), 0);
    // A member that turns into one of another cluster is out at once.
    cluster.say("b", 503, json!({"database_system_identifier": format!("{SYSTEM}0")}));
    let picture = rig.settled("a", &[]).await;
    assert_eq!(class(&picture, "b"), Some("foreign"));
}

/// Patroni says the member's name since 3.2.
#[tokio::test]
async fn a_node_that_does_not_say_its_name_is_still_one_member() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let local = Fake::start_on([127, 0, 0, 1].into()).await;
    let server = Server::start("b").await;
    let patroni = json!({"version": "3.1.2", "scope": "demo"});
    cluster.say("a", 503, json!({"patroni": patroni}));
    let report = cluster.report("b", json!({"patroni": patroni, "role": "master"}));
    local.answer("/leader", Answer::Json(200, report.to_string()));
    let members = vec![cluster.node("a").as_member(), member("b", &server, &local)];
    let answer = Answer::Json(200, cluster.members(members));
    cluster.tell(answer.clone());
    local.answer("/cluster", answer);
    let by_host = format!("http://localhost:{}", local.address.port());
    let rig = Rig::watch(vec![seed(&cluster.node("a").patroni.api()), seed(&by_host)]);
    let picture = rig.settled("b", &["a"]).await;
    assert_eq!((names(&picture), condition(&picture)), (vec!["a", "b"], Some("ok")));
    local.asked("/leader", 5).await;
    assert_eq!(local.most_at_once("/leader"), 1);
}

#[tokio::test]
async fn a_seed_that_answers_late_is_no_second_member() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let local = Fake::start_on([127, 0, 0, 1].into()).await;
    let server = Server::start("b").await;
    local.answer("/leader", Answer::Reset);
    let members = vec![cluster.node("a").as_member(), member("b", &server, &local)];
    cluster.tell(Answer::Json(200, cluster.members(members)));
    let by_host = format!("http://localhost:{}", local.address.port());
    let mut watch = often(vec![seed(&cluster.node("a").patroni.api()), seed(&by_host)]);
    // The next round of discovery is far away.
    watch.steward.interval = Duration::from_secs(2);
    let rig = Rig::start(vec![watch]);
    rig.settled("a", &[]).await;
    local.answer("/leader", Answer::Json(503, cluster.report("b", json!({})).to_string()));
    rig.until("one b, asked where the operator said", |picture| {
        let readers = picture.decision.as_ref().map_or(&[][..], |decision| &decision.readers);
        assert!(readers.len() <= 1, "{readers:?}");
        names(picture) == ["a", "b"] && picture.members[1].member.api == by_host && readers == ["b"]
    })
    .await;
}

#[tokio::test]
async fn a_report_counts_only_for_the_member_that_made_it() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    // The connect_address in b's configuration is c's.
    let mut b = cluster.node("b").as_member();
    b["api_url"] = json!(format!("http://{}/patroni", cluster.node("c").patroni.address));
    cluster.tell(Answer::Json(200, cluster.members(vec![cluster.node("a").as_member(), b])));
    cluster.say("a", 503, json!({}));
    cluster.say("c", 200, json!({"role": "primary"}));
    let rig = Rig::watch(vec![seed(&cluster.node("a").patroni.api())]);
    let picture = rig.until("a silent b", |picture| class(picture, "b") == Some("silent")).await;
    let silence =
        picture.members[1].checks.last.as_ref().and_then(|check| check.silence.clone()).expect("a reason");
    assert_eq!((silence.kind.as_str(), &*silence.detail), ("not_patroni", "c answers at the address of b"));
    assert_eq!(condition(&picture), Some("no_writer"));
}

/// A name for all nodes in turn, or a load balancer in front of them.
#[tokio::test]
async fn an_endpoint_that_answers_for_several_nodes_stands_for_none() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let shared = Fake::start().await;
    for path in ["/cluster", "/config"] {
        let members = cluster.nodes.iter().map(|node| node.as_member()).collect();
        shared.answer(path, Answer::Json(200, cluster.members(members)));
    }
    let turn = |name: &str| {
        let (status, role) = if name == "a" { (200, "primary") } else { (503, "replica") };
        Answer::Json(status, cluster.report(name, json!({"role": role})).to_string())
    };
    shared.answer("/leader", turn("b"));
    let rig = Rig::watch(vec![seed(&shared.api())]);
    rig.settled("a", &["b"]).await;
    for name in ["a", "b", "a"] {
        shared.answer("/leader", turn(name));
        cluster.node("a").patroni.asked("/leader", 3).await;
    }
    let own = |name: &str| cluster.node(name).patroni.api();
    rig.until("every node asked at its own address", |picture| {
        picture.members.iter().all(|m| m.member.api == own(&m.member.name) && m.class.as_str() != "silent")
    })
    .await;
    let picture = rig.settled("a", &["b"]).await;
    assert_eq!((names(&picture), condition(&picture)), (vec!["a", "b"], Some("ok")));
}

#[tokio::test]
async fn a_member_whose_name_does_not_resolve_is_said_once() {
    let (lines, _logging) = Lines::capture();
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut b = cluster.node("b").as_member();
    b["host"] = json!("no-such-host.invalid");
    cluster.tell(Answer::Json(200, cluster.members(vec![cluster.node("a").as_member(), b])));
    let rig = Rig::watch(cluster.seeds());
    let picture = rig.settled("a", &["b"]).await;
    assert!(picture.members[1].addresses.is_empty());
    cluster.node("a").patroni.asked("/cluster", 3).await;
    assert_eq!(lines.containing("no-such-host.invalid"), 2, "once as a member, once as a warning");
}
