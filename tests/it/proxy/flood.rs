//! Cancel requests at a rate of their own: whoever sends them waits for nobody, and is not slowed down by those who are slow.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::member::Member;
use super::packets::cancel;

pub const A_SECOND: usize = 10_000;
pub const LASTS: Duration = Duration::from_secs(1);
/// What a busy machine lets it send in all, of a program that is not optimised. With fewer it is no flood.
pub const AT_LEAST: usize = 1_000;
/// Connections that the kernel keeps for the program, if it is allowed to.
const BACKLOG: usize = 4096;
/// Several, so that the flood gets its share of a processor where others want it too.
const SENDERS: usize = 4;
const TICK: Duration = Duration::from_millis(1);
/// From so many addresses, as one has not so many ports.
const ADDRESSES: usize = 200;

/// A flood under way.
pub struct Flood(Vec<JoinHandle<Sent>>);

#[derive(Debug, Default, Clone, Copy)]
pub struct Sent {
    pub offered: usize,
    /// Of these, those whose connection the kernel did not take: too many waited to be accepted.
    pub kept_out: usize,
}

impl Flood {
    pub fn begin(at: SocketAddr) -> Flood {
        let sender = |number| std::thread::spawn(move || send(at, number));
        Flood((0..SENDERS).map(sender).collect())
    }

    pub fn is_over(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    /// What was sent, once it is over.
    pub fn sent(self) -> Sent {
        let add = |all: Sent, one: Sent| Sent {
            offered: all.offered + one.offered,
            kept_out: all.kept_out + one.kept_out,
        };
        self.0.into_iter().map(|sender| sender.join().expect("no panic")).fold(Sent::default(), add)
    }
}

/// Its share, or as much of it as the machine lets it; each time what is due until the next.
fn send(at: SocketAddr, sender: usize) -> Sent {
    let a_second = (A_SECOND / SENDERS) as f64;
    let (begun, mut sent) = (Instant::now(), Sent::default());
    while begun.elapsed() < LASTS {
        let due = (LASTS.min(begun.elapsed() + TICK).as_secs_f64() * a_second) as usize;
        while sent.offered < due && begun.elapsed() < LASTS {
            let is_taken =
                send_one(at, sent.offered * SENDERS + sender).expect("a listener, and a free port");
            sent.offered += 1;
            sent.kept_out += usize::from(!is_taken);
        }
        std::thread::sleep(TICK);
    }
    sent
}

/// Whether it went out: on one host a connection is there at once, or not for a second.
fn send_one(at: SocketAddr, number: usize) -> io::Result<bool> {
    let from = Ipv4Addr::new(127, 0, 1, 1 + (number % ADDRESSES) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    match socket.connect(&at.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    match TcpStream::from(socket).write_all(&cancel(16, 7)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        written => written.map(|()| true),
    }
}

/// How many connections wait to be accepted before one is kept out (listen(2)).
pub fn queue() -> usize {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a limit");
    BACKLOG.min(allowed.trim().parse().expect("a number"))
}

/// What a member was asked to cancel.
pub type Asked = Arc<AtomicUsize>;

/// Does with each request what PostgreSQL does: reads it and closes. Counts those that came as they were sent.
pub fn cancelling(member: Member) -> Asked {
    let asked = Asked::default();
    let count = Arc::clone(&asked);
    member.serve_apart(move |mut session| {
        let mut request = [0; 16];
        let is_whole = session.read_exact(&mut request).is_ok() && request[..] == cancel(16, 7);
        count.fetch_add(usize::from(is_whole), Relaxed);
    });
    asked
}
