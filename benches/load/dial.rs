//! New connections: connect, one message there and back, close with a FIN or with a reset, and again.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mio::Interest;
use mio::net::TcpStream;
use serde_json::{Value, json};

use super::hub::{Hub, slot_of, unless_blocked};
use super::stub::ECHO;
use super::tally::Tally;

const MESSAGE: [u8; 64] = [ECHO; 64];
/// Source addresses taken in turn: who closes with a FIN keeps its port for a minute, and each address has 28,000.
const SOURCES: u32 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Close {
    Fin,
    Reset,
}

#[derive(Debug)]
pub struct Options {
    pub address: SocketAddr,
    pub clients: usize,
    pub close: Close,
    pub from: IpAddr,
    pub count: Option<u64>,
    pub patience: Duration,
}

#[derive(Debug)]
struct Caller {
    stream: TcpStream,
    begun: Instant,
    said: bool,
    /// Of the answer.
    missing: usize,
}

pub fn run(options: &Options) -> io::Result<Value> {
    let mut hub = Hub::new()?;
    let mut sources = Sources { first: options.from, next: 0 };
    for _ in 0..options.clients {
        call(&mut hub, options, &mut sources)?;
    }
    let mut events = Hub::<Caller>::events();
    let (begun, mut tally, mut failed) = (Instant::now(), Tally::begin(), 0_u64);
    let (mut open, mut dialled) = (options.clients, options.clients as u64);
    while begun.elapsed() < options.patience && open > 0 {
        hub.wait(&mut events, Some(options.patience))?;
        for slot in events.iter().map(slot_of) {
            let Some(caller) = hub.at(slot) else { continue };
            let outcome = caller.go_on();
            match outcome {
                Ok(None) => continue,
                Ok(Some(took)) => tally.add(took),
                Err(_) => failed += 1,
            }
            if let Some(caller) = hub.remove(slot) {
                caller.leave(options.close)?;
            }
            open -= 1;
            if options.count.is_none_or(|count| dialled < count) {
                call(&mut hub, options, &mut sources)?;
                (open, dialled) = (open + 1, dialled + 1);
            }
        }
    }
    let mut told = tally.told();
    told["failed"] = json!(failed);
    Ok(told)
}

fn call(hub: &mut Hub<Caller>, options: &Options, sources: &mut Sources) -> io::Result<()> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(options.address), socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::new(sources.take(), 0).into())?;
    let begun = Instant::now();
    match socket.connect(&options.address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    let caller = |stream| Caller { stream, begun, said: false, missing: MESSAGE.len() };
    hub.add(TcpStream::from_std(socket.into()), Interest::READABLE | Interest::WRITABLE, caller)?;
    Ok(())
}

impl Caller {
    /// How long it took from the dial to the answer, once that is there.
    fn go_on(&mut self) -> io::Result<Option<Duration>> {
        if !self.said {
            self.said = unless_blocked(self.stream.write(&MESSAGE))?.is_some();
            return Ok(None);
        }
        match unless_blocked(self.stream.read(&mut [0; 256]))? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(None),
            Some(read) => {
                self.missing = self.missing.saturating_sub(read);
                Ok((self.missing == 0).then(|| self.begun.elapsed()))
            }
        }
    }

    fn leave(self, close: Close) -> io::Result<()> {
        match close {
            Close::Fin => Ok(()),
            Close::Reset => socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)),
        }
    }
}

#[derive(Debug)]
struct Sources {
    first: IpAddr,
    next: u32,
}

impl Sources {
    fn take(&mut self) -> IpAddr {
        let offset = self.next % SOURCES;
        self.next = self.next.wrapping_add(1);
        match self.first {
            IpAddr::V4(first) => IpAddr::from((u32::from(first) + offset).to_be_bytes()),
            IpAddr::V6(_) => self.first,
        }
    }
}
