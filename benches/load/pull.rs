//! Bulk: several streams that take what the backend pours, as fast as it comes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::TcpStream;
use serde_json::{Value, json};

use super::hub::{Hub, slot_of, unless_blocked};
use super::stub::POUR;

/// What is read at once; a client that reads in smaller pieces would be the limit itself.
const BUFFER: usize = 256 << 10;
/// Reads in a row of one stream, before the others get their turn.
const BURST: usize = 8;

pub fn run(address: SocketAddr, streams: usize, chunk: u32, patience: Duration) -> io::Result<Value> {
    let mut hub = Hub::new()?;
    for _ in 0..streams {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(&[&[POUR][..], &chunk.to_le_bytes()].concat())?;
        stream.set_nonblocking(true)?;
        hub.add(TcpStream::from_std(stream), Interest::READABLE, |stream| stream)?;
    }
    let mut events = Hub::<TcpStream>::events();
    let mut buffer = vec![0; BUFFER];
    let mut busy: Vec<usize> = Vec::new();
    let (begun, mut bytes) = (Instant::now(), 0_u64);
    while begun.elapsed() < patience {
        let timeout = if busy.is_empty() { patience } else { Duration::ZERO };
        hub.wait(&mut events, Some(timeout))?;
        let mut due = std::mem::take(&mut busy);
        due.extend(events.iter().map(slot_of));
        due.sort_unstable();
        due.dedup();
        for slot in due {
            let Some(stream) = hub.at(slot) else { continue };
            let (taken, emptied) = take(stream, &mut buffer)?;
            bytes += taken;
            if !emptied {
                busy.push(slot);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(json!({ "bytes": bytes, "seconds": seconds, "per_s": bytes as f64 / seconds }))
}

/// How much came, and whether that was all for now.
fn take(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<(u64, bool)> {
    let mut taken = 0;
    for _ in 0..BURST {
        match unless_blocked(stream.read(buffer))? {
            Some(0) => return Err(io::Error::other("a stream ended in the middle of the measurement")),
            None => return Ok((taken, true)),
            Some(read) => taken += read as u64,
        }
    }
    Ok((taken, false))
}
