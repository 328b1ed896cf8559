//! One process takes another's place: nobody is refused or reset, and one that fails changes nothing.

mod failing;
mod passed;
mod traffic;
mod world;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::traffic::Traffic;
use self::world::World;
use super::child::command;
use super::manager::{Manager, value};
use crate::control::cluster::FakeCluster;
use crate::control::http::status_until;
use crate::control::postgres::Client;
use crate::control::within;

/// Said by one that drains.
const GONE: &str = "the process that took the place of this one has ended";

#[tokio::test]
async fn ten_upgrades_in_a_row_refuse_and_reset_nobody() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    Client::enter(primary).await;
    let traffic = Traffic::start(primary, &world.pool_socket());
    let mut before = Vec::new();
    let mut pid = world.first();
    for done in 1..=10_u64 {
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
            let draining = upgrades["draining"].as_array().expect("a list");
            let last = draining.last().map(|last| &last["pid"]);
            upgrades["done"] == done
                && draining.len() as u64 == done
                && last == Some(&upgraded["before"])
                && draining.iter().all(|draining| draining["sessions"] == 1)
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
    let nobody = |status: &Value| status["upgrades"]["draining"] == json!([]);
    status_until(admin, "an end of all drains", nobody).await;
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

/// The numbers of the new process begin at 1 again.
#[tokio::test]
async fn who_follows_the_events_hears_of_each_failover_before_and_after() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let world = World::start(&cluster, "");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    Client::enter(primary).await;
    let socket = format!("unix:{}", world.admin_socket().display());
    let mut following = command(&["events", "--follow", "--admin", &socket]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("the program starts");
    let (tell, mut told) = mpsc::unbounded_channel();
    let lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    for (from, to) in [("a", "b"), ("b", "a")] {
        cluster.say(from, 503, json!({"state": "stopped"}));
        status_until(admin, "no writer", |status| status["clusters"][0]["writer"].is_null()).await;
        cluster.promote(to);
        assert_eq!(Client::enter(primary).await.1, to);
        let mut heard = Vec::new();
        let whole = async {
            while !heard.last().is_some_and(|line: &String| line.starts_with("  = ")) {
                heard.push(told.recv().await.expect("it runs"));
            }
        };
        within("the end of the incident", whole).await;
        assert!(heard[0].ends_with(&format!("demo #1: {from} was the writer")), "{heard:?}");
        assert!(heard[heard.len() - 1].starts_with(&format!("  = {to} is the writer")), "{heard:?}");
        world.upgrade().await.expect("an upgrade");
    }
    following.kill().and_then(|()| following.wait()).expect("it runs");
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
        status_until(admin, "the drain", |status| status["upgrades"]["draining"][0]["sessions"] == 1).await;
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

/// The new process may know of somebody by then.
#[tokio::test]
async fn whoever_is_still_held_after_the_drain_timeout_is_told_why() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    cluster.say("a", 503, json!({}));
    let world = World::start(&cluster, "drain_timeout: 500ms");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    let held = Client::knock(primary).await;
    status_until(admin, "a held client", |status| status["clusters"][0]["pools"][0]["held"] == 1).await;
    world.upgrade().await.expect("an upgrade");
    let told = held.end().await.expect("an end in order");
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("57P03") && told.contains("another one has taken its place"), "{told}");
    assert_eq!(world.pilotfish.exit().await, 0);
    let end = world.pilotfish.says("session ended").await;
    assert_eq!((&end["cause"], &end["phase"]), (&json!("drain_expired"), &json!("waiting")));
    assert!(end["held_ms"].as_u64().is_some_and(|held| held >= 500), "{end}");
    assert_eq!(world.pilotfish.says("stopped").await["cut"], 0);
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

/// systemd starts another process only when the former one has ended, and stops that one when its main process has died.
#[tokio::test]
async fn a_stop_after_the_death_of_the_successor_ends_the_drain_at_once() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (client, _) = Client::enter(world.pilotfish.pool("primary").await).await;
    let upgraded = world.upgrade().await.expect("an upgrade");
    World::end(upgraded["pid"].as_u64().expect("a number"), Signal::KILL);
    world.pilotfish.says(GONE).await;
    world.pilotfish.signal(Signal::TERM);
    let (end, code) = tokio::join!(client.end(), world.pilotfish.exit());
    assert_eq!((end.is_err(), code), (true, 0));
    assert_eq!(world.pilotfish.says("stopped").await["cut"], 1);
}

