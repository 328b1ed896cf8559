//! A listening socket's other use: to be passed to a process that goes on where this one ends.
//!
//! Whoever serves the socket has it; this only knows of it, so that a closed socket is closed. Both processes may have it
//! open at one time: the kernel has one queue of connections for both, and closing one side loses nobody.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Says that the file of a unix socket stays where it is when this process lets go of the socket.
#[derive(Debug, Clone, Default)]
pub struct Stays(Arc<AtomicBool>);

/// A socket that is served, and the file that goes with it.
#[derive(Debug, Clone)]
pub struct Share {
    socket: Weak<OwnedFd>,
    /// `None`: there is no file, or it is not this process's to remove.
    file: Option<Stays>,
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
    pub fn new(socket: impl AsFd, file: Option<Stays>) -> io::Result<Kept> {
        let socket = Arc::new(socket.as_fd().try_clone_to_owned()?);
        let share = Share::new(&socket, file);
        Ok(Kept { _socket: socket, share })
    }
}

impl Stays {
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Share {
    pub fn new(socket: &Arc<OwnedFd>, file: Option<Stays>) -> Share {
        Share { socket: Arc::downgrade(socket), file }
    }

    /// Another descriptor of the same socket; `None` when it is closed.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        self.socket.upgrade().map(|socket| socket.try_clone()).transpose()
    }

    /// There is a file, and this process would remove it.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// From now on the file is the other process's.
    pub fn leave_file(&self) {
        if let Some(file) = &self.file {
            file.0.store(true, Relaxed);
        }
    }
}
