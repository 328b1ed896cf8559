//! What is served now, and how that becomes something else while sessions run.
//!
//! A change has two halves. [`Prepared`] reads, checks and binds everything new: whatever can fail is there, and until it is
//! whole nothing has changed. Then [`Running::commit`] changes over: first the table, so that new pools lead somewhere; then
//! the sockets, which stay open with whoever waits in the kernel and only get another pool; then the admin side. A start is
//! the same change, from nothing.
//!
//! Sessions keep the pool that they began with. What is not wished any more drains: it takes nobody new, its cluster is
//! still watched, and after `drain_timeout` what is left is cut.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use self::overlap::Sockets;
use super::bind::{Before, Prepared};
use super::console::{CLOSING, Console, permit};
use super::followed::Followed;
use super::handover::{Estate, OperatedCluster, PassedSocket, Predecessor};
use super::plan::{Known, Plan, addresses};
use super::served::Served;
use super::{Source, StartError, transport};
use crate::admin::actions::{NotReloaded, Rejected, Reload, Reloaded};
use crate::admin::server::Doors;
use crate::admin::{self, PoolSource, Sources};
use crate::config::{self, Config};
use crate::control::{Names, Reconfiguration};
use crate::proxy::listener::{Listening, Service, Watched};
use crate::stats::{Panics, Part};

mod arrangement;
mod overlap;

/// How often it is looked who has gone.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Keys that are read once: threads cannot be taken from the sessions that live on them, and the log is the process's.
const AT_START_ONLY: [&str; 2] = ["workers", "log"];

/// Whether a reload cannot apply this key of the configuration, such as `log.format`.
pub fn counts_at_start_only(key: &str) -> bool {
    let is_below = |rest: &str| !rest.starts_with(char::is_alphanumeric);
    AT_START_ONLY.iter().any(|only| key.strip_prefix(only).is_some_and(is_below))
}

/// Everything that runs by the configuration.
#[derive(Debug)]
pub(super) struct Running {
    pub config: Config,
    clusters: Vec<Served>,
    /// Not in the configuration any more, but they still have sessions.
    leaving: Vec<Served>,
    sockets: Vec<(config::ListenAddress, Listening)>,
    /// Nobody comes to these any more, but somebody may be on the way until then.
    hidden: Vec<(Instant, Listening)>,
    console: Console,
    /// Another process takes this one's place, or has taken it.
    upgrading: bool,
    followed: Followed,
    next_id: u32,
    context: Context,
}

/// What a change works on.
#[derive(Debug)]
pub(super) struct Context {
    /// Weak: it holds the reload.
    pub sources: Weak<Sources>,
    pub doors: Doors,
    pub names: Names,
    pub workers: usize,
    /// Where the files for Patroni are followed.
    pub control: Handle,
    pub drain_timeout: Arc<AtomicU64>,
}

/// Where the running configuration is, once it runs. One change at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Running>>>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the first configuration. Whoever asks for a reload meanwhile waits for it. Blocks, as [`Running::commit`].
    pub fn begin(
        &self,
        mut running: Running,
        prepared: Prepared,
        sources: &Arc<Sources>,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<(), StartError> {
        let mut slot = self.lock();
        running.commit(prepared, sources, predecessor)?;
        *slot = Some(running);
        Ok(())
    }

    /// Reads the configuration anew and puts it into effect. Blocks.
    pub fn reload(&self, source: Option<Source>) -> Reload {
        let slot = self.clone();
        Reload::new(move || {
            let Some(source) = &source else {
                return rejected("this process has no file to read its configuration from; restart it");
            };
            // Before the source is read: of two reloads at one time, the one that has read the older state must not come
            // last.
            let mut running = slot.lock();
            let Some(running) = running.as_mut() else {
                return Err(NotReloaded::Busy("the process is only just starting; try again in a moment"));
            };
            if running.upgrading {
                return Err(NotReloaded::Busy(
                    "another process takes the place of this one; try again when it has",
                ));
            }
            let next = source().map_err(|problems| Rejected {
                problems: problems.to_string().lines().map(str::to_owned).collect(),
            })?;
            running.change(next)
        })
    }

    /// Works on what runs; `None`: it is only just starting.
    pub fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.lock().as_mut().map(work)
    }

    /// Lets go of what has drained, for ever.
    pub async fn sweep(self, panics: Panics) {
        panics.again(Part::Control, || self.go_on_sweeping()).await
    }

    async fn go_on_sweeping(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            // A change under way may wait for this thread; it sweeps too.
            let mut running = match self.0.try_lock() {
                Ok(running) => running,
                // A change before has panicked; what it has not come to is as it was.
                Err(TryLockError::Poisoned(running)) => running.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            running.as_mut().into_iter().for_each(|running| running.sweep(Instant::now()));
        }
    }
}

