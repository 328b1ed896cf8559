//! Reload after reload, half of them broken, while clients come without a pause: none of them notices, and nothing grows.
//!
//! Descriptors, threads and memory are the whole process's: they are judged where this test is alone in it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pilotfish::config::{Config, Problems, Tls};
use tokio::task::JoinHandle;

use super::Live;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::postgres::Client;
use crate::control::within;

/// `make test` and `make reload-stress` ask for a thousand, in a process of their own.
const RELOADS: &str = "PILOTFISH_RELOADS";
const CLIENTS: usize = 16;
/// As many come between two reloads at least.
const SESSIONS_EACH: usize = 20;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a process").count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a process").count()
}

/// Of this test: control runs among them.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim_end_matches("kB").trim().parse().expect("a number")
}

/// The n-th of the configurations: pools, limits and clusters come, change and go; the primary's address stays.
fn variant(base: &Config, number: usize) -> Config {
    let mut config = base.clone();
    let primary = config.clusters[0].primary.as_mut().expect("it is there");
    primary.limits.max_sessions_per_client = number.is_multiple_of(3).then_some(100_000);
    primary.hold = Duration::from_secs(20 + number as u64 % 5);
    config.clusters[0].patroni.interval = Duration::from_millis(50 + number as u64 % 2);
    config.max_sessions = Some(200 + number % 7);
    if number.is_multiple_of(2) {
        config.clusters.truncate(1);
    }
    if number.is_multiple_of(5) {
        config.clusters[0].replicas.clear();
    }
    config
}

/// A configuration that cannot be put into effect, each for a reason that is found at another time.
fn broken(base: &Config, number: usize, taken: SocketAddr) -> Result<Config, Problems> {
    let mut config = base.clone();
    match number % 4 {
        0 => return Config::parse("config.yaml", "clusters: {", &|_| None),
        1 => config.clusters[1].replicas[0].listen.push(taken.into()),
        2 => {
            let ca = Some("/nowhere/ca.pem".into());
            config.clusters[0].patroni.tls = Some(Tls { ca, ..Tls::default() });
        }
        _ => config.max_sessions = Some(usize::MAX),
    }
    Ok(config)
}

/// Come, are served and go, again and again.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn at(address: SocketAddr, wanted: &'static str) -> Crowd {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    // Panics when it is refused, reset or not served.
                    let (_, name) = Client::enter(address).await;
                    assert_eq!(name, wanted);
                    served.fetch_add(1, Relaxed);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Crowd { stop, served, clients }
    }

    /// Until so many more were served.
    pub async fn more(&self, count: usize) {
        let wanted = self.served.load(Relaxed) + count;
        let wait = async {
            while self.served.load(Relaxed) < wanted {
                assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client was not served");
                tokio::task::yield_now().await;
            }
        };
        within("more sessions", wait).await;
    }

    pub async fn go(self) -> usize {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            client.await.expect("every client was served");
        }
        self.served.load(Relaxed)
    }
}

#[tokio::test]
async fn a_thousand_reloads_under_new_connections_lose_nobody_and_leave_nothing() {
    let alone: Option<usize> = std::env::var(RELOADS).ok().and_then(|text| text.parse().ok());
    let reloads = alone.unwrap_or(100);
    let (sales, stock) =
        (FakeCluster::start("sales", &["a", "b"]).await, FakeCluster::start("stock", &["c"]).await);
    let (live, base) = Live::clusters(&[&sales, &stock]).await;
    let at = live.pool("sales", "primary").await;
    let (mut stays, _) = Client::enter(at).await;
    let taken = TcpListener::bind(SocketAddr::new(own_address(), 0)).expect("a free port");
    let taken = (taken.local_addr().expect("an address"), taken);
    let before = tasks();
    let crowd = Crowd::at(at, "a");
    let mut marks = Vec::new();
    let started = Instant::now();
    for number in 0..reloads {
        match number % 2 {
            0 => live.change(&variant(&base, number / 2)).await.map(drop).expect("a good configuration"),
            _ => {
                let broken = broken(&base, number / 2, taken.0);
                live.read(broken).await.map(drop).expect_err("a broken one");
            }
        }
        crowd.more(SESSIONS_EACH).await;
        if number == reloads / 5 || number + 1 == reloads {
            marks.push((descriptors(), threads(), memory_kb()));
        }
    }
    let took = started.elapsed();
    let count = crowd.go().await;
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
    live.change(&base).await.expect("a good configuration");
    let (_, name) = Client::enter(live.pool("stock", "primary").await).await;
    assert_eq!(name, "c");
    within("the tasks of what went to end", async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let per_s = count as f64 / took.as_secs_f64();
    let (first, last) = (marks[0], marks[marks.len() - 1]);
    eprintln!(
        "{reloads} reloads in {took:.1?}, {count} new sessions ({per_s:.0}/s); descriptors, threads and kB went from \
         {first:?} to {last:?}, tasks are {} as before",
        tasks()
    );
    if alone.is_some() {
        // What is not optimised may be slower than what it is judged by.
        assert!(cfg!(debug_assertions) || per_s >= 2000.0, "{per_s} new sessions a second");
        // Connections under way differ from moment to moment.
        assert!(last.0 <= first.0 + 6 * CLIENTS, "{marks:?}");
        assert!(last.1 <= first.1, "{marks:?}");
        assert!(last.2 <= first.2 + 2 * 1024, "{marks:?}");
    }
}
