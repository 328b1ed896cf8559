//! The end of a session as a line of HAProxy's `option tcplog`, for whoever reads such lines already.
//!
//! `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq` (Source: HAProxy, doc/configuration.txt, "TCP
//! log format".) A pool is a frontend and its backend at once. Times are in milliseconds, -1 for what was not reached;
//! `%B` is what went to the client; of connections, the session itself is counted by the process and the pool, and no
//! longer by the backend and the member.

use std::fmt;
use std::time::SystemTime;

use super::access::ClientAddress;

/// Lines of this target are whole log lines; they are written when a log wants them.
pub const TARGET: &str = "tcplog";

/// What the line says, in its order.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    pub client: ClientAddress,
    pub accepted_at: SystemTime,
    pub pool: &'a str,
    /// `None`: never connected to one.
    pub member: Option<&'a str>,
    /// Waiting and dialling, when both were over.
    pub connected: Option<(u128, u128)>,
    pub total_ms: u128,
    pub bytes_out: u64,
    pub termination: [char; 2],
    /// Open sessions of the process, of the pool's clients, of its members, of the member.
    pub open: [u64; 4],
    /// Dials that failed.
    pub retries: u32,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            ClientAddress::Ip(address) => write!(f, "{}:{}", address.ip(), address.port())?,
            // As HAProxy does it, with the user's number in place of the listener's.
            ClientAddress::Unix { uid } => write!(f, "unix:{uid}")?,
        }
        let Line { pool, total_ms, bytes_out, termination: [who, state], open, retries, .. } = self;
        let accepted_at = local(self.accepted_at);
        let member = self.member.unwrap_or("<NOSRV>");
        write!(f, " [{accepted_at}] {pool} {pool}/{member} ")?;
        match self.connected {
            Some((waited, dialled)) => write!(f, "{waited}/{dialled}/")?,
            None => f.write_str("-1/-1/")?,
        }
        let [all, of_pool, of_backend, of_member] = open;
        write!(
            f,
            "{total_ms} {bytes_out} {who}{state} {all}/{of_pool}/{of_backend}/{of_member}/{retries} 0/0"
        )
    }
}

/// In this host's time zone, as HAProxy writes it.
fn local(at: SystemTime) -> impl fmt::Display {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default();
    at.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%d/%b/%Y:%H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            client: ClientAddress::of("10.0.0.9:33312".parse().expect("an address")),
            accepted_at: SystemTime::UNIX_EPOCH,
            pool: "primary",
            member: Some("patroni1"),
            connected: Some((0, 7)),
            total_ms: 5008,
            bytes_out: 212,
            termination: ['-', '-'],
            open: [3, 2, 1, 0],
            retries: 0,
        }
    }

    /// The line without its date, which depends on where this runs.
    fn shown(line: &Line<'_>) -> String {
        let text = line.to_string();
        let (before, rest) = text.split_once(" [").expect("a date");
        let (date, after) = rest.split_once("] ").expect("its end");
        assert_eq!(date.len(), "25/Nov/2026:01:15:40.123".len(), "{date}");
        format!("{before} {after}")
    }

    #[test]
    fn fields_come_in_haproxys_order() {
        for (line, expected) in [
            (line(), "10.0.0.9:33312 primary primary/patroni1 0/7/5008 212 -- 3/2/1/0/0 0/0"),
            (
                Line { member: None, connected: None, termination: ['s', 'Q'], retries: 4, ..line() },
                "10.0.0.9:33312 primary primary/<NOSRV> -1/-1/5008 212 sQ 3/2/1/0/4 0/0",
            ),
            (
                Line { client: ClientAddress::of("[2001:db8::1]:5".parse().expect("an address")), ..line() },
                "2001:db8::1:5 primary primary/patroni1 0/7/5008 212 -- 3/2/1/0/0 0/0",
            ),
            (
                Line { client: ClientAddress::Unix { uid: 1000 }, ..line() },
                "unix:1000 primary primary/patroni1 0/7/5008 212 -- 3/2/1/0/0 0/0",
            ),
        ] {
            assert_eq!(shown(&line), expected);
        }
    }
}
