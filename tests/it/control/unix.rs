//! Clients of a unix socket through the whole process, from the configuration to the list of sessions.

use pilotfish::config::{Listen, ListenAddress, Network};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::cluster::FakeCluster;
use super::http;
use super::postgres::{STARTUP, WELCOME};
use super::served::{Served, config};
use super::within;

/// Who the sessions' clients are, when this is sent before the first packet through a socket that is so configured.
async fn shown(before: &[u8], accept_proxy: Vec<Network>) -> serde_json::Value {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".s.PGSQL.5000");
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut config = config(&[&cluster]);
    let listen = &mut config.clusters[0].primary.as_mut().expect("it is there").listen;
    listen.push(Listen { accept_proxy, ..Listen::at(ListenAddress::Unix(path.clone())) });
    let served = Served::start(config);
    served.until_condition("ok").await;
    let mut client = UnixStream::connect(&path).await.expect("a listener");
    client.write_all(&[before, STARTUP].concat()).await.expect("room");
    let mut welcome = vec![0; WELCOME.len()];
    within("a welcome", client.read_exact(&mut welcome)).await.expect("an open session");
    let sessions = http::get(served.admin, "/api/v1/sessions").await.json();
    sessions[0]["client"].clone()
}

#[tokio::test]
async fn a_proxy_behind_a_unix_socket_says_who_the_client_is() {
    let header = b"PROXY TCP6 2001:db8::1 2001:db8::9 8080 5000\r\n";
    assert_eq!(shown(header, vec![Network::Unix]).await, "[2001:db8::1]:8080");
    // Of a check by the proxy itself, and of whoever comes without one, it is the user.
    let user = format!("unix:{}", rustix::process::geteuid().as_raw());
    assert_eq!(shown(b"PROXY UNKNOWN\r\n", vec![Network::Unix]).await, json!(user));
    assert_eq!(shown(b"", Vec::new()).await, json!(user));
}
