//! Once for each session: the first packet, and the pick.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use pilotfish::proxy::first_packet;
use pilotfish::routing::pick::{Draw, pick};
use pilotfish::routing::{Balance, Choice};

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
    let reader = |balance| Choice::Reader { balance, fallback: true };
    for (name, choice) in [
        ("writer", Choice::Writer),
        ("least_connections", reader(Balance::LeastConnections)),
        ("round_robin", reader(Balance::RoundRobin)),
        ("random2", reader(Balance::Random2)),
        ("source", reader(Balance::Source)),
    ] {
        let mut turn = 0_u64;
        criterion.bench_function(&format!("pick/{name}"), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let random = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let draw = Draw { tried: &[], turn, random, client: IpAddr::from([10, 0, 0, 1]) };
                pick(black_box(&routes), choice, draw)
            });
        });
    }
}
