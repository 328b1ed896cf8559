//! Bytes both ways until both ends are done.
//!
//! Each direction reads into the worker's one scratch buffer and writes at once. Only what the other side does not
//! take right then gets a buffer of its own, and nothing more is read in that direction until it is gone: a slow
//! reader slows its writer, and an idle session holds no buffer at all.
//!
//! An end of stream is passed on as a half-close after the last byte; the other direction goes on until it ends too.
//! An error ends both, as a reset.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connect::reset_on_close;
use crate::stats::{End, Side};

/// Read at once: what a bulk transfer needs to be cheap, and what one direction can have in flight at most.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Reads in one go before others on this worker get their turn.
const BURST: usize = 8;

thread_local! {
    /// Shared by all sessions of a worker: it is empty again before any of them waits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Told of every byte that was delivered.
pub trait Meter {
    fn delivered(&self, to: Side, bytes: usize);
}

/// Both sockets of a session. Dropped before both directions are done, it resets both connections: neither side may
/// take a broken stream for a whole one.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    backend: TcpStream,
    done: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.done {
            reset_on_close(&self.client);
            reset_on_close(&self.backend);
        }
    }
}

/// One direction: from one side's reading to the other side's writing.
#[derive(Debug, Default)]
struct Direction {
    /// What the receiver has not taken yet.
    rest: Option<Rest>,
    state: State,
}

#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    written: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The sender ended; the rest is still to be delivered.
    Ending,
    /// The end was passed on.
    Closed,
}

/// An error of one side, which ends the session.
#[derive(Debug)]
struct Failure {
    side: Side,
    error: io::Error,
}

/// Relays until both sides have ended, and says how it came to that.
pub async fn relay(client: TcpStream, backend: TcpStream, meter: &impl Meter) -> End {
    let mut pair = Pair { client, backend, done: false };
    let mut inward = Direction::default();
    let mut outward = Direction::default();
    let mut first_to_end = None;
    let outcome = std::future::poll_fn(|cx| {
        let Pair { client, backend, .. } = &mut pair;
        let inward_done = match inward.pump(cx, (client, Side::Client), (backend, Side::Backend), meter) {
            Ok(done) => done,
            Err(failure) => {
                // A server that goes says why; its last words are still in the socket.
                outward.salvage(cx, (backend, Side::Backend), (client, Side::Client), meter);
                return Poll::Ready(Err(failure));
            }
        };
        if inward.state != State::Open {
            first_to_end.get_or_insert(Side::Client);
        }
        let outward_done = outward.pump(cx, (backend, Side::Backend), (client, Side::Client), meter)?;
        if outward.state != State::Open {
            first_to_end.get_or_insert(Side::Backend);
        }
        if inward_done.is_ready() && outward_done.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    match outcome.await {
        Ok(()) => {
            pair.done = true;
            if first_to_end == Some(Side::Backend) { End::BackendClosed } else { End::ClientClosed }
        }
        // A server that closes with the client's farewell still unread resets the connection: PostgreSQL does so at
        // the end of every TLS session. Who had already left has nothing to complain of.
        Err(Failure { side: Side::Backend, .. }) if inward.state != State::Open || has_left(&pair.client) => {
            End::ClientClosed
        }
        Err(Failure { side, error }) => attribute(side, &error),
    }
}

/// The next read would find the end of the stream.
fn has_left(client: &TcpStream) -> bool {
    matches!(recv(client, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, 0)))
}

fn attribute(side: Side, error: &io::Error) -> End {
    match (side, error.kind() == io::ErrorKind::TimedOut) {
        (Side::Client, true) => End::ClientTimeout,
        (Side::Client, false) => End::ClientReset,
        (_, true) => End::BackendTimeout,
        (_, false) => End::BackendReset,
    }
}

impl Direction {
    /// Moves bytes until one side cannot go on or the burst is over; ready when the end was passed on.
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        (from, sender): (&mut TcpStream, Side),
        (to, receiver): (&mut TcpStream, Side),
        meter: &impl Meter,
    ) -> Result<Poll<()>, Failure> {
        let blame = |side| move |error| Failure { side, error };
        for _ in 0..BURST {
            if !self.flush(cx, to, receiver, meter).map_err(blame(receiver))? {
                return Ok(Poll::Pending);
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    pass_on_end(to).map_err(blame(receiver))?;
                    self.state = State::Closed;
                    return Ok(Poll::Ready(()));
                }
                State::Closed => return Ok(Poll::Ready(())),
            }
            match self.shift(cx, (from, sender), (to, receiver), meter) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(failure)) => return Err(failure),
                Poll::Ready(Ok(0)) => self.state = State::Ending,
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// One read and what can be written of it now. There must be no rest.
    fn shift(
        &mut self,
        cx: &mut Context<'_>,
        (from, sender): (&mut TcpStream, Side),
        (to, receiver): (&mut TcpStream, Side),
        meter: &impl Meter,
    ) -> Poll<Result<usize, Failure>> {
        let blame = |side| move |error| Failure { side, error };
        SCRATCH.with_borrow_mut(|scratch| {
            let read = ready!(poll_read(cx, from, scratch)).map_err(blame(sender))?;
            let written = poll_write_some(cx, to, &scratch[..read]).map_err(blame(receiver))?;
            meter.delivered(receiver, written);
            if written < read {
                self.rest = Some(Rest { bytes: scratch[written..read].into(), written: 0 });
            }
            Poll::Ready(Ok(read))
        })
    }

    /// Delivers what a connection that is broken has left behind, as far as it is taken at once, but no end: a broken
    /// stream has none.
    fn salvage(
        &mut self,
        cx: &mut Context<'_>,
        (from, sender): (&mut TcpStream, Side),
        (to, receiver): (&mut TcpStream, Side),
        meter: &impl Meter,
    ) {
        for _ in 0..BURST {
            let goes_on = matches!(self.flush(cx, to, receiver, meter), Ok(true))
                && self.state == State::Open
                && matches!(self.shift(cx, (from, sender), (to, receiver), meter), Poll::Ready(Ok(1..)));
            if !goes_on {
                return;
            }
        }
    }

    /// Writes the rest; `false` while the receiver does not take all of it.
    fn flush(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut TcpStream,
        receiver: Side,
        meter: &impl Meter,
    ) -> io::Result<bool> {
        let Some(rest) = &mut self.rest else { return Ok(true) };
        let written = poll_write_some(cx, to, &rest.bytes[rest.written..])?;
        meter.delivered(receiver, written);
        rest.written += written;
        let flushed = rest.written == rest.bytes.len();
        if flushed {
            self.rest = None;
        }
        Ok(flushed)
    }
}

/// Half-closes. A receiver that is gone altogether needs no telling.
fn pass_on_end(to: &TcpStream) -> io::Result<()> {
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        outcome => outcome,
    }
}

/// A short read clears the socket's readiness inside tokio, so that the next one costs no call to find it empty.
fn poll_read(cx: &mut Context<'_>, from: &mut TcpStream, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Writes as much as the socket takes now; when that is not all, the task is woken once it takes more.
fn poll_write_some(cx: &mut Context<'_>, to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *to).poll_write(cx, &bytes[written..])? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => written += count,
            Poll::Pending => break,
        }
    }
    Ok(written)
}
