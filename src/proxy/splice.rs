//! Bulk without copying.
//!
//! splice(2) moves the kernel's pages from one socket into a pipe and from the pipe into the other socket; no byte
//! comes into this process. That costs two calls and some bookkeeping for each move, and pays only for large ones.
//! The relay decides when; here is how.
//!
//! "Try again" is what splice says of an empty socket and of a full pipe alike, and "nothing" of an ended stream and
//! of a pipe without room. So a pipe is only ever filled when it is empty, and then there is no doubt. (Source:
//! splice(2), pipe(7).)
//!
//! Pipes are lent by the worker for as long as they hold something. An idle session has none.
//!
//! The only file with unsafe code, for one socket option.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::socket::{Moved, Socket};

/// Pipes of one worker. Who finds none copies, so this bounds descriptors and the kernel's memory, not sessions.
pub const MOST_PIPES: usize = 16;
/// What a pipe is to hold. More than is moved at once: each packet takes at least one of its pages, however little is
/// in it.
const PIPE_BYTES: usize = 1024 * 1024;
/// Moved at once: enough that the calls cost little beside it, and little enough for others not to wait long.
pub const MOST_BYTES: usize = 384 * 1024;
/// What a pipe must hold to be of use. Of a user with many pipes the kernel takes the room away (pipe(7),
/// `pipe-user-pages-soft`).
const LEAST_PIPE_BYTES: usize = 64 * 1024;
/// How long nobody asks for another pipe after none could be had.
const PAUSE: Duration = Duration::from_secs(1);

/// A pipe, and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    holds: usize,
    _place: Arc<()>,
}

/// The pipes of one worker.
#[derive(Debug)]
pub struct Pipes {
    idle: Vec<Pipe>,
    /// Each pipe, idle or lent, has a copy.
    places: Arc<()>,
    most: usize,
    none_until: Option<Instant>,
}

impl Pipes {
    pub fn new(most: usize) -> Pipes {
        Pipes { idle: Vec::new(), places: Arc::new(()), most, none_until: None }
    }

    /// An empty pipe, if there is one to be had.
    pub fn lend(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made() >= self.most || self.none_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        match Pipe::new(Arc::clone(&self.places)) {
            Ok(pipe) => Some(pipe),
            Err(error) => {
                self.give_up(&error);
                None
            }
        }
    }

    /// Takes a pipe back. One that still holds something is closed: the next to use it would send another's bytes.
    pub fn take_back(&mut self, pipe: Pipe) {
        if pipe.holds == 0 {
            self.idle.push(pipe);
        }
    }

    /// Lends nothing for a while: no pipe can be had, or splice(2) does not work here.
    pub fn give_up(&mut self, error: &io::Error) {
        tracing::debug!(%error, "bytes cannot be spliced; they are copied");
        self.idle.clear();
        self.none_until = Some(Instant::now() + PAUSE);
    }

    /// Pipes that are open.
    fn made(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }
}

impl Pipe {
    fn new(place: Arc<()>) -> io::Result<Pipe> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused to a user with many pipes; what counts is what it holds then.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        if fcntl_getpipe_size(&writer)? < LEAST_PIPE_BYTES {
            return Err(io::Error::other("the kernel gives this user only small pipes"));
        }
        Ok(Pipe { reader, writer, holds: 0, _place: place })
    }

    pub fn holds(&self) -> usize {
        self.holds
    }

    /// Takes what the socket has, as far as it fits. The pipe must be empty.
    ///
    /// # Errors
    /// Those of the socket, and of systems that cannot splice it; nothing was moved then.
    pub fn fill(&mut self, from: &mut Socket) -> io::Result<Moved> {
        debug_assert_eq!(self.holds, 0);
        let outcome = retry_on_intr(|| splice(&*from, None, &self.writer, None, MOST_BYTES, FLAGS));
        // A short move says nothing: the pages may have run out, with little in each. So the socket stays readable until
        // it says that it is not.
        let outcome = from.after_read(outcome);
        if let Ok(Moved::Bytes(bytes)) = outcome {
            self.holds = bytes;
        }
        outcome
    }

    /// Gives the socket what it takes. The pipe must hold something.
    pub fn drain(&mut self, to: &mut Socket) -> io::Result<Moved> {
        debug_assert_ne!(self.holds, 0);
        let outcome = retry_on_intr(|| splice(&self.reader, None, &*to, None, self.holds, FLAGS));
        let outcome = to.after_write(outcome);
        if let Ok(Moved::Bytes(bytes)) = outcome {
            self.holds -= bytes;
        }
        outcome
    }
}

/// Lets a bulk transfer gather in the kernel, so many bytes at a time. There is room for four times as much: a sender
/// that had filled its window each time before the news comes would stand still as often.
pub fn gather(from: &Socket, bytes: usize) {
    // Linux makes the buffer of a socket twice as large as what it is to wait for, and leaves it so (tcp_set_rcvlowat).
    tell_at(from, 4 * bytes);
    tell_at(from, bytes);
}

/// Lets the kernel wait with the news that a socket can be read until so many bytes have come, or its end. What has
/// come can be read at any time. Where this does not work, the news comes early: no harm.
#[expect(unsafe_code, reason = "no crate in use sets SO_RCVLOWAT")]
pub fn tell_at(socket: &Socket, bytes: usize) {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let size = size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed from an open socket for the whole call, and the kernel only reads `size` bytes
    // from the integer, which outlives the call.
    unsafe {
        let value = (&raw const bytes).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, size);
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Whether this error means that splice does not work here, and not that the connection has broken.
pub fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::OPNOTSUPP, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_used_again_up_to_a_limit_and_never_with_something_in_them() {
        let mut pipes = Pipes::new(2);
        let (first, mut second) = (pipes.lend().unwrap(), pipes.lend().unwrap());
        assert!(pipes.lend().is_none());
        pipes.take_back(first);
        let again = pipes.lend().unwrap();
        assert_eq!(pipes.made(), 2);
        // What is in it is another session's.
        second.holds = 1;
        pipes.take_back(second);
        assert_eq!(pipes.made(), 1);
        // Nor does one that goes with its session keep its place.
        drop(again);
        assert!(pipes.made() == 0 && pipes.lend().is_some());
    }

    #[test]
    fn after_a_failure_nobody_asks_for_a_while() {
        let mut pipes = Pipes::new(2);
        let lent = pipes.lend().unwrap();
        pipes.take_back(lent);
        pipes.give_up(&io::Error::from(Errno::MFILE));
        assert!(pipes.lend().is_none() && pipes.made() == 0);
        pipes.none_until = pipes.none_until.map(|until| until - PAUSE);
        assert!(pipes.lend().is_some());
    }
}
