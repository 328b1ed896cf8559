//! One process takes another's place: nobody is refused or reset, and one that fails changes nothing.

mod failing;
mod passed;
mod traffic;
mod world;

use rustix::process::Signal;
use serde_json::{Value, json};

use self::traffic::Traffic;
use self::world::World;
use super::manager::{Manager, value};
use crate::control::cluster::FakeCluster;
use crate::control::http::status_until;
use crate::control::postgres::Client;
use crate::control::within;

#[tokio::test]
async fn ten_upgrades_in_a_row_refuse_and_reset_nobody() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    Client::enter(primary).await;
    let traffic = Traffic::start(primary, &world.pool_socket());
    let mut before = Vec::new();
    let mut pid = world.first();
    for done in 1..=10 {
        traffic.more(50).await;
        before.push(Client::enter(primary).await.0);
        let upgraded = world.upgrade().await.expect("an upgrade");
        assert_eq!(
            (&upgraded["before"], &upgraded["version"]),
            (&json!(pid), &json!(env!("CARGO_PKG_VERSION")))
        );
        pid = upgraded["pid"].as_u64().expect("a number");
        let is_done = |status: &Value| {
            let upgrades = &status["upgrades"];
            upgrades["done"] == done && upgrades["draining"]["pid"] == upgraded["before"]
        };
        let status = status_until(admin, "the upgrade", is_done).await;
        assert_eq!(status["upgrades"]["problem"], Value::Null);
        assert_eq!(status["ready"], true, "{status}");
    }
    traffic.more(50).await;
    let (visits, per_second) = traffic.end().await;
    println!("{visits} sessions, {per_second:.0} each second");
    for client in &mut before {
        assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    }
    drop(before);
    assert_eq!(world.pilotfish.exit().await, 0, "the first one finishes when its sessions have");
    status_until(admin, "an end of the drain", |status| status["upgrades"]["draining"].is_null()).await;
    assert!(world.pool_socket().exists() && world.admin_socket().exists());
    World::end(pid, Signal::TERM);
    within("the end of the last one", async {
        while tokio::net::TcpStream::connect(primary).await.is_ok() {}
    })
    .await;
    within("the end of the files", async {
        while world.pool_socket().exists() || world.admin_socket().exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_stays_with_the_process_that_holds_him() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    cluster.say("a", 503, json!({}));
    let world = World::start(&cluster, "");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    let mut held = Client::knock(primary).await;
    status_until(admin, "a held client", |status| status["clusters"][0]["pools"][0]["held"] == 1).await;
    world.upgrade().await.expect("an upgrade without a writer, as before");
    let status =
        status_until(admin, "the drain", |status| status["upgrades"]["draining"]["sessions"] == 1).await;
    assert_eq!(status["sessions"], 0);
    cluster.promote("b");
    assert_eq!(held.welcome().await, "b");
    drop(held);
    assert_eq!(world.pilotfish.exit().await, 0);
}

#[tokio::test]
async fn what_is_left_after_the_drain_timeout_is_cut() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 200ms");
    let (client, _) = Client::enter(world.pilotfish.pool("primary").await).await;
    world.upgrade().await.expect("an upgrade");
    let (end, code) = tokio::join!(client.end(), world.pilotfish.exit());
    assert_eq!((end.is_err(), code), (true, 0));
    assert_eq!(world.pilotfish.says("stopped").await["cut"], 1);
}

/// Two signals that mean a stop reach both processes when systemd stops the unit.
#[tokio::test]
async fn a_stop_ends_the_drain_of_the_former_process_as_any_other() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (client, _) = Client::enter(world.pilotfish.pool("primary").await).await;
    world.upgrade().await.expect("an upgrade");
    world.pilotfish.signal(Signal::TERM);
    world.pilotfish.signal(Signal::INT);
    let (end, code) = tokio::join!(client.end(), world.pilotfish.exit());
    assert_eq!((end.is_err(), code), (true, 0));
}

#[tokio::test]
async fn what_an_operator_has_taken_out_stays_out() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let world = World::start(&cluster, "");
    let admin = world.pilotfish.admin().await;
    let operated = |status: &Value| {
        let members = status["clusters"][0]["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|member| member["name"] == "b" && member["admin"] == "maint")
    };
    status_until(admin, "b", |status| status["clusters"][0]["members"][1]["name"] == "b").await;
    let (code, said) = world.command(&["maint", "b"]).await;
    assert_eq!(code, 0, "{said}");
    world.upgrade().await.expect("an upgrade");
    status_until(admin, "the new one", |status| status["upgrades"]["done"] == 1 && operated(status)).await;
}

#[tokio::test]
async fn the_service_manager_hears_of_the_new_main_process_before_it_speaks() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let manager = Manager::new();
    let world = World::start_with(&cluster, "drain_timeout: 10m", |command| {
        command.env("NOTIFY_SOCKET", manager.path());
        command.env("WATCHDOG_USEC", "60000000");
    });
    manager.hears_of("STATUS=demo: writer a").await;
    let (_client, _) = Client::enter(world.pilotfish.pool("primary").await).await;
    world.pilotfish.signal(Signal::USR2);
    let main = loop {
        let heard = manager.hears().await;
        if let Some(line) = heard.iter().find(|line| line.starts_with("MAINPID=")) {
            break value(line, "MAINPID");
        }
        assert_eq!(heard, ["WATCHDOG=1"], "nothing else is said meanwhile");
    };
    let line =
        world.pilotfish.says("another process has taken the place of this one, which finishes its sessions");
    assert_eq!(line.await["pid"], main);
    assert_eq!(manager.hears().await, ["READY=1"]);
    manager.hears_of("WATCHDOG=1").await;
    assert_eq!(world.pilotfish.exit_status(), None);
}