impl Running {
    pub fn new(context: Context, console: Console) -> Running {
        Running {
            config: Config::of(Vec::new()),
            clusters: Vec::new(),
            leaving: Vec::new(),
            sockets: Vec::new(),
            hidden: Vec::new(),
            console,
            upgrading: false,
            followed: Followed::default(),
            next_id: 0,
            context,
        }
    }

    /// All clusters that somebody may have a session with.
    pub fn served(&self) -> impl Iterator<Item = &Served> {
        self.clusters.iter().chain(&self.leaving)
    }

    /// What of this configuration is there already.
    pub fn plan(&self, next: &Config) -> Plan {
        let sources = self.context.sources.upgrade();
        let picture = |id| sources.as_ref().and_then(|sources| sources.pictures.one(id));
        let known: Vec<Known> =
            self.served().map(|served| served.known(picture(served.id).as_deref())).collect();
        let listening = self.sockets.iter().map(|(address, listening)| {
            let is_reachable = listening.share.is_reachable();
            is_reachable.then(|| address.clone())
        });
        let listening: Vec<_> = listening.collect();
        Plan::new(&known, &listening, next)
    }

    /// The doors of the admin side that somebody can come to.
    pub fn doors(&self) -> config::Admin {
        self.console.reachable(&self.config.admin)
    }

    fn change(&mut self, next: Config) -> Result<Reloaded, NotReloaded> {
        let Some(sources) = self.context.sources.upgrade() else {
            return Err(NotReloaded::Busy("the process ends"));
        };
        let exposed = self.config.admin.listen.filter(|address| !address.ip().is_loopback());
        if let (Some(address), true) = (exposed, next.admin.users.is_empty()) {
            // Whoever is connected there stays for a while, and would not have to log in any more.
            return rejected(&format!(
                "admin.users is empty, while the running process listens on {address}, where anybody could come in; \
                 let it listen on loopback by a first reload, and take the users away by a second"
            ));
        }
        let Context { workers, names, .. } = &self.context;
        let prepared = Prepared::new(next, *workers, names, Before::Running(self));
        let prepared = prepared.or_else(|error| rejected(&error.to_string()))?;
        let differences = self.config.differences(&prepared.config);
        let (needs_restart, mut applied): (Vec<String>, Vec<String>) =
            differences.into_iter().partition(|key| counts_at_start_only(key));
        let admitted = self.commit(prepared, &sources, None).or_else(|error| rejected(&error.to_string()))?;
        for key in admitted {
            if !applied.iter().any(|known| known.starts_with(key)) {
                applied.push(key.to_owned());
            }
        }
        applied.sort();
        Ok(Reloaded { applied, needs_restart })
    }

