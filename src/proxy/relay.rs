//! Bytes both ways until both ends are done.
//!
//! Each direction reads into the worker's one scratch buffer and writes at once. Only what the other side does not
//! take right then gets a buffer of its own, and nothing more is read in that direction until it is gone: a slow
//! reader slows its writer, and an idle session holds no buffer at all. Bulk ([`pace`](super::pace)) gathers in the
//! kernel first and goes by way of a pipe, without copying ([`splice`](super::splice)).
//!
//! An end of stream is passed on as a half-close after the last byte; the other direction goes on until it ends too.
//! An error ends both, as a reset.
//!
//! Knows sockets that do not block, and nothing of who waits for them: that is the [`engine`](super::engine).

use std::io;

use super::pace::{BULK_AFTER, Pace};
use super::socket::{Moved, News, Socket};
use super::splice::{self, MOST_BYTES, MOST_PIPES, Pipe, Pipes};
use crate::stats::{End, Side};

/// Read at once: what a bulk transfer needs to be cheap, and what one direction can have in flight at most.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// What one direction may move in one go before others on this worker get their turn.
const BURST_BYTES: usize = 256 * 1024;
/// What is to gather of a bulk transfer before it is moved: large moves cost less, and wake those at both ends less
/// often.
const GATHER_BYTES: usize = 128 * 1024;

/// The last that a PostgreSQL client says: Terminate. (Source: PostgreSQL documentation, "Message Formats".)
const FAREWELL: &[u8] = b"X\0\0\0\x04";

/// Told of every byte that was delivered.
pub trait Meter {
    fn delivered(&self, to: Side, bytes: usize);
}

/// What the sessions of a worker have in common, one after the other.
#[derive(Debug)]
pub struct Tools {
    /// Empty again before any session waits.
    scratch: Box<[u8]>,
    pipes: Pipes,
    /// See [`Pace::is_bulk`].
    bulk_after: usize,
}

/// Two sockets and what is under way between them. Dropped before both directions are done, it resets both
/// connections: neither side may take a broken stream for a whole one.
#[derive(Debug)]
pub struct Relay<M> {
    client: Socket,
    backend: Socket,
    inward: Direction,
    outward: Direction,
    first_to_end: Option<Side>,
    meter: M,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do until there is news of one of the sockets.
    Waits,
    /// The same, but not for long: see [`Relay::part`].
    Parts,
    /// There is more to do, once others had their turn.
    GoesOn,
    Over(End),
}

/// One direction: from one side's reading to the other side's writing.
#[derive(Debug, Default)]
struct Direction {
    rest: Rest,
    state: State,
    pace: Pace,
    /// Whether anything has come since the other direction was told so.
    has_spoken: bool,
    /// Whether a farewell means anything here, and whether it was the last that was read.
    knows_farewell: bool,
    has_said_farewell: bool,
}

/// What the receiver has not taken yet.
#[derive(Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Copied(Box<Copied>),
    Spliced(Box<Pipe>),
}

#[derive(Debug)]
struct Copied {
    bytes: Box<[u8]>,
    written: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The sender ended; the rest is still to be delivered.
    Ending,
    /// The sender ended after a farewell by which the receiver will close by itself. It is left to do so first: who
    /// closes first has to keep the address of the connection for a minute (TIME_WAIT), and towards one server there
    /// are only so many.
    Parting,
    /// The end was passed on.
    Closed,
}

/// An error of one side, which ends the session.
#[derive(Debug)]
struct Failure {
    side: Side,
    error: io::Error,
}

impl Tools {
    /// Other than a worker's: to take everything for bulk, or nothing.
    pub fn new(pipes: Pipes, bulk_after: usize) -> Tools {
        Tools { scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(), pipes, bulk_after }
    }
}

/// Those of a worker.
impl Default for Tools {
    fn default() -> Tools {
        Tools::new(Pipes::new(MOST_PIPES), BULK_AFTER)
    }
}

impl<M: Meter> Relay<M> {
    /// `postgresql` is whether the client speaks it.
    pub fn new(mut client: Socket, mut backend: Socket, postgresql: bool, meter: M) -> Relay<M> {
        (client.cuts, backend.cuts) = (true, true);
        let inward = Direction { knows_farewell: postgresql, ..Direction::default() };
        let outward = Direction::default();
        Relay { client, backend, inward, outward, first_to_end: None, meter }
    }

    /// The client's and the backend's.
    pub fn sockets(&self) -> [&Socket; 2] {
        [&self.client, &self.backend]
    }

    pub fn hear(&mut self, side: Side, news: News) {
        match side {
            Side::Client => self.client.hear(news),
            _ => self.backend.hear(news),
        }
    }

