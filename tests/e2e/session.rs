//! A session of a driver that is not libpq, used step by step.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Socket};

use crate::tls::Pinned;

/// No step takes longer, not even one that waits for a failover.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    client: Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// Why a step failed: the server's words, or those of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub sqlstate: Option<String>,
    pub message: String,
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        match error.as_db_error() {
            Some(told) => {
                Trouble { sqlstate: Some(told.code().code().to_owned()), message: told.message().to_owned() }
            }
            None => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Trouble { sqlstate: None, message: format!("{error} {source}") }
            }
        }
    }
}

impl Session {
    /// As the application's user, without TLS.
    pub fn open(address: SocketAddr) -> Result<Session, Trouble> {
        Session::open_as("app", address)
    }

    pub fn open_as(user: &str, address: SocketAddr) -> Result<Session, Trouble> {
        Session::connect(user, address, SslMode::Disable, NoTls)
    }

    /// Over TLS to the server whose certificate is pinned.
    pub fn open_tls(address: SocketAddr, mode: SslMode, pinned: Pinned) -> Result<Session, Trouble> {
        Session::connect("app", address, mode, pinned)
    }

    /// From an address of the client's own, without TLS.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> Result<Session, Trouble> {
        let runtime = runtime();
        let mut config = Config::new();
        config.user("app").dbname("app").ssl_mode(SslMode::Disable);
        let opened = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::new(source, 0)).expect("an address of this host");
            let stream = socket.connect(address).await.expect("somebody listens");
            tokio::time::timeout(PATIENCE, config.connect_raw(stream, NoTls)).await
        });
        let (client, connection) = opened.expect("an answer before patience ends")?;
        let connection = runtime.spawn(connection);
        Ok(Session { runtime, client, connection })
    }

    fn connect<T>(user: &str, address: SocketAddr, mode: SslMode, tls: T) -> Result<Session, Trouble>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let runtime = runtime();
        let mut config = Config::new();
        config.host(address.ip().to_string()).port(address.port()).user(user).dbname("app").ssl_mode(mode);
        let opened = runtime.block_on(async { tokio::time::timeout(PATIENCE, config.connect(tls)).await });
        let (client, connection) = opened.expect("an answer before patience ends")?;
        let connection = runtime.spawn(connection);
        Ok(Session { runtime, client, connection })
    }

    /// The rows as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, Trouble> {
        let asked = async { tokio::time::timeout(PATIENCE, self.client.simple_query(sql)).await };
        let messages = self.runtime.block_on(asked).expect("an answer before patience ends")?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The one value, of a statement that must succeed.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        match self.rows(sql) {
            Ok(rows) => rows.into_iter().flatten().next().unwrap_or_default(),
            Err(trouble) => panic!("{sql}: {trouble:?}"),
        }
    }

    /// The address of the server that this session is on.
    #[track_caller]
    pub fn server(&self) -> String {
        self.value("SELECT host(inet_server_addr())")
    }

    /// Says goodbye, as a client does that has done its work.
    pub fn close(self) {
        let Session { runtime, client, connection } = self;
        drop(client);
        runtime.block_on(connection).expect("no panic").expect("a clean end");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
