//! What people and programs see: the page, the API, the metrics, and whether this process is alive and ready.
//!
//! Everything is read from pictures and counters at the moment somebody asks; nothing here is on the way of a
//! session. [`view`] says what is shown and is shared by all forms; [`dashboard`] and [`metrics`] only draw it.

pub mod dashboard;
pub mod metrics;
pub mod routes;
pub mod server;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use crate::control::Pictures;
use crate::proxy::{Pool, Workers};

/// Where the admin side reads from.
#[derive(Debug)]
pub struct Sources {
    pub pictures: Pictures,
    pub pools: Vec<PoolSource>,
    pub workers: Arc<Workers>,
    pub started: Instant,
    pub started_at: SystemTime,
    /// Set when the process has been told to stop.
    pub stopping: AtomicBool,
}

/// A pool and where it listens.
#[derive(Debug)]
pub struct PoolSource {
    pub pool: Arc<Pool>,
    pub listen: Vec<SocketAddr>,
}