    /// Changes over. Blocks until control has taken it over; not for async code.
    ///
    /// # Errors
    /// When the system lets nobody listen on or watch a new socket, or control has a fault: nothing has changed then. Or the predecessor
    /// goes on.
    pub fn commit(
        &mut self,
        prepared: Prepared,
        sources: &Arc<Sources>,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<Vec<&'static str>, StartError> {
        let Prepared { config, plan, max_sessions, secrets, patronis, sockets, entrances } = prepared;
        let is_start = self.config.clusters.is_empty();
        let doors = self.console.ready(entrances, &self.context.doors)?;
        let listening = self.listening(&plan, &sockets);
        let mut sockets = Sockets::new(sockets, &sources.workers)?;
        let mut next = self.arrange(&config, &plan, patronis);
        let shown = next.changes.shown.clone();
        next.changes.listening = Some(listening);
        if let Some(predecessor) = &predecessor {
            next.changes.wishes = predecessor.wishes(&config, &shown);
        }
        self.settle(next, &sources.inbox, || sockets.listen(&sources.workers))?;
        if let Some(predecessor) = predecessor {
            // Nobody is accepted before that.
            self.context.control.block_on(predecessor.settle(&config, &shown, sources))?;
            predecessor.ask()?;
        }
        sources.workers.set_max_sessions(max_sessions);
        let pools = self.listen(&config, plan, sockets.watched, sources);
        let admitted = self.console.admit(&config.admin, secrets);
        let patronis = self.clusters.iter().map(|served| (served.id, served.patroni.clone())).collect();
        let certificates = self.console.certificates();
        let name = |served: &Served| {
            let name = sources.pictures.one(served.id).map(|picture| picture.name.to_string());
            name.or_else(|| served.config.name.clone()).unwrap_or_default()
        };
        let leaving = self.served().flat_map(|served| served.leaving_pools(name(served))).collect();
        sources.served.replace(admin::Served { pools, patronis, certificates, leaving });
        self.console.open(&config.admin, doors, &self.context.doors, sources);
        self.follow_files();
        let timeout = u64::try_from(config.drain_timeout.as_millis()).unwrap_or(u64::MAX);
        self.context.drain_timeout.store(timeout, Relaxed);
        let Config { workers, log, .. } = std::mem::replace(&mut self.config, config);
        if !is_start {
            // They are as they were at the start.
            (self.config.workers, self.config.log) = (workers, log);
        }
        sources.live.drawings.forget();
        Ok(admitted)
    }

    /// Every address gets its pool; those that are not wished any more are closed.
    fn listen(
        &mut self,
        config: &Config,
        plan: Plan,
        watched: Vec<Option<Watched>>,
        sources: &Sources,
    ) -> Vec<PoolSource> {
        let former = std::mem::take(&mut self.sockets).into_iter().map(|(_, listening)| Some(listening));
        let mut former: Vec<Option<Listening>> = former.collect();
        let mut listens: HashMap<(usize, String), Vec<_>> = HashMap::new();
        for (((place, name, listen), kept), watched) in addresses(config).zip(plan.sockets).zip(watched) {
            let Some(pool) = self.clusters[place].pool(name) else { continue };
            let access = Arc::new(transport::access(listen));
            let service = Service { pool: Arc::clone(&pool.pool), access };
            let listening = match (kept.and_then(|place| former[place].take()), watched) {
                (Some(listening), _) => {
                    listening.serve(service);
                    listening
                }
                (None, Some(watched)) => {
                    tracing::info!(pool = name, listen = watched.address.to_string(), "listening");
                    sources.workers.listen(watched, service)
                }
                (None, None) => continue,
            };
            if let config::ListenAddress::Unix(path) = &listen.address {
                permit(path, listen.file_mode(listening.share.has_file()));
            }
            listens.entry((place, name.to_owned())).or_default().push(listening.address.clone());
            self.sockets.push((listen.address.clone(), listening));
        }
        let gone = former.into_iter().flatten().filter_map(|listening| self.retire(listening, config));
        Listening::close_all(gone, CLOSING);
        let mut pools = Vec::new();
        for (place, served) in self.clusters.iter().enumerate() {
            for pool in &served.pools {
                let listen = listens.remove(&(place, pool.pool.options.name.to_string())).unwrap_or_default();
                pools.push(PoolSource { pool: Arc::clone(&pool.pool), listen });
            }
        }
        pools
    }

