//! The composition root: the only place that knows all parts.
//!
//! [`App::prepare`] binds everything and builds what cannot fail later; a process that gets past it serves.
//! [`App::run`] starts the parts, waits for the word to stop, and drains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use self::clusters::Plan;
use self::console::{Console, Secrets};
use crate::admin::actions::Reload;
use crate::admin::{self, PoolSource, Sources};
use crate::config::{self, Config};
use crate::control::{ClusterOptions, Controller, Names, Patroni, first_table, inbox};
use crate::proxy::engine::DESCRIPTORS_PER_WORKER;
use crate::proxy::listener::{Bound, ListenAddress};
use crate::proxy::{Access, Pool, TellTrouble, Workers, WorkersOptions, listener};
use crate::routing::{PoolRules, cell};

mod clusters;
mod console;
mod transport;

/// The target of log lines that are whole lines of HAProxy's `option tcplog`.
pub use crate::proxy::tcplog::TARGET as TCPLOG;
pub use console::Source;

/// Descriptors kept for everything but workers, sessions and the admin side: logs, the dials of cancel requests, and a few
/// clusters' listeners and checks.
const RESERVED_DESCRIPTORS: u64 = 256;
/// Doors of the admin side: its address and its socket.
const ADMIN_DOORS: u64 = 2;
/// Kept beside these for each further cluster: its listeners, and a check of each of some five members.
const DESCRIPTORS_PER_CLUSTER: u64 = 8;
/// Clusters that the first reserve is enough for.
const FEW_CLUSTERS: u64 = 16;
/// A session has two sockets.
const DESCRIPTORS_PER_SESSION: u64 = 2;
/// More than the ports of this host allow, whatever the limit of open files is.
const MOST_SESSIONS: usize = 10_000_000;
/// After a stop has cut what was left, how long the tasks may take to notice.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the process cannot start: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what} cannot listen on {address}: {error}{hint}")]
    Bind { what: String, address: ListenAddress, error: io::Error, hint: &'static str },
    #[error(
        "max_sessions is {wanted}, but {limit} open files allow {possible} sessions; raise the limit (LimitNOFILE, ulimit -n) or lower max_sessions"
    )]
    Descriptors { wanted: usize, limit: u64, possible: usize },
    #[error("{path}: {error}")]
    File { path: String, error: io::Error },
    #[error("{0}")]
    Users(String),
    #[error("admin.tls: {0}")]
    Certificate(String),
    #[error("cluster {cluster}: {problem}")]
    Tls { cluster: String, problem: String },
    #[error("a thread or its event loop cannot be made: {0}; is a limit of open files or threads reached?")]
    System(#[from] io::Error),
    #[error("the control plane has failed; see the error before this line")]
    ControlEnded,
}

impl StartError {
    /// The same configuration will fail again.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, StartError::Users(_) | StartError::Certificate(_))
    }
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Sessions that were cut since they did not end by themselves in time.
    pub cut: usize,
}

/// Everything bound and built, nothing running yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    workers: usize,
    max_sessions: usize,
    pools: Vec<BoundPool>,
    console: Console,
    reload: Reload,
    patronis: Vec<Patroni>,
    /// Of each cluster, in the order of the configuration.
    rules: Vec<Vec<PoolRules>>,
    names: Names,
}

#[derive(Debug)]
struct BoundPool {
    pool: Arc<Pool>,
    rules: PoolRules,
    sockets: Vec<(Bound, Arc<Access>)>,
    listen: Vec<ListenAddress>,
}

/// Reads the secrets and certificates that the configuration names, as a start does, and binds nothing.
///
/// # Errors
/// The first one that cannot be used.
pub fn check(config: &Config) -> Result<(), StartError> {
    Secrets::load(&config.admin).map(drop)
}

impl App {
    /// Binds every port and reads every file that the configuration names. `source` is where a reload reads it anew.
    ///
    /// # Errors
    /// The first thing that cannot be had; nothing has been served then.
    pub fn prepare(config: Config, source: Option<Source>) -> Result<App, StartError> {
        // Set once in a process; a second App in one process (tests) finds it set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Before anything is bound: what is wrong with these is wrong with the configuration.
        let secrets = Secrets::load(&config.admin)?;
        let workers =
            config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let max_sessions = session_limit(config.max_sessions, workers, config.clusters.len())?;
        let (mut pools, mut patronis, mut rules) = (Vec::new(), Vec::new(), Vec::new());
        let names = Names::default();
        for (index, cluster) in config.clusters.iter().enumerate() {
            let of_cluster = bind_pools(index, cluster, workers)?;
            rules.push(of_cluster.iter().map(|bound| bound.rules.clone()).collect());
            pools.extend(of_cluster);
            // Clusters that are asked in the same way share a client: each holds all the system's authorities.
            let asked_alike = |other: &config::Cluster| {
                let how =
                    |patroni: &config::Patroni| (patroni.timeout, patroni.tls.clone(), patroni.auth.clone());
                how(&other.patroni) == how(&cluster.patroni)
            };
            let client: Option<&Patroni> =
                config.clusters[..index].iter().position(asked_alike).and_then(|first| patronis.get(first));
            patronis.push(client.cloned().map_or_else(|| patroni(cluster, &names), Ok)?);
        }
        let console = Console::bind(&config.admin, secrets)?;
        let (gate, certificates) = (Arc::clone(&console.gate), console.certificates.clone());
        let reload = console::reload(config.clone(), source, gate, certificates);
        Ok(App { config, workers, max_sessions, pools, console, reload, patronis, rules, names })
    }

