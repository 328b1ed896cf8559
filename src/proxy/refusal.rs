//! How a client that cannot be served is told so.
//!
//! A StartupMessage is answered with an ErrorResponse. (Source: PostgreSQL documentation, "Message Formats" and
//! "Error and Notice Message Fields".) A client that asked for encryption first is answered `N`, "not encrypted",
//! and gets the ErrorResponse after the StartupMessage that follows: libpq since 2024 hides an ErrorResponse that
//! comes instead of that byte, since nobody has proved who sent it. A client with `sslmode=prefer` or less so
//! learns the reason; one that insists on TLS hangs up after the `N` and says that the server does not support it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::first_packet::{self, FirstPacket, MAX_BYTES, Parse};
use super::stream::Stream;

/// How long the rest of the exchange may take; a client that needs longer learns nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a refused client may still send; whoever sends more is reset.
const MAX_UNREAD_BYTES: u64 = 64 * 1024;
/// Encryption may be asked for twice, by GSSAPI and by TLS; more is not a client.
const MAX_REQUESTS: usize = 3;

/// The error that a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub sqlstate: &'static str,
    pub message: String,
    pub hint: String,
}

/// `cannot_connect_now`: what a starting or stopping server says; drivers know to try again.
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// `too_many_connections`.
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// `protocol_violation`.
pub const PROTOCOL_VIOLATION: &str = "08P01";

impl Refusal {
    /// The ErrorResponse message: severity (for people, and not translated), code, message, hint.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for (tag, text) in [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', self.sqlstate),
            (b'M', &self.message),
            (b'H', &self.hint),
        ] {
            if !text.is_empty() {
                fields.push(tag);
                fields.extend(text.bytes().filter(|&byte| byte != 0));
                fields.push(0);
            }
        }
        fields.push(0);
        let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
        [b"E", &length.to_be_bytes()[..], &fields].concat()
    }

    /// Tells the client, whose first packet was of kind `kind`, and closes.
    pub async fn tell(&self, mut client: Stream, kind: FirstPacket) {
        let declined = match kind {
            FirstPacket::Startup => true,
            FirstPacket::EncryptionRequest => {
                matches!(timeout(PATIENCE, await_startup(&mut client)).await, Ok(Ok(true)))
            }
            FirstPacket::DirectTls | FirstPacket::Cancel => false,
        };
        if declined {
            self.say(&mut client).await;
        }
    }

    /// Sends the message and ends the stream. Best effort: whoever does not listen is not waited for long.
    pub async fn say(&self, client: &mut Stream) {
        let _ = timeout(PATIENCE, async {
            client.write_all(&self.encode()).await?;
            client.shutdown().await?;
            // Closing with unread bytes would reset the connection and take the message with it.
            tokio::io::copy(&mut client.take(MAX_UNREAD_BYTES), &mut tokio::io::sink()).await
        })
        .await;
    }
}

/// Declines encryption until the StartupMessage is there; `false` when the client leaves first.
async fn await_startup(client: &mut Stream) -> std::io::Result<bool> {
    for _ in 0..MAX_REQUESTS {
        client.write_all(b"N").await?;
        let mut bytes = Vec::new();
        loop {
            match first_packet::parse(&bytes) {
                Parse::Done(FirstPacket::Startup, _) => return Ok(true),
                Parse::Done(FirstPacket::EncryptionRequest, _) => break,
                Parse::Need(length) if length <= MAX_BYTES => {}
                _ => return Ok(false),
            }
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(false);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_framed_as_the_protocol_says() {
        let refusal =
            Refusal { sqlstate: CANNOT_CONNECT_NOW, message: "no\0 writer".into(), hint: String::new() };
        let bytes = refusal.encode();
        assert_eq!(bytes[0], b'E');
        let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes"));
        assert_eq!(length as usize, bytes.len() - 1);
        assert_eq!(&bytes[5..], b"SFATAL\0VFATAL\0C57P03\0Mno writer\0\0");
    }
}
