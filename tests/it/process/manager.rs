//! What the service manager hears: the program's datagrams, as systemd would get them, in their order.

use std::io::Read;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

use super::child::{Pilotfish, config};
use crate::control::cluster::FakeCluster;
use crate::control::postgres::Client;
use crate::control::within;

/// The manager's end of the socket.
pub struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    pub fn new() -> Manager {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Manager { folder, socket }
    }

    /// What `$NOTIFY_SOCKET` is to be.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("notify")
    }

    fn runs(&self, config: &str, change: impl FnOnce(&mut Command)) -> Pilotfish {
        Pilotfish::run_with(config, |command| {
            command.env("NOTIFY_SOCKET", self.path());
            change(command);
        })
    }

    /// The next datagram: its lines.
    pub async fn hears(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = within("a datagram", self.socket.recv(&mut buffer)).await.expect("a socket that works");
        let text = str::from_utf8(&buffer[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a datagram that is this one line, past all others.
    pub async fn hears_of(&self, line: &str) {
        while self.hears().await != [line] {}
    }

    /// Nothing but time shows that nothing comes.
    async fn hears_nothing_for(&self, while_: Duration) {
        let heard = tokio::time::timeout(while_, self.hears()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    fn forget(&self) {
        while self.socket.try_recv(&mut [0; 4096]).is_ok() {}
    }
}

/// The value behind `name=`.
pub fn value(line: &str, name: &str) -> u64 {
    let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line} is no {name}"))
}

/// `Type=notify-reload` wants the time of CLOCK_MONOTONIC, in microseconds.
fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).expect("after the boot")
}

#[tokio::test]
async fn readiness_the_writer_a_reload_and_a_stop_are_told_in_their_order() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let manager = Manager::new();
    let pilotfish = manager.runs(&config(&cluster, "drain_timeout: 2h"), |_| {});
    assert_eq!(manager.hears().await, ["READY=1"], "and before it nothing");
    manager.hears_of("STATUS=demo: writer a").await;
    let (client, on) = Client::enter(pilotfish.pool("primary").await).await;
    assert_eq!(on, "a");
    for _ in 0..2 {
        let before = monotonic_usec();
        pilotfish.signal(Signal::HUP);
        let heard = manager.hears().await;
        let [reloading, since] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(reloading, "RELOADING=1");
        let since = value(since, "MONOTONIC_USEC");
        assert!((before..=monotonic_usec()).contains(&since), "{since}, but the signal came after {before}");
        assert_eq!(manager.hears().await, ["READY=1"]);
    }
    // A reload that fails is over too, and the old configuration goes on.
    std::fs::write(pilotfish.file.path(), "clusters: 7").expect("a file");
    pilotfish.signal(Signal::HUP);
    assert_eq!(manager.hears().await[0], "RELOADING=1");
    assert_eq!(manager.hears().await, ["READY=1"]);
    pilotfish.signal(Signal::TERM);
    let heard = manager.hears().await;
    let [stopping, status, extended] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((&**stopping, &**status), ("STOPPING=1", "STATUS=stopping: 1 sessions may finish for 7200 s"));
    assert_eq!(value(extended, "EXTEND_TIMEOUT_USEC"), 7_210_000_000);
    drop(client);
    assert_eq!(pilotfish.exit().await, 0);
}

#[tokio::test]
async fn the_status_names_each_new_writer() {
    let cluster = FakeCluster::start("demo", &["a", "b"]).await;
    let manager = Manager::new();
    let _pilotfish = manager.runs(&config(&cluster, ""), |_| {});
    manager.hears_of("STATUS=demo: writer a").await;
    cluster.promote("b");
    manager.hears_of("STATUS=demo: writer b").await;
}

/// Stops one thread of a process and no other, by ptrace(2), until it is dropped.
struct Grip {
    hand: Child,
    _open: Option<ChildStdin>,
}

const HAND: &str = "
import ctypes, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
    if ptrace(request, int(sys.argv[1]), None, None) != 0:
        sys.exit(f'ptrace: errno {ctypes.get_errno()}')
print('held', flush=True)
sys.stdin.read()
";

impl Grip {
    fn on(thread: i32) -> Grip {
        let mut hand = Command::new("python3")
            .args(["-c", HAND, &thread.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, see deploy/setup test");
        let mut said = [0; 5];
        hand.stdout.take().expect("its output").read_exact(&mut said).expect("a thread that can be held");
        assert_eq!(&said, b"held\n");
        let open = hand.stdin.take();
        Grip { hand, _open: open }
    }
}

/// The kernel lets go of the thread when the process that holds it ends.
impl Drop for Grip {
    fn drop(&mut self) {
        let _ = self.hand.kill();
        let _ = self.hand.wait();
    }
}

/// As the program's watchdog is set here.
const WATCHDOG: Duration = Duration::from_secs(2);

fn with_watchdog(command: &mut Command) {
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
}

#[tokio::test]
async fn no_sign_of_life_while_a_worker_or_control_is_stuck() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    for (thread, logged) in
        [("worker-0", Some("worker 0")), ("worker-1", Some("worker 1")), ("pilotfish", None)]
    {
        let manager = Manager::new();
        let pilotfish = manager.runs(&config(&cluster, ""), with_watchdog);
        for _ in 0..2 {
            manager.hears_of("WATCHDOG=1").await;
        }
        let held = Grip::on(pilotfish.thread(thread));
        if let Some(parts) = logged {
            let line = pilotfish.line("what stands still", |line| line["parts"] == parts).await;
            assert_eq!(line["level"], "ERROR");
        }
        manager.forget();
        manager.hears_nothing_for(WATCHDOG).await;
        drop(held);
        manager.hears_of("WATCHDOG=1").await;
    }
}

/// systemd sets these for one process; what that one starts is not watched.
#[tokio::test]
async fn a_watchdog_that_is_set_for_another_process_gets_no_signs() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let manager = Manager::new();
    let _pilotfish = manager.runs(&config(&cluster, ""), |command| {
        command.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    });
    assert_eq!(manager.hears().await, ["READY=1"]);
    manager.hears_of("STATUS=demo: writer a").await;
    manager.hears_nothing_for(Duration::from_millis(300)).await;
}
