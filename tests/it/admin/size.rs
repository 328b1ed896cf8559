//! How large the page is when all of it is full, for pictures and a history made by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use pilotfish::admin::actions::{Reload, Reloaded};
use pilotfish::admin::auth::{Gate, Users};
use pilotfish::admin::history::{ClusterSample, History, MemberSample, PoolSample};
use pilotfish::admin::hosts::Hosts;
use pilotfish::admin::ring::{COARSE, FOLDED};
use pilotfish::admin::upgrade::{PastUpgrades, Upgrade};
use pilotfish::admin::{Live, PoolSource, Served, Serving, Sources, dashboard};
use pilotfish::control::{Check, Checks, ClusterPicture, MemberPicture, Pictures, first_table, inbox};
use pilotfish::proxy::listener::ListenAddress;
use pilotfish::proxy::{Pool, PoolOptions, TellTrouble, Workers, WorkersOptions};
use pilotfish::routing::{ClusterId, Kind, PoolRules, Routes, Site, cell};
use pilotfish::stats::{MemberCounts, PoolStats};
use pilotfish::topology::{
    Class, Condition, Decision, Fate, Member, Operator, ReaderPool, Report, Role, Verdict,
};

use crate::topology::dice::Dice;

const CLUSTERS: usize = 10;
const NODES: [&str; 5] = ["patroni1", "patroni2", "patroni3", "patroni4", "patroni5"];
/// A page is drawn and sent four times a second while something happens.
const MOST_BYTES: usize = 150_000;

#[tokio::test]
async fn the_page_of_ten_clusters_of_five_nodes_stays_small_with_a_full_history() {
    let sources = sources();
    let before = dashboard::draw(&sources, "").expect("a page");
    *sources.live.history.lock().expect("no panic before") = full_history();
    let page = dashboard::draw(&sources, "").expect("a page");
    assert_eq!(before.matches("<figure").count(), 0);
    assert_eq!(page.matches("<figure").count(), CLUSTERS * 2 * 4, "four of each pool");
    assert_eq!(page.matches("class=\"mini\"").count(), CLUSTERS * NODES.len() * 2, "two of each member");
    println!("{} bytes, {} of them pictures", page.len(), page.len() - before.len());
    assert!(page.len() < MOST_BYTES, "{} bytes, {} of them pictures", page.len(), page.len() - before.len());
}

/// An hour in which no value is like the one before, which takes the longest paths.
fn full_history() -> History {
    let mut dice = Dice::new(7);
    let mut number = |below: usize| dice.below(below) as u64;
    let mut history = History::default();
    let mut totals = [MemberCounts::default(); NODES.len()];
    for _ in 0..COARSE * FOLDED {
        for totals in &mut totals {
            totals.active = number(1000);
            totals.total += number(100);
            totals.bytes_out += number(1_000_000);
        }
        let members: Vec<_> = NODES.iter().map(ToString::to_string).zip(totals).collect();
        let held = number(100) as usize;
        let pool = |name: &str| PoolSample { name: name.to_owned(), held, members: members.clone() };
        let lag_bytes = number(10_000_000);
        let member = |name: &&str| MemberSample {
            name: (*name).to_owned(),
            lag_bytes: Some(lag_bytes),
            check: Some(Duration::from_millis(3)),
            ..MemberSample::default()
        };
        let cluster = ClusterSample {
            pools: vec![pool("primary"), pool("replicas")],
            members: NODES.iter().map(member).collect(),
            ..ClusterSample::default()
        };
        let of = |number| ClusterSample { id: id(number), ..cluster.clone() };
        history.take(Duration::from_secs(1), &(0..CLUSTERS).map(of).collect::<Vec<_>>());
    }
    history
}

