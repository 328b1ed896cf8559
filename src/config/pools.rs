//! The pools of a cluster: what they are, what can be set of them, and how that is read.

use super::claims::Claims;
use super::limits;
use super::listen::{Listen, listen};
use super::node::{Map, Node};
use super::read::{count, name};
use super::word::Word;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The pool that follows the writer.
#[derive(Clone, Debug, PartialEq)]
pub struct Primary {
    /// The name in metrics, logs and the API. Default `primary`.
    pub name: String,
    /// Default `0.0.0.0:5000`, for the first cluster only.
    pub listen: Vec<Listen>,
    /// How long a client waits for a target, up to 1 h; 0 does not wait. Default 45 s.
    pub hold: Duration,
    /// Clients waiting at one time, 1 to 1 million. Default 10 000.
    pub max_held: usize,
    pub send_proxy: SendProxy,
    /// Where members are dialled. `None` (`auto`): PostgreSQL's port. A port of its own, pgbouncer's say, is checked too,
    /// by a TCP connection each `interval`. HAProxy: the port of a `server`, with `check port` for Patroni's.
    pub port: Option<u16>,
    pub limits: Limits,
}

/// A pool of those that only read.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicas {
    /// The name in metrics, logs and the API, unique in the cluster. Default `replicas`, for the first of several.
    pub name: String,
    /// Default `0.0.0.0:5001`, for the first of the first cluster only.
    pub listen: Vec<Listen>,
    /// Who takes the next session. Default the one with the fewest.
    pub balance: Balance,
    /// Bytes of WAL that a reader may be behind. `None`: no limit.
    pub max_lag: Option<u64>,
    /// Who serves when no reader can. Default the primary.
    pub fallback: Fallback,
    /// The primary is one of the readers. Default no. HAProxy: a check of `/read-only`.
    pub include_primary: bool,
    pub require: Require,
    /// By member, 0 to 256; 0 takes no new sessions. Default 100 for those that are not named. HAProxy: `weight`.
    pub weights: Vec<(String, u16)>,
    /// A Patroni tag that holds a member's weight. `None` (`off`, the default): no such tag. A weight above wins.
    pub weight_tag: Option<String>,
    /// Readers with this value of `zone_tag` come first; when they are full or gone, the others. Default none.
    pub zone: Option<String>,
    /// Default `zone`.
    pub zone_tag: String,
    /// After a return the weight of a reader rises over this time, up to 1 h. Default 0: at once. HAProxy: `slowstart`.
    pub slow_start: Duration,
    pub open_sessions: OpenSessions,
    /// How long a client waits for a target, up to 1 h; 0 does not wait. Default 45 s.
    pub hold: Duration,
    /// Clients waiting at one time, 1 to 1 million. Default 10 000.
    pub max_held: usize,
    pub send_proxy: SendProxy,
    /// Where members are dialled. `None` (`auto`): PostgreSQL's port. A port of its own, pgbouncer's say, is checked too,
    /// by a TCP connection each `interval`. HAProxy: the port of a `server`, with `check port` for Patroni's.
    pub port: Option<u16>,
    pub limits: Limits,
}

/// How many sessions a pool may have, each limit beside the process's own `max_sessions`. Who comes over one gets SQLSTATE
/// 53300.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Clients of this pool at one time, waiting ones among them, 1 to 10 million. Default off. HAProxy: `maxconn` of a
    /// frontend.
    pub max_sessions: Option<usize>,
    /// Sessions of this pool on one member, 1 to 10 million; the clients of full members wait in one queue. Default off.
    /// HAProxy: `maxconn` of a server.
    pub max_sessions_per_member: Option<usize>,
    /// Sessions of this pool from one client address, 1 to 10 million. Default off.
    pub max_sessions_per_client: Option<usize>,
    /// How long a client may be in the queue, 1 ms to 1 h. Default 30 s. HAProxy: `timeout queue`.
    pub queue_timeout: Duration,
    /// Clients in the queue at one time, 0 to 1 million. Default 1000. HAProxy: `maxqueue`.
    pub max_queued: usize,
}

/// What a member has to be to read here, beside a running replica. Default nothing more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Require {
    /// One of these. Empty (`any`): whichever. HAProxy: a check of `/sync`, `/quorum` or `/async`.
    pub sync: Vec<SyncState>,
    /// Patroni tags with the values that they must have, by name. HAProxy: a check of `/replica?tag_KEY=VALUE`.
    pub tags: Vec<(String, String)>,
}

/// What becomes of a reader's open sessions when it takes no new ones because it ...
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSessions {
    /// ... has become the primary. Default keep.
    pub promoted: Fate,
    /// ... lies further behind than `max_lag`. Default keep.
    pub lagging: Fate,
    /// ... has the tag `noloadbalance`. Default keep.
    pub noloadbalance: Fate,
    /// ... is drained by an operator. Default keep.
    pub drained: Fate,
    /// ... is silent and no longer named by its cluster. Default cut.
    pub gone: Fate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    #[default]
    LeastConnections,
    RoundRobin,
    /// The less busy of two drawn at random.
    Random2,
    /// The same client address to the same reader, while the readers stay the same.
    Source,
    /// The first that has room, by name: the others are kept free.
    First,
}

