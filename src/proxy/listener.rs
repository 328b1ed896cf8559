//! Accepting connections.
//!
//! A permit comes before each accept: at the limit the kernel's backlog is the queue. No error ends the loop: those of
//! one connection are passed over, those of the whole process (descriptors, memory, what epoll may watch) are
//! waited out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::access::{Access, ClientAddress};
use super::beside;
use super::engine::has_news;
use super::share::Share;
use super::worker::{Accepted, Handle, Worker, place};
use crate::stats::Part;

pub use super::bound::{
    Bound, ListenAddress, ListenOptions, Watched, adopt, adopt_ip, bind, bind_beside, bind_ip, bind_ip_beside,
};

/// Connections accepted in one go, before everything else on this worker has its turn.
const AT_ONCE: usize = 32;
/// How long accepting pauses when descriptors, memory or what epoll may watch have run out.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// A shortage is logged at its begin and then no more often than this.
const LOG_EVERY: Duration = Duration::from_secs(10);

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
    pub socket: Watched,
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
        socket: Watched,
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

    /// Nobody new comes to it from now on. Whoever is on the way is accepted for as long as this is there.
    pub fn hide(&self) {
        let hidden = self.share.socket().map_or(Ok(()), |socket| beside::hide(&socket));
        if let Err(error) = hidden {
            tracing::debug!(listen = %self.address, %error, "clients may still come to a socket that is about to close");
        }
    }

    /// Accepts whoever the kernel has taken already, and closes the socket. Blocks until that is done, which takes no longer
    /// than a moment of the worker, or until `patience` is over.
    pub fn close(self, patience: Duration) {
        Listening::close_all([self], patience);
    }

    /// The same for several, all within the patience for one.
    pub fn close_all(listening: impl IntoIterator<Item = Listening>, patience: Duration) {
        let until = Instant::now() + patience;
        let tell = |Listening { service, open, .. }: Listening| {
            drop(service);
            open
        };
        // All are told before one is waited for.
        let told: Vec<_> = listening.into_iter().map(tell).collect();
        for open in told {
            let _ = open.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// Accepts until told to stop; the socket is closed then, and its file removed, and only then is it told to be.
pub(super) async fn run(listener: Listener, here: Arc<Worker>, siblings: Arc<[Handle]>) {
    here.panics.again(Part::Worker, || accept_all(&listener, &here, &siblings)).await;
    let Listener { socket, open, .. } = listener;
    drop(socket);
    drop(open);
}

async fn accept_all(listener: &Listener, here: &Arc<Worker>, siblings: &[Handle]) {
    let Listener { socket: Watched { socket, .. }, permits, accepting, .. } = listener;
    let mut service = listener.service.clone();
    let mut serves = service.borrow_and_update().clone();
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
            accepted = accept(socket, permits, &serves.pool, &mut shortage, serve_now) => accepted,
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
        && let Ok((socket, client)) = accept_now(socket)
    {
        // One that fails is told of with its end.
        let _ = serve((permit, socket, client), &serves);
    }
}

/// A connection with its place among the process's sessions.
type Arrival = (OwnedSemaphorePermit, OwnedFd, ClientAddress);

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
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;
    use crate::proxy::{PoolOptions, TcpOptions};
    use crate::routing::{ClusterId, Kind};
    use crate::stats::PoolStats;

    /// A listener that somebody has connected to.
    fn with_one() -> (AsyncFd<Arc<OwnedFd>>, TcpStream) {
        let bound = bind(&ListenOptions {
            address: ListenAddress::Ip(([127, 0, 0, 1], 0).into()),
            free_bind: false,
            mode: 0,
            tcp: TcpOptions::default(),
        });
        let watched = bound.unwrap().watch(0).unwrap();
        let ListenAddress::Ip(at) = watched.address else { panic!("no IP address") };
        (watched.socket, TcpStream::connect(at).unwrap())
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

    #[test]
    fn several_are_closed_within_the_patience_for_one() {
        const PATIENCE: Duration = Duration::from_millis(200);
        let socket = || {
            let socket = bind_ip(([127, 0, 0, 1], 0).into(), false, TcpOptions::default()).unwrap();
            Share::new(&Arc::new(socket.into()), None)
        };
        let mut stuck = Vec::new();
        let mut listening = || {
            let service = Service { pool: Arc::new(pool()), access: Arc::default() };
            let (until_closed, open) = std::sync::mpsc::channel();
            stuck.push(until_closed);
            let address = ListenAddress::Unix(PathBuf::from("/a"));
            Listening { address, share: socket(), service: watch::Sender::new(service), open }
        };
        let several: Vec<Listening> = (0..8).map(|_| listening()).collect();
        let begun = Instant::now();
        Listening::close_all(several, PATIENCE);
        let took = begun.elapsed();
        assert!((PATIENCE..3 * PATIENCE).contains(&took), "{took:?}");
    }
}
