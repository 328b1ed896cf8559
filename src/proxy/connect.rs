//! Dialling a backend, and the socket options of both sides.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// An idle peer that vanished without a word is noticed after 30 + 3 * 5 s; idle sessions live for ever. With data
/// under way it is the kernel's `tcp_retries2` that gives up, after about 15 minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

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
pub async fn dial(addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream, DialError> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its host name does not resolve");
    for &address in addresses {
        match timeout(patience, dial_one(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        }
    }
    Err(DialError::new(failure))
}

async fn dial_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    tune(&SockRef::from(&socket))?;
    socket.connect(address).await
}

/// The options that both sides of a session get. No TCP_USER_TIMEOUT: Linux counts it also while the peer is there but
/// takes nothing, and would end the session of a client that pauses in a long result, or of a server that waits for
/// a lock in the middle of a COPY.
pub fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

/// Makes the coming close a reset: unsent data is dropped and no TIME_WAIT stays.
pub fn reset_on_close(socket: &SockRef<'_>) {
    // A socket that is gone already needs no reset.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
