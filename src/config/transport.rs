//! How connections are kept: how long they may be idle, and how a peer that is gone is noticed.

use super::limits;
use super::node::{Map, Node};
use super::value::show_duration;
use std::fmt::{Formatter, Result};
use std::time::Duration;

/// How long a session may be idle. `None` (`off`, the default of each): for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleTimeouts {
    /// Nothing read from the client, and nothing written to it; 1 s to 1 year.
    pub client: Option<Duration>,
    /// The same of the server.
    pub server: Option<Duration>,
    /// Nothing in either direction. Takes the place of the two above.
    pub tunnel: Option<Duration>,
}

/// Both sides of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Default: after 30 s, each 5 s, 3 times. `None` (`off`): an idle peer is not asked.
    pub keepalive: Option<Keepalive>,
    /// How long sent data may stay unacknowledged, or the peer's window shut, 1 s to 1 day. `None` (`off`, the default):
    /// as long as the kernel's `tcp_retries2` allows, about 15 minutes.
    pub user_timeout: Option<Duration>,
}

/// Questions to an idle peer whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Before the first question, 1 s to 9 h.
    pub idle: Duration,
    /// Between two questions, 1 s to 9 h.
    pub interval: Duration,
    /// Questions without an answer after which the peer is gone, 1 to 127.
    pub count: u32,
}

/// A peer that vanished is noticed after 30 + 3 * 5 s, long before `tcp_keepalive_time`, two hours.
impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(5), count: 3 }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self { keepalive: Some(Keepalive::default()), user_timeout: None }
    }
}

/// The keys that this reads of a cluster.
pub(super) const KEYS: [&str; 5] =
    ["client_timeout", "server_timeout", "tunnel_timeout", "tcp_keepalive", "tcp_user_timeout"];

pub(super) fn idle_timeouts(cluster: &Map<'_>) -> IdleTimeouts {
    let timeout = |key| cluster.read(key, None, |n| n.off_or(|n| n.duration(&limits::IDLE_TIMEOUT)));
    IdleTimeouts {
        client: timeout("client_timeout"),
        server: timeout("server_timeout"),
        tunnel: timeout("tunnel_timeout"),
    }
}

pub(super) fn tcp(cluster: &Map<'_>) -> Tcp {
    Tcp {
        keepalive: cluster
            .map_or_off("tcp_keepalive", &["idle", "interval", "count"])
            .map(|map| keepalive(&map)),
        user_timeout: cluster
            .read("tcp_user_timeout", None, |n| n.off_or(|n| n.duration(&limits::USER_TIMEOUT))),
    }
}

fn keepalive(map: &Map<'_>) -> Keepalive {
    let default = Keepalive::default();
    let seconds = |node: &Node<'_>| {
        let duration = node.duration(&limits::KEEPALIVE)?;
        match duration.subsec_nanos() {
            0 => Some(duration),
            _ => node.refuse_value("is not in whole seconds, which is all that TCP counts here"),
        }
    };
    Keepalive {
        idle: map.read("idle", default.idle, seconds),
        interval: map.read("interval", default.interval, seconds),
        count: map.read("count", default.count, |n| super::read::count(n, &limits::KEEPALIVE_COUNT)),
    }
}

pub(super) fn show(idle: &IdleTimeouts, tcp: &Tcp, f: &mut Formatter<'_>) -> Result {
    let or_off = |duration: Option<Duration>| duration.map_or("off".into(), show_duration);
    writeln!(f, "    client_timeout: {}", or_off(idle.client))?;
    writeln!(f, "    server_timeout: {}", or_off(idle.server))?;
    writeln!(f, "    tunnel_timeout: {}", or_off(idle.tunnel))?;
    match tcp.keepalive {
        None => writeln!(f, "    tcp_keepalive: off")?,
        Some(Keepalive { idle, interval, count }) => {
            let (idle, interval) = (show_duration(idle), show_duration(interval));
            writeln!(
                f,
                "    tcp_keepalive:\n      idle: {idle}\n      interval: {interval}\n      count: {count}"
            )?;
        }
    }
    writeln!(f, "    tcp_user_timeout: {}", or_off(tcp.user_timeout))
}
