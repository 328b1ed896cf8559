//! A process that stands still as a whole, and goes on as if nothing had happened.

use std::time::Duration;

use pilotfish::routing::heartbeat::STOOD_STILL;
use rustix::process::Signal;
use serde_json::json;

use super::child::{Pilotfish, config};
use crate::control::cluster::FakeCluster;
use crate::control::fake::Answer;
use crate::control::postgres::Client;

const CLIENTS: usize = 20;
/// A node's answer takes a while: workers are awake long before anything is known.
const SLOWLY: Duration = Duration::from_millis(400);

/// As the cluster is led now, but each answer of a node takes its time.
fn slowly(cluster: &FakeCluster, leader: &str) {
    for node in &cluster.nodes {
        let (status, role) = if node.name == leader { (200, "primary") } else { (503, "replica") };
        let report = cluster.report(&node.name, json!({"role": role})).to_string();
        node.patroni.answer("/leader", Answer::Json(status, report).after(SLOWLY));
    }
}

impl Pilotfish {
    /// Each of its threads: one may run on for a moment.
    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero())).expect("it runs");
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat =
                std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("its state");
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T "))
        };
        { tasks }.all(stopped)
    }

    /// Stops it for longer than it may take for its own slowness, and meanwhile does this. Nothing but time makes a standstill.
    async fn frozen(&self, meanwhile: impl AsyncFnOnce()) {
        self.signal(Signal::STOP);
        while !self.is_stopped() {
            tokio::task::yield_now().await;
        }
        meanwhile().await;
        tokio::time::sleep(STOOD_STILL + Duration::from_millis(600)).await;
        self.signal(Signal::CONT);
    }
}

#[tokio::test]
async fn whoever_waited_through_a_standstill_of_pilotfish_is_sent_to_who_leads_afterwards() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    // Checks that are under way have run out when it goes on.
    let pilotfish = Pilotfish::run(&config(&cluster, "").replace("timeout: 3s", "timeout: 2s"));
    let primary = pilotfish.pool("primary").await;
    let (mut session, on) = Client::enter(primary).await;
    assert_eq!(on, "a");
    slowly(&cluster, "a");
    for node in &cluster.nodes {
        node.patroni.asked("/leader", 2).await;
    }

    // Nothing has happened: what is open goes on, and who has come meanwhile waits for the next answer.
    let mut waiting = Vec::new();
    pilotfish.frozen(async || waiting.push(Client::knock(primary).await)).await;
    assert_eq!(waiting.remove(0).welcome().await, "a");
    assert_eq!(session.ask("on").await.expect("an open session"), "a:on");
    let stood_still = "pilotfish itself stood still; new writers wait until the nodes have been asked again";
    pilotfish.says(stood_still).await;

    // Another leads when it goes on.
    pilotfish
        .frozen(async || {
            cluster.promote("b");
            slowly(&cluster, "b");
            for _ in 0..CLIENTS {
                waiting.push(Client::knock(primary).await);
            }
        })
        .await;
    for client in &mut waiting {
        assert_eq!(client.welcome().await, "b");
    }
    session.end().await.expect_err("the former leader's sessions are cut as soon as another leads");
}
