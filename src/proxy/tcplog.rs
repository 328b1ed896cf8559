//! The end of a session as a line of HAProxy's `option tcplog`, for whoever reads such lines already.
//!
//! `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq` (Source: HAProxy, doc/configuration.txt, "TCP
//! log format".) A pool is a frontend and its backend at once. Times are in milliseconds, -1 for what was not reached;
//! `%B` is what went to the client; of connections, the session itself is counted by the process and the pool, and no
//! longer by the backend and the member. A pool has one queue, the backend's: `%bq` counts who waited when the client began
//! to, itself among them, as HAProxy 2.6 does, and `%sq` is always 0.
//!
//! HAProxy's two letters do not tell all that pilotfish knows, so an end with others than `--` has ` cause=WORD` behind the
//! line. Readers of these lines take them apart from the left.

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
    /// Waiting, when it was over.
    pub waited_ms: Option<u128>,
    /// Dialling, when it was over.
    pub dialled_ms: Option<u128>,
    pub total_ms: u128,
    pub bytes_out: u64,
    pub termination: [char; 2],
    /// Open sessions of the process, of the pool's clients, of its members, of the member.
    pub open: [u64; 4],
    /// Dials that failed.
    pub retries: u32,
    /// Its place in the pool's queue when it came, from 1; 0 if it did not queue.
    pub queue_place: usize,
    /// Why it ended, where the letters do not say enough.
    pub cause: Option<&'a str>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            ClientAddress::Ip(address) => write!(f, "{}:{}", address.ip(), address.port())?,
            // As HAProxy does it, with the user's number in place of the listener's.
            ClientAddress::Unix { uid } => write!(f, "unix:{uid}")?,
        }
        let Line { pool, total_ms, bytes_out, termination: [who, state], open, retries, queue_place, .. } =
            self;
        let accepted_at = local(self.accepted_at);
        let member = self.member.unwrap_or("<NOSRV>");
        write!(f, " [{accepted_at}] {pool} {pool}/{member} ")?;
        for ms in [self.waited_ms, self.dialled_ms] {
            match ms {
                Some(ms) => write!(f, "{ms}/")?,
                None => f.write_str("-1/")?,
            }
        }
        let [all, of_pool, of_backend, of_member] = open;
        write!(
            f,
            "{total_ms} {bytes_out} {who}{state} {all}/{of_pool}/{of_backend}/{of_member}/{retries} 0/{queue_place}"
        )?;
        self.cause.map_or(Ok(()), |cause| write!(f, " cause={cause}"))
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
            waited_ms: Some(0),
            dialled_ms: Some(7),
            total_ms: 5008,
            bytes_out: 212,
            termination: ['-', '-'],
            open: [3, 2, 1, 0],
            retries: 0,
            queue_place: 0,
            cause: None,
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
                Line { member: None, waited_ms: None, dialled_ms: None, termination: ['P', 'R'], ..line() },
                "10.0.0.9:33312 primary primary/<NOSRV> -1/-1/5008 212 PR 3/2/1/0/0 0/0",
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

    /// What HAProxy 2.6 wrote of the same events, with `timeout queue 3s`, `timeout client 2s` and one connection a server.
    #[test]
    fn lines_are_those_of_haproxy_for_the_same_events() {
        use crate::stats::{End, Phase, termination};
        let event = |end, phase, queued: bool| (termination(end, phase, queued), (end, queued));
        let relaying = |end| event(end, Phase::Relaying, false);
        let waiting = |end, queued| event(end, Phase::Waiting, queued);
        for (letters, waited_ms, dialled_ms, total_ms, bytes_out, open, queue_place, says) in [
            (
                relaying(End::ClientClosed),
                Some(1),
                Some(0),
                12,
                1,
                [1, 1, 0, 0],
                0,
                "a 1/0/12 1 -- 1/1/0/0/0 0/0",
            ),
            (
                relaying(End::BackendClosed),
                Some(1),
                Some(0),
                1,
                1,
                [1, 1, 0, 0],
                0,
                "a 1/0/1 1 -- 1/1/0/0/0 0/0",
            ),
            (
                waiting(End::HoldExpired, false),
                Some(1),
                None,
                0,
                0,
                [1, 1, 0, 0],
                0,
                "a 1/-1/0 0 SC 1/1/0/0/0 0/0",
            ),
            (
                relaying(End::ClientClosed),
                Some(418),
                Some(0),
                618,
                1,
                [2, 2, 1, 0],
                2,
                "a 418/0/618 1 -- 2/2/1/0/0 0/2",
            ),
            (
                relaying(End::ClientIdle),
                Some(1),
                Some(0),
                2008,
                1,
                [1, 1, 0, 0],
                0,
                "a 1/0/2008 1 cD 1/1/0/0/0 0/0",
            ),
            (
                waiting(End::QueueExpired, true),
                Some(3002),
                None,
                3001,
                0,
                [2, 2, 1, 0],
                1,
                "<NOSRV> 3002/-1/3001 0 sQ 2/2/1/0/0 0/1",
            ),
            (relaying(End::Operator), Some(1), Some(0), 9, 1, [1, 1, 0, 0], 0, "a 1/0/9 1 K- 1/1/0/0/0 0/0"),
        ] {
            let (termination, (end, queued)) = letters;
            let member = (!queued).then_some("a");
            let line = Line {
                member,
                waited_ms,
                dialled_ms,
                total_ms,
                bytes_out,
                open,
                queue_place,
                termination,
                ..line()
            };
            assert_eq!(shown(&line), format!("10.0.0.9:33312 primary primary/{says}"), "{end}");
        }
        let denied = Line { cause: Some("client_denied"), ..line() };
        assert!(shown(&denied).ends_with(" 0/0 cause=client_denied"));
    }
}