pub fn sources() -> Sources {
    let (_, cell) = cell::cell(first_table(CLUSTERS));
    let (inbox, _) = inbox();
    let quiet = TellTrouble(Arc::new(|_| {}));
    let workers = Workers::start(
        WorkersOptions { count: 1, max_sessions: 100, panics: inbox.panics.clone() },
        &cell,
        &quiet,
    )
    .expect("a thread");
    Sources {
        pictures: Pictures::new(Instant::now(), (0..CLUSTERS).map(picture)),
        served: Serving::new(Served { pools: (0..CLUSTERS).flat_map(pools).collect(), ..Served::default() }),
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

fn id(number: usize) -> ClusterId {
    ClusterId(number as u32)
}

fn pools(cluster: usize) -> [PoolSource; 2] {
    [Kind::Primary, Kind::Replicas].map(|kind| {
        let stats = Arc::new(PoolStats::new(1));
        NODES.iter().for_each(|node| stats.member(node).count_session(0));
        let options = PoolOptions::new(id(cluster), kind.as_str(), kind);
        let listen = vec![ListenAddress::Ip(SocketAddr::from(([10, 20, 30, 40], 5000)))];
        PoolSource { pool: Arc::new(Pool::new(options, stats)), listen }
    })
}

fn picture(number: usize) -> ClusterPicture {
    let readers: Vec<String> = NODES[1..].iter().map(ToString::to_string).collect();
    let decision = Decision {
        condition: Condition::Ok,
        reason: "patroni1 holds the leader lock".to_owned(),
        writer: Some(NODES[0].to_owned()),
        tenant: Some(NODES[0].to_owned()),
        fallback: Some(NODES[0].to_owned()),
        readers: readers.clone(),
        pools: vec![ReaderPool { pool: "replicas".to_owned(), readers, ..ReaderPool::default() }],
        timeline: Some(12),
        verdicts: NODES.iter().map(|name| verdict(name)).collect(),
        alarms: Default::default(),
        fast_until: None,
        decide_again_at: None,
    };
    let rules = [Kind::Primary, Kind::Replicas]
        .map(|kind| PoolRules::new(kind.as_str(), kind, &Arc::new(PoolStats::new(1))));
    let nowhere = |_: &str, _: &PoolRules| Site { addresses: Arc::from([]), tags: &[], obstacle: None };
    let routes = Routes::new(Arc::from("production"), 9, &decision, &rules, Instant::now(), nowhere);
    ClusterPicture {
        id: id(number),
        name: Arc::from(format!("production-{number}")),
        epoch: 9,
        routes: Arc::new(routes),
        decision: Some(decision),
        writer_since: Some(Duration::ZERO),
        last_writer: Some(NODES[0].to_owned()),
        failovers: 3,
        members: NODES.iter().map(|name| member(name)).collect(),
        wishes: Default::default(),
        incidents: Vec::new(),
        incident_totals: Default::default(),
        discovery_problem: None,
        strangers: Default::default(),
    }
}

fn verdict(name: &str) -> Verdict {
    Verdict { name: name.to_owned(), class: Class::Reader, writers: Fate::RoleLost }
}

fn member(name: &str) -> MemberPicture {
    let leads = name == NODES[0];
    let report = Report {
        status: if leads { 200 } else { 503 },
        role: if leads { Role::Primary } else { Role::Replica },
        state: "running".to_owned(),
        timeline: Some(12),
        tags: vec![("clonefrom".to_owned(), "true".to_owned())],
        ..Report::default()
    };
    let (host, port) = (format!("{name}.db.example.org"), 5432);
    let api = format!("http://{host}:8008");
    let mut checks = Checks::default();
    checks.add(Check {
        at: Duration::ZERO,
        took: Duration::from_millis(3),
        status: Some(200),
        silence: None,
    });
    MemberPicture {
        member: Member { name: name.to_owned(), host, port, api },
        operator: Operator::Ready,
        class: if leads { Class::Writer } else { Class::Reader },
        class_since: Duration::ZERO,
        report: Some(report),
        lag_bytes: Some(1_234_567),
        checks,
        addresses: Arc::from([SocketAddr::from(([10, 20, 30, 41], 5432))]),
    }
}
