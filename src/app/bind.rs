//! Everything that a configuration needs and that can fail: secrets, clients and sockets. Had before anything changes.

use std::io;

use rustix::io::Errno;

use super::StartError;
use super::console::{Entrances, Secrets};
use super::handover::Inherited;
use super::plan::{Plan, addresses};
use super::reload::Running;
use super::{clusters, open_files, transport};
use crate::config::{self, Config};
use crate::control::{Names, Patroni};
use crate::proxy::beside::Former;
use crate::proxy::listener::{self, Bound, ListenAddress};

/// What there is before a configuration is.
#[derive(Debug)]
pub(super) enum Before<'a> {
    /// A process that has just started, with sockets that were passed to it.
    Start(&'a mut Inherited),
    Running(&'a Running),
}

/// A configuration that can be put into effect without failing.
#[derive(Debug)]
pub(super) struct Prepared {
    pub config: Config,
    pub plan: Plan,
    pub max_sessions: usize,
    pub secrets: Secrets,
    /// By which each cluster is asked.
    pub patronis: Vec<Patroni>,
    /// For each of the addresses that nobody listens on yet.
    pub sockets: Vec<Option<Bound>>,
    pub entrances: Entrances,
}

impl Prepared {
    /// # Errors
    /// The first thing that cannot be had. Nothing of what runs has changed then.
    pub fn new(
        config: Config,
        workers: usize,
        names: &Names,
        before: Before<'_>,
    ) -> Result<Prepared, StartError> {
        let mut none = Inherited::default();
        let (inherited, running) = match before {
            Before::Start(inherited) => (inherited, None),
            Before::Running(running) => (&mut none, Some(running)),
        };
        // Before anything is bound: what is wrong with these is wrong with the configuration.
        let secrets = Secrets::load(&config.admin)?;
        let max_sessions = open_files::sessions(config.max_sessions, workers, config.clusters.len())?;
        let plan = running.map_or_else(|| Plan::new(&[], &[], &config), |running| running.plan(&config));
        let patronis = patronis(&config, names, running)?;
        let tcp = |place: usize| transport::tcp(&config.clusters[place].tcp);
        let in_the_way = |address: &ListenAddress| match (running, address) {
            (Some(running), ListenAddress::Ip(address)) => running.in_the_way(&plan, &config, *address),
            _ => Former::default(),
        };
        let mut bind = |((place, pool, listen), kept): ((usize, &str, &config::Listen), &Option<usize>)| {
            let options = transport::listen_options(listen, tcp(place));
            let bind = || bind(pool, &options, in_the_way(&options.address), inherited);
            kept.is_none().then(bind).transpose()
        };
        let sockets = addresses(&config).zip(&plan.sockets).map(&mut bind).collect::<Result<_, _>>()?;
        let page = config.admin.listen.map(ListenAddress::Ip);
        let beside = page.as_ref().map(in_the_way).unwrap_or_default();
        let entrances =
            Entrances::bind(&config.admin, running.map(Running::doors).as_ref(), beside, inherited)?;
        Ok(Prepared { config, plan, max_sessions, secrets, patronis, sockets, entrances })
    }
}

fn bind(
    pool: &str,
    options: &listener::ListenOptions,
    beside: Former,
    inherited: &mut Inherited,
) -> Result<Bound, StartError> {
    let bound = match inherited.take(&options.address) {
        Some(passed) => listener::adopt(passed.socket, options, passed.file),
        None => listener::bind_beside(options, beside),
    };
    bound.map_err(|error| refused(&format!("pool {pool}"), options.address.clone(), error, inherited))
}

/// Clusters that are asked in the same way share a client: each holds all the system's authorities. One that runs goes on.
fn patronis(config: &Config, names: &Names, running: Option<&Running>) -> Result<Vec<Patroni>, StartError> {
    fn way(cluster: &config::Cluster) -> impl PartialEq {
        let config::Patroni { timeout, tls, auth, .. } = &cluster.patroni;
        (timeout, tls, auth.as_ref().map(|auth| (auth, cluster.patroni.login_needs_tls())))
    }
    let alike = |one: &config::Cluster, other: &config::Cluster| way(one) == way(other);
    let mut patronis: Vec<Patroni> = Vec::new();
    for (place, cluster) in config.clusters.iter().enumerate() {
        let served = running.iter().flat_map(|running| running.served());
        let known =
            served.filter(|served| alike(&served.config, cluster)).map(|served| &served.patroni).next();
        let earlier = || config.clusters[..place].iter().position(|other| alike(other, cluster));
        let known = known.or_else(|| earlier().map(|place| &patronis[place])).cloned();
        patronis.push(known.map_or_else(|| patroni(cluster, names), Ok)?);
    }
    Ok(patronis)
}

/// The same for one that may be refused for a socket that was passed to this process.
pub(super) fn refused(
    what: &str,
    address: ListenAddress,
    error: io::Error,
    inherited: &Inherited,
) -> StartError {
    match inherited.in_the_way(&address) {
        Some(other) if error.kind() == io::ErrorKind::AddrInUse => {
            let hint = format!(
                "; it overlaps {other}, which the running process (or systemd) has passed on: reload first, then upgrade (or \
                 mend ListenStream=)"
            );
            StartError::Bind { what: what.to_owned(), address, error, hint: hint.into() }
        }
        _ => unbound(what, address, error),
    }
}

/// Why nobody can listen there, and what to do.
pub(super) fn unbound(what: &str, address: ListenAddress, error: io::Error) -> StartError {
    let hint = match (error.kind(), &address) {
        _ if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            "; raise the limit of open files (LimitNOFILE=, ulimit -n)"
        }
        (io::ErrorKind::AddrInUse, ListenAddress::Ip(_)) => {
            "; another process has it, or this one for something else (see: ss -ltnp); choose another port"
        }
        (io::ErrorKind::AddrInUse, ListenAddress::Unix(_)) => {
            "; another process listens there (see: ss -lxp), or choose another path"
        }
        (io::ErrorKind::AlreadyExists, ListenAddress::Unix(_)) => "; remove it, or choose another path",
        (io::ErrorKind::PermissionDenied, ListenAddress::Unix(_)) => {
            "; the user that pilotfish runs as has to be allowed to write into its directory, and to what is there"
        }
        (io::ErrorKind::NotFound, ListenAddress::Unix(_)) => {
            "; its directory is missing: make it, or let systemd do so (RuntimeDirectory=)"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "; this host does not have that address (free_bind: true does not mind)"
        }
        (io::ErrorKind::PermissionDenied, ListenAddress::Ip(_)) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    StartError::Bind { what: what.to_owned(), address, error, hint: hint.into() }
}

fn patroni(cluster: &config::Cluster, names: &Names) -> Result<Patroni, StartError> {
    let of = cluster.name.clone().unwrap_or_else(|| "without a name".to_owned());
    let options =
        clusters::patroni(&cluster.patroni, &of).and_then(|options| Patroni::new(options, names.clone()));
    options.map_err(|problem| StartError::Tls { cluster: of, problem })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;
    use crate::proxy::TcpOptions;

    fn refusal(path: &Path) -> String {
        let path = path.display();
        let text = format!("clusters:\n  - patroni: [10.0.0.1]\n    primary: {{listen: \"unix:{path}\"}}\n");
        let config = Config::parse("config.yaml", &text, &|_| None).expect("a configuration");
        let (_, pool, listen) = addresses(&config).next().expect("an address");
        let options = transport::listen_options(listen, TcpOptions::default());
        bind(pool, &options, Former::default(), &mut Inherited::default()).expect_err("no socket").to_string()
    }

    #[test]
    fn who_cannot_have_a_unix_socket_is_told_what_to_do() {
        let folder = std::env::temp_dir().join(format!("pilotfish-bind-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let _live = UnixListener::bind(folder.join("live")).expect("a socket");
        std::fs::write(folder.join("file"), "").expect("a file");
        for (name, advice) in [
            ("live", "another process listens there"),
            ("nowhere/socket", "its directory is missing"),
            ("file", "there is a file that is no socket; remove it"),
        ] {
            let refusal = refusal(&folder.join(name));
            assert!(refusal.contains(advice), "{refusal}");
        }
        std::fs::remove_dir_all(&folder).expect("an end");
        // Root may do everything, so this one cannot be had on purpose.
        let denied = unbound(
            "pool primary",
            ListenAddress::Unix("/run/a".into()),
            io::ErrorKind::PermissionDenied.into(),
        );
        assert!(denied.to_string().contains("allowed to write into its directory"), "{denied}");
    }
}
