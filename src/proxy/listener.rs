//! Accepting connections.
//!
//! A permit comes before each accept: at the limit the kernel's backlog is the queue. No error ends the loop: those of
//! one connection are passed over, those of the whole process (descriptors, memory, what epoll may watch) are
//! waited out.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::access::{Access, ClientAddress};
use super::connect::TcpOptions;
use super::engine::has_news;
use super::share::{Share, Stays};
use super::socket_file::SocketFile;
use super::worker::{Accepted, Handle, Worker, place};
use crate::stats::Part;

/// Connections that the kernel keeps for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections accepted in one go, before everything else on this worker has its turn.
const AT_ONCE: usize = 32;
/// How long accepting pauses when descriptors, memory or what epoll may watch have run out.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// A shortage is logged at its begin and then no more often than this.
const LOG_EVERY: Duration = Duration::from_secs(10);

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
}

/// Whom a socket's clients are for, and who they may be.
#[derive(Debug, Clone)]
pub struct Service {
    pub pool: Arc<Pool>,
    pub access: Arc<Access>,
}

/// A bound socket and what it serves. The service may change at any time: the socket stays, and with it whoever waits in
/// the kernel's backlog.
#[derive(Debug)]
pub(super) struct Listener {
    pub socket: Bound,
    /// Closed when no more connections are to be accepted; those that the kernel has taken already are still served.
    pub service: watch::Receiver<Service>,
    pub permits: Arc<Semaphore>,
    /// Cancelled when the process stops.
    pub accepting: CancellationToken,
    /// Goes with the socket.
    pub open: std::sync::mpsc::Sender<()>,
}

/// A socket that is served by some worker.
#[derive(Debug)]
pub struct Listening {
    /// The real one: with the port that was free.
    pub address: ListenAddress,
    /// For a process that is to go on with it.
    pub share: Share,
    service: watch::Sender<Service>,
    open: std::sync::mpsc::Receiver<()>,
}

impl Listening {
    pub(super) fn new(
        socket: Bound,
        service: Service,
        permits: Arc<Semaphore>,
        accepting: CancellationToken,
    ) -> (Listening, Listener) {
        let (address, share) = (socket.address.clone(), socket.share());
        let (service, serves) = watch::channel(service);
        let (until_closed, open) = std::sync::mpsc::channel();
        let listener = Listener { socket, service: serves, permits, accepting, open: until_closed };
        (Listening { address, share, service, open }, listener)
    }

    /// Whoever is accepted from now on is for this pool.
    pub fn serve(&self, service: Service) {
        self.service.send_replace(service);
    }

    /// Accepts whoever the kernel has taken already, and closes the socket. Blocks until that is done, which takes no longer
    /// than a moment of the worker, or until `patience` is over.
    pub fn close(self, patience: Duration) {
        drop(self.service);
        let _ = self.open.recv_timeout(patience);
    }
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
        ListenAddress::Ip(address) => {
            let socket = bind_ip(*address, options.free_bind, options.tcp)?;
            let address = ListenAddress::Ip(socket.local_addr()?);
            Ok(Bound { socket: Arc::new(socket.into()), address, file: None })
        }
        ListenAddress::Unix(path) => Bound::of_file(SocketFile::bind(path, options.mode)?, options),
    }
}

