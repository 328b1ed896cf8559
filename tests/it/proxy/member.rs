//! A member of the cluster: a listening socket whose connections the test serves.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pilotfish::topology::Fate;
use rustix::net::accept;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::bench::Place;
use super::packets::{WELCOME, startup};
use super::peer::Peer;
use super::within;

/// More than any test connects at once.
const BACKLOG: u32 = 4096;

pub struct Member {
    name: &'static str,
    pub at: SocketAddr,
    listener: TcpListener,
}

impl Member {
    pub async fn start(name: &'static str) -> Member {
        Member::start_on(name, TcpSocket::new_v4().expect("a socket"))
    }

    /// The same on a socket that has been set up already; its connections are set up alike.
    pub fn start_on(name: &'static str, socket: TcpSocket) -> Member {
        Absent::reserve_on(name, socket).arrives()
    }

    pub fn place(&self) -> Place {
        Place {
            name: self.name,
            addresses: vec![self.at],
            writer: false,
            reader: false,
            writers: Fate::RoleLost,
            readers: Fate::Keep,
        }
    }

    /// Takes writers.
    pub fn writer(&self) -> Place {
        Place { writer: true, writers: Fate::Keep, ..self.place() }
    }

    /// Takes readers.
    pub fn reader(&self) -> Place {
        Place { reader: true, ..self.place() }
    }

    /// The next connection that comes from pilotfish.
    pub async fn session(&self) -> Peer {
        let accepted = within(&format!("a session on {}", self.name), self.listener.accept()).await;
        Peer::new(accepted.expect("a connection").0)
    }

    /// The next session, which must begin with `bytes`.
    pub async fn session_saying(&self, bytes: &[u8]) -> Peer {
        let mut session = self.session().await;
        session.hear(bytes).await;
        session
    }

    /// Logs a client in that has just connected to a pool; the client and its session here.
    pub async fn welcome(&self, mut client: Peer) -> (Peer, Peer) {
        let hello = startup(0, "app");
        client.say(&hello).await;
        let mut session = self.session_saying(&hello).await;
        session.say(WELCOME).await;
        client.hear(WELCOME).await;
        (client, session)
    }

    /// Asserts that nobody waits to be served.
    pub fn is_left_alone(&self) {
        let waiting = accept(&self.listener);
        assert!(waiting.is_err(), "somebody has connected to {}", self.name);
    }

    /// From now on welcomes every client and then listens until it goes, or is cut off. As long as one is there, it
    /// keeps a copy of `open`.
    pub fn welcome_all(self, open: Arc<()>) {
        self.serve_all(move |mut session| {
            let open = Arc::clone(&open);
            async move {
                let _ = session.stream.write_all(WELCOME).await;
                let _ = session.stream.read_to_end(&mut Vec::new()).await;
                drop((session, open));
            }
        });
    }

    /// From now on a thread of its own serves every session, one after the other, and is no load of the test's.
    pub fn serve_apart(self, serve: impl Fn(std::net::TcpStream) + Send + 'static) {
        let listener = self.listener.into_std().expect("an open socket");
        listener.set_nonblocking(false).expect("an open socket");
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                serve(stream)
            }
        });
    }

    /// From now on hands every session to a task of its own.
    pub fn serve_all<F>(self, serve: impl Fn(Peer) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                tokio::spawn(serve(Peer::new(stream)));
            }
        });
    }
}

/// A member whose port nobody listens on: dials are refused.
pub struct Absent {
    name: &'static str,
    pub at: SocketAddr,
    socket: TcpSocket,
}

impl Absent {
    pub fn reserve(name: &'static str) -> Absent {
        Absent::reserve_on(name, TcpSocket::new_v4().expect("a socket"))
    }

    fn reserve_on(name: &'static str, socket: TcpSocket) -> Absent {
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        Absent { name, at: socket.local_addr().expect("an address"), socket }
    }

    pub fn writer(&self) -> Place {
        let writers = Fate::Keep;
        let addresses = vec![self.at];
        Place { name: self.name, addresses, writer: true, reader: false, writers, readers: Fate::Keep }
    }

    pub fn reader(&self) -> Place {
        Place { writer: false, reader: true, writers: Fate::RoleLost, ..self.writer() }
    }

    pub fn arrives(self) -> Member {
        self.listens(BACKLOG)
    }

    /// A host that does not answer: its queue is full, and the kernel drops whoever knocks. Whoever accepts from the
    /// member gets the connection that fills the queue, and opens it for others.
    pub async fn falls_silent(self) -> (Member, Peer) {
        let member = self.listens(0);
        let filler = Peer::connect(member.at).await;
        (member, filler)
    }

    fn listens(self, backlog: u32) -> Member {
        let listener = self.socket.listen(backlog).expect("a listener");
        Member { name: self.name, at: self.at, listener }
    }
}
