//! How often a node is asked, and how.

use std::time::{Duration, Instant};

use pilotfish::proxy::TroubleKind;
use serde_json::json;

use super::cluster::{FakeCluster, seed};
use super::fake::{Answer, Fake};
use super::rig::{Rig, Watch, class, condition, often};
use super::within;

const HOUR: Duration = Duration::from_secs(3600);

/// Time between a request and the one before it.
fn gaps(node: &Fake) -> Vec<Duration> {
    let requests = node.requests("/leader");
    requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// Waits until nobody is asked any more. Nothing but time shows that nothing comes.
async fn calm(nodes: &[&Fake]) {
    let count = || nodes.iter().map(|node| node.count("/leader")).sum::<usize>();
    let quiet = async {
        loop {
            let before = count();
            tokio::time::sleep(Duration::from_millis(150)).await;
            if count() == before {
                return;
            }
        }
    };
    within("the end of fast checks", quiet).await;
}

/// Tells of troubles with `member` until `done`, thousands of times a second.
async fn poke_until(rig: &Rig, member: &str, kind: TroubleKind, done: impl Future<Output = ()>) {
    let poke = async {
        loop {
            rig.trouble(member, kind);
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    tokio::select! {
        () = poke => {}
        () = done => {}
    }
}

#[tokio::test]
async fn a_request_is_a_plain_get_on_a_connection_of_its_own() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let rig = Rig::watch(cluster.seeds());
    let node = &cluster.node("a").patroni;
    rig.settled("a", &[]).await;
    node.asked("/leader", 3).await;
    let asked = ["/leader", "/cluster", "/config"].map(|path| node.requests(path)).concat();
    for request in &asked {
        assert!(request.line.starts_with("GET /") && request.line.ends_with(" HTTP/1.1"), "{request:?}");
        assert_eq!(request.header("connection"), Some("close"));
        assert_eq!(request.header("host"), Some(node.address.to_string().as_str()));
        assert_eq!(request.header("accept-encoding"), None, "a compressed answer could not be bounded");
        let agent = request.header("user-agent").unwrap_or("");
        assert!(agent.starts_with("pilotfish/"), "{agent:?}");
    }
    assert!((asked.len()..=asked.len() + 1).contains(&node.connections()));
}

#[tokio::test]
async fn a_slow_node_is_asked_one_thing_at_a_time_however_often_it_is_poked() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let slow = |role| Answer::Json(503, cluster.report("b", json!({"role": role})).to_string());
    cluster.node("b").patroni.answer("/leader", slow("replica").after(Duration::from_millis(60)));
    let rig = Rig::start(vec![Watch { timeout: Duration::from_millis(500), ..often(cluster.seeds()) }]);
    rig.settled("a", &["b"]).await;
    for kind in [TroubleKind::DialFailed, TroubleKind::Hangup] {
        poke_until(&rig, "b", kind, cluster.node("b").patroni.asked("/leader", 5)).await;
    }
    // One that never answers is given up before it is asked again.
    cluster.node("b").patroni.answer("/leader", Answer::Never);
    poke_until(&rig, "b", TroubleKind::DialFailed, cluster.node("b").patroni.asked("/leader", 3)).await;
    for node in &cluster.nodes {
        assert_eq!(node.patroni.most_at_once("/leader"), 1, "{}", node.name);
        assert!(node.patroni.most_at_once("/cluster") <= 1, "{}", node.name);
    }
}

#[tokio::test]
async fn no_poke_asks_sooner_than_the_fast_interval_allows() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut watch = often(cluster.seeds());
    (watch.steward.interval, watch.steward.fast_interval) = (HOUR, Duration::from_millis(50));
    let rig = Rig::start(vec![watch]);
    let node = &cluster.node("a").patroni;
    rig.settled("a", &[]).await;
    let (begin, before) = (Instant::now(), node.count("/leader"));
    poke_until(&rig, "a", TroubleKind::Hangup, node.asked("/leader", 8)).await;
    // The first may follow at once; then seven whole intervals.
    assert!(begin.elapsed() >= Duration::from_millis(7 * 50 - 10), "{:?}", &gaps(node)[before - 1..]);
}

