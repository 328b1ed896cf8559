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

    /// A line from what HAProxy wrote behind the proxy's name.
    fn read(text: &'static str) -> Line<'static> {
        let words: Vec<&str> = text.split(' ').collect();
        let numbers = |word: &str| -> Vec<i64> { word.split('/').map(|n| n.parse().unwrap()).collect() };
        let known = |ms: i64| u128::try_from(ms).ok();
        let (times, open) = (numbers(words[1]), numbers(words[4]));
        Line {
            member: (words[0] != "<NOSRV>").then_some(words[0]),
            waited_ms: known(times[0]),
            dialled_ms: known(times[1]),
            total_ms: times[2] as u128,
            bytes_out: words[2].parse().unwrap(),
            open: [open[0] as u64, open[1] as u64, open[2] as u64, open[3] as u64],
            retries: open[4] as u32,
            queue_place: numbers(words[5])[1] as usize,
            ..line()
        }
    }

    /// What HAProxy 2.6 wrote of the same events, with `timeout queue 3s`, `timeout client 2s` and one connection a server.
    #[test]
    fn lines_are_those_of_haproxy_for_the_same_events() {
        use crate::stats::{End, Phase, termination};
        use Phase::{Relaying, Waiting};
        for (end, phase, waited, text) in [
            (End::ClientClosed, Relaying, false, "a 1/0/12 1 -- 1/1/0/0/0 0/0"),
            (End::BackendClosed, Relaying, false, "a 1/0/1 1 -- 1/1/0/0/0 0/0"),
            (End::HoldExpired, Waiting, false, "a 1/-1/0 0 SC 1/1/0/0/0 0/0"),
            (End::ClientClosed, Relaying, true, "a 418/0/618 1 -- 2/2/1/0/0 0/2"),
            (End::ClientIdle, Relaying, false, "a 1/0/2008 1 cD 1/1/0/0/0 0/0"),
            (End::QueueExpired, Waiting, true, "<NOSRV> 3002/-1/3001 0 sQ 2/2/1/0/0 0/1"),
            (End::Operator, Relaying, false, "a 1/0/9 1 K- 1/1/0/0/0 0/0"),
        ] {
            let line = Line { termination: termination(end, phase, waited), ..read(text) };
            assert_eq!(shown(&line), format!("10.0.0.9:33312 primary primary/{text}"), "{end}");
        }
        let denied = Line { cause: Some("client_denied"), ..line() };
        assert!(shown(&denied).ends_with(" 0/0 cause=client_denied"));
    }
}