/// Whether members are told who the client is, before its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendProxy {
    #[default]
    Off,
    /// By a PROXY protocol header of version 2, which whatever listens at the member has to expect.
    V2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    #[default]
    Primary,
    None,
}

/// What a replica is to synchronous replication, as Patroni tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Holds every acknowledged transaction.
    Sync,
    /// One of those of which a quorum does (Patroni 4.0 and later).
    Quorum,
    /// Neither.
    Async,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go on until they end by themselves.
    Keep,
    /// They end at once, with a reset.
    Cut,
}

/// Patroni's default `ttl` is 30 s, and an election and promotion follow it: a client waits that long with room.
const HOLD: Duration = Duration::from_secs(45);
/// Some kilobytes for each one waiting: 10 000 stay far below 1 GB.
const MAX_HELD: usize = 10_000;

impl Default for Primary {
    fn default() -> Self {
        Self {
            name: "primary".into(),
            listen: vec![all_ipv4(5000)],
            hold: HOLD,
            max_held: MAX_HELD,
            send_proxy: SendProxy::default(),
            port: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            name: "replicas".into(),
            listen: vec![all_ipv4(5001)],
            balance: Balance::default(),
            max_lag: None,
            fallback: Fallback::default(),
            include_primary: false,
            require: Require::default(),
            weights: Vec::new(),
            weight_tag: None,
            zone: None,
            zone_tag: "zone".into(),
            slow_start: Duration::ZERO,
            open_sessions: OpenSessions::default(),
            hold: HOLD,
            max_held: MAX_HELD,
            send_proxy: SendProxy::default(),
            port: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: None,
            max_sessions_per_member: None,
            max_sessions_per_client: None,
            queue_timeout: Duration::from_secs(30),
            max_queued: 1000,
        }
    }
}

impl Default for OpenSessions {
    fn default() -> Self {
        let keep = Fate::Keep;
        Self { promoted: keep, lagging: keep, noloadbalance: keep, drained: keep, gone: Fate::Cut }
    }
}

fn all_ipv4(port: u16) -> Listen {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()
}

/// The pools of one cluster, told apart by their names. `first`: of the first cluster.
pub(super) fn pools<'a>(
    cluster: &Map<'a>,
    first: bool,
    claims: &mut Claims<'a>,
) -> (Option<Primary>, Vec<Replicas>) {
    let primary = primary(cluster, first, claims);
    let mut names = HashMap::new();
    if let Some(primary) = &primary {
        names.insert(primary.name.clone(), cluster.find("primary").and_then(|node| node.at("name")));
    }
    let mut replicas = Vec::new();
    for (number, map) in reader_maps(cluster).iter().enumerate() {
        if number > 0 && map.find("name").is_none() {
            map.node().refuse("has no name, by which several pools of readers are told apart; give it one");
        }
        let pool = self::replicas(map, first && number == 0, claims);
        let at = map.find("name");
        if let Some(taken) = names.get(&pool.name) {
            let complaint = format!("{:?} names two pools; change one", pool.name);
            at.iter().chain(taken).take(1).for_each(|at| at.refuse(&*complaint));
        }
        names.entry(pool.name.clone()).or_insert(at);
        replicas.push(pool);
    }
    (primary, replicas)
}

fn primary<'a>(cluster: &Map<'a>, first: bool, claims: &mut Claims<'a>) -> Option<Primary> {
    let map = cluster.map_or_off("primary", &PRIMARY)?;
    let default = Primary::default();
    Some(Primary {
        name: map.read("name", default.name, name),
        listen: listen(&map, default.listen, first, claims),
        hold: map.read("hold", default.hold, |n| n.duration(&limits::HOLD)),
        max_held: map.read("max_held", default.max_held, |n| count(n, &limits::MAX_HELD)),
        send_proxy: map.read("send_proxy", default.send_proxy, Node::off_or_word),
        port: map.read("port", default.port, port),
        limits: session_limits(&map),
    })
}

const PRIMARY: [&str; 11] = [
    "name",
    "listen",
    "hold",
    "max_held",
    "send_proxy",
    "port",
    "max_sessions",
    "max_sessions_per_member",
    "max_sessions_per_client",
    "queue_timeout",
    "max_queued",
];

const REPLICAS: [&str; 22] = [
    "name",
    "listen",
    "balance",
    "max_lag",
    "fallback",
    "include_primary",
    "require",
    "weights",
    "weight_tag",
    "zone",
    "zone_tag",
    "slow_start",
    "open_sessions",
    "hold",
    "max_held",
    "send_proxy",
    "port",
    "max_sessions",
    "max_sessions_per_member",
    "max_sessions_per_client",
    "queue_timeout",
    "max_queued",
];

/// One pool stands in a map, several in a list of maps.
fn reader_maps<'a>(cluster: &Map<'a>) -> Vec<Map<'a>> {
    match cluster.find("replicas") {
        Some(node) if node.is_list() => {
            let items = node.items("a list of pools such as `[{name: reports}]`", limits::MAX_POOLS);
            items.unwrap_or_default().iter().filter_map(|item| item.map(&REPLICAS)).collect()
        }
        _ => cluster.map_or_off("replicas", &REPLICAS).into_iter().collect(),
    }
}

