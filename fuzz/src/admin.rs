//! The admin side in memory, made anew for each input: whatever it keeps is only what this input has led to.
//!
//! The connection is a pipe within the process, control is whoever counts the wishes that reach it, and the clock jumps
//! to the next deadline when there is nothing to do, so that waiting costs nothing.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use pilotfish::admin::actions::{Reload, Reloaded};
use pilotfish::admin::auth::{Account, Gate, Users};
use pilotfish::admin::caller::{Peer, Role};
use pilotfish::admin::haproxy::command::Level;
use pilotfish::admin::haproxy::runtime::Visit;
use pilotfish::admin::hosts::Hosts;
use pilotfish::admin::places::Places;
use pilotfish::admin::secret::Stored;
use pilotfish::admin::upgrade::{Answer, PastUpgrades, Upgrade};
use pilotfish::admin::{Live, PoolSource, Served, Serving, Sources, routes, server};
use pilotfish::control::{
    Check, Checks, ClusterPicture, Event, MemberPicture, Operated, Pictures, first_table, inbox,
};
use pilotfish::proxy::listener::ListenAddress;
use pilotfish::proxy::{Pool, PoolOptions, TellTrouble, Workers, WorkersOptions};
use pilotfish::routing::{ClusterId, Kind, PoolRules, Routes, Site, cell};
use pilotfish::stats::{Panics, PoolStats};
use pilotfish::topology::{
    Class, Condition, Decision, Fate, Member, Operator, ReaderPool, Report, Role as NodeRole, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the seeds log in with.
const OPERATOR_TOKEN: &str = "an-operators-token";
/// `alice:open sesame`, as it is sent.
const OPERATOR_LOGIN: &str = "YWxpY2U6b3BlbiBzZXNhbWU=";
const VIEWER_TOKEN: &str = "a-viewers-token";
/// Nobody's guess.
const UNKNOWN: &str = "Xq3vN8mZt0Kc5sWy7Lr1Hd9Fj2Gb4Pa6";
/// Told to nobody who has not logged in.
const MEMBERS: [&str; 2] = ["patroni1", "patroni2"];

/// Longer than any deadline but that of a whole connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the longest answer: the page.
const MOST_BYTES: usize = 128 * 1024;
/// What the pipe holds, as a socket's buffers would.
const PIPE_BYTES: usize = 64 * 1024;

/// They serve nobody, so all inputs can share them.
static WORKERS: LazyLock<Arc<Workers>> = LazyLock::new(|| {
    let (_, cell) = cell::cell(first_table(1));
    let quiet = TellTrouble(Arc::new(|_| {}));
    let workers = Workers::start(
        WorkersOptions { count: 1, max_sessions: 100, panics: Panics::default() },
        &cell,
        &quiet,
    );
    Arc::new(workers.expect("a thread"))
});

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// Everybody has to log in, with what no input can know.
    Stranger,
    /// Nobody has to log in.
    Anybody,
    /// The seeds' logins are right.
    Known,
    /// At the unix socket.
    Host,
}

/// A whole request, or several, or what is none: answered within its bounds, and without a login nothing is changed and
/// nothing told.
pub fn admin_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let requests = 1 + text.matches("HTTP/").count();
    let says = |word: &str| text.to_ascii_lowercase().contains(word);
    for asker in [Asker::Stranger, Asker::Anybody, Asker::Known, Asker::Host] {
        let Outcome { changes, answer, ended } = exchange(asker, bytes);
        assert!(answer.len() <= requests * MOST_BYTES, "{} bytes for {asker:?}", answer.len());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
        // Who has more to say than was asked for may listen to a stream for as long as a connection may last.
        assert!(ended || answer.contains("text/event-stream"), "no end of {answer}");
        let may_change = match asker {
            Asker::Stranger | Asker::Anybody => false,
            Asker::Known => text.contains(OPERATOR_TOKEN) || text.contains(OPERATOR_LOGIN),
            Asker::Host => true,
        };
        let may_change = may_change && text.contains("POST") && says("application/json");
        assert!(changes == 0 || may_change, "{changes} changes by {asker:?}: {answer}");
        if asker == Asker::Stranger && !text.contains(UNKNOWN) {
            let told = MEMBERS.into_iter().find(|member| !text.contains(member) && answer.contains(member));
            assert_eq!(told, None, "told to a stranger: {answer}");
        }
    }
}

