//! Who may come in, who a client is said to be, and whom members are told of.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use pilotfish::proxy::listener::{self, ListenAddress, ListenOptions};
use pilotfish::proxy::{Access, ClientAddress, Networks, Protocol, SessionLimits, TcpOptions};
use pilotfish::routing::Balance;
use pilotfish::stats::{End, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UnixStream};

use super::bench::{Bench, Setup, listen_at};
use super::member::Member;
use super::packets::{WELCOME, cancel, startup};
use super::peer::Peer;
use super::proxy_protocol::v2;
use super::{until, within};

fn networks(list: &[&str]) -> Networks {
    let ip = list.iter().filter(|text| **text != "unix").map(|text| text.parse().expect("a network"));
    Networks { ip: ip.collect(), unix: list.contains(&"unix") }
}

fn access(allow: Option<&[&str]>, trusted: &[&str]) -> Access {
    Access { allow: allow.map(networks), trusted: networks(trusted) }
}

/// A bench with a writer, and one more door with this access.
struct Stage {
    bench: Bench,
    member: Member,
    door: SocketAddr,
}

impl Stage {
    async fn new(access: Access) -> Stage {
        Stage::with(Setup::default(), access).await
    }

    async fn with(setup: Setup, access: Access) -> Stage {
        let (bench, member) = (Bench::new(setup), Member::start("a").await);
        bench.publish([member.writer()]);
        let at = ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into());
        let ListenAddress::Ip(door) = bench.also_listen(&listen_at(at, setup.tcp), access) else {
            panic!("no IP address")
        };
        Stage { bench, member, door }
    }

    async fn client(&self) -> Peer {
        within("a connection", Peer::connect(self.door)).await
    }

    async fn from(&self, host: [u8; 4]) -> Peer {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((host, 0).into()).expect("an address of loopback");
        Peer::through(socket, self.door).await
    }

    /// A client that begins with this header and then logs in.
    async fn proxied(&self, header: &[u8]) -> (Peer, Peer) {
        let mut client = self.client().await;
        client.say(header).await;
        self.member.welcome(client).await
    }

    /// Who the open sessions' clients are.
    fn clients(&self) -> Vec<String> {
        self.bench.workers.rows().iter().map(|row| row.client.to_string()).collect()
    }

    async fn ends_as(&self, end: End) {
        self.bench.primary.ended(end, 1).await;
        self.member.is_left_alone();
        self.bench.emptied().await;
    }
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 5000\r\n";
const V2_LOCAL: [u8; 4] = [0x20, 0, 0, 0];

#[tokio::test]
async fn only_the_allowed_come_in() {
    let stage = Stage::new(access(Some(&["127.0.0.2/32", "127.1.0.0/16"]), &[])).await;
    for host in [[127, 0, 0, 2], [127, 1, 2, 3]] {
        let (client, _backend) = stage.member.welcome(stage.from(host).await).await;
        drop(client);
    }
    stage.bench.emptied().await;
    let mut client = stage.from([127, 0, 0, 1]).await;
    // Closed with what it has sent unread, which resets it.
    let _ = client.stream.write_all(&startup(0, "app")).await;
    let mut heard = Vec::new();
    let outcome = within("the end", client.stream.read_to_end(&mut heard)).await;
    assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert_eq!(heard, b"");
    stage.ends_as(End::ClientDenied).await;
    let ended = &stage.bench.workers.recent_ends()[0];
    assert_eq!(
        (ended.end, ended.client.origin()),
        (End::ClientDenied, Origin::Ip(Ipv4Addr::LOCALHOST.into()))
    );
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
    let v2_header = v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 9, 0x1f, 0x90, 0x13, 0x88]);
    for (header, client) in [(V1, "192.0.2.1:8080"), (&v2_header, "192.0.2.1:8080")] {
        let _session = stage.proxied(header).await;
        assert_eq!(stage.clients(), [client]);
        drop(_session);
        stage.bench.emptied().await;
        assert_eq!(stage.bench.workers.recent_ends()[0].client.to_string(), client);
    }
    // Of a check by the proxy itself, the connection's own address counts.
    let (client, _backend) = stage.proxied(&v2(0x20, 0, &[])).await;
    assert_eq!(stage.clients(), [format!("127.0.0.1:{}", client.port())]);
}

#[tokio::test]
async fn a_header_in_pieces_is_put_together_and_what_follows_is_the_clients() {
    let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
    let hello = startup(0, "app");
    let mut client = stage.client().await;
    for piece in [&V1[..3], &V1[3..20], &[&V1[20..], &hello[..5]].concat(), &hello[5..]] {
        client.say(piece).await;
    }
    let mut backend = stage.member.session_saying(&hello).await;
    backend.say(WELCOME).await;
    client.hear(WELCOME).await;
}

