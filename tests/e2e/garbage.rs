//! Those who speak no PostgreSQL, or not all of it, beside those who do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::application::{Application, make_table};
use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::wait::{seconds, until_true};

const ROUNDS: usize = 10;
const SILENT: usize = 50;

/// What is thrown, and whether it must be refused by pilotfish itself.
fn throws() -> Vec<(&'static str, Vec<u8>, bool)> {
    let ssl_request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let gssenc_request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    let cancel_request = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2];
    let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0];
    let old_startup = [0, 0, 0, 9, 0, 2, 0, 0, 0];
    let tls_record = [0x16, 3, 1, 2, 0];
    vec![
        ("nothing", vec![], false),
        ("a zero", vec![0; 1], false),
        ("zeros", vec![0; 4_096], true),
        ("ones", vec![0xff; 100_000], true),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".to_vec(), true),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), true),
        ("a packet too long", vec![0, 0xff, 0xff, 0xff, 0, 3, 0, 0], true),
        ("a packet cut short", vec![0, 0, 0, 200, 0, 3, 0, 0, b'u'], false),
        ("an unknown request", vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x77], true),
        ("SSLRequest and no more", ssl_request.to_vec(), false),
        ("SSLRequest and no TLS", [&ssl_request, &[b'x'; 3_000][..]].concat(), false),
        ("one request after another", [gssenc_request, ssl_request, gssenc_request].concat(), false),
        ("a StartupMessage of nobody", startup.to_vec(), false),
        ("a StartupMessage and noise", [&startup, &[b'Q'; 50_000][..]].concat(), false),
        ("a StartupMessage of long ago", old_startup.to_vec(), false),
        ("a TLS record", [&tls_record, &[1; 512][..]].concat(), false),
        ("CancelRequest of nobody", cancel_request.to_vec(), false),
    ]
}

/// Sends it, ends, and listens until the other side ends too: everybody gets that.
fn throw(address: SocketAddr, what: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("an open port");
    stream.set_read_timeout(Some(seconds(20))).expect("a timeout");
    stream.set_write_timeout(Some(seconds(20))).expect("a timeout");
    // Refused midway is refused too.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{what}: {error}"),
        _ => assert!(answer.len() < 10_000, "{what}: a long answer"),
    }
}

#[test]
fn garbage_beside_working_clients_disturbs_none_of_them() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    make_table(balancer.primary());
    let writer = Application::writer(balancer.primary());
    let reader = Application::reader(balancer.replicas());
    let ports = [balancer.primary(), balancer.replicas()];
    let silent: Vec<TcpStream> = ports
        .into_iter()
        .cycle()
        .take(SILENT)
        .map(|port| TcpStream::connect(port).expect("an open port"))
        .collect();

    let epoch = balancer.view()["epoch"].clone();
    let throws = throws();
    std::thread::scope(|scope| {
        for port in [ports[0], ports[1], balancer.admin()] {
            let throws = &throws;
            scope.spawn(move || {
                (0..ROUNDS).for_each(|_| throws.iter().for_each(|(what, bytes, _)| throw(port, what, bytes)));
            });
        }
    });
    writer.wait_on("writers go on");
    reader.wait_on("readers go on");

    let refused = throws.iter().filter(|(_, _, refused)| *refused).count() * ROUNDS;
    for pool in ["primary", "replicas"] {
        assert_eq!(balancer.ends(pool, "client_garbage"), refused as u64, "{}", balancer.pool(pool));
    }
    drop(silent);
    until_true("only the applications are left", seconds(10), || balancer.status()["sessions"] == 2);
    for account in [writer.finish_writer(balancer.primary()), reader.finish()] {
        assert_eq!((account.connects, account.failed_connects, account.broken), (1, vec![], vec![]));
    }
    assert_eq!(balancer.view()["epoch"], epoch, "no client's doing changes the routes");
}
