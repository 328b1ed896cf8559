//! What a configuration may hold: every bound by name, with its reason.

use std::time::Duration;

/// A thousand clusters fit; what is larger is some other file given by mistake.
pub const MAX_FILE_BYTES: usize = 256 << 10;
/// Values in the tree after YAML aliases are followed: a few lines of aliases can stand for billions.
pub const MAX_VALUES: usize = 50_000;
/// Bytes of text in the tree, counted the same way and for the same reason.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// `[` and `{` in the file: the time of the YAML scanner grows with the square of those left open.
pub const MAX_BRACKETS: usize = 10_000;
/// Shown in one go; nobody reads more, and each costs one more look through the file for its line.
pub const MAX_PROBLEMS: usize = 100;

/// One thread polls them all, each member every second: `make bench-scale` shows what a thousand cost it.
pub const MAX_CLUSTERS: usize = 1024;
/// Patroni clusters have some three to ten members.
pub const MAX_ENDPOINTS: usize = 64;
/// A socket for each one and worker.
pub const MAX_LISTEN: usize = 16;
/// Office, data centres and a few single hosts.
pub const MAX_NETWORKS: usize = 256;
/// Pools of readers in one cluster: each has listeners, and a row in every view.
pub const MAX_POOLS: usize = 16;
/// Patroni nodes have a handful.
pub const MAX_TAGS: usize = 64;
/// A label in metrics and a column in views.
pub const MAX_NAME_BYTES: usize = 64;
/// A bearer token is compared with each of them.
pub const MAX_USERS: usize = 64;
/// One host has a few names.
pub const MAX_HOSTS: usize = 64;
/// What `sockaddr_un` holds besides its end (unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Longer than any password or token; what is larger is some other file given by mistake.
pub const MAX_SECRET_BYTES: u64 = 4096;

/// The least and the most that a number or a duration may be, and why not less.
pub struct Bounds<T> {
    pub least: T,
    pub most: T,
    pub why: &'static str,
}

const fn bounds<T>(least: T, most: T, why: &'static str) -> Bounds<T> {
    Bounds { least, most, why }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

pub const INTERVAL: Bounds<Duration> =
    bounds(ms(100), ms(HOUR), "each check runs SQL on the member; fast_interval is for what is unsettled");
pub const FAST_INTERVAL: Bounds<Duration> =
    bounds(ms(20), ms(HOUR), "Patroni answers checks with 5 threads and runs SQL for each");
pub const TIMEOUT: Bounds<Duration> =
    bounds(ms(50), ms(MINUTE), "a busy member needs that long to answer a check");
pub const LEADER_GRACE: Bounds<Duration> =
    bounds(ms(SECOND), ms(DAY), "one lost packet must not cut off a leader that works");
pub const CONNECT_TIMEOUT: Bounds<Duration> =
    bounds(ms(10), ms(MINUTE), "a dial takes one round trip of the network");
pub const IDLE_TIMEOUT: Bounds<Duration> =
    bounds(ms(SECOND), ms(365 * DAY), "it is looked at once a second; off lets them live for ever");
pub const USER_TIMEOUT: Bounds<Duration> =
    bounds(ms(SECOND), ms(DAY), "a lost packet is sent again after 200 ms and more");
pub const KEEPALIVE: Bounds<Duration> = bounds(ms(SECOND), ms(9 * HOUR), "TCP counts this in seconds");
pub const KEEPALIVE_COUNT: Bounds<u64> = bounds(1, 127, "one question has to be asked");
pub const HOLD: Bounds<Duration> = bounds(ms(0), ms(HOUR), "0 does not wait");
pub const DRAIN_TIMEOUT: Bounds<Duration> = bounds(ms(0), ms(DAY), "0 cuts the sessions at once");
pub const UPGRADE_TIMEOUT: Bounds<Duration> = bounds(
    ms(100),
    ms(4 * MINUTE),
    "a new process has to ask every node, and somebody waits for the outcome",
);

pub const STREAK: Bounds<u64> = bounds(1, 100, "a verdict needs one check");
pub const WORKERS: Bounds<u64> = bounds(1, 1024, "somebody has to relay");
pub const MAX_SESSIONS: Bounds<u64> =
    bounds(1, 10_000_000, "each session takes two sockets and some kilobytes of memory");
pub const MAX_HELD: Bounds<u64> = bounds(1, 1_000_000, "to make nobody wait, write hold: 0s");
pub const MAX_QUEUED: Bounds<u64> = bounds(0, 1_000_000, "0 turns everyone away whom no member has room for");
pub const QUEUE_TIMEOUT: Bounds<Duration> =
    bounds(ms(1), ms(HOUR), "to let nobody wait for room, write max_queued: 0");
pub const SLOW_START: Bounds<Duration> = bounds(ms(0), ms(HOUR), "0 gives the whole weight at once");
pub const WEIGHT: Bounds<u64> = bounds(0, 256, "0 takes no new sessions");
pub const PORT: Bounds<u64> = bounds(1, 65_535, "nobody listens on port 0");
