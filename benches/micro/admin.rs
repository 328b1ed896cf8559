//! Once for each look: the metrics and the page, with ten clusters of five nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use criterion::Criterion;
use pilotfish::admin::actions::{Reload, Reloaded};
use pilotfish::admin::auth::{Gate, Users};
use pilotfish::admin::hosts::Hosts;
use pilotfish::admin::upgrade::{PastUpgrades, Upgrade};
use pilotfish::admin::{Live, PoolSource, Served, Serving, Sources, dashboard, metrics, view};
use pilotfish::control::{
    ClusterOptions, Controller, Names, Patroni, PatroniOptions, StewardOptions, first_table, inbox,
};
use pilotfish::proxy::listener::ListenAddress;
use pilotfish::proxy::{Pool, PoolOptions, TellTrouble, Workers, WorkersOptions};
use pilotfish::routing::{ClusterId, Kind, PoolRules, cell};
use pilotfish::stats::PoolStats;
use pilotfish::topology::ReaderRules;
use pilotfish::topology::health::Thresholds;
use pilotfish::topology::roster::Seed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::control::replica;

const CLUSTERS: usize = 10;
const MEMBERS: usize = 5;
/// For every node to have been heard.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sources = runtime.block_on(settle());
    criterion.bench_function("metrics/10x5", |bencher| bencher.iter(|| metrics::encode(&sources, false)));
    criterion.bench_function("status/10x5", |bencher| bencher.iter(|| view::status(&sources)));
    criterion.bench_function("page/10x5", |bencher| bencher.iter(|| dashboard::draw(&sources, "")));
}

/// Control with every cluster decided, and pools that have counted something of each member.
async fn settle() -> Sources {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let names = Names::default();
    let (publisher, cell) = cell::cell(first_table(CLUSTERS));
    let (inbox, events) = inbox();
    let quiet = TellTrouble(Arc::new(|_| {}));
    let workers = Workers::start(
        WorkersOptions { count: 2, max_sessions: 100, panics: inbox.panics.clone() },
        &cell,
        &quiet,
    )
    .expect("threads");
    let (mut clusters, mut pools) = (Vec::new(), Vec::new());
    for number in 0..CLUSTERS {
        let sources = pools_of(number);
        let rules = |source: &PoolSource| {
            PoolRules::new(&source.pool.options.name, source.pool.options.kind, &source.pool.stats)
        };
        let rules = sources.iter().map(rules).collect();
        pools.extend(sources);
        let patroni = PatroniOptions { timeout: PATIENCE, ..PatroniOptions::default() };
        let patroni = Patroni::new(patroni, names.clone()).expect("no certificates to be wrong");
        clusters.push(ClusterOptions {
            steward: steward(number, nodes(number).await),
            patroni,
            pools: rules,
        });
    }
    let controller = Controller::start(clusters, &names, publisher, &inbox, events);
    let pictures = controller.pictures();
    let mut changes = pictures.follow();
    let control = tokio::spawn(controller.run());
    let heard = || {
        let all = pictures.all();
        let members: usize =
            all.iter().map(|p| p.members.iter().filter(|m| m.report.is_some()).count()).sum();
        members == CLUSTERS * MEMBERS && pictures.is_ready()
    };
    let settled = async {
        while !heard() {
            changes.changed().await.expect("control lives");
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("every node is heard in time");
    control.abort();
    Sources {
        pictures,
        served: Serving::new(Served { pools, ..Served::default() }),
        workers: Arc::new(workers),
        started: Instant::now(),
        started_at: SystemTime::now(),
        stopping: AtomicBool::new(false),
        inbox,
        gate: Arc::new(Gate::new(Users::new(Vec::new()), Hosts::new([]))),
        reload: Reload::new(|| Ok(Reloaded::default())),
        upgrade: Upgrade::new(PastUpgrades::default()).0,
        live: Live::default(),
    }
}

fn steward(number: usize, seeds: Vec<Seed>) -> StewardOptions {
    StewardOptions {
        name: Some(format!("cluster{number}")),
        seeds,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(100),
        leader_grace: Some(Duration::from_secs(30)),
        connect_timeout: Duration::from_secs(1),
        thresholds: Thresholds { fall: 3, rise: 1 },
        readers: vec![ReaderRules { pool: "replicas".to_owned(), fallback: true, ..ReaderRules::default() }],
    }
}

fn pools_of(cluster: usize) -> [PoolSource; 2] {
    [Kind::Primary, Kind::Replicas].map(|kind| {
        let stats = Arc::new(PoolStats::new(2));
        for member in 0..MEMBERS {
            stats.member(&format!("c{cluster}n{member}")).count_session(0);
        }
        let options = PoolOptions::new(ClusterId(cluster as u32), kind.as_str(), kind);
        let listen = vec![ListenAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 5000)))];
        PoolSource { pool: Arc::new(Pool::new(options, stats)), listen }
    })
}

/// Nodes that answer everything with what they are.
async fn nodes(cluster: usize) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for member in 0..MEMBERS {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let name = format!("c{cluster}n{member}");
        let body = replica(&name);
        let (status, body) = if member == 0 {
            ("200 OK", body.replace("\"replica\"", "\"primary\""))
        } else {
            ("503 No", body)
        };
        let answer = format!("HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let (host, port) = (address.ip().to_string(), address.port());
        seeds.push(Seed { api: format!("http://{address}"), host, port, answered_as: None });
    }
    seeds
}
