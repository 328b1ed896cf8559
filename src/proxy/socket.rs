//! One side's socket, with what is known of it.
//!
//! The kernel tells only changes: once that bytes have come, once that there is room again. In between the socket
//! remembers what it was told. A read that comes back short has emptied it, a write that comes back short has filled
//! it, and so neither needs a call that only finds out that there is nothing to do.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

use super::connect::reset_on_close;
use crate::stats::Side;

#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    pub side: Side,
    /// There may be bytes, or the end of the stream.
    readable: bool,
    /// There may be room.
    writable: bool,
    /// The other end has finished or is gone: reads go on until they have found out.
    finished: bool,
    /// The other end has broken off.
    broken: bool,
    /// Dropped, it closes with a reset: nothing unsent is kept, the port is free at once, and nobody takes a broken
    /// stream for a whole one.
    pub cuts: bool,
}

/// What the kernel tells of a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    pub readable: bool,
    pub writable: bool,
    pub finished: bool,
    /// The connection is broken off. What follows from it is in the others.
    pub broken: bool,
}

impl News {
    pub fn and(self, more: News) -> News {
        News {
            readable: self.readable || more.readable,
            writable: self.writable || more.writable,
            finished: self.finished || more.finished,
            broken: self.broken || more.broken,
        }
    }
}

/// How a call that moves bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; none of them means the end of the stream.
    Bytes(usize),
    /// The socket has nothing, or no room, now. It will tell.
    NotNow,
}

impl Socket {
    /// A socket of which nothing was told yet. It must not block. Its close is an end in order.
    pub fn new(stream: TcpStream, side: Side) -> Socket {
        Socket { stream, side, readable: false, writable: true, finished: false, broken: false, cuts: false }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn hear(&mut self, news: News) {
        self.readable |= news.readable;
        self.writable |= news.writable;
        self.finished |= news.finished;
        self.broken |= news.broken;
    }

    pub fn is_readable(&self) -> bool {
        self.readable || self.finished
    }

    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Reads what is there, at most a buffer full.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Moved> {
        let full = buffer.len();
        let outcome = retry_on_intr(|| recv(&self.stream, &mut *buffer, RecvFlags::empty()));
        let outcome = self.after_read(outcome.map(|(_, read)| read));
        if matches!(outcome, Ok(Moved::Bytes(read)) if read < full) {
            self.readable = false;
        }
        outcome
    }

    /// Notes what a read by other means has told of the socket.
    pub fn after_read(&mut self, outcome: Result<usize, Errno>) -> io::Result<Moved> {
        note(outcome, &mut self.readable).inspect(|moved| {
            // Nothing there, and so no end of the stream either: that is still to come, and will be told.
            self.finished &= *moved != Moved::NotNow;
        })
    }

    /// Writes what there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Moved> {
        let outcome = retry_on_intr(|| send(&self.stream, bytes, SendFlags::NOSIGNAL));
        let outcome = self.after_write(outcome);
        if matches!(outcome, Ok(Moved::Bytes(written)) if written < bytes.len()) {
            self.writable = false;
        }
        outcome
    }

    /// Notes what a write by other means has told of the socket.
    pub fn after_write(&mut self, outcome: Result<usize, Errno>) -> io::Result<Moved> {
        note(outcome, &mut self.writable)
    }

    /// Half-closes. A receiver that is gone altogether needs no telling.
    pub fn finish(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }

    /// The next read would find the end of the stream.
    pub fn is_at_end(&self) -> bool {
        matches!(recv(&self.stream, &mut [0], RecvFlags::PEEK), Ok((_, 0)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Of a connection that is broken off already nothing is left to be reset.
        if self.cuts && !self.broken {
            reset_on_close(&SockRef::from(&self.stream));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn note(outcome: Result<usize, Errno>, ready: &mut bool) -> io::Result<Moved> {
    match outcome {
        Ok(bytes) => Ok(Moved::Bytes(bytes)),
        Err(Errno::AGAIN) => {
            *ready = false;
            Ok(Moved::NotNow)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// A socket with `bytes` in it, and the other end.
    fn with_bytes(bytes: &[u8]) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        peer.write_all(bytes).unwrap();
        stream.peek(&mut [0]).unwrap();
        stream.set_nonblocking(true).unwrap();
        (Socket::new(stream, Side::Client), peer)
    }

    const READABLE: News = News { readable: true, writable: false, finished: false, broken: false };
    const FINISHED: News = News { finished: true, ..READABLE };

    #[test]
    fn a_short_read_leaves_nothing_to_ask_for() {
        let (mut socket, _peer) = with_bytes(b"abcd");
        assert!(!socket.is_readable());
        socket.hear(READABLE);
        assert_eq!(socket.read(&mut [0; 2]).unwrap(), Moved::Bytes(2));
        assert!(socket.is_readable());
        assert_eq!(socket.read(&mut [0; 3]).unwrap(), Moved::Bytes(2));
        assert!(!socket.is_readable());
    }

    #[test]
    fn the_end_is_read_although_the_bytes_before_it_came_short() {
        let (mut socket, peer) = with_bytes(b"abcd");
        drop(peer);
        socket.hear(FINISHED);
        assert_eq!(socket.read(&mut [0; 9]).unwrap(), Moved::Bytes(4));
        assert!(socket.is_readable());
        assert_eq!(socket.read(&mut [0; 9]).unwrap(), Moved::Bytes(0));
    }

    #[test]
    fn a_socket_that_has_nothing_is_not_asked_again() {
        let (mut socket, _peer) = with_bytes(b"a");
        socket.hear(FINISHED);
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), Moved::Bytes(1));
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), Moved::NotNow);
        assert!(!socket.is_readable());
    }

    #[test]
    fn a_short_write_means_no_room() {
        let (mut socket, _peer) = with_bytes(b"a");
        let bytes = vec![0; 1 << 20];
        while socket.is_writable() {
            assert!(matches!(socket.write(&bytes), Ok(Moved::Bytes(1..) | Moved::NotNow)));
        }
        socket.hear(News { writable: true, ..News::default() });
        assert!(socket.is_writable());
    }
}
