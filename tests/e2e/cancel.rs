//! Ctrl-C behind a pool of several replicas: a CancelRequest comes over a connection of its own, and says nothing
//! of the replica that it is for.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::program::Program;
use crate::wait::{seconds, until, until_true};

/// Least connections leads every second one to the same replica.
const SESSIONS: usize = 4;

/// A psql that sleeps on a member.
pub struct Sleeper {
    name: String,
    child: Child,
}

impl Sleeper {
    pub fn start(cluster: &Cluster, at: SocketAddr, mode: &str, number: usize) -> Sleeper {
        let name = format!("sleeper-{mode}-{number}");
        let psql = Program::bare(cluster, "psql", at, mode).setting("PGAPPNAME", &name);
        let psql = psql.arguments(["-X", "-w", "-c", "SELECT pg_sleep(600)"]);
        let child =
            psql.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a psql that starts");
        Sleeper { name, child }
    }

    /// Ctrl-C; what psql says to that.
    pub fn interrupt(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("our child");
        until("psql ends", seconds(10), || self.child.try_wait().expect("our child").ok_or("it runs"));
        let errors = self.child.stderr.take().expect("piped");
        std::io::read_to_string(errors).expect("words")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who sleeps on which of these members.
pub fn sleeping(cluster: &Cluster, members: &[String]) -> Vec<(String, String)> {
    let sql =
        "SELECT application_name FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND state = 'active'";
    let on = |member: &String| {
        let rows = cluster.session_on(member).rows(sql).expect("rows");
        rows.into_iter().flatten().map(|name| (member.clone(), name)).collect::<Vec<_>>()
    };
    members.iter().flat_map(on).collect()
}

#[test]
fn ctrl_c_cancels_one_query_on_the_right_replica() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let replicas = balancer.readers();
    for mode in ["disable", "require"] {
        let mut sleepers: Vec<Sleeper> =
            (0..SESSIONS).map(|number| Sleeper::start(cluster, balancer.replicas(), mode, number)).collect();
        let asleep = until("all sleep", seconds(20), || {
            let asleep = sleeping(cluster, &replicas);
            if asleep.len() == SESSIONS { Ok(asleep) } else { Err(asleep) }
        });
        for replica in &replicas {
            assert!(asleep.iter().any(|(on, _)| on == replica), "nobody on {replica}: {asleep:?}");
        }
        while let Some(sleeper) = sleepers.pop() {
            let name = sleeper.name.clone();
            let said = sleeper.interrupt();
            assert!(said.contains("ERROR:  canceling statement due to user request"), "{name}: {said}");
            let left: Vec<String> = sleepers.iter().map(|sleeper| sleeper.name.clone()).collect();
            let mut asleep: Vec<String> =
                sleeping(cluster, &replicas).into_iter().map(|(_, name)| name).collect();
            asleep.sort();
            assert_eq!(asleep, left, "after {name} was cancelled");
        }
    }
    until_true("every end is counted", seconds(5), || balancer.status()["sessions"] == 0);
    assert_eq!(balancer.ends("replicas", "cancel"), 2 * SESSIONS as u64);
}
