//! What people and programs see: the page, the API, the metrics, and whether this process is alive and ready.
//!
//! Everything is read from pictures and counters at the moment somebody asks; nothing here is on the way of a
//! session. [`view`] says what is shown and is shared by all forms; [`dashboard`] and [`metrics`] only draw it. Two
//! things go on by themselves: [`sampler`] keeps a short [`history`], and [`stream`] draws for open pages.
//!
//! [`server`] runs on a thread of its own, [`guard`] lets in who may come in, and [`actions`] are all that can be
//! changed from outside.

pub mod actions;
pub mod auth;
pub mod caller;
pub mod changes;
pub mod dashboard;
pub mod drawings;
pub mod figures;
pub mod findings;
pub mod flow;
pub mod guard;
pub mod haproxy;
pub mod headline;
pub mod history;
pub mod hosts;
pub mod incidents;
pub mod listing;
pub mod metrics;
pub mod panics;
pub mod past;
pub mod places;
pub mod policy;
pub mod pools;
pub mod readiness;
pub mod refusal;
pub mod ring;
pub mod routes;
pub mod sampler;
pub mod secret;
pub mod server;
pub mod spark;
pub mod stream;
pub mod throttle;
pub mod tls;
mod turns;
pub mod upgrade;
pub mod usage;
pub mod view;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::control::{Inbox, Patroni, Pictures};
use crate::proxy::listener::ListenAddress;
use crate::proxy::{Pool, Workers};
use crate::routing::ClusterId;
use crate::stats::Part;

/// Where the admin side reads from.
#[derive(Debug)]
pub struct Sources {
    pub pictures: Pictures,
    /// What the configuration names now.
    pub served: Serving,
    pub workers: Arc<Workers>,
    pub started: Instant,
    pub started_at: SystemTime,
    /// Set when the process has been told to stop.
    pub stopping: AtomicBool,
    /// Where operators' wishes go.
    pub inbox: Inbox,
    pub gate: Arc<auth::Gate>,
    pub reload: actions::Reload,
    pub upgrade: upgrade::Upgrade,
    pub live: Live,
}

/// What is served now, replaced as a whole when the configuration changes.
#[derive(Debug, Default)]
pub struct Serving(Mutex<Arc<Served>>);

#[derive(Debug, Default)]
pub struct Served {
    /// In the order of the configuration.
    pub pools: Vec<PoolSource>,
    /// By which each cluster is asked.
    pub patronis: HashMap<ClusterId, Patroni>,
    /// Taken out by a reload; somebody may still be there.
    pub leaving: Vec<LeavingPool>,
    pub certificates: Option<Arc<tls::Certificates>>,
}

impl Serving {
    pub fn new(served: Served) -> Serving {
        Serving(Mutex::new(Arc::new(served)))
    }

    pub fn load(&self) -> Arc<Served> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, served: Served) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }
}

impl PoolSource {
    /// By which it is known from one look to the next.
    pub fn key(&self) -> PoolKey {
        (self.pool.options.cluster, Arc::clone(&self.pool.options.name))
    }
}

/// A pool's cluster and its name.
pub type PoolKey = (ClusterId, Arc<str>);

/// What goes on by itself while somebody may look.
#[derive(Debug, Default)]
pub struct Live {
    pub history: Mutex<history::History>,
    pub hub: stream::Hub,
    pub haproxy: haproxy::Views,
    pub drawings: drawings::Drawings,
}

/// Keeps the history and feeds the open pages until it is dropped.
pub async fn run(sources: Arc<Sources>) {
    let panics = &sources.inbox.panics;
    tokio::join!(
        panics.again(Part::Admin, || sampler::run(&sources)),
        panics.again(Part::Admin, || stream::run(&sources)),
    );
}

/// A pool that takes no new sessions.
#[derive(Debug)]
pub struct LeavingPool {
    /// Its cluster's name, as it was when it was served.
    pub cluster: String,
    pub pool: Arc<Pool>,
    /// What is open then is cut.
    pub until: Instant,
}

/// A pool and where it listens.
#[derive(Debug)]
pub struct PoolSource {
    pub pool: Arc<Pool>,
    pub listen: Vec<ListenAddress>,
}
