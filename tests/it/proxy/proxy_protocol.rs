//! Headers of the PROXY protocol, byte by byte. The examples of both versions are those of the protocol's own text
//! (HAProxy, doc/proxy-protocol.txt).

use std::net::SocketAddr;

use pilotfish::proxy::proxy_protocol::{Parse, Proxied, encode, parse};
use proptest::prelude::*;

pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn proxied(source: &str, destination: &str) -> Option<Proxied> {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Some(Proxied { source: address(source), destination: address(destination) })
}

/// A header of version 2.
pub fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 9, 0x1f, 0x90, 0x13, 0x88];
const TLV: &[u8] = &[4, 0, 3, 0, 0, 0];

/// Reads `stream` as the listener does: never more than is asked for. Whether it was a header, and how long.
fn fed(stream: &[u8]) -> Result<(Option<Proxied>, usize), &'static str> {
    let mut have = 0;
    loop {
        match parse(&stream[..have]) {
            Parse::Need(length) if length > stream.len() => return Err("unfinished"),
            Parse::Need(length) => {
                assert!(length > have, "asked for nothing new at {have}");
                have = length;
            }
            Parse::Done(proxied, length) => {
                assert_eq!(length, have, "took what is not the header's");
                return Ok((proxied, length));
            }
            Parse::Garbage(why) => return Err(why),
        }
    }
}

#[test]
fn headers_of_both_versions() {
    let known = proxied("192.0.2.1:8080", "192.0.2.9:5000");
    let ipv6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
    let unix = [b'/'; 216];
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 5000\r\n".to_vec(), known),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), proxied("[2001:db8::1]:1", "[::1]:2")),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.9 8080 5000\r\n".to_vec(), known),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(), None),
        (v2(0x21, 0x11, IPV4), known),
        (v2(0x21, 0x11, &[IPV4, TLV, TLV].concat()), known),
        (v2(0x21, 0x21, &ipv6), proxied("[2001:db8::1]:1", "[::1]:2")),
        // A health check of the proxy itself; what it says of addresses does not count.
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, IPV4), None),
        (v2(0x20, 0x11, &[]), None),
        // For somebody without an address.
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, TLV), None),
        (v2(0x21, 0x31, &unix), None),
    ] {
        let told = String::from_utf8_lossy(&header).into_owned();
        assert_eq!(fed(&header), Ok((expected, header.len())), "{told:?}");
        let followed = [&header[..], b"\0\0\0\x08\x04\xd2\x16\x2f"].concat();
        assert_eq!(fed(&followed), Ok((expected, header.len())), "{told:?} and more");
        for cut in 0..header.len() {
            assert_eq!(fed(&header[..cut]), Err("unfinished"), "{told:?} up to {cut}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"proxy TCP4 192.0.2.1 192.0.2.9 8080 5000\r\n".to_vec(),
        b"PROXY TCP5 192.0.2.1 192.0.2.9 8080 5000\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::1 8080 5000\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 65536\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.9 8080\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 5000\n".to_vec(),
        endless,
        v2(0x11, 0x11, IPV4),
        v2(0x22, 0x11, IPV4),
        v2(0x21, 0x41, IPV4),
        v2(0x21, 0x11, &IPV4[..8]),
        v2(0x21, 0x21, IPV4),
    ] {
        assert!(fed(&bytes).is_err_and(|why| why != "unfinished"), "{:?}", String::from_utf8_lossy(&bytes));
    }
    // A line has an end, and it is not waited for longer.
    let line = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 91], b"\r\n".to_vec()].concat();
    assert_eq!((line.len(), fed(&line)), (107, Ok((None, 107))));
}

#[test]
fn what_is_sent_is_what_is_read() {
    for (sent, read) in [
        (None, None),
        (proxied("192.0.2.1:8080", "192.0.2.9:5000"), proxied("192.0.2.1:8080", "192.0.2.9:5000")),
        (proxied("[2001:db8::1]:1", "[::1]:2"), proxied("[2001:db8::1]:1", "[::1]:2")),
        // Both of one family, since a header has but one.
        (proxied("192.0.2.1:1", "[::1]:2"), proxied("192.0.2.1:1", "[::1]:2")),
    ] {
        let header = encode(sent);
        assert_eq!(fed(&header), Ok((read, header.len())), "{sent:?}");
    }
    assert_eq!(encode(proxied("192.0.2.1:8080", "192.0.2.9:5000")), v2(0x21, 0x11, IPV4));
    assert_eq!(encode(None)[..13], [SIGNATURE, &[0x20]].concat());
}

/// A sender of what cannot become a header any more is not waited for.
#[test]
fn what_cannot_become_a_header_is_refused_at_once() {
    for bytes in [
        &b"PROXY FOO"[..],
        b"PROXY FOO\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5",
        b"PROXY TCP4 nobody",
        b"PROXY \r\n",
        b"PROXYv2",
        b"PROXY UNKNOWN\n",
        b"\r\n\r\nGET",
        &[SIGNATURE, &[0x11]].concat(),
        &[SIGNATURE, &[0x22]].concat(),
    ] {
        assert!(matches!(parse(bytes), Parse::Garbage(_)), "{:?}", String::from_utf8_lossy(bytes));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = fed(&bytes);
    }

    #[test]
    fn any_slip_in_a_header_is_survived(
        at in 0_usize..60,
        byte in any::<u8>(),
        version in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut header = if version { v2(0x21, 0x11, &[IPV4, TLV].concat()) } else {
            b"PROXY TCP4 192.0.2.1 192.0.2.9 8080 5000\r\n".to_vec()
        };
        if let Some(place) = header.get_mut(at) {
            *place = byte;
        }
        header.extend(rest);
        let _ = fed(&header);
    }

    #[test]
    fn every_pair_of_addresses_comes_back(a in any::<u32>(), b in any::<u128>(), port in any::<u16>()) {
        let v4 = |ip: u32| SocketAddr::from((std::net::Ipv4Addr::from(ip), port));
        let v6 = |ip: u128| SocketAddr::from((std::net::Ipv6Addr::from(ip | 1 << 127), port));
        for (source, destination) in [(v4(a), v4(!a)), (v6(b), v6(!b)), (v4(a), v6(b)), (v6(b), v4(a))] {
            let sent = Some(Proxied { source, destination });
            let header = encode(sent);
            prop_assert_eq!(fed(&header), Ok((sent, header.len())));
        }
    }
}
