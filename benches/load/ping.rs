//! Messages there and back: each connection has one under way at any time.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::TcpStream;
use serde_json::{Value, json};

use super::hub::{Hub, slot_of, unless_blocked};
use super::stub::ECHO;
use super::tally::Tally;

/// Not counted, so that every connection has its place in every cache and table.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Pinger {
    stream: TcpStream,
    sent: Instant,
    /// Of the answer.
    missing: usize,
}

/// As many as go.
pub fn run(address: SocketAddr, connections: usize, bytes: usize, patience: Duration) -> io::Result<Value> {
    let message = vec![ECHO; bytes];
    let mut buffer = vec![0; bytes.max(4096)];
    let mut hub = Hub::new()?;
    for _ in 0..connections {
        let stream = TcpStream::from_std(enter(address, &message)?);
        let pinger = |stream| Pinger { stream, sent: Instant::now(), missing: bytes };
        let slot = hub.add(stream, Interest::READABLE, pinger)?;
        if let Some(pinger) = hub.at(slot) {
            pinger.send(&message)?;
        }
    }
    let mut events = Hub::<Pinger>::events();
    let begun = Instant::now();
    let (mut tally, mut all): (Option<Tally>, u64) = (None, connections as u64);
    while begun.elapsed() < WARM_UP + patience {
        hub.wait(&mut events, Some(WARM_UP))?;
        if tally.is_none() && begun.elapsed() >= WARM_UP {
            tally = Some(Tally::begin());
        }
        for slot in events.iter().map(slot_of) {
            let Some(pinger) = hub.at(slot) else { continue };
            let Some(took) = pinger.read(&mut buffer)? else { continue };
            all += 1;
            if let Some(tally) = &mut tally {
                tally.add(took);
            }
            pinger.send(&message)?;
        }
    }
    let mut told = tally.unwrap_or_else(Tally::begin).told();
    // Those of the warm-up too: what a count of system calls is to be held against.
    told["all"] = json!(all);
    Ok(told)
}

/// One connection, one message each `pace`: what a client feels while others keep the relay busy.
pub fn paced(address: SocketAddr, bytes: usize, pace: Duration, patience: Duration) -> io::Result<Value> {
    let message = vec![ECHO; bytes];
    let mut answer = vec![0; bytes];
    let mut stream = enter(address, &message)?;
    stream.set_nonblocking(false)?;
    let begun = Instant::now();
    let mut tally = Tally::begin();
    while begun.elapsed() < patience {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut answer)?;
        let took = sent.elapsed();
        tally.add(took);
        sleep(pace.saturating_sub(took));
    }
    Ok(tally.told())
}

/// A connection over which one message has been there and back.
pub fn enter(address: SocketAddr, message: &[u8]) -> io::Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(message)?;
    stream.read_exact(&mut vec![0; message.len()])?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Pinger {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        self.missing = message.len();
        self.stream.write_all(message)
    }

    /// How long the message took, once all of it is back.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Duration>> {
        match unless_blocked(self.stream.read(buffer))? {
            Some(0) => Err(io::Error::other("a connection was closed in the middle of the measurement")),
            None => Ok(None),
            Some(read) => {
                self.missing = self.missing.saturating_sub(read);
                Ok((self.missing == 0).then(|| self.sent.elapsed()))
            }
        }
    }
}