#[tokio::test]
async fn a_trusted_proxy_must_send_a_header_and_a_whole_one() {
    let broken = b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 99999\r\n";
    for bytes in [&startup(0, "app")[..], broken] {
        let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
        let mut client = stage.client().await;
        client.say(bytes).await;
        let _ = within("the end", client.stream.read_to_end(&mut Vec::new())).await;
        stage.ends_as(End::ProxyHeader).await;
    }
    let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
    let mut client = stage.client().await;
    client.say(&V1[..20]).await;
    client.finish();
    client.hear_all().await;
    stage.ends_as(End::ProxyHeader).await;
    let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
    drop(stage.client().await);
    stage.ends_as(End::ClientProbe).await;
}

#[tokio::test(start_paused = true)]
async fn a_header_is_not_waited_for_long() {
    // The workers keep their own time: the pause is of the test's clock only, and its deadline is not the header's.
    let stage = Stage::new(access(None, &["127.0.0.1/32"])).await;
    tokio::time::resume();
    let mut client = stage.client().await;
    client.say(&V1[..20]).await;
    let started = std::time::Instant::now();
    let _ = client.stream.read_to_end(&mut Vec::new()).await;
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
    stage.ends_as(End::ProxyHeader).await;
}

#[tokio::test]
async fn nobody_else_may_send_a_header() {
    for header in [V1.to_vec(), [super::proxy_protocol::SIGNATURE, &V2_LOCAL].concat()] {
        let stage = Stage::new(access(None, &["127.0.0.9/32"])).await;
        let mut client = stage.client().await;
        client.say(&header).await;
        let refused = client.hear_refusal().await;
        assert!(refused.message.contains("not in accept_proxy"), "{refused:?}");
        stage.ends_as(End::ClientGarbage).await;
    }
}

#[tokio::test]
async fn one_header_is_enough() {
    let stage = Stage::new(access(None, &["127.0.0.0/8"])).await;
    let mut client = stage.client().await;
    client.say(&[V1, V1].concat()).await;
    let refused = client.hear_refusal().await;
    assert!(refused.message.contains("a second PROXY protocol header"), "{refused:?}");
    stage.ends_as(End::ClientGarbage).await;
}

/// Where somebody is trusted to send headers, the header of anybody else is refused whatever the protocol is. Where nobody
/// is, bytes are just bytes.
#[tokio::test]
async fn nobody_else_may_send_a_header_before_bytes_of_any_protocol() {
    let tcp = || Setup { protocol: Protocol::Tcp, ..Setup::default() };
    let v2_header = [super::proxy_protocol::SIGNATURE, &V2_LOCAL].concat();
    for header in [V1, &v2_header] {
        for pieces in [vec![header], vec![&header[..3], &header[3..]]] {
            let stage = Stage::with(tcp(), access(None, &["127.0.0.9/32"])).await;
            let mut client = stage.client().await;
            for piece in pieces {
                client.say(piece).await;
            }
            let _ = within("the end", client.stream.read_to_end(&mut Vec::new())).await;
            stage.bench.primary.ended(End::ProxyHeader, 1).await;
            // The member was dialled, and heard nothing.
            stage.member.session().await.hear_reset().await;
            stage.bench.emptied().await;
        }
        let stage = Stage::with(tcp(), access(None, &[])).await;
        let mut client = stage.client().await;
        client.say(header).await;
        drop(stage.member.session_saying(header).await);
    }
    // A trusted one's header is taken off, and what only begins like one goes through.
    let stage = Stage::with(tcp(), access(None, &["127.0.0.1/32"])).await;
    let mut client = stage.client().await;
    client.say(&[V1, b"hello"].concat()).await;
    drop(stage.member.session_saying(b"hello").await);
    let stage = Stage::with(tcp(), access(None, &["127.0.0.9/32"])).await;
    let mut client = stage.client().await;
    client.say(b"PRO").await;
    client.say(b"GRAM").await;
    drop(stage.member.session_saying(b"PROGRAM").await);
}

#[tokio::test]
async fn the_proxied_address_is_the_one_that_must_be_allowed() {
    let stage = Stage::new(access(Some(&["192.0.2.0/24"]), &["127.0.0.1/32"])).await;
    drop(stage.proxied(V1).await);
    stage.bench.emptied().await;
    let mut client = stage.client().await;
    client.say(b"PROXY TCP4 198.51.100.1 192.0.2.9 8080 5000\r\n").await;
    let _ = within("the end", client.stream.read_to_end(&mut Vec::new())).await;
    stage.ends_as(End::ClientDenied).await;
}

