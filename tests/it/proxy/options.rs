//! The socket options of both sides of a session: whatever is set when, a session that lives has them.

use std::net::Ipv4Addr;
use std::time::Duration;

use pilotfish::proxy::{Keepalive, TcpOptions, connect, listener};
use socket2::SockRef;
use tokio::net::TcpListener;

use super::bench::{Bench, Setup};
use super::kernel::connection;
use super::member::Member;
use super::peer::Peer;
use super::{until, within};

fn options() -> TcpOptions {
    let seconds = Duration::from_secs;
    let keepalive = Keepalive { idle: seconds(700), interval: seconds(3), count: 2 };
    TcpOptions { keepalive: Some(keepalive), user_timeout: Some(seconds(4)) }
}

/// When pilotfish will ask the peer whether it is alive.
fn asked_in(peer: &Peer) -> Option<Duration> {
    connection(peer.peer_port(), peer.port())?.asked_in
}

#[tokio::test]
async fn a_session_that_lives_is_asked_for_on_both_sides() {
    let idle = options().keepalive.expect("it is on").idle;
    let bench = Bench::new(Setup { tcp: options(), ..Setup::default() });
    let member = Member::start("a").await;
    bench.publish([member.writer()]);
    let (client, backend) = bench.primary.session(&member).await;
    for peer in [&client, &backend] {
        // Not the kernel's own two hours.
        let in_time = |due: Duration| due <= idle && due > idle / 2;
        until("keepalive", || asked_in(peer).is_some_and(in_time)).await;
    }
}

#[tokio::test]
async fn a_session_is_not_asked_for_where_that_is_off() {
    let bench = Bench::new(Setup::default());
    let member = Member::start("a").await;
    bench.publish([member.writer()]);
    let (client, backend) = bench.primary.session(&member).await;
    assert_eq!((asked_in(&client), asked_in(&backend)), (None, None));
}

/// What a listener is set to, its connections need not be.
#[tokio::test]
async fn accepted_connections_have_the_options_of_their_listener() {
    let listener = listener::bind_ip((Ipv4Addr::LOCALHOST, 0).into(), false, options()).expect("a free port");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let peer = Peer::connect(listener.local_addr().expect("an address")).await;
    let (accepted, _) = within("a connection", listener.accept()).await.expect("a connection");
    let accepted = SockRef::from(&accepted);
    assert!(accepted.keepalive().expect("an option"));
    assert_eq!(found(&accepted), options());
    // Nothing of it is there by itself.
    assert!(!SockRef::from(&peer.stream).keepalive().expect("an option"));
}

/// Keepalive can wait: a dial has a time of its own.
#[tokio::test]
async fn a_socket_to_dial_with_has_all_options_but_keepalive() {
    let socket = connect::socket((Ipv4Addr::LOCALHOST, 0).into(), options()).expect("a socket");
    let socket = SockRef::from(&socket);
    assert!(!socket.keepalive().expect("an option"));
    assert_eq!(found(&socket).user_timeout, options().user_timeout);
    options().keepalive.expect("it is on").apply(&socket).expect("an open socket");
    assert!(socket.keepalive().expect("an option"));
    assert_eq!(found(&socket), options());
}

/// The times, whether or not keepalive is on.
fn found(socket: &SockRef<'_>) -> TcpOptions {
    assert!(socket.tcp_nodelay().expect("an option"));
    let keepalive = Keepalive {
        idle: socket.tcp_keepalive_time().expect("an option"),
        interval: socket.tcp_keepalive_interval().expect("an option"),
        count: socket.tcp_keepalive_retries().expect("an option"),
    };
    TcpOptions { keepalive: Some(keepalive), user_timeout: socket.tcp_user_timeout().expect("an option") }
}
