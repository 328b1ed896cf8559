//! The admin side from its configuration: its doors, who may come in, and what a reload changes of them.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::StartError;
use super::handover::Inherited;
use crate::admin::Sources;
use crate::admin::auth::{Account, Gate, Users};
use crate::admin::caller::Role;
use crate::admin::haproxy::command::Level;
use crate::admin::haproxy::runtime::{self, RuntimeSocket};
use crate::admin::hosts::Hosts;
use crate::admin::secret::Stored;
use crate::admin::server::{Door, Doors, OpenDoor, ReadyDoor, WatchedSocket};
use crate::admin::tls::{Certificates, Loaded, TlsFiles};
use crate::config;
use crate::proxy::beside::Former;
use crate::proxy::listener::{self, ListenAddress};
use crate::proxy::share::{Kept, Share};
use crate::proxy::socket_file::{self, SocketFile};

/// How long a socket may take to close; it is a moment's work.
pub(super) const CLOSING: Duration = Duration::from_secs(1);

/// Who may come in and by which certificate, from the files and variables that the configuration names.
#[derive(Debug)]
pub(super) struct Secrets {
    users: Users,
    tls: Option<(TlsFiles, Loaded)>,
}

/// The sockets of the admin side that are not there yet, bound.
#[derive(Debug, Default)]
pub(super) struct Entrances {
    listener: Option<TcpListener>,
    socket: Option<SocketFile>,
    runtime: Option<SocketFile>,
}

/// The same, watched: nothing is left that could fail.
#[derive(Debug)]
pub(super) struct ReadyDoors {
    address: Option<SocketAddr>,
    network: Option<ReadyDoor>,
    socket: Option<ReadyDoor>,
    runtime: Option<(Kept, WatchedSocket)>,
}

/// What is before the admin side.
#[derive(Debug)]
pub(super) struct Console {
    pub gate: Arc<Gate>,
    tls: watch::Sender<Option<Arc<Certificates>>>,
    level: watch::Sender<Level>,
    network: Option<OpenDoor>,
    socket: Option<OpenDoor>,
    runtime: Option<OpenDoor>,
}

impl Secrets {
    pub fn load(admin: &config::Admin) -> Result<Secrets, StartError> {
        let users = users(admin).map_err(StartError::Users)?;
        let load = |tls| {
            let files = files(tls);
            files.load().map(|loaded| (files, loaded))
        };
        let tls = admin.tls.as_ref().map(load).transpose().map_err(StartError::Certificate)?;
        Ok(Secrets { users, tls })
    }
}

impl Entrances {
    /// Binds what `running` does not have and what was not passed; the page's address `beside` others.
    pub fn bind(
        admin: &config::Admin,
        running: Option<&config::Admin>,
        beside: Former,
        inherited: &mut Inherited,
    ) -> Result<Entrances, StartError> {
        let mut entrances = Entrances::default();
        if let Some(address) = admin.listen.filter(|_| running.is_none_or(|r| r.listen != admin.listen)) {
            let tcp = super::transport::tcp(&config::Tcp::default());
            let listener = match inherited.take(&ListenAddress::Ip(address)) {
                Some(passed) => listener::adopt_ip(passed.socket, tcp),
                None => listener::bind_ip_beside(address, tcp, &beside),
            };
            let listener = listener.map_err(|error| {
                super::bind::refused("the admin page", ListenAddress::Ip(address), error, inherited)
            })?;
            entrances.listener = Some(listener);
        }
        if let Some(path) = admin.socket.as_ref().filter(|_| running.is_none_or(|r| r.socket != admin.socket))
        {
            entrances.socket = Some(bind("admin.socket", path, socket_file::MODE, inherited)?);
        }
        let known = running.and_then(runtime_path);
        if let Some(wanted) = admin.haproxy_socket.as_ref().filter(|wanted| known != Some(&*wanted.path)) {
            entrances.runtime =
                Some(bind("admin.haproxy_socket", &wanted.path, wanted.new_mode(), inherited)?);
        }
        Ok(entrances)
    }

    /// Another descriptor in the place of the admin page's socket.
    #[cfg(test)]
    pub fn spoil(&mut self, socket: std::os::fd::OwnedFd) {
        self.listener = Some(socket.into());
    }

    /// The real one: with the port that was free.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn runtime_path(admin: &config::Admin) -> Option<&Path> {
    admin.haproxy_socket.as_ref().map(|socket| &*socket.path)
}

fn bind(what: &str, path: &Path, mode: u32, inherited: &mut Inherited) -> Result<SocketFile, StartError> {
    let address = ListenAddress::Unix(path.to_owned());
    let bound = match inherited.take(&address) {
        Some(passed) => SocketFile::adopt(passed.socket.into(), path, passed.file),
        None => SocketFile::bind(path, mode),
    };
    bound.map_err(|error| super::bind::unbound(what, address, error))
}