    /// The IP addresses where each pool listens, by its name; the ports are the real ones.
    pub fn pool_addresses(&self) -> Vec<(String, Vec<SocketAddr>)> {
        let ip = |address: &ListenAddress| match address {
            ListenAddress::Ip(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        };
        let of_pool = |bound: &BoundPool| {
            (bound.pool.options.name.to_string(), bound.listen.iter().filter_map(ip).collect())
        };
        self.pools.iter().map(of_pool).collect()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.console.address
    }

    /// What a hangup does.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `stop` resolves, then drains; `hurry` ends the drain early. Runs control on this thread, in
    /// a tokio current-thread runtime; the admin side has its own.
    ///
    /// # Errors
    /// When threads cannot be made.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<Stopped, StartError> {
        let page = self.page();
        let App { config, workers, max_sessions, pools, console, reload, patronis, rules, names } = self;
        let (publisher, cell) = cell::cell(first_table(config.clusters.len()));
        let (inbox, events) = inbox();
        let trouble = {
            let inbox = inbox.clone();
            TellTrouble(Arc::new(move |trouble| inbox.trouble(trouble)))
        };
        let workers = Workers::start(WorkersOptions { count: workers, max_sessions }, &cell, &trouble)?;
        let followed: Vec<_> =
            Patroni::distinct(&patronis).map(|patroni| tokio::spawn(patroni.follow())).collect();
        let clusters = config.clusters.iter().zip(patronis.clone()).zip(rules);
        let clusters = clusters.map(|((cluster, patroni), pools)| ClusterOptions {
            steward: clusters::steward(cluster),
            patroni,
            pools,
        });
        let controller = Controller::start(clusters.collect(), &names, publisher, &inbox, events);
        let sources = Arc::new(Sources {
            pictures: controller.pictures(),
            pools: pools.iter().map(BoundPool::source).collect(),
            workers: Arc::new(workers),
            started: Instant::now(),
            started_at: SystemTime::now(),
            stopping: AtomicBool::new(false),
            inbox,
            gate: console.gate,
            certificates: console.certificates,
            patronis,
            reload,
            live: admin::Live::default(),
        });
        let end_admin = CancellationToken::new();
        // Whichever way this ends, the thread of the admin side does too.
        let _end_admin = end_admin.clone().drop_guard();
        let mut control = tokio::spawn(controller.run());
        let router = admin::routes::router(Arc::clone(&sources));
        let seen = !console.doors.is_empty() || console.runtime.is_some();
        let live = seen.then(|| admin::run(Arc::clone(&sources), console.runtime));
        let admin = admin::server::start(console.doors, router, live, end_admin.clone())?;
        announce(&pools, page, &config.admin);
        for (number, (pool, (socket, access))) in
            pools.into_iter().flat_map(BoundPool::into_sockets).enumerate()
        {
            sources.workers.listen(number, socket, access, pool);
        }
        tokio::select! {
            () = stop => {}
            // Routes would stay as they are for ever: better to be started anew, or to leave it to another balancer.
            _ = &mut control => return Err(StartError::ControlEnded),
        }
        let stopped = drain(&sources, config.drain_timeout, hurry).await;
        end_admin.cancel();
        control.abort();
        followed.iter().for_each(|following| following.abort());
        // The socket's file is gone by then.
        let _ = admin.join();
        Ok(stopped)
    }
}

impl App {
    fn page(&self) -> Option<String> {
        let scheme = if self.console.certificates.is_some() { "https" } else { "http" };
        self.admin_address().map(|address| format!("{scheme}://{address}/"))
    }
}

impl BoundPool {
    fn source(&self) -> PoolSource {
        PoolSource { pool: Arc::clone(&self.pool), listen: self.listen.clone() }
    }

    fn into_sockets(self) -> impl Iterator<Item = (Arc<Pool>, (Bound, Arc<Access>))> {
        let pool = self.pool;
        self.sockets.into_iter().map(move |socket| (Arc::clone(&pool), socket))
    }
}