/// Takes over a socket that another process has bound to this address. `stays` as for [`SocketFile::adopt`].
///
/// # Errors
/// Those of the system.
pub fn adopt(socket: OwnedFd, options: &ListenOptions, stays: Option<Stays>) -> io::Result<Bound> {
    match &options.address {
        ListenAddress::Ip(_) => {
            let socket = adopt_ip(socket, options.tcp)?;
            let address = ListenAddress::Ip(socket.local_addr()?);
            Ok(Bound { socket: Arc::new(socket.into()), address, file: None })
        }
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
    fn of_file(mut file: SocketFile, options: &ListenOptions) -> io::Result<Bound> {
        let socket: OwnedFd = file.take().ok_or(io::ErrorKind::NotConnected)?.into();
        Ok(Bound { socket: Arc::new(socket), address: options.address.clone(), file: Some(file) })
    }

    fn share(&self) -> Share {
        Share::new(&self.socket, self.file.as_ref().and_then(SocketFile::stays))
    }
}

/// Without SO_REUSEPORT, so that a port in use by another process is an error and no connection is lost when a listener
/// closes. An IPv6 wildcard takes IPv6 only.
///
/// # Errors
/// Those of the system, such as an address in use.
pub fn bind_ip(address: SocketAddr, free_bind: bool, tcp: TcpOptions) -> io::Result<TcpListener> {
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
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts until told to stop; the socket is closed then, and its file removed, and only then is it told to be.
pub(super) async fn run(listener: Listener, here: Arc<Worker>, siblings: Arc<[Handle]>) {
    here.panics.again(Part::Worker, || accept_all(&listener, &here, &siblings)).await;
    let Listener { socket, open, .. } = listener;
    drop(socket);
    drop(open);
}

async fn accept_all(listener: &Listener, here: &Arc<Worker>, siblings: &[Handle]) {
    let Listener { socket, permits, accepting, .. } = listener;
    let mut service = listener.service.clone();
    let mut serves = service.borrow_and_update().clone();
    let socket = match watched(Arc::clone(&socket.socket)) {
        Ok(socket) => socket,
        Err(error) => {
            let pool = &*serves.pool.options.name;
            return tracing::error!(pool, %error, "the listener cannot be watched");
        }
    };
    let mut shortage = Shortage::default();
    let serve = |(permit, socket, client): Arrival, Service { pool, access }: &Service| {
        let (access, pool) = (Arc::clone(access), Arc::clone(pool));
        place(here, siblings, permit, Accepted { socket, client, access, pool })
    };
    loop {
        let serve_now = |arrival| serve(arrival, &serves);
        let accepted = tokio::select! {
            biased;
            () = accepting.cancelled() => return,
            changed = service.changed() => {
                if changed.is_err() {
                    break;
                }
                serves = service.borrow_and_update().clone();
                // Those of the connections, which inherit them. A unix socket has none.
                let _ = serves.pool.options.tcp.replace(&SockRef::from(&socket));
                continue;
            }
            accepted = accept(&socket, permits, &serves.pool, &mut shortage, serve_now) => accepted,
        };
        match accepted {
            Ok(()) => {}
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                let advice = match Errno::from_io_error(&error) {
                    Some(Errno::NOSPC) => "raise fs.epoll.max_user_watches",
                    _ => "if it is open files, raise their limit (LimitNOFILE, ulimit -n)",
                };
                shortage.log(&serves.pool, &error.to_string(), advice);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // The last ones: their handshake is done, and closing the socket would reset them.
    while let Ok(permit) = Arc::clone(permits).try_acquire_owned()
        && let Ok((socket, client)) = accept_now(&socket)
    {
        // One that fails is told of with its end.
        let _ = serve((permit, socket, client), &serves);
    }
}

/// A connection with its place among the process's sessions.
type Arrival = (OwnedSemaphorePermit, OwnedFd, ClientAddress);

#[expect(deprecated, reason = "new() trusts the type to keep its descriptor open, which an owned one does")]
fn watched(socket: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::new(socket)
}

/// Waits for connections, and serves those that are there. A permit is taken, and at the limit waited for, when somebody
/// is there: an idle listener keeps none from the others.
async fn accept(
    socket: &AsyncFd<Arc<OwnedFd>>,
    permits: &Arc<Semaphore>,
    pool: &Pool,
    shortage: &mut Shortage,
    serve: impl Fn(Arrival) -> io::Result<()>,
) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    for _ in 0..AT_ONCE {
        if permits.available_permits() == 0 {
            if ready.try_io(somebody_waits).is_err() {
                return Ok(());
            }
            let advice = "raise max_sessions, and the limit of open files if that is what bounds it";
            shortage.log(pool, "as many sessions as allowed are open", advice);
        }
        let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
        let Ok(accepted) = ready.try_io(accept_now) else { return Ok(()) };
        let (socket, client) = accepted?;
        serve((permit, socket, client))?;
    }
    tokio::task::yield_now().await;
    Ok(())
}

/// Whether there is somebody to accept, who stays where he is.
fn somebody_waits(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<()> {
    if has_news(socket.get_ref())? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

fn accept_now(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<(OwnedFd, ClientAddress)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, address) = acceptfrom_with(socket.get_ref(), flags)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    // Of a listener's clients, those without an IP address have come through a unix socket.
    let client = address.map(ClientAddress::of);
    let client = client.unwrap_or_else(|| ClientAddress::Unix { uid: user_behind(&socket) });
    Ok((socket, client))
}

/// Who has connected a unix socket (unix(7), SO_PEERCRED).
fn user_behind(socket: &OwnedFd) -> u32 {
    /// What the kernel says itself of a user that this user namespace does not know.
    const OVERFLOW_UID: u32 = 65534;
    socket_peercred(socket).map_or(OVERFLOW_UID, |peer| peer.uid.as_raw())
}

/// accept(2): errors of the connection that was about to be accepted, to be treated like "try again".
fn concerns_one_connection(error: &io::Error) -> bool {
    const OF_ONE: [Errno; 11] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
    ];
    OF_ONE.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Says once that accepting is short of something, and again only after a while.
#[derive(Debug, Default)]
struct Shortage {
    logged_at: Option<tokio::time::Instant>,
}

impl Shortage {
    fn log(&mut self, pool: &Pool, what: &str, advice: &str) {
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            self.logged_at = Some(tokio::time::Instant::now());
            tracing::error!(pool = &*pool.options.name, what, advice, "new connections have to wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::Mutex;

    use super::*;
    use crate::proxy::PoolOptions;
    use crate::routing::{ClusterId, Kind};
    use crate::stats::PoolStats;

    /// A listener that somebody has connected to.
    fn with_one() -> (AsyncFd<Arc<OwnedFd>>, TcpStream) {
        let socket = bind_ip(([127, 0, 0, 1], 0).into(), false, TcpOptions::default()).unwrap();
        let client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        (watched(Arc::new(socket.into())).unwrap(), client)
    }

    fn pool() -> Pool {
        let options = PoolOptions::new(ClusterId::default(), "a", Kind::Primary);
        Pool::new(options, Arc::new(PoolStats::new(1)))
    }

    #[tokio::test]
    async fn at_the_limit_nobody_is_said_to_wait_who_is_not_there() {
        let ((socket, _client), permits) = (with_one(), Arc::new(Semaphore::new(1)));
        let (served, mut shortage) = (Mutex::new(Vec::new()), Shortage::default());
        let serve = |arrival| {
            served.lock().unwrap().push(arrival);
            Ok(())
        };
        let pool = pool();
        let accepted = accept(&socket, &permits, &pool, &mut shortage, serve);
        tokio::time::timeout(Duration::from_secs(15), accepted).await.expect("nobody waits").unwrap();
        assert_eq!((served.lock().unwrap().len(), permits.available_permits()), (1, 0));
        assert!(shortage.logged_at.is_none());
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_watched_is_a_shortage() {
        let ((socket, _client), permits) = (with_one(), Arc::new(Semaphore::new(2)));
        let serve = |_| Err(Errno::NOSPC.into());
        let accepted = accept(&socket, &permits, &pool(), &mut Shortage::default(), serve).await;
        assert!(!concerns_one_connection(&accepted.expect_err("no space")));
        assert_eq!(permits.available_permits(), 2);
    }
}
