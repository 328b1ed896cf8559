//! The configuration: YAML text in, a typed [`Config`] out, or every problem at once.
//!
//! The way in is `raw` (text to a tree of numbered values), `env` (`${VAR}` filled in), `node` (a value that knows
//! its path and takes complaints) and `read` (the keys, their types and the rules between them). Reading never stops
//! at a problem: it notes it, takes the default and goes on, so one run shows all there is to mend. Only then are
//! line and column looked up. What comes out of here has been checked as a whole; no one after this has to ask again.
//!
//! Knows nothing of sockets, Patroni's answers or the runtime. [`Config::parse`] takes the environment as an argument,
//! and looks at no file but those that `tls` and `users` name, whether they can be read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::file;

mod admin;
mod changes;
mod claims;
mod complaints;
mod endpoint;
mod env;
pub(crate) mod limits;
mod listen;
mod node;
mod pools;
mod problem;
mod raw;
mod read;
mod runtime_socket;
mod show;
mod syntax;
mod transport;
mod value;
mod word;

pub use admin::{Admin, AdminTls, Role, Secret, User};
pub(crate) use claims::overlap;
pub(crate) use endpoint::host_name;
pub use endpoint::{Endpoint, Scheme};
pub use listen::{Listen, ListenAddress, Network};
pub use pools::{
    Balance, Fallback, Fate, Limits, OpenSessions, Primary, Replicas, Require, SendProxy, SyncState,
};
pub use problem::{Problem, Problems};
pub use runtime_socket::{RuntimeSocket, SocketLevel};
pub(crate) use show::quoted;
pub use transport::{IdleTimeouts, Keepalive, Tcp};
pub(crate) use value::show_duration;
pub use word::{Word, distance, similar};

/// Where `pilotfish run` looks when it is told nothing.
pub const DEFAULT_PATH: &str = "/etc/pilotfish/config.yaml";

/// All that pilotfish is told. Valid as a whole: names, addresses and endpoints do not collide.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The Patroni clusters served, at least one.
    pub clusters: Vec<Cluster>,
    pub admin: Admin,
    /// Threads that relay, 1 to 1024. `None` (`auto`): one for each CPU.
    pub workers: Option<usize>,
    /// Sessions at one time over all pools, 1 to 10 million. `None` (`auto`): what the limit of open files allows.
    pub max_sessions: Option<usize>,
    /// How long a stop waits for open sessions, up to 1 day; 0 cuts them at once. Default 30 s.
    pub drain_timeout: Duration,
    /// How long a new process may take to get ready in the place of this one, 100 ms to 4 min. Default 30 s.
    pub upgrade_timeout: Duration,
    pub log: Log,
}

/// One Patroni cluster and the pools that lead to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The name in metrics, views and URLs. `None`: the scope that Patroni itself tells.
    pub name: Option<String>,
    pub patroni: Patroni,
    /// Sessions to the writer. `None` (`off`): no such pool.
    pub primary: Option<Primary>,
    /// Sessions to the readers: a pool for each kind of readers. Empty (`off`): no such pool.
    pub replicas: Vec<Replicas>,
    /// What the clients speak. Default PostgreSQL.
    pub protocol: Protocol,
    /// How long one dial to a member may take, 10 ms to 1 min. Default 1 s.
    pub connect_timeout: Duration,
    pub idle: IdleTimeouts,
    pub tcp: Tcp,
}

/// Where to ask who leads, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Patroni {
    /// The REST addresses to begin with, at least one; the other members are found from these.
    pub endpoints: Vec<Endpoint>,
    /// Between two checks of a member while all is settled, 100 ms to 1 h. Default 1 s.
    pub interval: Duration,
    /// The same while anything is unsettled, 20 ms up to `interval`. Default 100 ms.
    pub fast_interval: Duration,
    /// For one check from dial to last byte, 50 ms to 1 min. Default 2 s.
    pub timeout: Duration,
    /// How long a silent leader that nobody replaced stays the leader, 1 s to 1 day. `None`: the cluster's own `ttl`,
    /// or 30 s while that is not known.
    pub leader_grace: Option<Duration>,
    /// Silent checks in a row that take a reader out, 1 to 100. Default 3.
    pub fall: u32,
    /// Good checks in a row that bring a reader back, 1 to 100. Default 2.
    pub rise: u32,
    /// For `https` endpoints only. `None`: the system's certificate authorities, no client certificate.
    pub tls: Option<Tls>,
    /// A login, shown to nodes that ask for one, and never in the clear if there is an endpoint of https. Default none.
    pub auth: Option<Auth>,
}

/// Files in PEM form, readable when the configuration was checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// The authorities to trust in place of the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate, where Patroni asks for one. Never without `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The certificates must be for this name. `None`: for the host that is dialled.
    pub server_name: Option<String>,
    pub verify: Verify,
}

/// Whether a node's certificate has to be a good one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    #[default]
    Full,
    /// Any will do.
    None,
}