#[tokio::test]
async fn a_proxys_own_check_is_a_probe_even_where_the_proxy_may_not_be_a_client() {
    let local = v2(0x20, 0, &[]);
    for header in [&local[..], b"PROXY UNKNOWN\r\n", b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 5000\r\n"] {
        for (what_follows, end) in [(vec![], End::ClientProbe), (startup(0, "app"), End::ClientDenied)] {
            let stage = Stage::new(access(Some(&["192.0.2.0/24"]), &["127.0.0.1/32"])).await;
            let mut client = stage.client().await;
            client.say(&[header, &what_follows].concat()).await;
            client.finish();
            // Closed with what it has sent unread, which resets it.
            let _ = within("the end", client.stream.read_to_end(&mut Vec::new())).await;
            stage.ends_as(end).await;
        }
    }
}

#[tokio::test]
async fn members_are_told_who_the_client_is() {
    let setup = Setup { send_proxy: true, ..Setup::default() };
    let stage = Stage::with(setup, access(None, &["127.0.0.2/32"])).await;
    let hello = startup(0, "app");
    let own = |client: &Peer| {
        let (from, to) = (client.port().to_be_bytes(), stage.door.port().to_be_bytes());
        v2(0x21, 0x11, &[&[127, 0, 0, 1, 127, 0, 0, 1][..], &from, &to].concat())
    };
    let mut client = stage.client().await;
    client.say(&hello).await;
    let _backend = stage.member.session_saying(&[own(&client), hello.clone()].concat()).await;
    // What came in by a header goes out by one.
    let mut client = stage.from([127, 0, 0, 2]).await;
    client.say(&[V1, &hello].concat()).await;
    let header = v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 9, 0x1f, 0x90, 0x13, 0x88]);
    let _backend = stage.member.session_saying(&[header, hello].concat()).await;
    // A cancel request finds a server that expects a header, too.
    let mut client = stage.client().await;
    client.say(&cancel(16, 1)).await;
    drop(stage.member.session_saying(&[own(&client), cancel(16, 1)].concat()).await);
    client.hear_end().await;
}

#[tokio::test]
async fn bytes_of_any_protocol_come_after_the_header() {
    let setup = Setup { send_proxy: true, protocol: Protocol::Tcp, ..Setup::default() };
    let stage = Stage::with(setup, Access::default()).await;
    let client = stage.client().await;
    let (from, to) = (client.port().to_be_bytes(), stage.door.port().to_be_bytes());
    let header = v2(0x21, 0x11, &[&[127, 0, 0, 1, 127, 0, 0, 1][..], &from, &to].concat());
    // Before the client has said anything: the server may be the first to speak.
    let _backend = stage.member.session_saying(&header).await;
}

#[tokio::test]
async fn the_source_strategy_goes_by_the_proxied_address() {
    let setup = Setup { balance: Balance::Source, ..Setup::default() };
    let stage = Stage::with(setup, access(None, &["127.0.0.1/32"])).await;
    let _session = stage.proxied(V1).await;
    let row = &stage.bench.workers.rows()[0];
    assert_eq!(row.client, ClientAddress::of("192.0.2.1:8080".parse().expect("an address")));
}

/// This process, as a client of a unix socket.
fn own_uid() -> String {
    format!("unix:{}", rustix::process::geteuid().as_raw())
}

struct Door {
    path: PathBuf,
    listen: ListenOptions,
    _folder: tempfile::TempDir,
}

impl Door {
    fn new(mode: u32) -> Door {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".s.PGSQL.5000");
        let listen =
            ListenOptions { mode, ..listen_at(ListenAddress::Unix(path.clone()), TcpOptions::default()) };
        Door { path, listen, _folder: folder }
    }
}

#[tokio::test]
async fn a_unix_socket_leads_to_the_same_pool() {
    let (bench, member, door) = (Bench::new(Setup::default()), Member::start("a").await, Door::new(0o640));
    bench.publish([member.writer()]);
    bench.also_listen(&door.listen, access(Some(&["unix"]), &[]));
    let mode = std::fs::metadata(&door.path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let hello = startup(0, "app");
    let mut client = UnixStream::connect(&door.path).await.expect("a connection");
    client.write_all(&hello).await.expect("room");
    let mut backend = member.session_saying(&hello).await;
    assert_eq!(bench.workers.rows()[0].client.to_string(), own_uid());
    // More than any buffer on the way takes, both ways: it is spliced, and it stalls in between.
    let bulk: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reading, mut writing) = client.split();
    let (mut back_reading, mut back_writing) = backend.stream.split();
    let mut heard = [vec![0; bulk.len()], vec![0; bulk.len()]];
    let [inward, outward] = &mut heard;
    let everything = async {
        tokio::try_join!(
            writing.write_all(&bulk),
            back_reading.read_exact(inward),
            back_writing.write_all(&bulk),
            reading.read_exact(outward)
        )
    };
    within("bulk both ways", everything).await.expect("an open session");
    assert!(heard == [bulk.clone(), bulk]);
    // The end of the one goes to the other.
    client.shutdown().await.expect("an open socket");
    backend.hear_end().await;
    backend.say(b"and yet").await;
    drop(backend);
    let mut rest = Vec::new();
    within("the rest", client.read_to_end(&mut rest)).await.expect("no reset");
    assert_eq!(rest, b"and yet");
    bench.primary.ended(End::ClientClosed, 1).await;
    bench.emptied().await;
}

