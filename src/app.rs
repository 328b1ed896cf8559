//! The composition root: the only place that knows all parts.
//!
//! [`App::prepare`] binds everything and builds what cannot fail later; a process that gets past it serves.
//! [`App::run`] starts the parts, waits for the word to stop, and drains.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::bind::{Before, Prepared};
use self::console::{Console, Secrets};
use self::handover::{Formers, Inherited, Predecessor, Start};
use self::reload::{Context, Running, Slot};
use self::upgrades::Upgrades;
use crate::admin::actions::Reload;
use crate::admin::server::Ends;
use crate::admin::upgrade::{PastUpgrades, Upgrade};
use crate::admin::{self, Serving, Sources};
use crate::config::{Config, Problems};
use crate::control::{Controller, Names, inbox};
use crate::proxy::listener::{Bound, ListenAddress};
use crate::proxy::{TellTrouble, Workers, WorkersOptions};
use crate::routing::{Table, cell};
use crate::stats::Part;

mod bind;
mod clusters;
mod console;
mod followed;
pub mod handover;
mod manager;
mod open_files;
mod plan;
mod reload;
mod served;
mod standing;
mod transport;
mod upgrades;
mod watchdog;

/// Reads the configuration once more.
pub type Source = Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

pub use crate::control::tls_in_words;
/// The target of log lines that are whole lines of HAProxy's `option tcplog`.
pub use crate::proxy::tcplog::TARGET as TCPLOG;
pub use manager::Manager;
pub use open_files::raise as raise_open_files;
pub use reload::counts_at_start_only;
pub use upgrades::pass_on_reload;

