//! What a start meets: signals that come early, limits that are low, and files that are none.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use super::child::{File, Pilotfish, config};
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::postgres::Client;

/// Whoever opens it waits for somebody who writes.
#[tokio::test]
async fn a_pipe_in_the_place_of_the_configuration_holds_up_nobody() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let text = config(&cluster, "");
    let pilotfish = Pilotfish::run(&text);
    pilotfish.pool("primary").await;
    let path = pilotfish.file.path();
    std::fs::remove_file(&path).expect("a file");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    pilotfish.signal(Signal::HUP);
    let refused = pilotfish.says("the configuration was not reloaded; the running one stays").await;
    let problems = refused["problems"].as_str().expect("words");
    let said = format!("{path}: cannot be read: it is a pipe, not a file; give the path of a file");
    assert!(problems.contains(&said), "{problems}");
    std::fs::remove_file(&path).expect("a pipe");
    std::fs::write(&path, text).expect("a file");
    pilotfish.signal(Signal::HUP);
    pilotfish.says("the configuration was reloaded").await;
}

/// HAProxy's soft stop, and the stop signal of its container.
#[tokio::test]
async fn sigusr1_stops_softly() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let pilotfish = Pilotfish::run(&config(&cluster, "drain_timeout: 10m"));
    let (mut client, _) = Client::enter(pilotfish.pool("primary").await).await;
    pilotfish.signal(Signal::USR1);
    pilotfish.says("stopping: no new connections are taken").await;
    assert_eq!(client.ask("still").await.expect("an open session"), "a:still");
    drop(client);
    assert_eq!(pilotfish.exit().await, 0);
}

/// A process that begins by waiting for a word of the one before it, which is this test.
#[test]
fn a_hangup_or_a_wish_for_an_upgrade_does_not_end_a_process_that_is_only_just_starting() {
    let (mut old, new) = UnixStream::pair().expect("a pair");
    let script =
        "LISTEN_PID=$$ LISTEN_FDS=1 PILOTFISH_UPGRADE=serve exec \"$0\" run --patroni 127.0.0.1:1 3<&0";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_pilotfish")]).env_clear();
    command.stdin(OwnedFd::from(new)).stderr(Stdio::piped());
    let child = command.spawn().expect("a shell");
    drop(command);
    // It says that it has begun.
    old.read_exact(&mut [0]).expect("a word");
    let pid = Pid::from_child(&child);
    for signal in [Signal::HUP, Signal::USR2] {
        kill_process(pid, signal).expect("it runs");
    }
    drop(old);
    let output = child.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the process before this one is not heard of"), "{said}");
}

#[test]
fn who_has_too_few_descriptors_is_told_once_and_what_to_do() {
    let listen = own_address();
    let listen = |key: &str| format!("{key}: {{listen: '{listen}:0'}}");
    let file = File::new(&format!(
        "clusters: [{{patroni: '127.0.0.1:1', {}, {}}}]\nadmin: off\nworkers: 40\n",
        listen("primary"),
        listen("replicas")
    ));
    // Below 64 nothing is tried; above, the event loops of so many workers cannot be made.
    for limit in (8..64).step_by(8).chain([9, 10, 21, 23, 64, 80, 100, 150]) {
        let script = format!("ulimit -n {limit} && exec \"$0\" run --config \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pilotfish"), &file.path()]).env_clear();
        let output = command.stdin(Stdio::null()).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = said.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
        let errors: Vec<&str> =
            errors.into_iter().filter(|line| !line.contains("has room for few sessions")).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "{limit}: {said}");
        assert!(errors[0].contains("(LimitNOFILE=, ulimit -n)"), "{limit}: {said}");
        assert!(errors[0].matches("Too many open files").count() <= 1, "{limit}: {said}");
        assert_eq!(said.contains("has room for few sessions"), limit >= 64, "{limit}: {said}");
    }
}