/// Lines at the runtime socket: answered within their bounds in text that a terminal can show, and each level changes no
/// more than it may.
pub fn runtime_socket(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let commands = 1 + text.chars().filter(|c| *c == ';' || *c == '\n').count();
    for level in [Level::User, Level::Operator, Level::Admin] {
        let Outcome { changes, answer, ended } = converse(level, bytes);
        assert!(ended, "no end of {answer}");
        assert!(answer.len() <= commands * MOST_BYTES, "{} bytes", answer.len());
        assert!(answer.is_empty() || answer.ends_with('\n') || answer.ends_with("\n> "), "{answer:?}");
        let odd = answer.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(odd, None, "{answer:?}");
        assert!(changes == 0 || level == Level::Admin, "{changes} changes by {level:?}: {answer}");
    }
}

/// What came of an input.
struct Outcome {
    /// Of all that can be changed.
    changes: usize,
    answer: String,
    /// The server hung up in time.
    ended: bool,
}

fn exchange(asker: Asker, bytes: &[u8]) -> Outcome {
    let users = match asker {
        Asker::Anybody => Vec::new(),
        Asker::Stranger | Asker::Host => vec![account("alice", Role::Operator, UNKNOWN, UNKNOWN)],
        Asker::Known => vec![
            account("alice", Role::Operator, "open sesame", OPERATOR_TOKEN),
            account("bob", Role::Viewer, UNKNOWN, VIEWER_TOKEN),
        ],
    };
    let peer = match asker {
        Asker::Host => Peer::Socket { uid: 1000 },
        _ => Peer::Network { address: SocketAddr::from(([192, 0, 2, 1], 40_000)), encrypted: false },
    };
    in_memory(users, bytes, async move |sources, stream| {
        let router = routes::router(sources);
        // An error is hyper's word for what was no HTTP, which is answered where that can be.
        let place = Arc::new(Places::new(1).take(peer).await);
        let _ = server::exchange(stream, router, peer, &place, &CancellationToken::new(), &Panics::default())
            .await;
    })
}

fn converse(level: Level, bytes: &[u8]) -> Outcome {
    in_memory(Vec::new(), bytes, async move |sources, stream| {
        let visit = Visit { sources, path: Arc::from("/run/pilotfish/haproxy.sock"), highest: level };
        visit.serve(1000, stream).await.expect("a client that reads and has no more to say");
    })
}

fn account(name: &str, role: Role, password: &str, token: &str) -> Account {
    let stored = |text| Some(Stored::new(text).expect("no hash"));
    Account { name: name.to_owned(), role, password: stored(password), token: stored(token) }
}

/// Sends `bytes` and nothing more to what `serve` is, and reads until the end.
fn in_memory<F>(
    users: Vec<Account>,
    bytes: &[u8],
    serve: impl FnOnce(Arc<Sources>, DuplexStream) -> F,
) -> Outcome
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let changes = Arc::new(AtomicUsize::new(0));
        let sources = Arc::new(sources(users, &changes));
        let before = limits(&sources);
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let (mut reader, mut writer) = tokio::io::split(client);
        let ask = async {
            // Whoever has hung up meanwhile has answered before.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let mut answer = Vec::new();
        let both = async {
            let serve = serve(Arc::clone(&sources), server);
            let (_, read, ()) = tokio::join!(ask, reader.read_to_end(&mut answer), serve);
            read.expect("an end");
        };
        let ended = tokio::time::timeout(PATIENCE, both).await.is_ok();
        let changes = changes.load(Relaxed) + usize::from(limits(&sources) != before);
        Outcome { changes, answer: String::from_utf8_lossy(&answer).into_owned(), ended }
    })
}

/// What commands set without asking control.
fn limits(sources: &Sources) -> Vec<(Option<usize>, Option<usize>, Option<usize>)> {
    let served = sources.served.load();
    let of = |source: &PoolSource| {
        let stats = &source.pool.stats;
        (stats.limits.sessions.get(), stats.member_limit(), stats.member(MEMBERS[0]).limit())
    };
    served.pools.iter().map(of).collect()
}

/// One cluster of two members, with a pool for writers and one for readers.
fn sources(users: Vec<Account>, changes: &Arc<AtomicUsize>) -> Sources {
    let (inbox, events) = inbox();
    let (upgrade, asked) = Upgrade::new(PastUpgrades::default());
    tokio::spawn(control(events, Arc::clone(changes)));
    tokio::spawn(process(asked, Arc::clone(changes)));
    let reloads = Arc::clone(changes);
    let reload = move || {
        reloads.fetch_add(1, Relaxed);
        Ok(Reloaded::default())
    };
    Sources {
        pictures: Pictures::new(Instant::now(), [picture()]),
        served: Serving::new(Served { pools: pools().into(), ..Served::default() }),
        workers: Arc::clone(&WORKERS),
        started: Instant::now(),
        started_at: SystemTime::now(),
        stopping: AtomicBool::new(false),
        inbox,
        gate: Arc::new(Gate::new(Users::new(users), Hosts::new([]))),
        reload: Reload::new(reload),
        upgrade,
        live: Live::default(),
    }
}

