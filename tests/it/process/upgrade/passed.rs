//! Sockets that the service manager passes, as systemd does for a socket unit.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
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
