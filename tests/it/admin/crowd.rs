//! A crowd at the admin side's doors: connections that say nothing, and more of them than there are places.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pilotfish::admin::server::MAX_CONNECTIONS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::live::Reader;
use super::tls::{Authority, serve};
use crate::control::cluster::FakeCluster;
use crate::control::http::get;
use crate::control::postgres::Client;
use crate::control::served::Served;
use crate::control::within;

/// On a busy machine too. Silent ones had their places for five seconds each: in turns of 128, a thousand would take forty,
/// and five thousand minutes.
const SOON: Duration = Duration::from_secs(10);
/// How long it is tried.
const LASTS: Duration = Duration::from_secs(2);

/// Each connects from the next of so many addresses, and holds on to what it gets until it is dropped.
fn gather(admin: SocketAddr, size: u32, addresses: u32, says: &'static [u8]) -> JoinSet<()> {
    let mut crowd = JoinSet::new();
    for number in 0..size {
        let from = u32::from(Ipv4Addr::new(127, 99, 0, 1)) + number % addresses;
        crowd.spawn(async move {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::new(IpAddr::V4(from.into()), 0)).expect("an address");
            let Ok(mut stream) = socket.connect(admin).await else { return };
            let _ = stream.write_all(says).await;
            std::future::pending::<()>().await;
        });
    }
    crowd
}

/// Answers while the crowd comes, and once it is there.
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
    let _crowd = gather(served.admin, 5000, 5, b"");
    let sessions = async {
        let begun = Instant::now();
        while begun.elapsed() < LASTS {
            let asked = Instant::now();
            assert_eq!(Client::enter(served.pool("primary")).await.1, "a");
            assert!(asked.elapsed() < SOON, "a session took {:?}", asked.elapsed());
        }
    };
    tokio::join!(answers(served.admin), sessions);
}

/// The oldest go, so who is slow with its request may be among them; it comes again, as probes do.
#[tokio::test]
async fn a_crowd_of_which_each_has_an_address_of_its_own_keeps_nobody_out_for_long() {
    let cluster = FakeCluster::start("demo", &["a"]).await;
    let served = Served::cluster(&cluster).await;
    let _crowd = gather(served.admin, 1000, 1000, b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ");
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
    let _crowd = gather(served.admin, 1000, 5, b"\x16\x03\x01\x02\x00");
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
    let _crowd = gather(served.admin, 1000, 1, b"");
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
    let crowd = gather(served.admin, 4 * MAX_CONNECTIONS as u32, 1, b"");
    answers(served.admin).await;
    ask(&mut scraper).await;
    drop(crowd);
}

async fn ask(scraper: &mut TcpStream) {
    scraper.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("an open connection");
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let read = within("an answer", scraper.read_buf(&mut answer)).await.expect("an open connection");
        assert_ne!(read, 0, "{:?}", String::from_utf8_lossy(&answer));
    }
}