/// The line for the service manager is made no more often than this.
const STANDING_APART: Duration = Duration::from_millis(500);
/// After a stop has cut what was left, how long the tasks may take to notice.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the process cannot start: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what} cannot listen on {address}: {error}{hint}")]
    Bind { what: String, address: ListenAddress, error: io::Error, hint: Cow<'static, str> },
    #[error(
        "max_sessions is {wanted}, but {limit} open files allow {possible} sessions; raise the limit (LimitNOFILE=, ulimit -n) or lower max_sessions"
    )]
    Descriptors { wanted: usize, limit: u64, possible: usize },
    #[error("{0}")]
    Users(String),
    #[error("admin.tls: {0}")]
    Certificate(String),
    #[error("cluster {cluster}: {problem}")]
    Tls { cluster: String, problem: String },
    #[error(
        "a limit of {limit} open files is too low for any session; raise it (LimitNOFILE=, ulimit -n) to {least} and more"
    )]
    FewFiles { limit: u64, least: u64 },
    #[error(
        "a thread or its event loop cannot be made: {0}; raise the limit of open files (LimitNOFILE=, ulimit -n) or of threads (TasksMax=, ulimit -u)"
    )]
    System(#[from] io::Error),
    #[error("the process before this one goes on: {0}")]
    Predecessor(String),
    #[error("the control plane has failed; see the error before this line")]
    ControlEnded,
    #[error(
        "control has not taken it over: pilotfish itself has a fault, which its log tells of, or the process ends"
    )]
    NotTakenOver,
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
    prepared: Prepared,
    workers: usize,
    names: Names,
    slot: Slot,
    reload: Reload,
    upgrade: Upgrade,
    upgrades: Upgrades,
    predecessor: Option<Predecessor>,
    /// What the configuration does not name.
    inherited: Inherited,
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
        App::start(config, source, Start::default())
    }

    /// The same for a process that was given something to begin with: sockets that are there are not bound.
    ///
    /// # Errors
    /// As [`App::prepare`].
    pub fn start(config: Config, source: Option<Source>, start: Start) -> Result<App, StartError> {
        let Start { mut inherited, predecessor, launch } = start;
        // Set once in a process; a second App in one process (tests) finds it set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let workers =
            config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let names = Names::default();
        let prepared = Prepared::new(config, workers, &names, Before::Start(&mut inherited))?;
        let slot = Slot::default();
        let reload = slot.reload(source);
        let past = predecessor.as_ref().map_or_else(PastUpgrades::default, Predecessor::past);
        let (upgrade, requests) = Upgrade::new(past);
        let upgrades = Upgrades { requests, launch, formers: Formers::new(upgrade.clone()) };
        Ok(App { prepared, workers, names, slot, reload, upgrade, upgrades, predecessor, inherited })
    }

    /// The IP addresses where each pool listens, by its name; the ports are the real ones.
    pub fn pool_addresses(&self) -> Vec<(String, Vec<SocketAddr>)> {
        let mut pools: Vec<(usize, String, Vec<SocketAddr>)> = Vec::new();
        for ((place, name, _), bound) in plan::addresses(&self.prepared.config).zip(&self.prepared.sockets) {
            let Some(Bound { address: ListenAddress::Ip(address), .. }) = bound else { continue };
            match pools.iter_mut().find(|(known, pool, _)| (*known, &**pool) == (place, name)) {
                Some((.., addresses)) => addresses.push(*address),
                None => pools.push((place, name.to_owned(), vec![*address])),
            }
        }
        pools.into_iter().map(|(_, pool, addresses)| (pool, addresses)).collect()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.prepared.entrances.address()
    }

    /// What a hangup does.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Puts another process in the place of this one.
    pub fn upgrade(&self) -> Upgrade {
        self.upgrade.clone()
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
        let mut stop = pin!(stop);
        let App { prepared, workers: count, names, slot, reload, upgrade, mut upgrades, .. } = self;
        let (publisher, cell) = cell::cell(Table::default());
        let (inbox, events) = inbox();
        let trouble = {
            let inbox = inbox.clone();
            TellTrouble(Arc::new(move |trouble| inbox.trouble(trouble)))
        };
        let panics = inbox.panics.clone();
        let options = WorkersOptions { count, max_sessions: prepared.max_sessions, panics: panics.clone() };
        let workers = Workers::start(options, &cell, &trouble)?;
        let controller = Controller::start(Vec::new(), &names, publisher, &inbox, events);
        let console = Console::new();
        let sources = Arc::new(Sources {
            pictures: controller.pictures(),
            served: Serving::default(),
            workers: Arc::new(workers),
            started: Instant::now(),
            started_at: SystemTime::now(),
            stopping: AtomicBool::new(false),
            inbox,
            gate: Arc::clone(&console.gate),
            reload,
            upgrade,
            live: admin::Live::default(),
        });
        let end_admin = CancellationToken::new();
        // Whichever way this ends, the thread of the admin side does too.
        let _end_admin = end_admin.clone().drop_guard();
        let mut control = tokio::spawn(controller.run());
        let router = admin::routes::router(Arc::clone(&sources));
        let work = admin::run(Arc::clone(&sources));
        let (doors, admin) = admin::server::start(router, work, end_admin.clone(), panics.clone())?;
        let patience = Patience::default();
        let ends = doors.ends();
        let sources_of = Arc::downgrade(&sources);
        let (control_of, drain_timeout) = (Handle::current(), patience.clone());
        let context =
            Context { sources: sources_of, doors, names, workers: count, control: control_of, drain_timeout };
        let running = Running::new(context, console);
        let past = Past::new(self.predecessor, self.inherited, &upgrades);
        let begun = begin(prepared, running, slot.clone(), &sources, past, stop.as_mut()).await?;
        if begun == Begun::Never {
            return Ok(Stopped { cut: 0 });
        }
        let stop = pin!(async {
            if begun == Begun::Serves {
                stop.await;
            }
        });
        let sweeping = tokio::spawn(slot.clone().sweep(panics));
        let ended = tokio::select! {
            ended = serve(&sources, &slot, &mut upgrades, &ends, &patience, stop, hurry) => ended,
            // Routes would stay as they are for ever: better to be started anew, or to leave it to another balancer.
            _ = &mut control => return Err(StartError::ControlEnded),
        };
        end_admin.cancel();
        sweeping.abort();
        control.abort();
        // The socket's file is gone by then, or another process's.
        let _ = admin.join();
        Ok(ended)
    }
}

/// How long a drain lasts, in milliseconds; a reload may change it.
type Patience = Arc<AtomicU64>;

/// How a process has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Serves,
    /// It serves, and a stop came meanwhile.
    Stopped,
    /// A stop came first, and the process whose place it was to take goes on.
    Never,
}

