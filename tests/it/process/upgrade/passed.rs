//! Sockets that the service manager passes, as systemd does for a socket unit.

use std::fs::Permissions;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Signal;
use serde_json::Value;

use super::super::child::{Pilotfish, config};
use super::traffic::Traffic;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::http::status_until;

/// As systemd does: descriptors from 3 on.
fn pass(command: &mut Command, sockets: impl IntoIterator<Item = OwnedFd>) {
    let mapping = |(child_fd, parent_fd)| FdMapping { parent_fd, child_fd };
    let mappings: Vec<FdMapping> = (3..).zip(sockets).map(mapping).collect();
    command.env("LISTEN_FDS", mappings.len().to_string());
    command.fd_mappings(mappings).expect("one number each");
}

/// As it is in the unit (`SocketMode=`), unless the configuration says another one.
#[tokio::test]
async fn a_socket_that_was_passed_keeps_its_mode() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let [pool, admin, runtime] = ["pool", "admin", "haproxy"].map(|name| folder.path().join(name));
    let paths = [&pool, &admin, &runtime];
    let sockets = paths.map(|path| UnixListener::bind(path).expect("a socket"));
    let permit = |path: &PathBuf| std::fs::set_permissions(path, Permissions::from_mode(0o606));
    paths.iter().for_each(|path| permit(path).expect("its own file"));
    let modes = || paths.map(|path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777);
    let text = config(&cluster, "");
    let text = |hold: u8, pool_mode: &str, mode: &str| {
        let lines = text.lines().map(|line| match line.split_once("listen:") {
            Some((key, _)) if key.contains("primary") => {
                let path = pool.display();
                format!(
                    "{key}hold: {hold}s, listen: [\"127.0.0.1:0\", {{address: \"unix:{path}\"{pool_mode}}}]}}"
                )
            }
            Some((key, rest)) if key.contains("admin") => {
                let (admin, runtime) = (admin.display(), runtime.display());
                format!("{key}socket: {admin}, haproxy_socket: {{path: {runtime}{mode}}}, listen: {rest}")
            }
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let running = Pilotfish::run_with(&text(9, "", ""), |command| {
        pass(command, sockets.iter().map(|socket| socket.try_clone().expect("a descriptor").into()));
    });
    let page = running.admin().await;
    assert_eq!(modes(), [0o606; 3]);
    for (reload, (pool_mode, mode, expected)) in [
        ("", "", [0o606; 3]),
        (", mode: \"0640\"", ", mode: \"0600\"", [0o640, 0o606, 0o600]),
        ("", "", [0o640, 0o606, 0o600]),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(running.file.path(), text(10 + reload as u8, pool_mode, mode)).expect("a file");
        running.signal(Signal::HUP);
        status_until(page, "the reload", |status| status["reloads"]["applied"] == reload + 1).await;
        assert_eq!(modes(), expected, "reload {reload}");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.exit().await, 0);
    assert_eq!(modes().len(), paths.len(), "the files are the service manager's");
}

#[tokio::test]
async fn sockets_of_the_service_manager_outlive_a_restart() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.sock");
    let listen = || TcpListener::bind((own_address(), 0)).expect("a free port");
    let (primary, admin, other) = (listen(), listen(), listen());
    let unix = UnixListener::bind(&path).expect("a socket");
    let udp = UdpSocket::bind((own_address(), 0)).expect("a free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    let text = config(&cluster, "drain_timeout: 10m");
    let lines = text.lines().map(|line| match line.split_once("listen:") {
        Some((key, _)) if key.contains("primary") => {
            format!("{key}listen: [\"{}\", \"unix:{}\"]}}", address(&primary), path.display())
        }
        Some((key, _)) if key.contains("admin") => format!("{key}listen: \"{}\"}}", address(&admin)),
        _ => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let start = || {
        Pilotfish::run_with(&text, |command| {
            let tcp =
                [&primary, &other, &admin].map(|socket| socket.try_clone().expect("a descriptor").into());
            let rest: [OwnedFd; 2] = [
                unix.try_clone().expect("a descriptor").into(),
                udp.try_clone().expect("a descriptor").into(),
            ];
            pass(command, tcp.into_iter().chain(rest));
        })
    };
    let mut running = start();
    let traffic = Traffic::start(address(&primary), &path);
    for _ in 0..4 {
        traffic.more(20).await;
        let unknown = running.says("a socket that was passed is closed: no listener has this address").await;
        assert_eq!(unknown["listen"], address(&other).to_string());
        running.says("a socket that was passed cannot be used").await;
        assert_ne!(running.pool("replicas").await.port(), 0, "what was not passed is bound");
        assert_eq!(running.admin().await, address(&admin));
        // A stop tells those who are held to go elsewhere; once the writer is known nobody is.
        let nobody = |status: &Value| status["clusters"][0]["pools"][0]["held"] == 0;
        status_until(address(&admin), "nobody held", nobody).await;
        running.signal(Signal::TERM);
        assert_eq!(running.exit().await, 0);
        assert!(path.exists(), "the file is the service manager's");
        // Whoever comes meanwhile waits in the kernel.
        running = start();
    }
    traffic.more(20).await;
    traffic.end().await;
}
