//! Dialling a backend, and the socket options of both sides.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::time::timeout;

/// How a peer that vanished without a word is noticed; both sides of a session get the same. Off at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpOptions {
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged, or the peer's window shut. `None`: as long as the kernel's
    /// `tcp_retries2` allows, about 15 minutes. Linux counts it also while the peer is there but takes nothing, and
    /// would end the session of a client that pauses in a long result, or of a server that waits for a lock in the
    /// middle of a COPY.
    pub user_timeout: Option<Duration>,
}

/// An idle peer is asked after `idle`, then each `interval`, in whole seconds; after `count` questions without an answer
/// it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

/// Why a dial failed, as far as it matters who is to blame.
#[derive(Debug)]
pub enum DialError {
    /// The member: nobody listens there, or nobody answers.
    Member(io::Error),
    /// This process: out of descriptors, ports or memory. The member is not suspect.
    Local(io::Error),
}

impl DialError {
    fn new(error: io::Error) -> DialError {
        use rustix::io::Errno;
        // NOSPC: of what epoll may watch.
        let local =
            [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOSPC, Errno::NOMEM];
        match error.raw_os_error() {
            Some(code) if local.iter().any(|errno| errno.raw_os_error() == code) => DialError::Local(error),
            _ => DialError::Member(error),
        }
    }
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DialError::Member(error) => error.fmt(f),
            DialError::Local(error) => write!(f, "{error} (on this side)"),
        }
    }
}

/// Dials the addresses in turn, by `connect`, until one answers; each gets `patience`.
pub async fn dial<F: Future<Output = io::Result<C>>, C>(
    addresses: &[SocketAddr],
    patience: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<C, DialError> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its host name does not resolve");
    for &address in addresses {
        match timeout(patience, connect(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(DialError::new(failure))
}

/// A socket to dial an address with, which does not block. It has the options but keepalive.
///
/// # Errors
/// Those of the system.
pub fn socket(address: SocketAddr, options: TcpOptions) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    TcpOptions { keepalive: None, ..options }.apply(&SockRef::from(&socket))?;
    Ok(socket)
}

impl Keepalive {
    /// # Errors
    /// Those of the system.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let Keepalive { idle, interval, count } = *self;
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
        socket.set_tcp_keepalive(&keepalive)
    }
}

impl TcpOptions {
    /// Sets the options; connections have those of their listener, which Linux lets inherit them.
    ///
    /// # Errors
    /// Those of the system.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        self.keepalive.map_or(Ok(()), |keepalive| keepalive.apply(socket))?;
        self.user_timeout.map_or(Ok(()), |timeout| socket.set_tcp_user_timeout(Some(timeout)))
    }

    /// The same for a socket that has had other options before.
    ///
    /// # Errors
    /// Those of the system; all of them for a unix socket.
    pub fn replace(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_keepalive(self.keepalive.is_some())?;
        socket.set_tcp_user_timeout(self.user_timeout)?;
        self.apply(socket)
    }
}

/// Makes the coming close a reset: unsent data is dropped and no TIME_WAIT stays.
pub fn reset_on_close(socket: &SockRef<'_>) {
    // A socket that is gone already needs no reset.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