/// What there was before this process.
struct Past {
    predecessor: Option<Predecessor>,
    inherited: Inherited,
    formers: Formers,
}

impl Past {
    fn new(predecessor: Option<Predecessor>, inherited: Inherited, upgrades: &Upgrades) -> Past {
        Past { predecessor, inherited, formers: upgrades.formers.clone() }
    }
}

/// Serves the first configuration. In the place of another process, as soon as that one has let go of its clients to come.
async fn begin(
    prepared: Prepared,
    running: Running,
    slot: Slot,
    sources: &Arc<Sources>,
    Past { mut predecessor, inherited, formers }: Past,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Begun, StartError> {
    let sources = Arc::clone(sources);
    let word = predecessor.as_ref().map(Predecessor::word);
    // It waits for control, which runs on this thread.
    let mut begin = tokio::task::spawn_blocking(move || {
        slot.begin(running, prepared, &sources, predecessor.as_mut())?;
        if let Some(predecessor) = predecessor {
            predecessor.succeed(&formers);
        }
        inherited.let_go();
        Ok(())
    });
    tokio::select! {
        begun = &mut begin => return begun.map_err(io::Error::other)?.map(|()| Begun::Serves),
        () = stop => {}
    }
    if word.is_some_and(|word| word.withdraw()) {
        return Ok(Begun::Never);
    }
    // Too late for that, or it takes a moment only: whoever was accepted is served.
    begin.await.map_err(io::Error::other)?.map(|()| Begun::Stopped)
}

/// Until the last session has gone: after a stop, or in the shadow of another process.
async fn serve(
    sources: &Arc<Sources>,
    slot: &Slot,
    upgrades: &mut Upgrades,
    ends: &Ends,
    patience: &Patience,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    hurry: impl Future<Output = ()>,
) -> Stopped {
    let manager = Manager::from_environment();
    manager.ready();
    let told = AbortOnDropHandle::new(tokio::spawn(keep_telling(manager, Arc::clone(sources))));
    let upgraded = tokio::select! {
        () = &mut stop => None,
        upgraded = upgrades.next(slot, sources) => Some(upgraded),
    };
    drop(told);
    let patience = Duration::from_millis(patience.load(Relaxed));
    match upgraded {
        Some(upgraded) => {
            upgrades.requests.close();
            upgrades.formers.leave();
            let drain = upgraded.hand_over(slot, sources, ends.clone(), patience).await;
            drain.run(sources, stop, hurry).await
        }
        None => {
            upgrades.formers.part();
            manager.stopping(patience, sources.workers.open_sessions());
            drain(sources, patience, hurry).await
        }
    }
}

/// Tells the service manager how the clusters stand, and that this process is alive, for as long as it runs.
async fn keep_telling(manager: Manager, sources: Arc<Sources>) {
    let alive = async || {
        if let Some(patience) = manager.patience() {
            watchdog::run(manager, patience, &sources.workers, &sources.inbox).await;
        }
    };
    let standing = async || {
        if manager.is_there() {
            tell_standing(manager, &sources).await;
        }
    };
    let panics = &sources.inbox.panics;
    tokio::join!(panics.again(Part::Control, alive), panics.again(Part::Control, standing));
}

/// Until a stop, which has its own words.
async fn tell_standing(manager: Manager, sources: &Sources) {
    let (mut changes, mut told) = (sources.pictures.follow(), String::new());
    while !sources.stopping.load(Relaxed) {
        let line = standing::line(&sources.pictures);
        if line != told {
            manager.status(&line);
            told = line;
        }
        // Pictures of a thousand clusters change a thousand times a second.
        tokio::time::sleep(STANDING_APART).await;
        if changes.changed().await.is_err() {
            return;
        }
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
    cut(sources, open).await
}

/// What is left of `open` sessions ends now.
async fn cut(sources: &Sources, open: usize) -> Stopped {
    let workers = &sources.workers;
    let cut = workers.cut_all();
    // The tasks end with their next turn on their own threads.
    let _ = tokio::time::timeout(LAST_WORDS, workers.drained()).await;
    tracing::info!(finished = open.saturating_sub(cut), cut, "stopped");
    Stopped { cut }
}