#[tokio::test]
async fn a_unix_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let door = Door::new(0o600);
    drop(std::os::unix::net::UnixListener::bind(&door.path).expect("a socket"));
    let bound = listener::bind(&door.listen).expect("nobody listens there");
    let again = listener::bind(&door.listen).expect_err("somebody listens there");
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    drop(bound);
    assert!(!door.path.exists());
    std::fs::write(&door.path, "precious").expect("a file");
    assert!(listener::bind(&door.listen).is_err());
    assert_eq!(std::fs::read_to_string(&door.path).expect("untouched"), "precious");
}

#[tokio::test]
async fn who_comes_through_a_unix_socket_may_be_a_proxy() {
    let (bench, member, door) = (Bench::new(Setup::default()), Member::start("a").await, Door::new(0o600));
    bench.publish([member.writer()]);
    bench.also_listen(&door.listen, access(Some(&["192.0.2.0/24"]), &["unix"]));
    let hello = startup(0, "app");
    let mut client = UnixStream::connect(&door.path).await.expect("a connection");
    client.write_all(&[V1, &hello].concat()).await.expect("room");
    let _backend = member.session_saying(&hello).await;
    assert_eq!(bench.workers.rows()[0].client.to_string(), "192.0.2.1:8080");
}

#[tokio::test]
async fn users_of_a_unix_socket_are_told_apart_by_their_number() {
    let limits = SessionLimits { per_client: Some(1), ..SessionLimits::default() };
    let setup = Setup { limits, ..Setup::default() };
    let (bench, member, door) = (Bench::new(setup), Member::start("a").await, Door::new(0o600));
    bench.publish([member.writer()]);
    bench.also_listen(&door.listen, Access::default());
    let hello = startup(0, "app");
    let mut first = UnixStream::connect(&door.path).await.expect("a connection");
    first.write_all(&hello).await.expect("room");
    let _backend = member.session_saying(&hello).await;
    let mut second = UnixStream::connect(&door.path).await.expect("a connection");
    second.write_all(&hello).await.expect("room");
    let mut told = Vec::new();
    within("a refusal", second.read_to_end(&mut told)).await.expect("no reset");
    let told = String::from_utf8_lossy(&told).into_owned();
    let uid = rustix::process::geteuid().as_raw();
    assert!(told.contains(&format!("uid {uid} has 1 sessions already")), "{told}");
    bench.primary.ended(End::ClientLimit, 1).await;
    // Who comes by an address is another.
    let _session = bench.primary.session(&member).await;
    assert_eq!(bench.primary.stats.limits.admitted(), 2);
}

#[tokio::test]
async fn listeners_close_with_their_files() {
    let (bench, door) = (Bench::new(Setup::default()), Door::new(0o600));
    bench.also_listen(&door.listen, Access::default());
    assert!(door.path.exists());
    bench.workers.stop_accepting();
    until("the file is gone", || !door.path.exists()).await;
}

#[tokio::test]
async fn an_address_that_is_not_here_can_be_bound_by_those_who_want_to() {
    // TEST-NET-1, which no host has.
    let there: SocketAddr = "192.0.2.77:0".parse().expect("an address");
    let listen = listen_at(ListenAddress::Ip(there), TcpOptions::default());
    let refused = listener::bind(&listen).expect_err("no such address");
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
    listener::bind(&ListenOptions { free_bind: true, ..listen }).expect("any address");
}

#[tokio::test]
async fn ipv6_and_ipv4_are_told_apart_by_family() {
    let (bench, member) = (Bench::new(Setup::default()), Member::start("a").await);
    bench.publish([member.writer()]);
    let at = ListenAddress::Ip("[::1]:0".parse().expect("an address"));
    let allow = access(Some(&["::1/128"]), &[]);
    let ListenAddress::Ip(door) = bench.also_listen(&listen_at(at, TcpOptions::default()), allow) else {
        panic!("no IP address")
    };
    let (client, _backend) = member.welcome(Peer::connect(door).await).await;
    assert_eq!(bench.workers.rows()[0].client.to_string(), format!("[::1]:{}", client.port()));
}
