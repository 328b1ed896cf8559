//! One connection of a session that is not relayed yet: what is read, written and waited for while it is opened.
//!
//! The [`engine`](super::engine) makes it, and takes it back for the relay. The socket stays registered meanwhile. One
//! task uses it at a time.
//!
//! Dropped, one that was dialled is reset: a close in order would wait for the server, and for a frozen one keep the port
//! for a minute. An accepted one is closed in order: a client that was refused is to read why.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Keepalive;
use super::epoll::{Listed, Recipient, Watch, Wish};
use super::socket::Socket;
use crate::stats::Side;

#[derive(Debug)]
pub struct Stream {
    // Closed before its place is given to another.
    socket: Socket,
    listed: Listed,
    keepalive: Option<Box<Keepalive>>,
}

impl Stream {
    /// Takes an accepted socket that does not block.
    ///
    /// # Errors
    /// When the system lets it watch no more.
    pub(super) fn new(watch: &Arc<Watch>, socket: TcpStream) -> io::Result<Stream> {
        let listed = watch.add(&socket)?;
        Ok(Stream { socket: Socket::new(socket, Side::Client), listed, keepalive: None })
    }

    /// Dials. Keepalive is left to be set when it is relayed.
    ///
    /// # Errors
    /// Those of the dial, and of the system.
    pub(super) async fn connect(
        watch: &Arc<Watch>,
        socket: socket2::Socket,
        address: SocketAddr,
        keepalive: Option<Keepalive>,
    ) -> io::Result<Stream> {
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let mut stream = Stream { keepalive: keepalive.map(Box::new), ..Stream::new(watch, socket.into())? };
        stream.socket.cuts = true;
        // Asked before waiting: on one host a connection is there by now.
        while !stream.is_connected()? {
            stream.listed.may_not(Wish::Write);
            stream.comes(Wish::Write).await;
        }
        Ok(stream)
    }

    fn is_connected(&self) -> io::Result<bool> {
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.socket.stream().take_error()?.map_or(Ok(false), Err)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for bytes or the end of the stream and looks at them; they stay in the socket.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn look(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut peek = || Ok(recv(&self.socket, &mut *bytes, RecvFlags::PEEK)?.1);
        poll_fn(|cx| self.attempt(Wish::Read, cx, &mut peek)).await
    }

    /// Resolves when the connection is broken off, which an end of the stream is not.
    pub async fn breaks(&self) {
        self.comes(Wish::Break).await;
    }

    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.stream().local_addr()
    }

    /// # Errors
    /// When it is connected no more.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.stream().peer_addr()
    }

    /// Still to be set.
    pub(super) fn keepalive(&mut self) -> Option<Box<Keepalive>> {
        self.keepalive.take()
    }

    /// Becomes a side of a session that is relayed.
    pub(super) fn hand_over(self, recipient: Recipient) -> (Socket, Listed) {
        let Stream { mut socket, listed, .. } = self;
        socket.side = recipient.1;
        socket.hear(listed.hand_over(recipient));
        (socket, listed)
    }

    async fn comes(&self, wish: Wish) {
        poll_fn(|cx| if self.listed.may(wish, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn attempt<T>(
        &self,
        wish: Wish,
        cx: &Context<'_>,
        mut call: impl FnMut() -> Result<T, Errno>,
    ) -> Poll<io::Result<T>> {
        while self.listed.may(wish, cx) {
            match call() {
                Err(Errno::AGAIN) => self.listed.may_not(wish),
                Err(Errno::INTR) => {}
                outcome => return Poll::Ready(outcome.map_err(io::Error::from)),
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = into.initialize_unfilled();
        let call = || Ok(recv(&self.socket, &mut *room, RecvFlags::empty())?.1);
        self.attempt(Wish::Read, cx, call).map_ok(|read| into.advance(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.attempt(Wish::Write, cx, || send(&self.socket, bytes, SendFlags::NOSIGNAL))
    }

    /// A socket keeps nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.finish())
    }
}
