//! The backend. The first byte of a connection says what it does from then on.
//!
//! `e`: everything comes back, that byte too. `s`, then four bytes of a size, little-endian: writes of that size, as
//! fast as they are taken. It reads once for each event, as the relays do, and writes at once.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use serde_json::Value;

use super::hub::{Hub, slot_of, unless_blocked};

pub const ECHO: u8 = b'e';
pub const POUR: u8 = b's';
/// What is read at once: more than any message.
const BUFFER: usize = 64 << 10;
/// Writes in a row of one stream, before the others get their turn.
const BURST: usize = 16;
/// Half-way between a waiting room and none: bursts of new connections are what is measured.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
enum Slot {
    Listener(TcpListener),
    Connection(Connection),
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown,
    /// With what is still to be written.
    Echo(Vec<u8>),
    /// The size of a write, and how much of the last one is still to be written.
    Pour {
        chunk: usize,
        left: usize,
    },
}

/// Whether a connection has more to do without another event.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Waits,
    GoesOn,
}

pub fn run(listen: &[SocketAddr]) -> io::Result<Value> {
    let mut hub = Hub::new()?;
    for &address in listen {
        hub.add(bind(address)?, Interest::READABLE, Slot::Listener)?;
    }
    let mut events = Hub::<Slot>::events();
    let mut buffer = vec![b'.'; BUFFER];
    let mut busy: Vec<usize> = Vec::new();
    loop {
        let timeout = (!busy.is_empty()).then_some(std::time::Duration::ZERO);
        hub.wait(&mut events, timeout)?;
        let mut due = std::mem::take(&mut busy);
        for slot in events.iter().map(slot_of) {
            if !due.contains(&slot) {
                due.push(slot);
            }
        }
        for slot in due {
            match hub.at(slot) {
                Some(Slot::Listener(_)) => accept(&mut hub, slot)?,
                Some(Slot::Connection(connection)) => match connection.go_on(&mut buffer) {
                    Ok(Turn::GoesOn) => busy.push(slot),
                    Ok(Turn::Waits) => {}
                    Err(_) => drop(hub.remove(slot)),
                },
                None => {}
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn accept(hub: &mut Hub<Slot>, slot: usize) -> io::Result<()> {
    while let Some(Slot::Listener(listener)) = hub.at(slot) {
        let Some((stream, _)) = unless_blocked(listener.accept())? else { break };
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        hub.add(stream, interest, |stream| Slot::Connection(Connection { stream, kind: Kind::Unknown }))?;
    }
    Ok(())
}

impl Connection {
    /// What an event asks for. An error is the end of the connection, whatever it is.
    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<Turn> {
        match &mut self.kind {
            Kind::Pour { chunk, left } => return pour(&mut self.stream, buffer, *chunk, left),
            Kind::Echo(rest) if !rest.is_empty() => {
                let Some(written) = unless_blocked(self.stream.write(rest))? else { return Ok(Turn::Waits) };
                rest.drain(..written);
                return Ok(Turn::GoesOn);
            }
            Kind::Echo(_) | Kind::Unknown => {}
        }
        let Some(read) = unless_blocked(self.stream.read(buffer))? else { return Ok(Turn::Waits) };
        let bytes = &buffer[..read];
        match (&mut self.kind, bytes.first()) {
            (_, None) => Err(io::ErrorKind::UnexpectedEof.into()),
            (Kind::Unknown, Some(&POUR)) => {
                let size = bytes.get(1..5).and_then(|size| size.try_into().ok()).map(u32::from_le_bytes);
                let chunk = size.map_or(0, |size| size as usize).clamp(1, BUFFER);
                self.kind = Kind::Pour { chunk, left: 0 };
                Ok(Turn::GoesOn)
            }
            (Kind::Unknown, _) => {
                let rest = echo(&mut self.stream, bytes)?;
                self.kind = Kind::Echo(rest);
                Ok(Turn::Waits)
            }
            (Kind::Echo(rest), _) => {
                *rest = echo(&mut self.stream, bytes)?;
                // A short read has emptied the socket; the next event is a new one.
                Ok(if read < BUFFER { Turn::Waits } else { Turn::GoesOn })
            }
            (Kind::Pour { .. }, _) => Ok(Turn::GoesOn),
        }
    }
}

/// What is left to be written.
fn echo(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let written = unless_blocked(stream.write(bytes))?.unwrap_or(0);
    Ok(bytes[written..].to_vec())
}

fn pour(stream: &mut TcpStream, buffer: &[u8], chunk: usize, left: &mut usize) -> io::Result<Turn> {
    for _ in 0..BURST {
        let size = if *left == 0 { chunk } else { *left };
        let Some(written) = unless_blocked(stream.write(&buffer[..size]))? else {
            *left = size;
            return Ok(Turn::Waits);
        };
        *left = size - written;
    }
    Ok(Turn::GoesOn)
}
