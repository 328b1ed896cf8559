//! The file of a unix socket: made with its mode, put in the place of one that was left behind, and removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::share::{Kept, Stays};

/// Its owner and its group may connect, nobody else.
pub const MODE: u32 = 0o660;
/// Connections that the kernel keeps for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket; the file goes when this goes.
#[derive(Debug)]
pub struct SocketFile {
    listener: Option<UnixListener>,
    bound: BoundFile,
    /// `None`: the file is not ours to remove.
    stays: Option<Stays>,
}

/// The file that a socket is bound to: where it was, and which one it is.
#[derive(Debug, Clone)]
pub struct BoundFile {
    path: PathBuf,
    /// Device and inode, which no other file gets for as long as the socket is open. `None`: there was none any more.
    identity: Option<(u64, u64)>,
}

impl BoundFile {
    fn at(path: &Path) -> BoundFile {
        BoundFile { path: path.to_owned(), identity: identity(path).ok() }
    }

    /// Nobody has removed it or put another one in its place.
    pub fn is_there(&self) -> bool {
        match identity(&self.path) {
            Ok(found) => Some(found) == self.identity,
            // What cannot be looked at is not gone.
            Err(error) => self.identity.is_some() && error.kind() != io::ErrorKind::NotFound,
        }
    }
}

impl SocketFile {
    /// Listens at `path`; who may write to the file, by `mode`, may connect. A socket there that nobody listens on is what
    /// a process left that was killed: it is replaced.
    ///
    /// # Errors
    /// Those of the system; `AddrInUse` when another process listens there, `AlreadyExists` when a file that is no socket
    /// is in the way.
    pub fn bind(path: &Path, mode: u32) -> io::Result<SocketFile> {
        clear(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Before it listens, so that nobody gets in while the mode is another one.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = Some(UnixListener::from(socket));
        Ok(SocketFile { listener, bound: BoundFile::at(path), stays: Some(Stays::default()) })
    }

    /// Takes over a socket that another process has bound. With `stays` the file becomes ours, as soon as that says so; without,
    /// it is that process's, which removes it. Its mode is as it was.
    ///
    /// # Errors
    /// Those of the system.
    pub fn adopt(listener: UnixListener, path: &Path, stays: Option<Stays>) -> io::Result<SocketFile> {
        SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(SocketFile { listener: Some(listener), bound: BoundFile::at(path), stays })
    }

    /// By which the file can be left to another process; `None`: it is not ours.
    pub fn stays(&self) -> Option<Stays> {
        self.stays.clone()
    }

    pub fn bound(&self) -> &BoundFile {
        &self.bound
    }

    /// For another process, until the listener is taken.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn keep(&self) -> io::Result<Kept> {
        Kept::new(self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?, Some(self))
    }

    /// The listener, once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn clear(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = self.stays.as_ref().is_some_and(|stays| !stays.is_set());
        // A file that somebody else has put there since is not ours.
        if is_ours && self.bound.is_there() {
            // What stays behind is replaced by the next process.
            let _ = std::fs::remove_file(&self.bound.path);
        }
    }
}
