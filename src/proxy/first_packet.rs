//! What does this client want?
//!
//! A PostgreSQL client speaks first, and its first packet has no type byte: four bytes of length (themselves
//! included), then four bytes of protocol version or request code. (Source: PostgreSQL documentation, "Message
//! Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.) Since PostgreSQL 17 a client may also start
//! TLS at once, without asking; its first byte is that of a TLS handshake record, which no sane length begins with.

use super::proxy_protocol;

/// Longest packet that is waited for: PostgreSQL's own limit (`MAX_STARTUP_PACKET_LENGTH` in pqcomm.h).
pub const MAX_BYTES: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
/// Protocol 2.0, which servers answer with an error of their own, to any 3.x and what may follow it.
const PROTOCOL_MAJOR: std::ops::RangeInclusive<u32> = 2..=15;
/// CancelRequest with a 4-byte key (protocol 3.0) up to one with a 256-byte key (protocol 3.2).
const CANCEL_BYTES: std::ops::RangeInclusive<usize> = 16..=268;
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// The kinds of first packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstPacket {
    Startup,
    /// Asks for TLS, or for GSSAPI encryption, before the StartupMessage.
    EncryptionRequest,
    /// A TLS ClientHello without asking first (`sslnegotiation=direct`).
    DirectTls,
    Cancel,
}

/// What can be said of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// Read on until there are at least this many bytes.
    Need(usize),
    /// A whole packet of so many bytes.
    Done(FirstPacket, usize),
    /// Not PostgreSQL's protocol.
    Garbage(&'static str),
}

/// Looks at the first bytes that a client sent.
pub fn parse(bytes: &[u8]) -> Parse {
    if proxy_protocol::looks_like_header(bytes) {
        return Parse::Garbage("a PROXY protocol header from an address that is not in accept_proxy");
    }
    if bytes.first() == Some(&TLS_HANDSHAKE_RECORD) {
        return Parse::Done(FirstPacket::DirectTls, bytes.len());
    }
    let Some((length, code)) = header(bytes) else { return Parse::Need(8) };
    if length < 8 {
        return Parse::Garbage("the first packet is shorter than its header");
    }
    if length > MAX_BYTES {
        return Parse::Garbage("the first packet is longer than PostgreSQL allows");
    }
    let kind = match code {
        CANCEL_REQUEST if CANCEL_BYTES.contains(&length) => FirstPacket::Cancel,
        SSL_REQUEST | GSSENC_REQUEST if length == 8 => FirstPacket::EncryptionRequest,
        CANCEL_REQUEST | SSL_REQUEST | GSSENC_REQUEST => {
            return Parse::Garbage("a request of the wrong length");
        }
        version if PROTOCOL_MAJOR.contains(&(version >> 16)) => FirstPacket::Startup,
        _ => return Parse::Garbage("no version of PostgreSQL's protocol"),
    };
    if bytes.len() < length { Parse::Need(length) } else { Parse::Done(kind, length) }
}

fn header(bytes: &[u8]) -> Option<(usize, u32)> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    let code = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((usize::try_from(length).ok()?, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: u32, code: u32, rest: usize) -> Vec<u8> {
        let mut bytes = [length.to_be_bytes(), code.to_be_bytes()].concat();
        bytes.resize(8 + rest, 0);
        bytes
    }

    #[test]
    fn first_packets() {
        use FirstPacket::{Cancel, DirectTls, EncryptionRequest, Startup};
        use Parse::{Done, Garbage, Need};
        let garbage = |parse| matches!(parse, Garbage(_));
        for (bytes, expected) in [
            (vec![], Need(8)),
            (packet(8, SSL_REQUEST, 0)[..7].to_vec(), Need(8)),
            (packet(8, SSL_REQUEST, 0), Done(EncryptionRequest, 8)),
            (packet(8, GSSENC_REQUEST, 0), Done(EncryptionRequest, 8)),
            (packet(16, CANCEL_REQUEST, 8), Done(Cancel, 16)),
            (packet(268, CANCEL_REQUEST, 260), Done(Cancel, 268)),
            (packet(16, CANCEL_REQUEST, 0), Need(16)),
            (packet(40, 0x0003_0000, 32), Done(Startup, 40)),
            (packet(40, 0x0003_0002, 32), Done(Startup, 40)),
            (packet(40, 0x0003_0000, 0), Need(40)),
            // More than the packet: the rest belongs to the relay.
            (packet(8, SSL_REQUEST, 100), Done(EncryptionRequest, 8)),
            (vec![0x16, 3, 1], Done(DirectTls, 3)),
        ] {
            assert_eq!(parse(&bytes), expected, "{bytes:?}");
        }
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            vec![0xff; 16],
            packet(0, 0x0003_0000, 0),
            packet(7, SSL_REQUEST, 0),
            packet(10_001, 0x0003_0000, 0),
            packet(u32::MAX, 0x0003_0000, 0),
            packet(12, SSL_REQUEST, 4),
            packet(300, CANCEL_REQUEST, 292),
            packet(40, 0x0001_0000, 32),
        ] {
            assert!(garbage(parse(&bytes)), "{bytes:?}");
        }
    }
}