#[tokio::test]
async fn an_upgrade_during_a_drain_loses_sight_of_nobody() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (primary, admin) = (world.pilotfish.pool("primary").await, world.pilotfish.admin().await);
    let (mut first, _) = Client::enter(primary).await;
    let upgraded = world.upgrade().await.expect("an upgrade");
    let (second, _) = Client::enter(primary).await;
    let last = world.upgrade().await.expect("an upgrade during the drain");
    let left = |pids: &[&Value]| {
        let wanted: Vec<Value> = pids.iter().map(|pid| json!([pid, 1])).collect();
        move |status: &Value| {
            let draining = status["upgrades"]["draining"].as_array().expect("a list");
            draining.iter().map(|one| json!([one["pid"], one["sessions"]])).collect::<Vec<_>>() == wanted
        }
    };
    let both = [&upgraded["before"], &last["before"]];
    status_until(admin, "both that drain", left(&both)).await;
    let followed = "a newer process has taken the place of the one that had taken this one's";
    assert_eq!(world.pilotfish.says(followed).await["pid"], last["pid"]);
    drop(second);
    status_until(admin, "the first alone", left(&both[..1])).await;
    assert_eq!(first.ask("still").await.expect("an open session"), "a:still");
    drop(first);
    assert_eq!(world.pilotfish.exit().await, 0);
    status_until(admin, "an end of both", left(&[])).await;
    let lines = world.pilotfish.lines().join("\n");
    assert!(!lines.contains(GONE), "{lines}");
}

/// Whoever drains hears of the process that serves, not of the one that has taken its own place.
#[tokio::test]
async fn the_death_of_the_last_process_is_told_to_all_that_drain() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let primary = world.pilotfish.pool("primary").await;
    let (first, _) = Client::enter(primary).await;
    let middle = world.upgrade().await.expect("an upgrade")["pid"].as_u64().expect("a number");
    let (second, _) = Client::enter(primary).await;
    let last = world.upgrade().await.expect("an upgrade during the drain");
    let followed = "a newer process has taken the place of the one that had taken this one's";
    world.pilotfish.says(followed).await;
    World::end(last["pid"].as_u64().expect("a number"), Signal::KILL);
    within("two processes that hear of it", async {
        let gone = |line: &&String| line.contains(GONE) && line.contains(&format!(":{}", last["pid"]));
        while world.pilotfish.lines().iter().filter(gone).count() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    World::end(middle, Signal::TERM);
    assert!(second.end().await.is_err());
    world.only(&[world.first()]).await;
    world.pilotfish.signal(Signal::TERM);
    let (end, code) = tokio::join!(first.end(), world.pilotfish.exit());
    assert_eq!((end.is_err(), code), (true, 0));
}

#[tokio::test]
async fn a_stop_of_both_lets_the_former_one_drain() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let world = World::start(&cluster, "drain_timeout: 10m");
    let (mut client, _) = Client::enter(world.pilotfish.pool("primary").await).await;
    let upgraded = world.upgrade().await.expect("an upgrade");
    World::end(upgraded["pid"].as_u64().expect("a number"), Signal::TERM);
    world.only(&[world.first()]).await;
    world.pilotfish.signal(Signal::TERM);
    let stops = "stopping: nobody is held any more, and open sessions may finish as before; a second signal cuts them";
    assert_eq!(world.pilotfish.says(stops).await["sessions"], 1);
    for _ in 0..20 {
        assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    }
    drop(client);
    assert_eq!(world.pilotfish.exit().await, 0);
    assert_eq!(world.pilotfish.says("stopped").await["cut"], 0);
}

#[tokio::test]
async fn who_was_taken_out_and_is_away_is_still_out_when_he_is_back() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let world = World::start(&cluster, "");
    let admin = world.pilotfish.admin().await;
    let is_b_out = |status: &Value| {
        let members = status["clusters"][0]["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|member| member["name"] == "b" && member["admin"] == "drain")
    };
    status_until(admin, "b", |status| status["clusters"][0]["members"][1]["name"] == "b").await;
    let (code, said) = world.command(&["drain", "b"]).await;
    assert_eq!(code, 0, "{said}");
    // Patroni on it is being restarted: a process that starts now does not know its name.
    cluster.tell_members(&["a"]);
    cluster.node("b").patroni.stop().await;
    world.upgrade().await.expect("an upgrade");
    // So that it is passed on by one that has never seen the member.
    world.upgrade().await.expect("another upgrade");
    let status = status_until(admin, "upgrades", |status| status["upgrades"]["done"] == 2).await;
    let members = status["clusters"][0]["members"].as_array().expect("members");
    assert!(members.iter().all(|member| member["name"] != "b"), "{status}");
    cluster.node("b").patroni.resume().await;
    cluster.tell_members(&["a", "b"]);
    status_until(admin, "b, still out", is_b_out).await;
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