/// Does what it is told, and counts it.
async fn control(mut events: mpsc::Receiver<Event>, changes: Arc<AtomicUsize>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Pulse { answer } => drop(answer.send(())),
            Event::Operate { answer, .. } => {
                changes.fetch_add(1, Relaxed);
                let _ = answer.send(Some(Operated { before: Operator::Ready, is_writer: true }));
            }
            Event::Weigh { answer, .. } => {
                changes.fetch_add(1, Relaxed);
                let _ = answer.send(true);
            }
            _ => drop(changes.fetch_add(1, Relaxed)),
        }
    }
}

async fn process(mut asked: mpsc::Receiver<Answer>, changes: Arc<AtomicUsize>) {
    while let Some(answer) = asked.recv().await {
        changes.fetch_add(1, Relaxed);
        let _ = answer.send(Err("not here".to_owned()));
    }
}

fn pools() -> [PoolSource; 2] {
    [Kind::Primary, Kind::Replicas].map(|kind| {
        let options = PoolOptions::new(ClusterId(0), kind.as_str(), kind);
        let listen = vec![ListenAddress::Ip(SocketAddr::from(([192, 0, 2, 10], 5000)))];
        PoolSource { pool: Arc::new(Pool::new(options, Arc::new(PoolStats::new(1)))), listen }
    })
}

fn picture() -> ClusterPicture {
    let [leader, reader] = MEMBERS.map(str::to_owned);
    let readers = vec![reader];
    let decision = Decision {
        condition: Condition::Ok,
        reason: format!("{leader} holds the leader lock"),
        writer: Some(leader.clone()),
        tenant: Some(leader.clone()),
        fallback: Some(leader.clone()),
        readers: readers.clone(),
        pools: vec![ReaderPool { pool: "replicas".to_owned(), readers, ..ReaderPool::default() }],
        timeline: Some(12),
        verdicts: MEMBERS.map(verdict).into(),
        alarms: Default::default(),
        fast_until: None,
        decide_again_at: None,
    };
    let rules = pools().map(|source| {
        let options = &source.pool.options;
        PoolRules::new(&options.name, options.kind, &source.pool.stats)
    });
    let nowhere = |_: &str, _: &PoolRules| Site { addresses: Arc::from([]), tags: &[], obstacle: None };
    let routes = Routes::new(Arc::from("demo"), 9, &decision, &rules, Instant::now(), nowhere);
    ClusterPicture {
        id: ClusterId(0),
        name: Arc::from("demo"),
        epoch: 9,
        routes: Arc::new(routes),
        decision: Some(decision),
        writer_since: Some(Duration::ZERO),
        last_writer: Some(leader),
        failovers: 3,
        members: MEMBERS.map(member).into(),
        wishes: Default::default(),
        incidents: Vec::new(),
        incident_totals: Default::default(),
        discovery_problem: None,
        strangers: Default::default(),
    }
}

fn class(name: &str) -> Class {
    if name == MEMBERS[0] { Class::Writer } else { Class::Reader }
}

fn verdict(name: &str) -> Verdict {
    Verdict { name: name.to_owned(), class: class(name), writers: Fate::Keep }
}

fn member(name: &str) -> MemberPicture {
    let leads = class(name) == Class::Writer;
    let report = Report {
        status: if leads { 200 } else { 503 },
        role: if leads { NodeRole::Primary } else { NodeRole::Replica },
        state: "running".to_owned(),
        timeline: Some(12),
        ..Report::default()
    };
    let (host, port) = (format!("{name}.db.example.org"), 5432);
    let api = format!("http://{host}:8008");
    let mut checks = Checks::default();
    let took = Duration::from_millis(3);
    checks.add(Check { at: Duration::ZERO, took, status: Some(200), silence: None });
    MemberPicture {
        member: Member { name: name.to_owned(), host, port, api },
        operator: Operator::Ready,
        class: class(name),
        class_since: Duration::ZERO,
        report: Some(report),
        lag_bytes: Some(1_234_567),
        checks,
        addresses: Arc::from([SocketAddr::from(([192, 0, 2, 20], 5432))]),
    }
}
