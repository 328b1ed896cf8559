//! A crowd at the admin side's doors: connections that say nothing, and more of them than there are places.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use pilotfish::admin::server::MAX_CONNECTIONS;
use pilotfish::config::{Role, Secret, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::live::Reader;
use super::tls::{Authority, serve};
use crate::control::cluster::FakeCluster;
use crate::control::http::get;
use crate::control::postgres::Client;
use crate::control::served::{Served, config};
use crate::control::within;

/// On a busy machine too. Silent ones had their places for five seconds each: in turns of 128, a thousand would take forty,
/// and five thousand minutes.
const SOON: Duration = Duration::from_secs(10);
/// How long it is tried.
const LASTS: Duration = Duration::from_secs(2);

/// Connections that hold on to what they get until this is dropped.
struct Crowd {
    size: u32,
    members: JoinSet<()>,
    /// One for each that is connected.
    came: Arc<Semaphore>,
}

/// Each connects from the next of so many addresses, and says this.
fn gather(admin: SocketAddr, size: u32, addresses: u32, says: impl AsRef<[u8]>) -> Crowd {
    let (mut members, came) = (JoinSet::new(), Arc::new(Semaphore::new(0)));
    let says: Arc<[u8]> = says.as_ref().into();
    for number in 0..size {
        let from = u32::from(Ipv4Addr::new(127, 99, 0, 1)) + number % addresses;
        let (came, says) = (Arc::clone(&came), Arc::clone(&says));
        members.spawn(async move {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::new(IpAddr::V4(from.into()), 0)).expect("an address");
            let mut stream = socket.connect(admin).await.expect("a listener");
            came.add_permits(1);
            // It may have been let go by now.
            let _ = stream.write_all(&says).await;
            std::future::pending::<()>().await;
        });
    }
    Crowd { size, members, came }
}

impl Crowd {
    /// All of them have connected, some of which may have been let go again.
    async fn has_come(&mut self) {
        let came = async {
            tokio::select! {
                came = self.came.acquire_many(self.size) => drop(came.expect("it stays open")),
                Some(ended) = self.members.join_next() => ended.expect("a connection"),
            }
        };
        within("the crowd", came).await;
    }
}

/// Answers for a while.
async fn answers(admin: SocketAddr) {
    let begun = Instant::now();
    while begun.elapsed() < LASTS {
        for path in ["/livez", "/readyz", "/metrics"] {
            let asked = Instant::now();
            assert_eq!(get(admin, path).await.status, 200, "{path}");
            assert!(asked.elapsed() < SOON, "{path} took {:?}", asked.elapsed());
        }
    }
}

#[tokio::test]
async fn five_thousand_silent_connections_keep_nobody_out() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let mut crowd = gather(served.admin, 5000, 5, b"");
    let sessions = async {
        let begun = Instant::now();
        while begun.elapsed() < LASTS {
            let asked = Instant::now();
            assert_eq!(Client::enter(served.pool("primary")).await.1, "a");
            assert!(asked.elapsed() < SOON, "a session took {:?}", asked.elapsed());
        }
    };
    tokio::join!(answers(served.admin), sessions, crowd.has_come());
    answers(served.admin).await;
}

/// The oldest go, so who is slow with its request may be among them; it comes again, as probes do.
#[tokio::test]
async fn a_crowd_of_which_each_has_an_address_of_its_own_keeps_nobody_out_for_long() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let mut crowd = gather(served.admin, 1000, 1000, b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    crowd.has_come().await;
    for _ in 0..10 {
        let asked = Instant::now();
        while !lives(served.admin).await {}
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
}

/// Whether there was an answer at all.
async fn lives(admin: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(admin).await.expect("a listener");
    let ask = format!("GET /livez HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.write_all(ask.as_bytes()).await;
    let _ = within("an end", stream.read_to_end(&mut answer)).await;
    answer.starts_with(b"HTTP/1.1 200 ")
}

#[tokio::test]
async fn handshakes_that_stall_keep_nobody_out() {
    let authority = Authority::new();
    let (served, _cluster) = serve(&authority, false).await;
    // The begin of a record of a handshake, 512 bytes long.
    let mut crowd = gather(served.admin, 1000, 5, b"\x16\x03\x01\x02\x00");
    crowd.has_come().await;
    for _ in 0..10 {
        let asked = Instant::now();
        assert_eq!(authority.get(served.admin, "/livez").await.status, 200);
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn an_open_page_stays_open_in_a_crowd() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let mut page = Reader::open(served.admin, "").await;
    page.status().await;
    let mut crowd = gather(served.admin, 1000, 1, b"");
    crowd.has_come().await;
    for _ in 0..3 {
        page.status().await;
    }
}

/// A client between two requests waits too, but a crowd from elsewhere does not cost it its place.
#[tokio::test]
async fn a_crowd_has_the_places_of_its_own_address() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let mut scraper = TcpStream::connect(served.admin).await.expect("a listener");
    ask(&mut scraper).await;
    let mut crowd = gather(served.admin, 4 * MAX_CONNECTIONS as u32, 1, b"");
    crowd.has_come().await;
    answers(served.admin).await;
    ask(&mut scraper).await;
    drop(crowd);
}

/// Who waits for a hash has a place meanwhile, and not all may have one so: these take a second each, one at a time.
#[tokio::test]
async fn a_crowd_that_guesses_passwords_keeps_nobody_out() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let mut config = config(&[&cluster]);
    let password = Secret::Hash("$2y$14$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned());
    let alice =
        User { name: "alice".to_owned(), role: Role::Operator, password: Some(password), token: None };
    config.admin.users = vec![alice];
    let served = Served::start(config);
    let login = BASE64_STANDARD.encode("alice:guess");
    let says = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {login}\r\n\r\n", served.admin);
    let mut crowd = gather(served.admin, 250, 250, says);
    crowd.has_come().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let asked = Instant::now();
        while !lives(served.admin).await {}
        slowest = slowest.max(asked.elapsed());
    }
    println!("the slowest answer took {slowest:?}");
    assert!(slowest < SOON, "{slowest:?}");
}

async fn ask(scraper: &mut TcpStream) {
    scraper.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("an open connection");
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let read = within("an answer", scraper.read_buf(&mut answer)).await.expect("an open connection");
        assert_ne!(read, 0, "{:?}", String::from_utf8_lossy(&answer));
    }
}
