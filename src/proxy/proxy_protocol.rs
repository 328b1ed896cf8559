//! The PROXY protocol: who a client is, by the word of the proxy in front.
//!
//! A header comes before everything else on a connection. Version 1 is a line of text of at most 107 bytes; version 2 is
//! binary: a signature, then a length that covers the addresses and what may follow them (TLVs, which are passed over
//! here). Both may say that they speak for nobody: LOCAL is a health check of the proxy itself, UNKNOWN and UNSPEC a
//! client without an address. (Source: HAProxy, doc/proxy-protocol.txt.)
//!
//! Pure: bytes in, an answer out. The only file that names the library.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};

const BROKEN: &str = "a broken PROXY protocol header";
const V1_BEGIN: &[u8] = b"PROXY ";
/// What comes next: between which addresses, or that nobody knows.
const V1_FAMILIES: [&[u8]; 2] = [b"TCP4 ", b"TCP6 "];
const V1_UNKNOWN: &[u8] = b"UNKNOWN";
/// `PROXY UNKNOWN` and the end of the line.
const V1_SHORTEST: usize = 15;
const V1_LONGEST: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// As much of the signature as is asked for before it is called one: as long as the header of PostgreSQL's first packet.
/// It takes less to tell a line of version 1.
pub const TELLING: usize = 8;
/// The signature, version and command, family, and two bytes of length.
const V2_FIXED: usize = 16;
/// Version 2, command LOCAL.
const V2_LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;

/// Between whom the connection is, as the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// What can be said of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// Read on until there are so many bytes: never more than the header has.
    Need(usize),
    /// A whole header of so many bytes. `None`: the connection's own addresses are meant.
    Done(Option<Proxied>, usize),
    Garbage(&'static str),
}

/// Whether a connection begins as a header does. More bytes do not make it a packet of PostgreSQL's: what begins so would be
/// longer than any.
pub fn looks_like_header(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_BEGIN) || (bytes.len() >= TELLING && begins(bytes))
}

/// Whether a header may begin so.
pub fn begins(bytes: &[u8]) -> bool {
    agrees(bytes, V1_BEGIN) || agrees(bytes, V2_SIGNATURE)
}

fn agrees(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(a, b)| a == b)
}

/// Whether more bytes can make a header of these: a sender of anything else is not waited for.
fn may_become_one(bytes: &[u8]) -> bool {
    if let Some(line) = bytes.strip_prefix(V1_BEGIN) {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let of_addresses = |&byte: &u8| byte.is_ascii_hexdigit() || b" .:\r".contains(&byte);
        let addresses = line.iter().skip(V1_FAMILIES[0].len()).all(of_addresses);
        let has_family = V1_FAMILIES.iter().any(|family| agrees(line, family)) && addresses;
        return has_family || agrees(line, V1_UNKNOWN);
    }
    match bytes.get(V2_SIGNATURE.len()) {
        Some(&version) if bytes.starts_with(V2_SIGNATURE) => matches!(version, V2_LOCAL | V2_PROXY),
        _ => true,
    }
}

/// Looks at the first bytes of a connection that must begin with a header.
pub fn parse(bytes: &[u8]) -> Parse {
    if !begins(bytes) {
        return Parse::Garbage("no PROXY protocol header, which this address must send");
    }
    if !may_become_one(bytes) {
        return Parse::Garbage(BROKEN);
    }
    if bytes.len() < V1_SHORTEST && !bytes.contains(&b'\n') {
        return Parse::Need(V1_SHORTEST);
    }
    let length = if bytes.starts_with(V1_BEGIN) { line(bytes) } else { Ok(frame(bytes)) };
    match length {
        Err(why) => Parse::Garbage(why),
        Ok(length) if bytes.len() < length => Parse::Need(length),
        Ok(length) => match decode(&bytes[..length]) {
            Ok(proxied) => Parse::Done(proxied, length),
            Err(why) => Parse::Garbage(why),
        },
    }
}

/// How many bytes a header of version 1 has at least.
fn line(bytes: &[u8]) -> Result<usize, &'static str> {
    let so_far = &bytes[..bytes.len().min(V1_LONGEST)];
    match so_far.iter().position(|&byte| byte == b'\n') {
        Some(end) => Ok(end + 1),
        None if so_far.len() == V1_LONGEST => Err("a PROXY line longer than 107 bytes"),
        // The end of the line is two bytes.
        None if so_far.ends_with(b"\r") => Ok(so_far.len() + 1),
        None => Ok((so_far.len() + 2).min(V1_LONGEST)),
    }
}

/// How many bytes a header of version 2 has, or how many it takes to know.
fn frame(bytes: &[u8]) -> usize {
    match bytes.get(V2_FIXED - 2..V2_FIXED) {
        Some(length) => V2_FIXED + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => V2_FIXED,
    }
}

fn decode(header: &[u8]) -> Result<Option<Proxied>, &'static str> {
    // What a health check says of addresses is to be ignored, whatever it is.
    if !header.starts_with(V1_BEGIN) && header[V2_SIGNATURE.len()] == V2_LOCAL {
        return Ok(None);
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(header, config) {
        Ok((parsed, length)) if length == header.len() => Ok(parsed.proxied_address().map(|address| {
            Proxied { source: canonical(address.source), destination: canonical(address.destination) }
        })),
        _ => Err(BROKEN),
    }
}

/// The header of version 2 that goes before the first byte towards a member. Without addresses, which those of a unix
/// socket are not, it says so.
pub fn encode(proxied: Option<Proxied>) -> Vec<u8> {
    let address = |Proxied { source, destination }| {
        let (source, destination) = of_one_family(source, destination);
        ProxyHeader::with_address(ProxiedAddress::stream(source, destination))
    };
    let mut bytes = Vec::new();
    // A vector takes everything.
    let _ = proxied.map_or_else(ProxyHeader::with_local, address).encode_v2(&mut bytes);
    bytes
}

/// An IPv4 address that came as an IPv6 one is an IPv4 address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn of_one_family(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    if a.is_ipv4() == b.is_ipv4() {
        return (a, b);
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (mapped(a), mapped(b))
}