fn replicas<'a>(map: &Map<'a>, first: bool, claims: &mut Claims<'a>) -> Replicas {
    let default = Replicas::default();
    Replicas {
        name: map.read("name", default.name, name),
        listen: listen(map, default.listen, first, claims),
        balance: map.read("balance", default.balance, Node::word),
        max_lag: map.find("max_lag").and_then(|node| node.size()),
        fallback: map.read("fallback", default.fallback, Node::word),
        include_primary: map.read("include_primary", default.include_primary, Node::truth),
        require: require(map).unwrap_or_default(),
        weights: map.find("weights").and_then(|node| weights(&node)).unwrap_or_default(),
        weight_tag: map.read("weight_tag", default.weight_tag, |n| n.off_or(tag_text)),
        zone: map.find("zone").and_then(|node| tag_text(&node)),
        zone_tag: map.read("zone_tag", default.zone_tag, tag_text),
        slow_start: map.read("slow_start", default.slow_start, |n| n.duration(&limits::SLOW_START)),
        open_sessions: open_sessions(map),
        hold: map.read("hold", default.hold, |n| n.duration(&limits::HOLD)),
        max_held: map.read("max_held", default.max_held, |n| count(n, &limits::MAX_HELD)),
        send_proxy: map.read("send_proxy", default.send_proxy, Node::off_or_word),
        port: map.read("port", default.port, port),
        limits: session_limits(map),
    }
}

fn port(node: &Node<'_>) -> Option<Option<u16>> {
    node.auto_or(|node| count(node, &limits::PORT))
}

fn session_limits(pool: &Map<'_>) -> Limits {
    let default = Limits::default();
    let limit = |key| pool.read(key, None, |node| node.off_or(|node| count(node, &limits::MAX_SESSIONS)));
    Limits {
        max_sessions: limit("max_sessions"),
        max_sessions_per_member: limit("max_sessions_per_member"),
        max_sessions_per_client: limit("max_sessions_per_client"),
        queue_timeout: pool
            .read("queue_timeout", default.queue_timeout, |n| n.duration(&limits::QUEUE_TIMEOUT)),
        max_queued: pool.read("max_queued", default.max_queued, |n| count(n, &limits::MAX_QUEUED)),
    }
}

fn weights(node: &Node<'_>) -> Option<Vec<(String, u16)>> {
    let weights = node.entries("a map of members such as {patroni1: 50}", limits::MAX_ENDPOINTS)?;
    let weight = |(member, node): (String, Node<'_>)| Some((member, count(&node, &limits::WEIGHT)?));
    Some(weights.into_iter().filter_map(weight).collect())
}

/// The name of a tag, or its value.
fn tag_text(node: &Node<'_>) -> Option<String> {
    let text = node.plain()?;
    match text.is_empty() || text.len() > limits::MAX_NAME_BYTES {
        true => node.refuse_value(format!("is no tag; write up to {} bytes", limits::MAX_NAME_BYTES)),
        false => Some(text),
    }
}

fn require(pool: &Map<'_>) -> Option<Require> {
    let map = pool.find("require")?.map(&["sync", "tags"])?;
    let tags = map.find("tags").and_then(|node| {
        let tags = node.entries("a map of tags such as {reporting: true}", limits::MAX_TAGS)?;
        Some(tags.into_iter().filter_map(|(tag, value)| Some((tag, value.plain()?))).collect())
    });
    Some(Require { sync: map.read("sync", Vec::new(), sync), tags: tags.unwrap_or_default() })
}

/// A single word: one state, or `any` for whichever.
#[derive(Clone, Copy, PartialEq)]
struct SyncChoice(Option<SyncState>);

impl Word for SyncChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("any", Self(None)),
        ("sync", Self(Some(SyncState::Sync))),
        ("quorum", Self(Some(SyncState::Quorum))),
        ("async", Self(Some(SyncState::Async))),
    ];
}

fn sync(node: &Node<'_>) -> Option<Vec<SyncState>> {
    if !node.is_list() {
        return node.word::<SyncChoice>().map(|SyncChoice(state)| state.into_iter().collect());
    }
    let items = node.items("any, or some of sync, quorum, async", limits::MAX_TAGS)?;
    let mut states = Vec::new();
    for state in items.iter().filter_map(Node::word) {
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Some(states)
}

fn open_sessions(pool: &Map<'_>) -> OpenSessions {
    let default = OpenSessions::default();
    let known = ["promoted", "lagging", "noloadbalance", "drained", "gone"];
    let Some(map) = pool.find("open_sessions").and_then(|node| node.map(&known)) else { return default };
    OpenSessions {
        promoted: map.read("promoted", default.promoted, Node::word),
        lagging: map.read("lagging", default.lagging, Node::word),
        noloadbalance: map.read("noloadbalance", default.noloadbalance, Node::word),
        drained: map.read("drained", default.drained, Node::word),
        gone: map.read("gone", default.gone, Node::word),
    }
}
