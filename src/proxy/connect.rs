//! Dialling a backend, and the socket options of both sides.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
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
        let local = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
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

/// Dials the addresses in turn until one answers; each gets `patience`.
pub async fn dial(
    addresses: &[SocketAddr],
    patience: Duration,
    options: TcpOptions,
) -> Result<TcpStream, DialError> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its host name does not resolve");
    for &address in addresses {
        match timeout(patience, dial_one(address, options)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(DialError::new(failure))
}

async fn dial_one(address: SocketAddr, options: TcpOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    options.apply(&SockRef::from(&socket))?;
    socket.connect(address).await
}

impl TcpOptions {
    /// Sets the options; connections have those of their listener, which Linux lets inherit them.
    ///
    /// # Errors
    /// Those of the system.
    pub fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(Keepalive { idle, interval, count }) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
            socket.set_tcp_keepalive(&keepalive)?;
        }
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