/// No new connections; sessions finish for a while; what is left is cut and counted.
async fn drain(sources: &Sources, patience: Duration, hurry: impl Future<Output = ()>) -> Stopped {
    let workers = &sources.workers;
    sources.stopping.store(true, Relaxed);
    workers.stop_accepting();
    let open = workers.open_sessions();
    tracing::info!(
        sessions = open,
        patience_s = patience.as_secs_f64(),
        "stopping: no new connections are taken"
    );
    tokio::select! {
        () = workers.drained() => {}
        () = tokio::time::sleep(patience) => {}
        () = hurry => {}
    }
    let cut = workers.cut_all();
    // The tasks end with their next turn on their own threads.
    let _ = tokio::time::timeout(LAST_WORDS, workers.drained()).await;
    tracing::info!(finished = open.saturating_sub(cut), cut, "stopped");
    Stopped { cut }
}

fn announce(pools: &[BoundPool], page: Option<String>, admin: &config::Admin) {
    for bound in pools {
        let listen: Vec<String> = bound.listen.iter().map(ToString::to_string).collect();
        tracing::info!(pool = &*bound.pool.options.name, listen = listen.join(", "), "listening");
    }
    match page {
        Some(page) => tracing::info!(page, "listening"),
        None => tracing::info!("the admin page is off"),
    }
    let runtime = admin.haproxy_socket.as_ref().map(|socket| &socket.path);
    for socket in [admin.socket.as_ref(), runtime].into_iter().flatten() {
        tracing::info!(socket = %socket.display(), "listening");
    }
}

/// Raises the limit of open files as far as allowed, and derives how many sessions fit.
fn session_limit(wanted: Option<usize>, workers: usize, clusters: usize) -> Result<usize, StartError> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        // Going on with what there is.
        limit = getrlimit(Resource::Nofile);
    }
    let files = limit.current.unwrap_or(u64::MAX);
    let of_clusters = DESCRIPTORS_PER_CLUSTER * (clusters as u64).saturating_sub(FEW_CLUSTERS);
    let of_admin = ADMIN_DOORS * admin::server::MAX_CONNECTIONS as u64;
    let of_admin = of_admin + admin::haproxy::runtime::MAX_CONNECTIONS as u64;
    let reserved = RESERVED_DESCRIPTORS + of_admin + DESCRIPTORS_PER_WORKER * workers as u64 + of_clusters;
    let possible = files.saturating_sub(reserved) / DESCRIPTORS_PER_SESSION;
    let possible = usize::try_from(possible).unwrap_or(usize::MAX).clamp(1, MOST_SESSIONS);
    match wanted {
        Some(wanted) if wanted > possible => Err(StartError::Descriptors { wanted, limit: files, possible }),
        wanted => Ok(wanted.unwrap_or(possible)),
    }
}

fn bind_pools(
    cluster: usize,
    config: &config::Cluster,
    workers: usize,
) -> Result<Vec<BoundPool>, StartError> {
    clusters::pools(cluster, config, workers).into_iter().map(bind_pool).collect()
}

fn bind_pool(Plan { options, listen, rules }: Plan) -> Result<BoundPool, StartError> {
    let what = format!("pool {}", options.name);
    let bind = |listen: &config::Listen| {
        let options = transport::listen_options(listen, options.tcp);
        match listener::bind(&options) {
            Ok(bound) => Ok((bound, Arc::new(transport::access(listen)))),
            Err(error) => Err(unbound(&what, options.address, error)),
        }
    };
    let sockets: Vec<(Bound, Arc<Access>)> = listen.iter().map(bind).collect::<Result<_, _>>()?;
    let listen = sockets.iter().map(|(bound, _)| bound.address.clone()).collect();
    let pool = Arc::new(Pool::new(options, Arc::clone(&rules.stats)));
    Ok(BoundPool { pool, rules, sockets, listen })
}

fn unbound(what: &str, address: ListenAddress, error: io::Error) -> StartError {
    let hint = match (error.kind(), &address) {
        (io::ErrorKind::AddrInUse, ListenAddress::Ip(_)) => {
            "; another process has it (see: ss -ltnp), or choose another port"
        }
        (io::ErrorKind::AddrInUse, ListenAddress::Unix(_)) => "; another process has it (see: ss -lxp)",
        (io::ErrorKind::AddrNotAvailable, _) => {
            "; this host does not have that address (free_bind: true does not mind)"
        }
        (io::ErrorKind::PermissionDenied, ListenAddress::Ip(_)) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE"
        }
        (io::ErrorKind::NotFound, _) => "; is its directory there?",
        _ => "",
    };
    StartError::Bind { what: what.to_owned(), address, error, hint }
}

fn patroni(cluster: &config::Cluster, names: &Names) -> Result<Patroni, StartError> {
    let of = cluster.name.clone().unwrap_or_else(|| "without a name".to_owned());
    let options =
        clusters::patroni(&cluster.patroni, &of).and_then(|options| Patroni::new(options, names.clone()));
    options.map_err(|problem| StartError::Tls { cluster: of, problem })
}
