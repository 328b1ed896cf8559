//! Once for each session: the first packet, and the pick.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use pilotfish::proxy::first_packet;
use pilotfish::routing::Balance;
use pilotfish::routing::pick::{Draw, pick};

use crate::control::routes;

/// Readers to choose from: as many as a large cluster has.
const MEMBERS: usize = 5;
const STARTUP: &[u8] = b"\x00\x00\x00\x2f\x00\x03\x00\x00user\0application\0database\0application\0\0";
const SSL_REQUEST: &[u8] = b"\x00\x00\x00\x08\x04\xd2\x16\x2f";

pub fn benches(criterion: &mut Criterion) {
    for (name, packet) in [("startup", STARTUP), ("ssl_request", SSL_REQUEST)] {
        let look = || first_packet::parse(black_box(packet));
        assert!(matches!(look(), first_packet::Parse::Done(_, length) if length == packet.len()), "{name}");
        criterion.bench_function(&format!("first_packet/{name}"), |bencher| bencher.iter(look));
    }
    let routes = routes(MEMBERS);
    for (name, pool, balance) in [
        ("writer", "primary", Balance::default()),
        ("least_connections", "replicas", Balance::LeastConnections),
        ("round_robin", "replicas", Balance::RoundRobin),
        ("random2", "replicas", Balance::Random2),
        ("source", "replicas", Balance::Source),
    ] {
        let pool = routes.pool(pool).expect("a pool of that name");
        let mut turn = 0_u64;
        criterion.bench_function(&format!("pick/{name}"), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let random = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let draw = Draw { tried: &[], turn, random, client: IpAddr::from([10, 0, 0, 1]).into() };
                pick(black_box(pool), balance, draw)
            });
        });
    }
}