    /// What another process needs to take this one's place, with the sockets in the order in which they are told. No reload
    /// until then.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pass_on(&mut self, sources: &Sources) -> io::Result<(Vec<OwnedFd>, Estate)> {
        let mut estate = Estate { pid: std::process::id(), ..Estate::default() };
        let mut sockets = Vec::new();
        let pools = self.sockets.iter().zip(addresses(&self.config));
        let pools = pools.map(|((address, listening), (place, pool, _))| {
            let picture = sources.pictures.one(self.clusters[place].id);
            let routes = picture.as_ref().and_then(|picture| picture.routes.pool(pool));
            (transport::address(address), &listening.share, admin::pools::routable(routes).0)
        });
        let doors = self.console.shares(&self.config.admin);
        let doors = doors.map(|(address, share)| (address, share, Vec::new()));
        // Where nobody can come to a socket any more, the next process binds one.
        for (address, share, routable) in pools.chain(doors).filter(|(_, share, _)| share.is_reachable()) {
            if let Some(socket) = share.duplicate()? {
                sockets.push(socket);
                let (address, has_file) = (address.to_string(), share.has_file());
                estate.sockets.push(PassedSocket { address, has_file, routable });
            }
        }
        estate.clusters = self.clusters.iter().map(|served| operated(served, sources)).collect();
        self.upgrading = true;
        Ok((sockets, estate))
    }

    /// Goes on as if nothing had been.
    pub fn keep(&mut self) {
        self.upgrading = false;
    }

    /// Another process accepts: accepts whoever the kernel has taken already, closes all sockets, and leaves the files of unix
    /// sockets to that process. Blocks for a moment.
    pub fn hand_over(&mut self, sources: &Sources) {
        self.close_hidden();
        let sockets = self.sockets.drain(..).map(|(_, listening)| listening);
        Listening::close_all(sockets.inspect(|listening| listening.share.leave_file()), CLOSING);
        sources.workers.hand_over();
        self.console.hand_over();
    }

    fn follow_files(&mut self) {
        let patronis = self.clusters.iter().chain(&self.leaving).map(|served| served.patroni.clone());
        self.followed.follow(&self.context.control, patronis.collect());
    }

    /// Lets go of pools and clusters that nobody is at any more, and cuts who is there too long.
    fn sweep(&mut self, now: Instant) {
        self.sweep_hidden(now);
        if self.served().all(|served| served.leaving.is_empty() && !served.is_news) {
            return;
        }
        let Some(sources) = self.context.sources.upgrade() else { return };
        let mut changes = Reconfiguration::default();
        changes.shown.extend(self.clusters.iter().map(|served| served.id));
        for served in self.clusters.iter_mut().chain(&mut self.leaving) {
            let before = served.leaving.len();
            served.leaving.retain_mut(|leaving| !leaving.has_gone(now, &sources.workers));
            served.is_news |= served.leaving.len() < before;
            match (served.is_news, served.has_drained()) {
                (false, _) => {}
                (true, true) => changes.forget.push(served.id),
                (true, false) => changes.serve.push((served.id, served.options())),
            }
        }
        if (changes.serve.is_empty() && changes.forget.is_empty()) || !sources.inbox.try_reconfigure(changes)
        {
            // Next time.
            return;
        }
        self.clusters.iter_mut().chain(&mut self.leaving).for_each(|served| served.is_news = false);
        for gone in self.leaving.iter().filter(|served| served.has_drained()) {
            tracing::info!(cluster = gone.config.name, id = gone.id.0, "a cluster that went has drained");
        }
        self.leaving.retain(|served| !served.has_drained());
        self.follow_files();
    }
}

/// Which members an operator has taken out, for a process that is to know as much.
fn operated(served: &Served, sources: &Sources) -> OperatedCluster {
    let picture = sources.pictures.one(served.id);
    let Known { name, nodes, .. } = served.known(picture.as_deref());
    let wishes = picture.iter().flat_map(|picture| &picture.wishes);
    let operators = wishes.map(|(member, wish)| (member.clone(), wish.as_str().to_owned()));
    OperatedCluster { name, nodes: nodes.into_iter().collect(), operators: operators.collect() }
}

fn rejected<T>(problem: &str) -> Result<T, NotReloaded> {
    Err(Rejected { problems: vec![problem.to_owned()] }.into())
}

#[cfg(test)]
mod tests;
