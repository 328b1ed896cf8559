//! One end of a connection: a client towards pilotfish, or a server that pilotfish has dialled.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::packets::{self, Refused};
use super::pattern::{Pattern, STRETCH};
use super::within;

/// A socket that takes nothing for so long is full. Too short a time would only make a test easier to pass.
const FULL_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    pub fn new(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).expect("an open socket");
        Peer { stream }
    }

    pub async fn connect(at: SocketAddr) -> Peer {
        Peer::new(TcpStream::connect(at).await.expect("a connection"))
    }

    /// The same over a socket that has been set up already.
    pub async fn through(socket: TcpSocket, at: SocketAddr) -> Peer {
        Peer::new(socket.connect(at).await.expect("a connection"))
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        within("room to write", self.stream.write_all(bytes)).await.expect("a reader at the other end");
    }

    /// Reads as many bytes as are expected; they must be the same.
    pub async fn hear(&mut self, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        let what = format!("{} bytes", expected.len());
        within(&what, self.stream.read_exact(&mut heard)).await.expect("bytes");
        assert_eq!(heard, expected);
    }

    /// Everything up to the end of the stream.
    pub async fn hear_all(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        within("the end of the stream", self.stream.read_to_end(&mut heard)).await.expect("no reset");
        heard
    }

    /// The stream ends here, in order.
    pub async fn hear_end(&mut self) {
        assert_eq!(self.hear_all().await, b"");
    }

    /// The stream breaks off, maybe after more bytes.
    pub async fn hear_reset(&mut self) {
        let mut heard = Vec::new();
        match within("a reset", self.stream.read_to_end(&mut heard)).await {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            outcome => panic!("not reset: {outcome:?}"),
        }
    }

    /// The ErrorResponse that the server ends the connection with.
    pub async fn hear_refusal(&mut self) -> Refused {
        packets::refused(&self.hear_all().await)
    }

    /// Sends the end of the stream, and goes on listening. Whoever it is sent to may have reset the connection already.
    pub fn finish(&self) {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => panic!("no end: {error}"),
            _ => {}
        }
    }

    /// Breaks the connection off.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }

    /// Sends the pattern until nothing more is taken, or all of `most`; says how much was.
    pub async fn fill(&mut self, most: usize) -> usize {
        let mut pattern = Pattern::default();
        while pattern.position() < most {
            let piece = pattern.next(STRETCH.min(most - pattern.position()));
            match timeout(FULL_AFTER, self.stream.write(piece)).await {
                Ok(written) => pattern.advance(written.expect("a reader at the other end")),
                Err(_) => break,
            }
        }
        pattern.position()
    }

    /// The port that the other end sees.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("an address").port()
    }

    /// The port of the other end.
    pub fn peer_port(&self) -> u16 {
        self.stream.peer_addr().expect("an address").port()
    }
}
