//! Reload after reload, half of them broken, while clients come without a pause: none of them notices, and nothing grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pilotfish::config::Config;

use super::Live;
use crate::control::cluster::FakeCluster;
use crate::control::postgres::Client;

/// `make reload-stress` asks for a thousand.
const RELOADS: &str = "PILOTFISH_RELOADS";
const CLIENTS: usize = 16;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a process").count()
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

#[tokio::test]
async fn a_thousand_reloads_under_new_connections_lose_nobody_and_leave_nothing() {
    let reloads: usize = std::env::var(RELOADS).ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let (sales, stock) =
        (FakeCluster::start("sales", &["a", "b"]).await, FakeCluster::start("stock", &["c"]).await);
    let (live, base) = Live::clusters(&[&sales, &stock]).await;
    let at = live.pool("sales", "primary").await;
    let (mut stays, _) = Client::enter(at).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    // Panics when it is refused, reset or not served.
                    let (_, name) = Client::enter(at).await;
                    assert_eq!(name, "a");
                    served.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let mut marks = Vec::new();
    let started = std::time::Instant::now();
    for number in 0..reloads {
        match number % 2 {
            0 => live.change(&variant(&base, number / 2)).await.map(drop).expect("a good configuration"),
            _ => {
                let broken = Config::parse("config.yaml", "clusters: {", &|_| None);
                live.read(broken).await.map(drop).expect_err("a broken one");
            }
        }
        if number == reloads / 5 || number + 1 == reloads {
            marks.push((descriptors(), memory_kb()));
        }
    }
    let took = started.elapsed();
    stop.store(true, Relaxed);
    for client in clients {
        client.await.expect("every client was served");
    }
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
    live.change(&base).await.expect("a good configuration");
    let (_, name) = Client::enter(live.pool("stock", "primary").await).await;
    assert_eq!(name, "c");
    let count = served.load(Relaxed);
    let per_s = count as f64 / took.as_secs_f64();
    eprintln!(
        "{reloads} reloads in {took:.1?}, {count} new sessions ({per_s:.0}/s), descriptors and kB: {marks:?}"
    );
    assert!(count > reloads, "{count} sessions");
    // Connections under way differ from moment to moment.
    let (first, last) = (marks[0], marks[marks.len() - 1]);
    assert!(last.0 <= first.0 + 6 * CLIENTS, "{marks:?}");
    assert!(last.1 <= first.1 + 16 * 1024, "{marks:?}");
}
