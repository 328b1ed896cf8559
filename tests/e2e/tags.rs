//! Patroni's tags, changed while it runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use serde_json::Value;

use crate::cluster::Cluster;

/// Tags on one node, for as long as this lives.
#[derive(Debug)]
pub struct Tags {
    file: PathBuf,
    before: String,
    api: SocketAddr,
}

impl Tags {
    pub fn set(cluster: &Cluster, name: &str, tags: Value) -> Tags {
        let file = cluster.directory().join(name).join("patroni.yml");
        let before = std::fs::read_to_string(&file).expect("Patroni's configuration");
        let set = Tags { file, before, api: cluster.patroni_of(name) };
        set.change(tags);
        set
    }

    /// These in place of those before.
    pub fn change(&self, tags: Value) {
        let mut tagged: Value = serde_json::from_str(&self.before).expect("the tool writes JSON");
        tagged["tags"] = tags;
        self.reload(&tagged.to_string());
    }

    fn reload(&self, configuration: &str) {
        std::fs::write(&self.file, configuration).expect("Patroni's configuration");
        let mut stream = TcpStream::connect(self.api).expect("Patroni's REST API");
        write!(stream, "POST /reload HTTP/1.0\r\nContent-Length: 0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(" 202 ") || answer.contains(" 200 "), "{answer}");
    }
}

impl Drop for Tags {
    fn drop(&mut self) {
        self.reload(&self.before);
    }
}
