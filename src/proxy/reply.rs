//! Does this server take the session?
//!
//! A postmaster that shuts down, starts up or recovers takes the connection all the same, and says so in its first
//! message: an ErrorResponse with SQLSTATE 57P03, or 57P01 and 57P02 when it stops while the session is being set
//! up. A frozen one says nothing. As long as the client has seen no byte, either can be tried again or elsewhere, so the
//! first bytes are looked at before they are passed on. (Source: PostgreSQL's `ProcessStartupPacket` and appendix A,
//! "Error Codes".)
//!
//! Over TLS only the first answer, `S` or `N`, can be seen; what follows is between the two ends.

use super::stream::Stream;

/// `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`.
const NOT_NOW: [&[u8]; 3] = [b"57P01", b"57P02", b"57P03"];
const PROTOCOL_VIOLATION: &[u8] = b"08P01";
/// More than the fields before the message take.
const LOOK_BYTES: usize = 512;

/// What the first bytes mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Anything else.
    Serves,
    /// Not now, in the server's words or ours.
    NotNow(String),
    /// It closed, or broke off, without a word.
    HungUp(String),
    /// It did not understand what it was sent: the client's fault, or that of what we have sent before it.
    Violation,
}

/// Waits for the server's first bytes and looks at them; they stay in the socket.
pub async fn first(server: &Stream) -> Reply {
    let mut bytes = [0; LOOK_BYTES];
    match server.look(&mut bytes).await {
        Ok(0) => Reply::HungUp("it hung up before it answered".to_owned()),
        Ok(length) => read(&bytes[..length.min(LOOK_BYTES)]),
        Err(error) => Reply::HungUp(error.to_string()),
    }
}

/// ErrorResponse: `E`, length, then fields of a type byte and a text that ends in a zero byte.
fn read(bytes: &[u8]) -> Reply {
    if bytes.first() != Some(&b'E') || bytes.len() < 5 {
        return Reply::Serves;
    }
    let field = |tag: u8| bytes[5..].split(|&byte| byte == 0).find_map(|field| field.strip_prefix(&[tag]));
    match (field(b'C'), field(b'M')) {
        (Some(code), message) if NOT_NOW.contains(&code) => {
            let message = String::from_utf8_lossy(message.unwrap_or(code)).into_owned();
            Reply::NotNow(message)
        }
        (Some(PROTOCOL_VIOLATION), _) => Reply::Violation,
        _ => Reply::Serves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::refusal::Refusal;

    #[test]
    fn only_a_refusal_for_now_is_tried_again() {
        let error = |sqlstate| Refusal { sqlstate, message: "in words".into(), hint: String::new() }.encode();
        assert_eq!(read(&error("08P01")), Reply::Violation);
        for (bytes, not_now) in [
            (b"R\0\0\0\x08\0\0\0\0".to_vec(), false),
            (b"S".to_vec(), false),
            (b"E".to_vec(), false),
            (error("28P01"), false),
            (error("53300"), false),
            (error("57P03"), true),
            (error("57P01"), true),
            (error("57P03")[..10].to_vec(), false),
        ] {
            let expected = if not_now { Reply::NotNow("in words".to_owned()) } else { Reply::Serves };
            assert_eq!(read(&bytes), expected, "{bytes:?}");
        }
    }
}
