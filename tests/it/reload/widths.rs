//! Addresses that become wider and narrower while clients come without a pause.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use pilotfish::config::Config;

use super::Live;
use super::stress::Crowd;
use crate::control::cluster::FakeCluster;
use crate::control::fake::own_address;
use crate::control::http::get;
use crate::control::postgres::Client;
use crate::control::within;

/// As many are served between two changes at least.
const SESSIONS_EACH: usize = 100;
const CHANGES: usize = 12;
const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Free at every address, and below the ports that the kernel gives out, so that it stays so.
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    let ports = (0..).map(|number| 10_000 + (RandomState::new().hash_one(number) % 10_000) as u16);
    { ports }.find(|port| TcpListener::bind((EVERYWHERE, *port)).is_ok()).expect("a free port")
}

fn listen(config: &Config, address: SocketAddr) -> Config {
    let mut config = config.clone();
    config.clusters[0].primary.as_mut().expect("it is there").listen = vec![address.into()];
    config
}

#[tokio::test]
async fn an_address_becomes_wider_and_narrower_and_refuses_nobody() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, config) = Live::clusters(&[&cluster]).await;
    let (narrow, port) = (own_address(), free_port());
    let at = SocketAddr::new(narrow, port);
    live.change(&listen(&config, at)).await.expect("a free port");
    let (mut stays, _) = Client::enter(at).await;
    let crowd = Crowd::at(at, "a");
    for number in 0..CHANGES {
        let host = if number % 2 == 0 { EVERYWHERE } else { narrow };
        let told = live.change(&listen(&config, SocketAddr::new(host, port))).await.expect("in one go");
        assert_eq!(told.applied, ["clusters[0].primary.listen[0]"]);
        let elsewhere = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        assert_eq!(elsewhere.is_ok(), host == EVERYWHERE, "{elsewhere:?}");
        TcpListener::bind((EVERYWHERE, port)).expect_err("nobody else gets the port");
        crowd.more(SESSIONS_EACH).await;
    }
    crowd.go().await;
    assert_eq!(stays.ask("hello").await.expect("an answer"), "a:hello");
    // Even the former sockets are gone in the end, so that the address is free when it goes.
    live.change(&config).await.expect("a good configuration");
    let free = async {
        while TcpListener::bind((EVERYWHERE, port)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("a free port", free).await;
}

#[tokio::test]
async fn a_change_that_fails_leaves_the_former_address_as_it_was() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, config) = Live::clusters(&[&cluster]).await;
    let (at, other) = (SocketAddr::new(own_address(), free_port()), own_address());
    live.change(&listen(&config, at)).await.expect("a free port");
    // Somebody else has a part of what it is to become.
    let taken = TcpListener::bind((other, at.port())).expect("a free port");
    let crowd = Crowd::at(at, "a");
    let wide = listen(&config, SocketAddr::new(EVERYWHERE, at.port()));
    let rejected = live.change(&wide).await.expect_err("the port is taken elsewhere");
    assert!(rejected.problems[0].contains("Address already in use"), "{rejected:?}");
    crowd.more(SESSIONS_EACH).await;
    assert_eq!(live.pool("sales", "primary").await, at);
    drop(taken);
    live.change(&wide).await.expect("it is free");
    crowd.more(SESSIONS_EACH).await;
    crowd.go().await;
}

#[tokio::test]
async fn the_page_becomes_wider_too_also_where_a_pool_was() {
    let cluster = FakeCluster::start("sales", &["a"]).await;
    let (live, config) = Live::clusters(&[&cluster]).await;
    let (host, [one, two]) = (own_address(), [free_port(), free_port()]);
    let mut config = listen(&config, SocketAddr::new(host, two));
    config.admin.listen = Some(SocketAddr::new(host, one));
    live.change(&config).await.expect("free ports");
    config = listen(&config, SocketAddr::new(host, 0));
    config.admin.listen = Some(SocketAddr::new(EVERYWHERE, two));
    live.change(&config).await.expect("in one go");
    for host in [host, Ipv4Addr::LOCALHOST.into()] {
        assert_eq!(get(SocketAddr::new(host, two), "/livez").await.status, 200);
    }
}
