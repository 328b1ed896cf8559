//! Once for each check: a decision, the routes made of it, and the table that holds them.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use pilotfish::control::{first_ids, patroni};
use pilotfish::routing::{Kind, PoolRules, Routes, Site, Table, cell};
use pilotfish::stats::PoolStats;
use pilotfish::topology::health::Thresholds;
use pilotfish::topology::{Cluster, Member, Observation, ReaderRules, Settings};

const MEMBERS: usize = 5;
const CLUSTERS: usize = 10;
/// As many as one process is built for.
const MANY_CLUSTERS: usize = 1000;
const LEADER: &[u8] = br#"{"state":"running","postmaster_start_time":"2026-11-23 12:43:59.067569+00:00",
    "role":"primary","server_version":150018,"xlog":{"location":67108864},"timeline":1,"dcs_last_seen":1795437839,
    "database_system_identifier":"7711346798149882415","patroni":{"version":"4.1.5","scope":"demo","name":"node1"}}"#;

pub fn benches(criterion: &mut Criterion) {
    let answer = || patroni::report(200, black_box(LEADER));
    assert!(answer().is_ok());
    criterion.bench_function("answer", |bencher| bencher.iter(answer));

    let mut cluster = cluster(MEMBERS);
    let now = Duration::from_secs(2);
    assert_eq!(cluster.decide(now).writer.as_deref(), Some("node1"));
    criterion.bench_function("observe_and_decide", |bencher| {
        bencher.iter_batched(
            || observation(0),
            |observation| {
                cluster.observe(now, "node1", observation);
                cluster.decide(now)
            },
            BatchSize::SmallInput,
        );
    });

    let (decision, pools) = (cluster.decide(now), pools());
    criterion.bench_function("table/routes", |bencher| {
        let started = Instant::now();
        bencher.iter(|| Routes::new(Arc::from("demo"), 1, black_box(&decision), &pools, started, site));
    });
    let routes = Arc::new(routes(MEMBERS));
    for clusters in [CLUSTERS, MANY_CLUSTERS] {
        let all = first_ids(clusters).map(|id| (id, Arc::clone(&routes)));
        let (publisher, _cell) = cell::cell(Table::new(0, all));
        let one = first_ids(clusters).nth(clusters / 2).expect("a cluster");
        criterion.bench_function(&format!("table/publish_of_{clusters}"), |bencher| {
            bencher.iter(|| {
                let mut table = Table::clone(&publisher.load());
                table.epoch += 1;
                table.set(one, Arc::clone(&routes));
                publisher.publish(table);
            });
        });
    }
}

/// Routes of a cluster in which all is well: the first member writes, the others read.
pub fn routes(members: usize) -> Routes {
    let decision = cluster(members).decide(Duration::from_secs(2));
    let routes = Routes::new(Arc::from("demo"), 1, &decision, &pools(), Instant::now(), site);
    let takers: Vec<usize> = routes.pools.iter().map(|pool| pool.candidates.len()).collect();
    assert_eq!(takers, [1, members - 1]);
    routes
}

fn pools() -> [PoolRules; 2] {
    [Kind::Primary, Kind::Replicas]
        .map(|kind| PoolRules::new(kind.as_str(), kind, &Arc::new(PoolStats::new(2))))
}

fn cluster(members: usize) -> Cluster {
    let settings = Settings {
        thresholds: Thresholds { fall: 3, rise: 2 },
        leader_grace: Duration::from_secs(30),
        pools: vec![ReaderRules { pool: "replicas".to_owned(), fallback: true, ..ReaderRules::default() }],
    };
    let member = |number: usize| Member {
        name: name(number),
        host: format!("10.0.0.{number}"),
        port: 5432,
        api: format!("http://10.0.0.{number}:8008"),
    };
    let mut cluster = Cluster::new(settings, (0..members).map(member).collect());
    for round in 0..2 {
        for number in 0..members {
            cluster.observe(Duration::from_secs(round), &name(number), observation(number));
        }
    }
    cluster
}

fn observation(number: usize) -> Observation {
    let (status, body) = match number {
        0 => (200, String::from_utf8_lossy(LEADER).into_owned()),
        _ => (503, replica(&name(number))),
    };
    Observation::Answered(patroni::report(status, body.as_bytes()).expect("a good answer"))
}

/// What a replica answers.
pub fn replica(name: &str) -> String {
    let leader = String::from_utf8_lossy(LEADER).replace("node1", name).replace("primary", "replica");
    leader
        .replace(r#"{"location":67108864}"#, r#"{"received_location":67108864,"replayed_location":67108864}"#)
}

fn name(number: usize) -> String {
    format!("node{}", number + 1)
}

fn site<'a>(_: &str, _: &PoolRules) -> Site<'a> {
    let addresses = Arc::from([SocketAddr::from(([10, 0, 0, 1], 5432))]);
    Site { addresses, tags: &[], obstacle: None }
}
