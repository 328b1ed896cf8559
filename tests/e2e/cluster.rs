//! The cluster that all tests share: `deploy/demo/cluster` with a name and addresses of its own.
//!
//! Tests have no common end where it could be taken down, and may end by a signal. So a guardian, a process of its
//! own, waits for the end of this one, whatever that is, and takes the cluster down then. It holds a lock meanwhile:
//! the next run begins when it is done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

use crate::session::Session;
use crate::wait::{seconds, until_true};

pub const NET: &str = "127.0.40";
const POSTGRES_PORT: u16 = 5432;
const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/demo/cluster");
const SHARED: [&str; 4] = ["--name", "e2e", "--net", NET];
/// Two nodes whose REST API has TLS, in a test's own hands.
const ENCRYPTED: [&str; 4] = ["--name", "e2e-tls", "--net", "127.0.41"];
/// Patroni's lowest `ttl`, and a pace to go with it: a lock is lost, and found again, in half the usual time.
const TIMING: [&str; 6] = ["--ttl", "20", "--loop-wait", "5", "--retry-timeout", "5"];

/// Holds the lock, says so, waits for the end of its input, and takes the cluster down. Word of a failure keeps the
/// logs.
const GUARDIAN: &str = r#"echo locked; word=$(cat); [ -n "$word" ] || wipe=--wipe; exec "$@" $wipe"#;

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::begin(SHARED, &[]));
static CLUSTER_WITH_TLS: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::begin(ENCRYPTED, &["--rest-tls", "optional"]));

#[derive(Debug)]
pub struct Cluster {
    identity: [&'static str; 4],
    /// What `cluster env` tells.
    environment: BTreeMap<String, String>,
    guardian: Mutex<ChildStdin>,
}

impl Cluster {
    /// The cluster with a leader and two replicas that stream from it.
    pub fn healthy() -> &'static Cluster {
        let cluster = &*CLUSTER;
        cluster.tool(&["up"]);
        cluster
    }

