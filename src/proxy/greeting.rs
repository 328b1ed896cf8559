//! The first that a client says, on a port that speaks PostgreSQL.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::first_packet::{self, FirstPacket, Parse};
use super::proxy_protocol::looks_like_header;
use super::refusal::{PROTOCOL_VIOLATION, Refusal};
use super::sessions::Session;
use super::stream::Stream;
use crate::stats::End;

/// How long a client may take for its first packet. A person does not type it; PostgreSQL itself allows a minute
/// for the whole login.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A client's first packet as it came, with what it means.
pub(super) struct Greeting {
    pub kind: FirstPacket,
    pub bytes: Vec<u8>,
}

/// Reads the first packet and not a byte more.
pub(super) async fn greet(
    client: &mut Stream,
    session: &Session,
    patience: Duration,
) -> Result<Greeting, End> {
    let mut bytes = Vec::new();
    let mut wanted = 8;
    let deadline = Instant::now() + patience;
    loop {
        // Never more room than the packet needs: a length is only a claim.
        bytes.reserve_exact(wanted - bytes.len());
        let read = timeout_at(deadline, client.read_buf(&mut bytes)).await;
        match read.map_err(|_| End::ClientSilent)? {
            // Some port checks close, others break off.
            Ok(0) | Err(_) if bytes.is_empty() => return Err(End::ClientProbe),
            Ok(0) => return Err(End::ClientClosed),
            Err(_) => return Err(End::ClientReset),
            Ok(_) => {}
        }
        match first_packet::parse(&bytes) {
            Parse::Need(length) => wanted = length,
            Parse::Done(kind, _) => return Ok(Greeting { kind, bytes }),
            Parse::Garbage(why) => {
                // The one of a trusted proxy has been read by now.
                let is_second = session.proxied().is_some() && looks_like_header(&bytes);
                let why = if is_second { "a second PROXY protocol header" } else { why };
                session.remark(why);
                let message = format!("pilotfish: {why}");
                let hint = "This port speaks PostgreSQL; is the client's address the right one?".to_owned();
                Refusal { sqlstate: PROTOCOL_VIOLATION, message, hint }.say(client).await;
                return Err(End::ClientGarbage);
            }
        }
    }
}
