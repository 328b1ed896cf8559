//! The admin side from its configuration: its doors, who may come in, and what a reload changes of them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admin::actions::{Rejected, Reload, Reloaded};
use crate::admin::auth::{Account, Gate, Users};
use crate::admin::caller::Role;
use crate::admin::haproxy::command::Level;
use crate::admin::haproxy::runtime::RuntimeSocket;
use crate::admin::hosts::Hosts;
use crate::admin::secret::Stored;
use crate::admin::server::Door;
use crate::admin::tls::{Certificates, TlsFiles};
use crate::config::{self, Config, Problems};

use super::StartError;
use crate::proxy::listener::{self, ListenAddress};
use crate::proxy::socket_file::SocketFile;

/// Its owner and its group may connect, nobody else: whoever may is an operator.
const SOCKET_MODE: u32 = 0o660;

/// Reads the configuration once more.
pub type Source = Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

/// Who may come in and by which certificate, from the files and variables that the configuration names.
#[derive(Debug)]
pub(super) struct Secrets {
    users: Users,
    certificates: Option<Arc<Certificates>>,
}

/// What is before the admin side, ready to be served.
#[derive(Debug)]
pub(super) struct Console {
    pub doors: Vec<Door>,
    pub address: Option<std::net::SocketAddr>,
    pub gate: Arc<Gate>,
    pub certificates: Option<Arc<Certificates>>,
    pub runtime: Option<RuntimeSocket>,
}

impl Secrets {
    pub fn load(admin: &config::Admin) -> Result<Secrets, StartError> {
        let users = users(admin).map_err(StartError::Users)?;
        let certificates = admin.tls.as_ref().map(|tls| Certificates::load(files(tls)).map(Arc::new));
        Ok(Secrets { users, certificates: certificates.transpose().map_err(StartError::Certificate)? })
    }
}

impl Console {
    /// Binds the doors.
    pub fn bind(admin: &config::Admin, secrets: Secrets) -> Result<Console, StartError> {
        let Secrets { users, certificates } = secrets;
        let gate = Gate::new(users, hosts(admin));
        let mut doors = Vec::new();
        let mut bound = None;
        if let Some(address) = admin.listen {
            let tcp = super::transport::tcp(&config::Tcp::default());
            let listener = listener::bind_ip(address, false, tcp)
                .map_err(|error| super::unbound("the admin page", ListenAddress::Ip(address), error))?;
            bound = listener.local_addr().ok();
            doors.push(Door::Network { listener, tls: certificates.clone() });
            if !address.ip().is_loopback() && certificates.is_none() {
                tracing::warn!(%address, "logins travel in clear text; give the admin side a certificate (admin.tls)");
            }
        }
        if let Some(path) = &admin.socket {
            doors.push(Door::Socket(bind(path, SOCKET_MODE)?));
        }
        let runtime = admin.haproxy_socket.as_ref().map(runtime).transpose()?;
        Ok(Console { doors, address: bound, gate: Arc::new(gate), certificates, runtime })
    }
}

fn bind(path: &Path, mode: u32) -> Result<SocketFile, StartError> {
    let bound = SocketFile::bind(path, mode);
    bound.map_err(|error| StartError::File { path: path.display().to_string(), error })
}

fn runtime(config: &config::RuntimeSocket) -> Result<RuntimeSocket, StartError> {
    let level = match config.level {
        config::SocketLevel::User => Level::User,
        config::SocketLevel::Operator => Level::Operator,
        config::SocketLevel::Admin => Level::Admin,
    };
    let file = bind(&config.path, config.mode)?;
    Ok(RuntimeSocket { file, path: config.path.display().to_string(), level })
}

/// # Errors
/// A secret that is not there any more, or a broken hash: a sentence that names the user.
fn users(admin: &config::Admin) -> Result<Users, String> {
    let stored = |user: &config::User, secret: &Option<config::Secret>| {
        let stored = secret.as_ref().map(|secret| secret.reveal().and_then(|text| Stored::new(&text)));
        stored.transpose().map_err(|problem| format!("admin.users, {}: {problem}", user.name))
    };
    let account = |user: &config::User| {
        let role = match user.role {
            config::Role::Viewer => Role::Viewer,
            config::Role::Operator => Role::Operator,
        };
        let (password, token) = (stored(user, &user.password)?, stored(user, &user.token)?);
        Ok(Account { name: user.name.clone(), role, password, token })
    };
    admin.users.iter().map(account).collect::<Result<Vec<Account>, String>>().map(Users::new)
}

fn hosts(admin: &config::Admin) -> Hosts {
    Hosts::new(admin.allowed_hosts.iter().cloned())
}

fn files(tls: &config::AdminTls) -> TlsFiles {
    TlsFiles { cert: tls.cert.clone(), key: tls.key.clone(), client_ca: tls.client_ca.clone() }
}

/// A reload of what can change while sessions run: who may come in, by which names, and the certificate.
pub(super) fn reload(
    running: Config,
    source: Option<Source>,
    gate: Arc<Gate>,
    certificates: Option<Arc<Certificates>>,
) -> Reload {
    let running = Mutex::new(running);
    Reload::new(move || {
        let Some(source) = &source else {
            return rejected(
                "this process has no file to read its configuration from; restart it".to_owned(),
            );
        };
        // Before the source is read: of two reloads at one time, the one that has read the older state must not come last.
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let next = source().map_err(|problems| Rejected {
            problems: problems.to_string().lines().map(str::to_owned).collect(),
        })?;
        apply(&mut running, &next, &gate, certificates.as_deref())
    })
}

/// All or nothing: whatever can fail comes before the first change.
fn apply(
    running: &mut Config,
    next: &Config,
    gate: &Gate,
    certificates: Option<&Certificates>,
) -> Result<Reloaded, Rejected> {
    let exposed = running.admin.listen.filter(|address| !address.ip().is_loopback());
    if let (Some(address), true) = (exposed, next.admin.users.is_empty()) {
        return rejected(format!(
            "admin.users is empty, while the running process listens on {address}, where anybody could come in; \
             restart it to listen on loopback"
        ));
    }
    let users = users(&next.admin).or_else(rejected)?;
    let renewed = match (certificates, &next.admin.tls) {
        (Some(certificates), Some(tls)) => {
            let files = files(tls);
            let loaded = files.load().or_else(rejected)?;
            Some((certificates, files, loaded))
        }
        _ => None,
    };
    let mut reloaded = Reloaded::default();
    if !gate.users().are_same_as(&users) {
        reloaded.applied.push("admin.users".to_owned());
    }
    let hosts = hosts(&next.admin);
    if *gate.hosts() != hosts {
        reloaded.applied.push("admin.allowed_hosts".to_owned());
    }
    gate.replace(users, hosts);
    running.admin.users.clone_from(&next.admin.users);
    running.admin.allowed_hosts.clone_from(&next.admin.allowed_hosts);
    if let Some((certificates, files, loaded)) = renewed {
        if certificates.replace(files, loaded) {
            reloaded.applied.push("admin.tls".to_owned());
        }
        running.admin.tls.clone_from(&next.admin.tls);
    }
    reloaded.needs_restart = running.differences(next);
    Ok(reloaded)
}

fn rejected<T>(problem: String) -> Result<T, Rejected> {
    Err(Rejected { problems: vec![problem] })
}