    /// Moves bytes until neither direction can go on or their time is up. When both have ended, says how it came to
    /// that.
    pub fn turn(&mut self, tools: &mut Tools) -> Turn {
        match self.both_ways(tools) {
            Ok(_) if self.inward.has_ended() && self.outward.has_ended() => {
                (self.client.cuts, self.backend.cuts) = (false, false);
                let backend_first = self.first_to_end == Some(Side::Backend);
                Turn::Over(if backend_first { End::BackendClosed } else { End::ClientClosed })
            }
            Ok(true) => Turn::GoesOn,
            Ok(false) if self.inward.state == State::Parting => Turn::Parts,
            Ok(false) => Turn::Waits,
            Err(failure) => Turn::Over(self.attribute(&failure)),
        }
    }

    /// The backend had time to close by itself: from now on it is told that the client has ended.
    pub fn part(&mut self) {
        if self.inward.state == State::Parting {
            self.inward.has_said_farewell = false;
            self.inward.state = State::Ending;
        }
    }

    /// Whether there is more to do.
    fn both_ways(&mut self, tools: &mut Tools) -> Result<bool, Failure> {
        let Relay { client, backend, inward, outward, meter, first_to_end, .. } = self;
        let inward_goes_on = match inward.pump(client, backend, outward.has_ended(), tools, meter) {
            Ok(goes_on) => goes_on,
            Err(failure) => {
                if failure.side == Side::Backend {
                    // A server that goes says why; its last words are still in the socket.
                    outward.salvage(backend, client, tools, meter);
                }
                return Err(failure);
            }
        };
        outward.is_answered_by(inward, backend);
        if inward.state != State::Open {
            first_to_end.get_or_insert(Side::Client);
        }
        let outward_goes_on = outward.pump(backend, client, inward.has_ended(), tools, meter)?;
        inward.is_answered_by(outward, client);
        if outward.state != State::Open {
            first_to_end.get_or_insert(Side::Backend);
        }
        Ok(inward_goes_on || outward_goes_on)
    }

    /// Whether a bulk transfer gathers in the kernel, so that what has come is not told at once: see [`Relay::collect`].
    pub fn gathers(&self) -> bool {
        self.inward.gathers() || self.outward.gathers()
    }

    /// The next turn is to take what has gathered, however little.
    pub fn collect(&mut self) {
        let Relay { client, backend, inward, outward, .. } = self;
        for (direction, from) in [(inward, client), (outward, backend)] {
            if direction.gathers() {
                from.hear(News { readable: true, ..News::default() });
            }
        }
    }

    fn attribute(&self, Failure { side, error }: &Failure) -> End {
        match (side, error.kind() == io::ErrorKind::TimedOut) {
            // A server that closes with the client's farewell still unread resets the connection: PostgreSQL does so
            // at the end of every TLS session. Who had already left has nothing to complain of.
            (Side::Backend, _) if self.inward.state != State::Open || self.client.is_at_end() => {
                End::ClientClosed
            }
            (Side::Client, true) => End::ClientTimeout,
            (Side::Client, false) => End::ClientReset,
            (_, true) => End::BackendTimeout,
            (_, false) => End::BackendReset,
        }
    }
}

impl Direction {
    fn has_ended(&self) -> bool {
        matches!(self.state, State::Parting | State::Closed)
    }

    /// One that waits for its receiver does not wait for its sender.
    fn gathers(&self) -> bool {
        matches!((self.pace, &self.rest), (Pace::Pours { .. }, Rest::Nothing)) && self.state == State::Open
    }

    /// What goes back and forth is no bulk transfer.
    fn is_answered_by(&mut self, other: &mut Direction, from: &Socket) {
        if std::mem::take(&mut other.has_spoken) {
            self.goes_at(Pace::default(), from);
        }
    }

    fn goes_at(&mut self, pace: Pace, from: &Socket) {
        let pours = |pace| matches!(pace, Pace::Pours { .. });
        if pours(pace) != pours(self.pace) {
            if pours(pace) { splice::gather(from, GATHER_BYTES) } else { splice::tell_at(from, 1) }
        }
        self.pace = pace;
    }

    /// Moves bytes until one side cannot go on or the burst is over; says whether there is more to do. `last`: the
    /// other direction is closed.
    fn pump(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        last: bool,
        tools: &mut Tools,
        meter: &impl Meter,
    ) -> Result<bool, Failure> {
        let mut left = BURST_BYTES;
        loop {
            if !self.flush(to, tools, meter).map_err(blame(to))? {
                return Ok(false);
            }
            if self.state == State::Ending {
                self.state = match self.has_said_farewell {
                    // After the last end both sockets are closed anyway.
                    _ if last => State::Closed,
                    true => State::Parting,
                    false => to.finish().map(|()| State::Closed).map_err(blame(to))?,
                };
            }
            if self.has_ended() || !from.is_readable() {
                return Ok(false);
            }
            if left == 0 {
                return Ok(true);
            }
            match self.shift(from, to, tools, meter)? {
                Moved::NotNow => return Ok(false),
                Moved::Bytes(0) => self.state = State::Ending,
                // More will gather, or be collected.
                Moved::Bytes(bytes) if self.gathers() && bytes < MOST_BYTES => return Ok(false),
                Moved::Bytes(bytes) => left = left.saturating_sub(bytes),
            }
        }
    }

