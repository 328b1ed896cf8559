//! Files and sockets that a reload changes: what Patroni is shown, who may write to a socket, and what it lets them do.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pilotfish::config::{Config, Listen, ListenAddress, RuntimeSocket, SocketLevel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Live;
use crate::admin::tls::Authority;
use crate::control::cluster::FakeCluster;
use crate::control::credentials::{good, node};
use crate::control::http::exchange;
use crate::control::postgres::{Client, STARTUP, WELCOME};
use crate::control::within;

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
    let socket =
        |path: &Path, level, mode| Some(RuntimeSocket { path: path.to_owned(), level, mode: Some(mode) });

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
    let listen =
        |mode| Listen { address: ListenAddress::Unix(path.clone()), mode: Some(mode), ..before.clone() };
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

/// Has a pool, the admin side and the runtime commands each at a unix socket in this folder.
fn with_sockets(config: &Config, folder: &Path) -> (Config, [PathBuf; 3]) {
    let mut config = config.clone();
    let paths = ["pool.sock", "admin.sock", "haproxy.sock"].map(|name| folder.join(name));
    let primary = config.clusters[0].primary.as_mut().expect("it is there");
    primary.listen.push(Listen::at(ListenAddress::Unix(paths[0].clone())));
    config.admin.socket = Some(paths[1].clone());
    let (path, level) = (paths[2].clone(), SocketLevel::Admin);
    config.admin.haproxy_socket = Some(RuntimeSocket { path, level, mode: None });
    (config, paths)
}

/// Somebody of pilotfish is behind each of these.
async fn serve(paths: &[PathBuf; 3]) {
    let connect = async |path| UnixStream::connect(path).await.expect("a listener");
    let mut client = connect(&paths[0]).await;
    client.write_all(STARTUP).await.expect("room");
    let mut welcome = vec![0; WELCOME.len()];
    within("a welcome", client.read_exact(&mut welcome)).await.expect("an open session");
    let stream = connect(&paths[1]).await;
    assert_eq!(exchange(stream, "GET", "/livez", &[("Host", "localhost")], "").await.status, 200);
    assert!(ask(&paths[2], "show info").await.starts_with("Name:"));
}

#[tokio::test]
async fn a_socket_whose_file_is_gone_is_bound_anew() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, config) = Live::clusters(&[&cluster]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (config, paths) = with_sockets(&config, folder.path());
    live.change(&config).await.expect("a good configuration");
    serve(&paths).await;
    let files = || paths.clone().map(|path| std::fs::metadata(path).expect("a file").ino());
    let before = files();
    live.change(&config).await.expect("a good configuration");
    assert_eq!(files(), before, "a file that is there stays");
    paths.iter().for_each(|path| std::fs::remove_file(path).expect("a file"));
    live.change(&config).await.expect("a good configuration");
    serve(&paths).await;
    assert_eq!(paths.each_ref().map(|path| mode(path)), [0o777, 0o660, 0o660]);
    // The former sockets are closed by now, and have left the new files alone.
    live.change(&config).await.expect("a good configuration");
    serve(&paths).await;
}

#[tokio::test]
async fn a_socket_whose_file_somebody_has_replaced_is_bound_anew_or_the_reload_says_no() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, config) = Live::clusters(&[&cluster]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (config, paths) = with_sockets(&config, folder.path());
    live.change(&config).await.expect("a good configuration");
    let at = live.pool("sales", "primary").await;
    for path in &paths {
        std::fs::remove_file(path).expect("a file");
        let other = std::os::unix::net::UnixListener::bind(path).expect("its place");
        let file = std::fs::metadata(path).expect("a file").ino();
        let mut changed = config.clone();
        changed.max_sessions = Some(7);
        let rejected = live.change(&changed).await.expect_err("somebody listens there");
        let path_is_named = rejected.problems[0].contains(&path.display().to_string());
        assert!(path_is_named && rejected.problems[0].contains("in use"), "{rejected:?}");
        assert_eq!(live.status().await["max_sessions"], 200, "nothing has changed");
        assert_eq!(std::fs::metadata(path).expect("a file").ino(), file, "the other's file");
        assert_eq!(Client::enter(at).await.1, "a");
        // What it leaves behind is in nobody's way.
        drop(other);
        live.change(&config).await.expect("a good configuration");
        serve(&paths).await;
    }
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
