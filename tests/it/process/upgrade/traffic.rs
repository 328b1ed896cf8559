//! Clients that come and go without a pause, over TCP and over a unix socket; each must be served.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::control::postgres::{STARTUP, WELCOME};
use crate::control::within;

/// At one time, half of them over the unix socket.
const CLIENTS: usize = 8;

pub struct Traffic {
    clients: JoinSet<()>,
    served: watch::Sender<usize>,
    stop: watch::Sender<bool>,
    begun: Instant,
}

impl Traffic {
    pub fn start(address: SocketAddr, path: &Path) -> Traffic {
        let (served, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (path, served, stop) = (path.to_owned(), served.clone(), stop.subscribe());
            clients.spawn(async move {
                while !*stop.borrow() {
                    let served_one = match number % 2 {
                        0 => visit(TcpStream::connect(address).await, b"tcp").await,
                        _ => visit(UnixStream::connect(&path).await, b"unix").await,
                    };
                    served_one.unwrap_or_else(|error| panic!("client {number}: {error}"));
                    served.send_modify(|count| *count += 1);
                }
            });
        }
        Traffic { clients, served, stop, begun: Instant::now() }
    }

    /// Waits until so many more have been served.
    pub async fn more(&self, clients: usize) {
        let mut served = self.served.subscribe();
        let wanted = *served.borrow() + clients;
        let _ = within("more sessions", served.wait_for(|served| *served >= wanted)).await;
    }

    /// Everybody goes; says how many were served, and how many each second.
    pub async fn end(mut self) -> (usize, f64) {
        self.stop.send_replace(true);
        while let Some(ended) = within("the end of a client", self.clients.join_next()).await {
            ended.expect("a client that was served each time");
        }
        let served = *self.served.borrow();
        (served, served as f64 / self.begun.elapsed().as_secs_f64())
    }
}

/// Comes in, says something, hears it again, and goes.
async fn visit(stream: io::Result<impl AsyncRead + AsyncWrite + Unpin>, word: &[u8]) -> Result<(), String> {
    let mut stream = stream.map_err(|error| format!("refused: {error}"))?;
    let visit = async {
        stream.write_all(STARTUP).await?;
        let mut welcome = [0; WELCOME.len()];
        stream.read_exact(&mut welcome).await?;
        stream.write_all(word).await?;
        let mut answer = vec![0; 2 + word.len()];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(welcome == WELCOME && answer.ends_with(word))
    };
    match within("an answer", visit).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("another answer".to_owned()),
        Err(error) => Err(format!("cut off: {error}")),
    }
}
