//! Listening beside an own socket that is about to close and has the same port at a wider or narrower address.
//!
//! Linux gives `0.0.0.0:5000` to nobody while somebody listens on `127.0.0.1:5000`, unless both have SO_REUSEPORT. It looks
//! at that when an address is bound and once more when it is listened on, and never again. So both have it for these two
//! calls only, and connections are spread by nothing but the address: the narrower socket gets what comes to its own.
//!
//! The former socket then has to go without losing anybody. Closing it would reset whoever the kernel has taken or is about to
//! take for it. So it is tied to a network interface that does not exist: no new connection finds it any more, each goes to
//! the other socket, while handshakes that have begun end where they began, and are accepted there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// A handshake that has begun is over by then.
pub const HANDSHAKES: Duration = Duration::from_secs(3);
/// No host has so many interfaces.
const NOWHERE: Option<NonZeroU32> = NonZeroU32::new(0x7fff_fffe);

/// Own listening sockets that are about to close.
#[derive(Debug, Default)]
pub struct Former(pub Vec<Arc<OwnedFd>>);

/// SO_REUSEPORT on all of these, for as long as this is there.
struct Tolerance<'a>(Vec<SockRef<'a>>);

impl Former {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An address was refused, and perhaps for one of these.
    pub fn may_be_why(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::AddrInUse && !self.is_empty()
    }

    /// Does to a new socket, of this address, what the former ones are in the way of.
    ///
    /// # Errors
    /// Those of `work`, such as an address that somebody else has; and those of the system.
    pub fn tolerate(
        &self,
        socket: impl AsFd,
        address: SocketAddr,
        work: impl FnOnce(SockRef<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let former = self.0.iter().map(|former| SockRef::from(&**former));
        let tolerance = Tolerance::new(former.chain([SockRef::from(&socket)]).collect())?;
        let outcome = work(SockRef::from(&socket));
        drop(tolerance);
        forget(address);
        outcome
    }
}

impl Tolerance<'_> {
    fn new(sockets: Vec<SockRef<'_>>) -> io::Result<Tolerance<'_>> {
        let tolerance = Tolerance(sockets);
        tolerance.0.iter().try_for_each(|socket| socket.set_reuse_port(true))?;
        Ok(tolerance)
    }
}

impl Drop for Tolerance<'_> {
    fn drop(&mut self) {
        for socket in &self.0 {
            // It was possible a moment ago.
            let _ = socket.set_reuse_port(false);
        }
    }
}

/// The kernel remembers of a port that it is shared, and would let in other programs of the same user that set SO_REUSEPORT,
/// until somebody binds the port who does not: here in the other family, where nobody is in the way. Without IPv6 it
/// remembers; pilotfish itself is refused all the same, since it sets nothing where no socket of its own is in the way.
fn forget(address: SocketAddr) {
    let elsewhere: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv6Addr::LOCALHOST, address.port()).into(),
        SocketAddr::V6(_) => (Ipv4Addr::LOCALHOST, address.port()).into(),
    };
    let bind = || {
        let socket = Socket::new(Domain::for_address(elsewhere), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if elsewhere.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&SockAddr::from(elsewhere))
    };
    // Somebody who has it there has done as much.
    let _ = bind();
}

/// No new connection comes to this listening socket; those that have begun still do.
///
/// # Errors
/// From Linux before 5.7, for want of CAP_NET_RAW.
pub fn hide(socket: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match socket.domain()? {
        Domain::IPV6 => socket.bind_device_by_index_v6(NOWHERE),
        _ => socket.bind_device_by_index_v4(NOWHERE),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const WIDE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const NARROW: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

    fn socket() -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket
    }

    fn listen(socket: &Socket, at: SocketAddr) -> io::Result<()> {
        socket.bind(&SockAddr::from(at))?;
        socket.listen(16)
    }

    /// Below those that the kernel gives out, so that nobody connects from it at one of the other addresses.
    pub(crate) fn free_port() -> u16 {
        use std::hash::{BuildHasher, RandomState};
        let ports = (0..).map(|number| 20_000 + (RandomState::new().hash_one(number) % 10_000) as u16);
        let is_free = |port: &u16| socket().bind(&SockAddr::from(SocketAddr::from((WIDE, *port)))).is_ok();
        { ports }.find(is_free).unwrap()
    }

    fn all(listener: &TcpListener) -> usize {
        listener.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    #[test]
    fn who_has_begun_ends_at_the_former_socket_and_who_comes_then_at_the_new_one() {
        for [first, then] in [[NARROW, WIDE], [WIDE, NARROW]] {
            let port = free_port();
            let [way_in, first, then] = [NARROW, first, then].map(|host| SocketAddr::from((host, port)));
            let (old, new) = (socket(), socket());
            listen(&old, first).unwrap();
            listen(&new, then).expect_err("as for anybody");
            let _early = TcpStream::connect(way_in).unwrap();
            let old = Arc::new(OwnedFd::from(old));
            let former = Former(vec![Arc::clone(&old)]);
            former.tolerate(&new, then, |new| listen(&new, then)).unwrap();
            hide(&old).unwrap();
            let _late = [(); 3].map(|()| TcpStream::connect(way_in).unwrap());
            let old = TcpListener::from(old.try_clone().unwrap());
            assert_eq!((all(&old), all(&TcpListener::from(new))), (1, 3), "{first} {then}");
        }
    }

    #[test]
    fn strangers_are_refused_before_and_after() {
        let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let refused = |port| {
            for (host, shares) in [(WIDE, false), (NARROW, false), (WIDE, true), (NARROW, true)] {
                let stranger = socket();
                stranger.set_reuse_port(shares).unwrap();
                // Without IPv6 the kernel cannot be made to forget.
                if !shares || has_ipv6 {
                    listen(&stranger, (host, port).into()).expect_err("the port is taken");
                }
            }
        };
        for [first, then] in [[NARROW, WIDE], [WIDE, NARROW]] {
            let port = free_port();
            let [first, then] = [first, then].map(|host| SocketAddr::from((host, port)));
            let (old, new) = (socket(), socket());
            listen(&old, first).unwrap();
            refused(port);
            let former = Former(vec![Arc::new(OwnedFd::from(old))]);
            former.tolerate(&new, then, |new| listen(&new, then)).unwrap();
            refused(port);
            drop(former);
            let stranger = socket();
            stranger.set_reuse_port(has_ipv6).unwrap();
            listen(&stranger, then).expect_err("the new one is still there");
        }
    }
}
