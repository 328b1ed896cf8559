//! Sockets to listen on: made, taken over from another process, and watched before anybody is served.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::beside::Former;
use super::connect::TcpOptions;
use super::share::{Share, Stays};
use super::socket_file::SocketFile;

/// Connections that the kernel keeps for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub address: ListenAddress,
    /// Also at an address that this host does not have, or not yet.
    pub free_bind: bool,
    /// Of a unix socket's file: who may write to it may connect.
    pub mode: u32,
    /// For the connections.
    pub tcp: TcpOptions,
}

/// A bound socket. That of a unix socket takes its file along when it goes.
#[derive(Debug)]
pub struct Bound {
    pub socket: Arc<OwnedFd>,
    /// The real one: with the port that was free.
    pub address: ListenAddress,
    file: Option<SocketFile>,
    /// It does not listen yet: these are in its way.
    beside: Former,
}

/// A bound socket that a worker's event loop watches: nothing can fail any more.
#[derive(Debug)]
pub struct Watched {
    pub(super) socket: AsyncFd<Arc<OwnedFd>>,
    /// The real one: with the port that was free.
    pub address: ListenAddress,
    pub(super) file: Option<SocketFile>,
    /// Its number.
    pub(super) worker: usize,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Binds a listening socket.
///
/// # Errors
/// Those of the system, such as an address in use.
pub fn bind(options: &ListenOptions) -> io::Result<Bound> {
    match &options.address {
        ListenAddress::Ip(address) => Bound::of_ip(bind_ip(*address, options.free_bind, options.tcp)?),
        ListenAddress::Unix(path) => Bound::of_file(SocketFile::bind(path, options.mode)?, options),
    }
}

/// The same while own sockets that are about to close may be in its way. If they are, it does not listen yet: whoever came
/// would be lost if it were not served after all.
///
/// # Errors
/// Those of the system, such as an address in use by others.
pub fn bind_beside(options: &ListenOptions, former: Former) -> io::Result<Bound> {
    match (bind(options), &options.address) {
        (Err(error), ListenAddress::Ip(address)) if former.may_be_why(&error) => {
            let socket = new_socket(*address, options.free_bind, options.tcp)?;
            former.tolerate(&socket, *address, |socket| socket.bind(&SockAddr::from(*address)))?;
            Ok(Bound { beside: former, ..Bound::of_ip(socket.into())? })
        }
        (bound, _) => bound,
    }
}

/// Takes over a socket that another process has bound to this address. `stays` as for [`SocketFile::adopt`].
///
/// # Errors
/// Those of the system.
pub fn adopt(socket: OwnedFd, options: &ListenOptions, stays: Option<Stays>) -> io::Result<Bound> {
    match &options.address {
        ListenAddress::Ip(_) => Bound::of_ip(adopt_ip(socket, options.tcp)?),
        ListenAddress::Unix(path) => {
            Bound::of_file(SocketFile::adopt(UnixListener::from(socket), path, stays)?, options)
        }
    }
}

/// # Errors
/// Those of the system.
pub fn adopt_ip(socket: OwnedFd, tcp: TcpOptions) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    tcp.replace(&SockRef::from(&socket))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Bound {
    fn of_ip(socket: TcpListener) -> io::Result<Bound> {
        let address = ListenAddress::Ip(socket.local_addr()?);
        Ok(Bound { socket: Arc::new(socket.into()), address, file: None, beside: Former::default() })
    }

    fn of_file(mut file: SocketFile, options: &ListenOptions) -> io::Result<Bound> {
        let socket: OwnedFd = file.take().ok_or(io::ErrorKind::NotConnected)?.into();
        let address = options.address.clone();
        Ok(Bound { socket: Arc::new(socket), address, file: Some(file), beside: Former::default() })
    }

    /// It does already.
    pub fn listens(&self) -> bool {
        self.beside.is_empty()
    }

    /// Listens, if it does not yet, beside those that are still there.
    ///
    /// # Errors
    /// Those of the system.
    pub fn listen(mut self) -> io::Result<Bound> {
        let former = std::mem::take(&mut self.beside);
        if let (false, ListenAddress::Ip(address)) = (former.is_empty(), &self.address) {
            former.tolerate(&*self.socket, *address, |socket| socket.listen(BACKLOG))?;
        }
        Ok(self)
    }

    /// To be called within the runtime of that worker.
    ///
    /// # Errors
    /// When the system watches no more.
    #[expect(
        deprecated,
        reason = "new() trusts the type to keep its descriptor open, which an owned one does"
    )]
    pub(super) fn watch(self, worker: usize) -> io::Result<Watched> {
        let Bound { socket, address, file, .. } = self;
        Ok(Watched { socket: AsyncFd::new(socket)?, address, file, worker })
    }
}

impl Watched {
    pub fn share(&self) -> Share {
        Share::new(self.socket.get_ref(), self.file.as_ref())
    }
}

/// Without SO_REUSEPORT, so that a port in use by another process is an error and no connection is lost when a listener
/// closes. An IPv6 wildcard takes IPv6 only.
///
/// # Errors
/// Those of the system, such as an address in use.
pub fn bind_ip(address: SocketAddr, free_bind: bool, tcp: TcpOptions) -> io::Result<TcpListener> {
    let socket = new_socket(address, free_bind, tcp)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As [`bind_ip`], while own sockets that are about to close may be in its way.
///
/// # Errors
/// Those of the system, such as an address in use by others.
pub fn bind_ip_beside(address: SocketAddr, tcp: TcpOptions, former: &Former) -> io::Result<TcpListener> {
    match bind_ip(address, false, tcp) {
        Err(error) if former.may_be_why(&error) => {
            let socket = new_socket(address, false, tcp)?;
            former.tolerate(&socket, address, |socket| {
                socket.bind(&SockAddr::from(address))?;
                socket.listen(BACKLOG)
            })?;
            Ok(socket.into())
        }
        outcome => outcome,
    }
}

fn new_socket(address: SocketAddr, free_bind: bool, tcp: TcpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match address {
        _ if !free_bind => {}
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    // Those of the connections, which Linux lets inherit them: no call is left to make for each.
    tcp.apply(&SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
