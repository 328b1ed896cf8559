//! The file of a unix socket: made with its mode, put in the place of one that was left behind, and removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Its owner and its group may connect, nobody else.
pub const MODE: u32 = 0o660;
/// Connections that the kernel keeps for us; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket; the file goes when this goes.
#[derive(Debug)]
pub struct SocketFile {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Device and inode: a file that somebody else has put there since is not ours to remove.
    file: (u64, u64),
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
        let meta = std::fs::symlink_metadata(path)?;
        let listener = Some(UnixListener::from(socket));
        Ok(SocketFile { listener, path: path.to_owned(), file: (meta.dev(), meta.ino()) })
    }

    /// The listener, once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
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
        let meta = std::fs::symlink_metadata(&self.path);
        if meta.is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file) {
            // What stays behind is replaced by the next process.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
