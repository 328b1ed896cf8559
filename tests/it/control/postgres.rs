//! As much of PostgreSQL as a balancer can see: a server that lets everybody in and says its name, and a client.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::fake::own_address;
use super::within;

/// AuthenticationOk and ReadyForQuery.
pub const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
/// StartupMessage of protocol 3.0: length, version, `user` = `u`, end.
pub const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";

/// A server that echoes what comes, with its name before it.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    name: String,
    listening: Mutex<AbortHandle>,
}

impl Server {
    pub async fn start(name: &str) -> Server {
        Server::start_at(name, SocketAddr::new(own_address(), 0)).await
    }

    pub async fn start_at(name: &str, address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let listening = Mutex::new(listen(listener, name));
        Server { address, name: name.to_owned(), listening }
    }

    /// Dials are refused from now on; open sessions go on.
    pub async fn stop(&self) {
        self.listening.lock().expect("no panic").abort();
        let refused = async || while TcpStream::connect(self.address).await.is_ok() {};
        within("the end of a listener", refused()).await;
    }

    pub async fn resume(&self) {
        let listener = TcpListener::bind(self.address).await.expect("its own port");
        *self.listening.lock().expect("no panic") = listen(listener, &self.name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.lock().expect("no panic").abort();
    }
}

fn listen(listener: TcpListener, name: &str) -> AbortHandle {
    let name = name.to_owned();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, name.clone()));
        }
    });
    task.abort_handle()
}

async fn serve(mut stream: TcpStream, name: String) -> io::Result<()> {
    let mut startup = vec![0; STARTUP.len()];
    stream.read_exact(&mut startup).await?;
    stream.write_all(WELCOME).await?;
    let mut bytes = [0; 1024];
    loop {
        let length = stream.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&[name.as_bytes(), b":", &bytes[..length]].concat()).await?;
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects and asks to be let in; whether it is, [`Client::welcome`] tells.
    pub async fn knock(address: SocketAddr) -> Client {
        Client::say(address, STARTUP).await
    }

    /// Connects and begins with this.
    pub async fn say(address: SocketAddr, first: &[u8]) -> Client {
        let mut stream = TcpStream::connect(address).await.expect("a listener");
        stream.write_all(first).await.expect("an open connection");
        Client { stream }
    }

    /// Connects and waits to be let in; the name of the server that did so.
    pub async fn enter(address: SocketAddr) -> (Client, String) {
        let mut client = Client::knock(address).await;
        let name = client.welcome().await;
        (client, name)
    }

    /// Waits to be let in, however long it takes.
    pub async fn welcome(&mut self) -> String {
        let read = async {
            let mut welcome = vec![0; WELCOME.len()];
            self.stream.read_exact(&mut welcome).await.expect("a welcome");
            assert_eq!(welcome, WELCOME, "{}", String::from_utf8_lossy(&welcome));
        };
        within("a server's welcome", read).await;
        self.ask("who").await.expect("an answer").trim_end_matches(":who").to_owned()
    }

    pub async fn ask(&mut self, text: &str) -> io::Result<String> {
        let ask = async {
            self.stream.write_all(text.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(text.as_bytes()) {
                if self.stream.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        within("an answer", ask).await
    }

    /// Waits for the end of the connection: what came before it, or the error.
    pub async fn end(mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within("the end of a connection", self.stream.read_to_end(&mut rest)).await.map(|_| rest)
    }
}
