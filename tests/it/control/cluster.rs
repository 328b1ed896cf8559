//! A Patroni cluster of fakes: each node a REST API and a server, and all of them tell the same members.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pilotfish::config;
use pilotfish::topology::roster::Seed;
use serde_json::{Value, json};

use super::fake::{Answer, Fake};
use super::postgres::Server;

/// Of every node of one cluster, unless a test says otherwise.
pub const SYSTEM: &str = "7711346798149882415";

#[derive(Debug)]
pub struct FakeCluster {
    pub scope: String,
    pub nodes: Vec<Node>,
    timeline: AtomicU64,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub patroni: Fake,
    pub server: Server,
}

impl FakeCluster {
    /// The first name leads, the others follow.
    pub async fn start(scope: &str, names: &[&str]) -> FakeCluster {
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(Node::start(name).await);
        }
        let cluster = FakeCluster { scope: scope.to_owned(), nodes, timeline: AtomicU64::new(1) };
        cluster.lead(names[0]);
        cluster.tell_members(names);
        cluster
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("a node of that name")
    }

    /// `name` holds the lock and takes writes; all others follow it.
    pub fn lead(&self, name: &str) {
        for node in &self.nodes {
            let (status, role) = if node.name == name { (200, "primary") } else { (503, "replica") };
            self.say(&node.name, status, json!({"role": role}));
        }
    }

    /// As [`FakeCluster::lead`], on the next timeline.
    pub fn promote(&self, name: &str) {
        self.timeline.fetch_add(1, Relaxed);
        self.lead(name);
    }

    /// What `/leader` of one node answers: a replica's report with these changes.
    pub fn say(&self, name: &str, status: u16, changes: Value) {
        self.node(name)
            .patroni
            .answer("/leader", Answer::Json(status, self.report(name, changes).to_string()));
    }

    pub fn report(&self, name: &str, changes: Value) -> Value {
        let mut report = json!({
            "state": "running", "role": "replica", "server_version": 150018,
            "postmaster_start_time": "2026-11-23 12:43:59.067569+00:00",
            "xlog": {"received_location": 67108864, "replayed_location": 67108864},
            "timeline": self.timeline.load(Relaxed), "replication_state": "streaming",
            "dcs_last_seen": 1795437839, "database_system_identifier": SYSTEM,
            "patroni": {"version": "4.1.5", "scope": self.scope, "name": name},
        });
        let Value::Object(changes) = changes else { panic!("{changes} is no object") };
        if changes.get("role").is_some_and(|role| role == "primary") {
            report["xlog"] = json!({"location": 67108864});
        }
        for (key, value) in changes {
            report[key] = value;
        }
        report
    }

    /// What `/cluster` answers everywhere: these nodes.
    pub fn tell_members(&self, names: &[&str]) {
        let members = names.iter().map(|name| self.node(name).as_member()).collect();
        self.tell(Answer::Json(200, self.members(members)));
    }

    /// `/cluster` as Patroni words it.
    pub fn members(&self, members: Vec<Value>) -> String {
        json!({"members": members, "scope": self.scope}).to_string()
    }

    /// What `/cluster` answers everywhere.
    pub fn tell(&self, answer: Answer) {
        for node in &self.nodes {
            node.patroni.answer("/cluster", answer.clone());
        }
    }

    pub fn configure(&self, config: Value) {
        for node in &self.nodes {
            node.patroni.answer("/config", Answer::Json(200, config.to_string()));
        }
    }

    pub fn seeds(&self) -> Vec<Seed> {
        self.nodes.iter().map(|node| seed(&node.patroni.api())).collect()
    }

    pub fn endpoints(&self) -> Vec<config::Endpoint> {
        let endpoint = |node: &Node| config::Endpoint {
            scheme: config::Scheme::Http,
            host: node.patroni.address.ip().to_string(),
            port: node.patroni.address.port(),
        };
        self.nodes.iter().map(endpoint).collect()
    }
}

impl Node {
    async fn start(name: &str) -> Node {
        Node { name: name.to_owned(), patroni: Fake::start().await, server: Server::start(name).await }
    }

    /// An entry of `/cluster`.
    pub fn as_member(&self) -> Value {
        member(&self.name, &self.server, &self.patroni)
    }
}

pub fn member(name: &str, server: &Server, patroni: &Fake) -> Value {
    json!({
        "name": name, "role": "replica", "state": "streaming", "timeline": 1, "lag": 0,
        "host": server.address.ip().to_string(), "port": server.address.port(),
        "api_url": format!("{}/patroni", patroni.api()),
    })
}

pub fn seed(api: &str) -> Seed {
    let (host, port) = api.trim_start_matches("http://").rsplit_once(':').expect("a port");
    let host = host.trim_matches(['[', ']']).to_owned();
    Seed { api: api.to_owned(), host, port: port.parse().expect("a port"), answered_as: None }
}
