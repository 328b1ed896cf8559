//! Files and sockets that a reload changes: what Patroni is shown, who may write to a socket, and what it lets them do.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use pilotfish::config::{Config, Listen, ListenAddress, RuntimeSocket, SocketLevel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Live;
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::credentials::{good, node};
use crate::control::postgres::Client;

async fn ask(path: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("a socket");
    stream.write_all(format!("{line}\n").as_bytes()).await.expect("a listener");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn the_runtime_socket_comes_changes_its_level_moves_and_goes() {
    let cluster = FakeCluster::start("sales", &["a", "b"]).await;
    let (live, mut config) = Live::clusters(&[&cluster]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first.sock"), folder.path().join("second.sock"));
    let socket = |path: &Path, level, mode| Some(RuntimeSocket { path: path.to_owned(), level, mode });

    config.admin.haproxy_socket = socket(&first, SocketLevel::User, 0o600);
    live.change(&config).await.expect("a good configuration");
    assert_eq!(mode(&first), 0o600);
    assert!(ask(&first, "show info").await.starts_with("Name:"));
    let denied = ask(&first, "disable server replicas/b").await;
    assert!(denied.starts_with("Permission denied"), "{denied}");

    let file = std::fs::metadata(&first).expect("a file").ino();
    config.admin.haproxy_socket = socket(&first, SocketLevel::Admin, 0o660);
    live.change(&config).await.expect("a good configuration");
    assert_eq!((mode(&first), std::fs::metadata(&first).expect("a file").ino()), (0o660, file));
    assert_eq!(ask(&first, "disable server replicas/b").await, "");

    config.admin.haproxy_socket = socket(&second, SocketLevel::Admin, 0o600);
    live.change(&config).await.expect("a good configuration");
    assert!(!first.exists(), "it has moved");
    assert_eq!(ask(&second, "enable server replicas/b").await, "");

    config.admin.haproxy_socket = socket(&folder.path().join("nowhere/third.sock"), SocketLevel::User, 0o600);
    let rejected = live.change(&config).await.expect_err("no such folder");
    assert!(rejected.problems[0].contains("nowhere/third.sock"), "{rejected:?}");
    assert!(ask(&second, "show info").await.starts_with("Name:"), "it stays");

    config.admin.haproxy_socket = None;
    live.change(&config).await.expect("a good configuration");
    assert!(!second.exists());
}

#[tokio::test]
async fn the_mode_of_a_pools_socket_changes_and_the_socket_stays() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, mut config) = Live::clusters(&[&cluster]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".s.PGSQL.5000");
    let at = live.pool("sales", "primary").await;
    let before = config.clusters[0].primary.as_ref().expect("it is there").listen[0].clone();
    let listen = |mode| Listen { address: ListenAddress::Unix(path.clone()), mode, ..before.clone() };
    let pool = |config: &mut Config, mode| {
        config.clusters[0].primary.as_mut().expect("it is there").listen = vec![before.clone(), listen(mode)];
    };
    pool(&mut config, 0o600);
    live.change(&config).await.expect("a good configuration");
    let file = std::fs::metadata(&path).expect("a file").ino();
    assert_eq!(mode(&path), 0o600);
    pool(&mut config, 0o666);
    live.change(&config).await.expect("a good configuration");
    assert_eq!((mode(&path), std::fs::metadata(&path).expect("a file").ino()), (0o666, file));
    config.clusters[0].primary.as_mut().expect("it is there").listen = vec![before.clone()];
    live.change(&config).await.expect("a good configuration");
    assert!(!path.exists());
    let (_, name) = Client::enter(at).await;
    assert_eq!(name, "a");
}

/// A node that asks for a certificate and a login, before and after they are in the configuration.
#[tokio::test]
async fn what_patroni_is_shown_and_has_to_show_changes_by_a_reload() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    good(&authority);
    let node = node(&authority, None).await;
    let path = |authority: &Authority, file| authority.path(file).display().to_string();
    let read = |ca: String, more: String| {
        let text = format!(
            "clusters: [{{patroni: {{endpoints: ['https://{node}'], interval: 100ms, tls: {{ca: {ca}{more}}}, \
             primary: {{listen: '127.0.0.1:0'}}, replicas: off}}]\nadmin: {{listen: '127.0.0.1:0'}}\n"
        );
        Config::parse("config.yaml", &text, &|_| None)
    };
    let live = Live::begin(read(path(&stranger, "ca.pem"), "}".to_owned()).expect("a configuration"));
    let class = |class: &'static str| {
        move |status: &serde_json::Value| status["clusters"][0]["members"][0]["class"] == class
    };
    live.served.until("a stranger's certificate is not taken", class("silent")).await;

    let rejected = live.read(read(path(&authority, "missing.pem"), "}".to_owned())).await;
    let rejected = rejected.expect_err("no such file");
    assert!(rejected.problems[0].contains("missing.pem"), "{rejected:?}");

    let [cert, key, password] = ["cert.pem", "key.pem", "password"].map(|file| path(&authority, file));
    let shown =
        format!(", cert: {cert}, key: {key}}}, auth: {{username: pilotfish, password_file: '{password}'}}");
    let told = live.read(read(path(&authority, "ca.pem"), shown)).await.expect("a good configuration");
    assert!(told.needs_restart.is_empty(), "{told:?}");
    live.served.until("the node is known for what it is", class("reader")).await;
}