/// For HTTP basic authentication.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    pub username: String,
    /// A file or a variable, never a hash.
    pub password: Secret,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The first packet is understood: cancel requests find their server, errors come as PostgreSQL errors.
    #[default]
    Postgresql,
    /// Bytes only, any protocol.
    Tcp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
    /// Text, with the end of each session as a line of HAProxy's `option tcplog`.
    Tcplog,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl Config {
    /// Reads `text`; `file_name` is for the problems only. `env` answers what `${VAR}` stands for.
    pub fn parse(
        file_name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        if text.len() > limits::MAX_FILE_BYTES {
            return Err(Problem::of_file(file_name, too_large()).into());
        }
        let mut tree = match raw::parse(text) {
            Ok(tree) => tree,
            Err(broken) => return Err(broken.in_file(file_name).into()),
        };
        env::expand(&mut tree, env);
        let complaints = complaints::Complaints::default();
        let config = read::config(&node::Node::root(&tree, &complaints), env);
        match config {
            Some(config) if complaints.is_empty() => Ok(config),
            _ => Err(complaints.located(file_name, |id| raw::locate(text, id))),
        }
    }

    /// Reads the file at `path`, with the environment of this process. A file that cannot be read is a problem too.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_by(path, |name, text| Self::parse(name, text, &|variable| std::env::var(variable).ok()))
    }

    /// The section `admin` of the file at `path` alone, as far as it can be used: for whoever asks a running process, which
    /// goes on when its file has become wrong. Only a file that cannot be read, or is no YAML, is a problem.
    pub fn load_admin(path: &Path) -> Result<Admin, Problems> {
        let env = |variable: &str| std::env::var(variable).ok();
        Self::load_by(path, |name, text| {
            let mut tree = raw::parse(text).map_err(|broken| broken.in_file(name))?;
            env::expand(&mut tree, &env);
            let complaints = complaints::Complaints::default();
            Ok(read::admin_alone(&node::Node::root(&tree, &complaints), &env))
        })
    }

    fn load_by<T>(path: &Path, parse: impl FnOnce(&str, &str) -> Result<T, Problems>) -> Result<T, Problems> {
        let name = path.display().to_string();
        let bytes = file::read(path, limits::MAX_FILE_BYTES as u64).map_err(|error| {
            let message = match error.kind() {
                io::ErrorKind::FileTooLarge => too_large(),
                _ => format!("cannot be read: {error}; give the path of a file with --config FILE"),
            };
            Problem::of_file(&name, message)
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => parse(&name, text),
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
                let message = format!("line {line} is not UTF-8 text; save the file as UTF-8");
                Err(Problem::of_file(&name, message).into())
            }
        }
    }

    /// One cluster with all defaults, for `run --patroni HOST:PORT,...`. One text may hold several, with commas.
    pub fn from_endpoints(endpoints: &[String]) -> Result<Self, Problems> {
        let tree = raw::Raw::text(endpoints.join(","));
        let complaints = complaints::Complaints::default();
        let endpoints = read::endpoints(&node::Node::named("--patroni", &tree, &complaints));
        match endpoints {
            Some(endpoints) if complaints.is_empty() => {
                let mut config = Self::of(vec![Cluster::of(Patroni::of(endpoints))]);
                config.admin.socket = admin::default_socket(&|variable| std::env::var(variable).ok());
                Ok(config)
            }
            _ => Err(complaints.located("command line", |_| None)),
        }
    }

    /// These clusters, and the default for all else.
    pub fn of(clusters: Vec<Cluster>) -> Self {
        Self {
            clusters,
            admin: Admin::default(),
            workers: None,
            max_sessions: None,
            drain_timeout: Duration::from_secs(30),
            upgrade_timeout: Duration::from_secs(30),
            log: Log::default(),
        }
    }
}

fn too_large() -> String {
    format!(
        "is larger than {} KiB; a configuration of hundreds of clusters fits in that",
        limits::MAX_FILE_BYTES >> 10
    )
}

impl Cluster {
    /// The primary pool and one of readers, with their defaults.
    pub fn of(patroni: Patroni) -> Self {
        Self {
            name: None,
            patroni,
            primary: Some(Primary::default()),
            replicas: vec![Replicas::default()],
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(1),
            idle: IdleTimeouts::default(),
            tcp: Tcp::default(),
        }
    }
}

impl Patroni {
    /// These endpoints, polled as by default.
    pub fn of(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(100),
            timeout: Duration::from_secs(2),
            leader_grace: None,
            fall: 3,
            rise: 2,
            tls: None,
            auth: None,
        }
    }

    /// Whether the login goes to nodes of https only: where one endpoint is of https, the operator wants it encrypted.
    pub fn login_needs_tls(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https)
    }
}

/// The whole effective configuration as YAML: reading it again gives the same [`Config`], unless it has hashes of passwords
/// or tokens. These are left out, and a user who has nothing else is refused then.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show::config(self, f)
    }
}