    /// Takes what the sender has and delivers what the receiver takes of it. There must be no rest.
    fn shift(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        tools: &mut Tools,
        meter: &impl Meter,
    ) -> Result<Moved, Failure> {
        let pipe = if self.pace.is_bulk(tools.bulk_after) { tools.pipes.lend() } else { None };
        let spliced = pipe.map_or(Ok(None), |pipe| self.splice(pipe, from, to, tools, meter))?;
        let moved = spliced.map_or_else(|| self.copy(from, to, tools, meter), Ok)?;
        let bytes = match moved {
            Moved::Bytes(bytes) => bytes,
            Moved::NotNow => 0,
        };
        self.has_spoken |= bytes > 0;
        self.goes_at(self.pace.after(bytes, tools.bulk_after), from);
        Ok(moved)
    }

    fn copy(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        tools: &mut Tools,
        meter: &impl Meter,
    ) -> Result<Moved, Failure> {
        let read = match from.read(&mut tools.scratch).map_err(blame(from))? {
            Moved::NotNow => return Ok(Moved::NotNow),
            Moved::Bytes(read) => read,
        };
        if read > 0 {
            self.has_said_farewell = self.knows_farewell && tools.scratch[..read].ends_with(FAREWELL);
        }
        let written = deliver(&tools.scratch[..read], to, meter).map_err(blame(to))?;
        if written < read {
            self.rest =
                Rest::Copied(Box::new(Copied { bytes: tools.scratch[written..read].into(), written: 0 }));
        }
        Ok(Moved::Bytes(read))
    }

    /// The same through a pipe, which stays with this direction for as long as it holds something; `None` where that
    /// does not work.
    fn splice(
        &mut self,
        mut pipe: Pipe,
        from: &mut Socket,
        to: &mut Socket,
        tools: &mut Tools,
        meter: &impl Meter,
    ) -> Result<Option<Moved>, Failure> {
        let moved = match pipe.fill(from) {
            Ok(moved) => moved,
            Err(error) if splice::is_unsupported(&error) => {
                tools.pipes.give_up(&error);
                return Ok(None);
            }
            Err(error) => return Err(blame(from)(error)),
        };
        if let Moved::Bytes(1..) = moved {
            self.has_said_farewell = false;
            drain(&mut pipe, to, meter).map_err(blame(to))?;
        }
        if pipe.holds() == 0 {
            tools.pipes.take_back(pipe);
        } else {
            self.rest = Rest::Spliced(Box::new(pipe));
        }
        Ok(Some(moved))
    }

    /// Delivers what a connection that is broken has left behind, as far as it is taken at once, but no end: a broken
    /// stream has none.
    fn salvage(&mut self, from: &mut Socket, to: &mut Socket, tools: &mut Tools, meter: &impl Meter) {
        let mut left = BURST_BYTES;
        while left > 0 && self.state == State::Open && matches!(self.flush(to, tools, meter), Ok(true)) {
            match self.shift(from, to, tools, meter) {
                Ok(Moved::Bytes(bytes @ 1..)) => left = left.saturating_sub(bytes),
                _ => return,
            }
        }
    }

    /// Delivers the rest; `false` while the receiver does not take all of it.
    fn flush(&mut self, to: &mut Socket, tools: &mut Tools, meter: &impl Meter) -> io::Result<bool> {
        match &mut self.rest {
            Rest::Nothing => return Ok(true),
            Rest::Copied(rest) => {
                rest.written += deliver(&rest.bytes[rest.written..], to, meter)?;
                if rest.written < rest.bytes.len() {
                    return Ok(false);
                }
            }
            Rest::Spliced(pipe) => {
                drain(pipe, to, meter)?;
                if pipe.holds() > 0 {
                    return Ok(false);
                }
            }
        }
        if let Rest::Spliced(pipe) = std::mem::take(&mut self.rest) {
            tools.pipes.take_back(*pipe);
        }
        Ok(true)
    }
}

fn blame(socket: &Socket) -> impl FnOnce(io::Error) -> Failure + use<> {
    let side = socket.side;
    move |error| Failure { side, error }
}

/// Writes as much as the receiver takes now; says how much that was.
fn deliver(bytes: &[u8], to: &mut Socket, meter: &impl Meter) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() && to.is_writable() {
        match to.write(&bytes[written..])? {
            Moved::Bytes(0) => return Err(io::ErrorKind::WriteZero.into()),
            Moved::Bytes(count) => written += count,
            Moved::NotNow => break,
        }
    }
    if written > 0 {
        meter.delivered(to.side, written);
    }
    Ok(written)
}

/// The same from a pipe.
fn drain(pipe: &mut Pipe, to: &mut Socket, meter: &impl Meter) -> io::Result<()> {
    while pipe.holds() > 0 && to.is_writable() {
        match pipe.drain(to)? {
            Moved::Bytes(0) => return Err(io::ErrorKind::WriteZero.into()),
            Moved::Bytes(count) => meter.delivered(to.side, count),
            Moved::NotNow => break,
        }
    }
    Ok(())
}