#[tokio::test]
async fn a_settled_node_is_asked_once_an_interval_shortened_by_some_jitter() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut watch = often(cluster.seeds());
    (watch.steward.interval, watch.steward.fast_interval) =
        (Duration::from_millis(200), Duration::from_millis(5));
    let rig = Rig::start(vec![watch]);
    rig.settled("a", &["b"]).await;
    let node = &cluster.node("a").patroni;
    node.asked("/leader", 2).await;
    let from = gaps(node).len();
    node.asked("/leader", 10).await;
    let gaps = &gaps(node)[from..];
    let whole: Duration = gaps.iter().sum();
    assert!(whole >= Duration::from_millis(10 * 180 - 50), "less than 90 % of the interval: {gaps:?}");
    let shortest = gaps.iter().min().expect("ten gaps");
    assert!(*shortest < Duration::from_millis(197), "all of them are whole intervals: {gaps:?}");
}

#[tokio::test]
async fn all_nodes_are_asked_fast_while_something_is_unsettled_and_only_then() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let mut watch = often(cluster.seeds());
    (watch.steward.interval, watch.steward.thresholds.rise) = (HOUR, 1);
    let rig = Rig::start(vec![watch]);
    let (a, b) = (&cluster.node("a").patroni, &cluster.node("b").patroni);
    rig.settled("a", &["b"]).await;
    calm(&[a, b]).await;

    cluster.say("a", 200, json!({"role": "primary", "state": "stopping"}));
    rig.trouble("a", TroubleKind::Hangup);
    rig.until("a leaver", |picture| condition(picture) == Some("leaving")).await;
    tokio::join!(a.asked("/leader", 5), b.asked("/leader", 5));
    cluster.promote("b");
    rig.settled("b", &["a"]).await;
    calm(&[a, b]).await;

    a.answer("/leader", Answer::Json(500, String::new()));
    rig.trouble("a", TroubleKind::DialFailed);
    rig.until("a silent node", |picture| class(picture, "a") == Some("silent")).await;
    tokio::join!(a.asked("/leader", 5), b.asked("/leader", 5));
}

#[tokio::test]
async fn a_trouble_with_one_member_asks_only_that_one_at_once() {
    let cluster = FakeCluster::start("demo", &["a", "b", "c"]).await;
    let mut watch = often(cluster.seeds());
    watch.steward.interval = HOUR;
    let rig = Rig::start(vec![watch]);
    rig.settled("a", &["b", "c"]).await;
    calm(&[&cluster.node("b").patroni, &cluster.node("c").patroni]).await;
    let before = cluster.node("b").patroni.count("/leader");
    let asked = cluster.node("c").patroni.asked("/leader", 1);
    rig.trouble("c", TroubleKind::Hangup);
    asked.await;
    assert_eq!(cluster.node("b").patroni.count("/leader"), before);
    // A name that no member has any more asks nobody.
    rig.trouble("long gone", TroubleKind::DialFailed);
    calm(&[&cluster.node("c").patroni]).await;
    // A refused dial takes a reader out until its next answer.
    let answer = Answer::Json(503, cluster.report("c", json!({})).to_string());
    cluster.node("c").patroni.answer("/leader", answer.after(Duration::from_millis(100)));
    rig.trouble("c", TroubleKind::DialFailed);
    rig.settled("a", &["b"]).await;
    rig.settled("a", &["b", "c"]).await;
}

/// Names are looked up and members asked for again and again meanwhile, but not as fast as the machine can.
#[tokio::test]
async fn nothing_spins_while_no_node_answers() {
    let gone = Fake::start_on([127, 0, 0, 1].into()).await;
    gone.stop().await;
    let rig = Rig::watch(vec![seed(&format!("http://localhost:{}", gone.address.port()))]);
    rig.until("nobody", |picture| condition(picture) == Some("unreachable")).await;
    let before = rig.events();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let events = rig.events() - before;
    // A check each 10 ms, and what little discovery has to tell.
    assert!(events < 100, "{events} events in 300 ms");
}
