//! A listening socket's other use: to be passed to a process that goes on where this one ends.
//!
//! Whoever serves the socket has it; this only knows of it, so that a closed socket is closed. Both processes may have it
//! open at one time: the kernel has one queue of connections for both, and closing one side loses nobody.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use socket2::SockRef;

use super::socket_file::{BoundFile, SocketFile};

/// Says that the file of a unix socket stays where it is when this process lets go of the socket.
#[derive(Debug, Clone, Default)]
pub struct Stays(Arc<AtomicBool>);

/// A socket that is served, and the file that goes with it.
#[derive(Debug, Clone)]
pub struct Share {
    socket: Weak<OwnedFd>,
    /// Of a unix socket.
    file: Option<BoundFile>,
    /// `None`: there is no file, or it is not this process's to remove.
    stays: Option<Stays>,
}

/// A descriptor beside the one of whoever serves the socket and does not share it.
#[derive(Debug)]
pub struct Kept {
    _socket: Arc<OwnedFd>,
    pub share: Share,
}

impl Kept {
    /// # Errors
    /// When there are no descriptors left.
    pub fn new(socket: impl AsFd, file: Option<&SocketFile>) -> io::Result<Kept> {
        let socket = Arc::new(socket.as_fd().try_clone_to_owned()?);
        let share = Share::new(&socket, file);
        Ok(Kept { _socket: socket, share })
    }
}

impl Stays {
    pub fn set(&self, stays: bool) {
        self.0.store(stays, Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Share {
    pub fn new(socket: &Arc<OwnedFd>, file: Option<&SocketFile>) -> Share {
        let stays = file.and_then(SocketFile::stays);
        Share { socket: Arc::downgrade(socket), file: file.map(|file| file.bound().clone()), stays }
    }

    /// Itself, for a moment: it does not close meanwhile. `None` when it is closed.
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.socket.upgrade()
    }

    /// Another descriptor of the same socket; `None` when it is closed.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        self.socket.upgrade().map(|socket| socket.try_clone()).transpose()
    }

    /// The addresses by which clients come to it; none for a unix socket, or when it is closed.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        self.socket().map(|socket| addresses(&socket)).into_iter().flatten()
    }

    /// There is a file, and this process would remove it.
    pub fn has_file(&self) -> bool {
        self.stays.is_some()
    }

    /// Somebody can come to the socket. Nobody can whose way is a file that has been removed or replaced.
    pub fn is_reachable(&self) -> bool {
        self.file.as_ref().is_none_or(BoundFile::is_there)
    }

    /// From now on the file is the other process's.
    pub fn leave_file(&self) {
        if let Some(stays) = &self.stays {
            stays.set(true);
        }
    }
}

/// The addresses by which clients come to a socket; none for a unix one.
pub fn addresses(socket: &OwnedFd) -> impl Iterator<Item = SocketAddr> + use<> {
    let socket = SockRef::from(socket);
    let own = socket.local_addr().ok().and_then(|own| own.as_socket());
    // One that was passed to this process may be for both families.
    let is_for_both = own.is_some_and(|own| own.ip() == Ipv6Addr::UNSPECIFIED)
        && socket.only_v6().is_ok_and(|only_v6| !only_v6);
    let of_ipv4 = own.filter(|_| is_for_both).map(|own| (Ipv4Addr::UNSPECIFIED, own.port()).into());
    own.into_iter().chain(of_ipv4)
}