    /// Two nodes with TLS and a login for Patroni's REST API, `verify_client: optional`. Whoever has done with it takes it
    /// down.
    pub fn with_tls() -> &'static Cluster {
        &CLUSTER_WITH_TLS
    }

    fn begin(identity: [&'static str; 4], options: &[&str]) -> Cluster {
        let guardian = Mutex::new(guardian(identity));
        let nodes: &[&str] = if options.is_empty() { &[] } else { &["--nodes", "2"] };
        run(identity, &[nodes, &["up"], &TIMING[..], options].concat());
        let exports = run(identity, &["env"]);
        let pairs = exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let environment = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Cluster { identity, environment, guardian }
    }

    /// Runs a command of the cluster tool to its end, when what it asks for is true.
    pub fn tool(&self, arguments: &[&str]) -> String {
        run(self.identity, arguments)
    }

    /// First three octets of its addresses; those of its nodes end in 11 and so on.
    pub fn net(&self) -> &'static str {
        self.identity[3]
    }

    fn variable(&self, key: &str) -> &str {
        &self.environment[key]
    }

    /// Patroni's name for it.
    pub fn scope(&self) -> &'static str {
        self.identity[1]
    }

    /// Patroni's endpoints, separated by commas.
    pub fn patroni(&self) -> &str {
        self.variable("PILOTFISH_CLUSTER_PATRONI")
    }

    pub fn directory(&self) -> PathBuf {
        self.variable("PILOTFISH_CLUSTER_DIR").into()
    }

    /// A program of PostgreSQL.
    pub fn program(&self, name: &str) -> PathBuf {
        PathBuf::from(self.variable("PILOTFISH_PG_BIN")).join(name)
    }

    /// A file of the Python environment.
    pub fn in_environment(&self, path: &str) -> PathBuf {
        PathBuf::from(self.variable("PILOTFISH_VENV")).join(path)
    }

    /// Where a member's Patroni listens.
    pub fn patroni_of(&self, name: &str) -> SocketAddr {
        let host = self.address_of(name).ip().to_string();
        let endpoint = self.patroni().split(',').find(|endpoint| endpoint.starts_with(&format!("{host}:")));
        endpoint.expect("an endpoint of each member").parse().expect("an address")
    }

    /// axe-core's script, from where deploy/setup put it.
    pub fn rules_of_accessibility(&self) -> String {
        let ask = "import axe_core_python as axe; print(axe.__path__[0] + '/axe.min.js')";
        let python = PathBuf::from(self.variable("PILOTFISH_VENV")).join("bin/python");
        let told = Command::new(python).args(["-c", ask]).output().expect("the environment's Python");
        let path = String::from_utf8(told.stdout).expect("a path");
        std::fs::read_to_string(path.trim()).expect("axe-core: deploy/setup browser")
    }

    /// `patronictl list`.
    pub fn patronictl_list(&self) -> Value {
        let patronictl = PathBuf::from(self.variable("PILOTFISH_VENV")).join("bin/patronictl");
        let configuration = self.directory().join("patroni1/patroni.yml");
        let mut command = Command::new(patronictl);
        command.arg("-c").arg(configuration).args(["list", "-f", "json"]);
        serde_json::from_str(&output(&mut command)).expect("JSON from patronictl")
    }

    /// `cluster list --json`: each member as it says of itself.
    pub fn list(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.tool(&["list", "--json"])).expect("JSON from the tool");
        list["members"].as_array().expect("members").clone()
    }

    pub fn leader(&self) -> String {
        self.tool(&["leader"]).trim().to_owned()
    }

    pub fn names(&self) -> Vec<&str> {
        self.hosts().map(|(_, name)| name).collect()
    }

    /// The members without these.
    pub fn others(&self, than: &[&str]) -> Vec<String> {
        self.names().into_iter().filter(|name| !than.contains(name)).map(str::to_owned).collect()
    }

    /// The member with this address.
    pub fn member_at(&self, host: &str) -> &str {
        self.hosts().find(|(at, _)| *at == host).map(|(_, name)| name).expect("a member's address")
    }

    /// Where the member's PostgreSQL listens.
    pub fn address_of(&self, name: &str) -> SocketAddr {
        let (host, _) = self.hosts().find(|(_, member)| *member == name).expect("a member");
        format!("{host}:{POSTGRES_PORT}").parse().expect("an address")
    }

    /// A superuser's session on the member itself.
    pub fn session_on(&self, name: &str) -> Session {
        Session::open_as("postgres", self.address_of(name)).expect("a session on the member itself")
    }

    fn hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variable("PILOTFISH_CLUSTER_MEMBERS").split(',').filter_map(|pair| pair.split_once('='))
    }

    /// Waits until `replicas` have replayed all that the leader has written.
    pub fn wait_replicated(&self, leader: &str, replicas: &[String]) {
        let written = self.session_on(leader).value("SELECT pg_current_wal_lsn()");
        for replica in replicas {
            let session = self.session_on(replica);
            let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
            until_true("the replica replays what was written", seconds(60), || {
                session.value(&replayed) == "t"
            });
        }
    }

    /// Waits until `replica` streams from `leader`, by the leader's own word.
    pub fn wait_streaming(&self, leader: &str, replica: &str) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{replica}'"
        );
        let session = self.session_on(leader);
        until_true("the replica streams from the new leader", seconds(30), || session.value(&sql) == "1");
    }

    /// Keeps the logs when all is over.
    pub fn keep_logs(&self) {
        // A guardian that is gone cannot wipe anything either.
        let _ = self.guardian.lock().map(|mut guardian| writeln!(guardian, "failed"));
    }
}

#[expect(clippy::zombie_processes, reason = "it outlives us")]
fn guardian(identity: [&str; 4]) -> ChildStdin {
    let (name, user) = (identity[1], rustix::process::getuid().as_raw());
    let lock = std::env::temp_dir().join(format!("pilotfish-{name}-{user}.lock"));
    let mut child = Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", GUARDIAN, "guardian", TOOL])
        .args(identity)
        .arg("down")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C is for the tests.
        .process_group(0)
        .spawn()
        .expect("flock, of util-linux");
    let mut locked = String::new();
    let lines = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut locked);
    assert_eq!((lines.ok(), &*locked), (Some(7), "locked\n"), "the lock {}", lock.display());
    child.stdin.take().expect("piped")
}

fn run(identity: [&str; 4], arguments: &[&str]) -> String {
    let mut command = Command::new(TOOL);
    // A demo's shell may have these set.
    let strangers = ["PILOTFISH_CLUSTER_NAME", "PILOTFISH_CLUSTER_NET", "PILOTFISH_CLUSTER_DIR"];
    for key in strangers {
        command.env_remove(key);
    }
    output(command.args(identity).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("a program that starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("text")
}