impl Console {
    /// Nobody may come in yet, and nobody could.
    pub fn new() -> Console {
        Console {
            gate: Arc::new(Gate::new(Users::new(Vec::new()), Hosts::new([]))),
            tls: watch::Sender::new(None),
            level: watch::Sender::new(Level::User),
            network: None,
            socket: None,
            runtime: None,
        }
    }

    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.tls.borrow().clone()
    }

    /// Lets these in from now on. Says which keys have changed in what cannot be seen in the configuration itself.
    pub fn admit(&self, admin: &config::Admin, Secrets { users, tls }: Secrets) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if !self.gate.users().are_same_as(&users) {
            changed.push("admin.users");
        }
        self.gate.replace(users, Hosts::new(admin.allowed_hosts.iter().cloned()));
        match (self.certificates(), tls) {
            (Some(certificates), Some((files, loaded))) => {
                if certificates.replace(files, loaded) {
                    changed.push("admin.tls");
                }
            }
            (None, Some((files, loaded))) => {
                self.tls.send_replace(Some(Arc::new(Certificates::new(files, loaded))));
            }
            (Some(_), None) => drop(self.tls.send_replace(None)),
            (None, None) => {}
        }
        changed
    }

    /// Has new sockets watched. Nobody is let in yet.
    ///
    /// # Errors
    /// When one cannot be watched. Nothing has changed then.
    pub fn ready(&self, entrances: Entrances, doors: &Doors) -> Result<ReadyDoors, StartError> {
        let (address, Entrances { listener, socket, runtime }) = (entrances.address(), entrances);
        let network = listener.map(|listener| Door::Network { listener, tls: self.tls.subscribe() });
        let network = network.map(|door| doors.ready(door)).transpose()?;
        let socket = socket.map(|file| doors.ready(Door::Socket(file))).transpose()?;
        let runtime = runtime.map(|file| doors.watch(file)).transpose()?;
        Ok(ReadyDoors { address, network, socket, runtime })
    }

    /// Opens the doors that are new, then closes those that are not wished any more; whoever is in may stay.
    pub fn open(&mut self, admin: &config::Admin, ready: ReadyDoors, doors: &Doors, sources: &Arc<Sources>) {
        let mut former = Vec::new();
        let ReadyDoors { address, network, socket, runtime } = ready;
        if admin.listen.is_none() || network.is_some() {
            former.push(self.network.take());
        }
        if admin.socket.is_none() || socket.is_some() {
            former.push(self.socket.take());
        }
        if admin.haproxy_socket.is_none() || runtime.is_some() {
            former.push(self.runtime.take());
        }
        if let Some(door) = network {
            self.network = Some(doors.open(door));
            announce(address, self.certificates().is_some());
        }
        if let (Some(door), Some(path)) = (socket, &admin.socket) {
            permit(path, door.has_file().then_some(socket_file::MODE));
            self.socket = Some(doors.open(door));
            tracing::info!(socket = %path.display(), "listening");
        }
        if let Some(wanted) = &admin.haproxy_socket {
            self.level.send_replace(level(wanted.level));
            if let Some((kept, socket)) = runtime {
                let path = wanted.path.display().to_string();
                tracing::info!(socket = path, "listening");
                let socket = RuntimeSocket { socket, path, level: self.level.subscribe() };
                let sources = Arc::clone(sources);
                self.runtime = Some(doors.serve(kept, |close| runtime::run(sources, socket, close)));
            }
            let share = self.runtime.as_ref().and_then(OpenDoor::share);
            permit(&wanted.path, wanted.file_mode(share.is_some_and(Share::has_file)));
        }
        OpenDoor::close_all(former.into_iter().flatten(), CLOSING);
    }

    /// The socket of the page.
    pub fn page(&self) -> Option<&Share> {
        self.network.as_ref().and_then(OpenDoor::share)
    }

    /// These doors without those that nobody can come to, since their file is gone.
    pub fn reachable(&self, admin: &config::Admin) -> config::Admin {
        let is_reachable = |door: &Option<OpenDoor>| {
            let share = door.as_ref().and_then(OpenDoor::share);
            share.is_some_and(Share::is_reachable)
        };
        config::Admin {
            socket: admin.socket.clone().filter(|_| is_reachable(&self.socket)),
            haproxy_socket: admin.haproxy_socket.clone().filter(|_| is_reachable(&self.runtime)),
            ..admin.clone()
        }
    }

    /// The doors' sockets by their addresses in the configuration.
    pub fn shares<'a>(
        &'a self,
        admin: &'a config::Admin,
    ) -> impl Iterator<Item = (ListenAddress, &'a Share)> {
        let unix = |path: &Path| ListenAddress::Unix(path.to_owned());
        let addresses = [
            admin.listen.map(ListenAddress::Ip),
            admin.socket.as_deref().map(unix),
            runtime_path(admin).map(unix),
        ];
        let doors = [&self.network, &self.socket, &self.runtime];
        let share = |(address, door): (Option<ListenAddress>, &'a Option<OpenDoor>)| {
            Some((address?, door.as_ref()?.share()?))
        };
        addresses.into_iter().zip(doors).filter_map(share)
    }

    /// Another process lets people in from now on; whoever is in may stay.
    pub fn hand_over(&mut self) {
        let doors = [self.network.take(), self.socket.take(), self.runtime.take()].into_iter().flatten();
        let doors = doors.inspect(|door| door.share().into_iter().for_each(Share::leave_file));
        OpenDoor::close_all(doors, CLOSING);
    }
}

/// Gives a socket's file other permissions; `None`: it keeps its own.
pub(super) fn permit(path: &Path, mode: Option<u32>) {
    let Some(mode) = mode else { return };
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        tracing::warn!(path = %path.display(), %error, "the mode of a socket cannot be set");
    }
}

fn announce(address: Option<SocketAddr>, encrypted: bool) {
    let Some(address) = address else { return };
    let scheme = if encrypted { "https" } else { "http" };
    tracing::info!(page = format!("{scheme}://{address}/"), "listening");
    if !address.ip().is_loopback() && !encrypted {
        tracing::warn!(%address, "logins travel in clear text; give the admin side a certificate (admin.tls)");
    }
}

fn level(level: config::SocketLevel) -> Level {
    match level {
        config::SocketLevel::User => Level::User,
        config::SocketLevel::Operator => Level::Operator,
        config::SocketLevel::Admin => Level::Admin,
    }
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

fn files(tls: &config::AdminTls) -> TlsFiles {
    TlsFiles { cert: tls.cert.clone(), key: tls.key.clone(), client_ca: tls.client_ca.clone() }
}
