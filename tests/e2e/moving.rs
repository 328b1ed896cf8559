//! The way over, as it is told in docs/move-from-haproxy.md: a HAProxy at work before the cluster, its configuration
//! translated, and pilotfish on the same ports for the same clients, monitoring and playbook.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::balancer::{Balancer, OPERATOR};
use crate::child::Beside;
use crate::cluster::{Cluster, NET};
use crate::haproxy::{ansible, ask, fetch, pools, rows, table, words};
use crate::program::Program;
use crate::wait::{seconds, until, until_true};

const OCTET: u8 = 5;

/// Patroni's template, with a page that asks for a login, and a runtime socket.
fn configuration(cluster: &Cluster, host: &str, socket: &Path) -> String {
    format!(
        "global\n  maxconn 100\n  stats socket {socket} mode 660 level admin\n\n\
         defaults\n  log global\n  mode tcp\n  retries 2\n  timeout client 30m\n  timeout connect 4s\n  \
         timeout server 30m\n  timeout check 5s\n\n\
         listen stats\n  mode http\n  bind {host}:7000\n  stats enable\n  stats uri /\n  stats auth {OPERATOR}\n\n{pools}",
        socket = socket.display(),
        pools = pools(cluster, host),
    )
}

/// Translates it with nothing lost.
fn import(file: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilotfish"));
    let output = command.arg("import-haproxy").arg(file).output().expect("a program that starts");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && notes.contains(" taken over, "), "{}: {notes}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// What everybody does who has to do with a balancer on this address; what the monitoring sees at the end.
fn use_it(cluster: &Cluster, host: &str, home: &TempDir, socket: &Path) -> BTreeMap<String, String> {
    let at = |port: u16| -> SocketAddr { format!("{host}:{port}").parse().expect("an address") };
    for (port, is_replica) in [(5000, "f"), (5001, "t")] {
        for mode in ["disable", "require"] {
            let psql = Program::psql(cluster, at(port), mode);
            assert_eq!(psql.arguments(["-c", "SELECT pg_is_in_recovery()"]).succeeds(), is_replica);
        }
    }
    let replica = cluster.others(&[&cluster.leader()]).remove(0);
    // HAProxy's is "UP 1/3" until the next check.
    for (state, status) in [("drain", "DRAIN"), ("disabled", "MAINT"), ("enabled", "UP")] {
        let arguments = format!("state={state} host={replica} backend=replicas");
        let (succeeded, told) = ansible(cluster, home.path(), socket, &arguments);
        assert!(
            succeeded
                && told["state_after"][0]["status"].as_str().is_some_and(|told| told.starts_with(status)),
            "{arguments}: {told:#}"
        );
    }
    for (line, begin) in
        [("show info", "Name: "), ("show sess", ""), ("show servers state primary", "1\n# be_id ")]
    {
        assert!(ask(socket, line).starts_with(begin), "{line}");
    }
    let nobody = fetch(at(7000), "/;csv", None).expect("an answer");
    assert!(!nobody.contains("pxname"), "{nobody}");
    let pool = |name: &str| name.starts_with("primary/") || name.starts_with("replicas/");
    until("the page and the socket say the same, and no check is under way", seconds(10), || {
        let page = fetch(at(7000), "/;csv", Some(OPERATOR)).expect("an answer");
        let [by_csv, by_socket] = [rows(&page), table(socket)].map(|table| {
            let mut words = words(&table);
            words.retain(|name, _| pool(name));
            words
        });
        let is_settled = !by_csv.values().any(|words| words.contains('/'));
        if is_settled && by_csv == by_socket { Ok(by_csv) } else { Err((by_csv, by_socket)) }
    })
}

#[test]
fn a_haproxy_is_replaced_and_nobody_has_to_change_anything() {
    let cluster = Cluster::healthy();
    let (home, host) = (TempDir::new().expect("a directory"), format!("{NET}.{OCTET}"));
    let (socket, file) = (home.path().join("runtime.sock"), home.path().join("haproxy.cfg"));
    std::fs::write(&file, configuration(cluster, &host, &socket)).expect("a configuration");
    let arguments = ["-db", "-f", file.to_str().expect("a path")];
    let haproxy = Beside::start("/usr/sbin/haproxy", &arguments, &home.path().join("haproxy.log"));
    until_true("HAProxy listens", seconds(10), || UnixStream::connect(&socket).is_ok());
    until_true("HAProxy knows its servers", seconds(20), || {
        let up = table(&socket).into_iter().filter(|(_, row)| row["type"] == "2" && row["status"] == "UP");
        up.count() == cluster.names().len()
    });
    let before = use_it(cluster, &host, &home, &socket);

    let translated = import(&file);
    drop(haproxy);
    let mut balancer = Balancer::of(cluster, OCTET, Some(OPERATOR), &translated);
    balancer.wait_ready();
    until("the same is seen as before", seconds(20), || {
        let now = use_it(cluster, &host, &home, &socket);
        if now == before { Ok(()) } else { Err((now, before.clone())) }
    });
}
