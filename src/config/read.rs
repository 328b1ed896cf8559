//! The keys of the configuration, what each takes, and the rules between them.

use super::admin;
use super::claims::Claims;
use super::endpoint;
use super::limits;
use super::node::{Map, Node};
use super::pools;
use super::transport;
use super::value;
use super::{Auth, Cluster, Config, Endpoint, Log, Patroni, Protocol, Scheme, Tls, Verify};
use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};

const CLUSTER_KEYS: [&str; 6] = ["name", "patroni", "primary", "replicas", "protocol", "connect_timeout"];
const ENDPOINTS: &str = "Patroni's REST addresses such as [10.0.0.1:8008, 10.0.0.2:8008]";

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole configuration. `None`, or complaints at the nodes: it cannot be used.
pub fn config(root: &Node<'_>, env: Environment<'_>) -> Option<Config> {
    if root.is_empty() {
        root.refuse("is empty; the least is `clusters: [{patroni: [HOST:8008]}]`");
        return None;
    }
    let keys = ["clusters", "admin", "workers", "max_sessions", "drain_timeout", "upgrade_timeout", "log"];
    let map = root.map(&keys)?;
    let mut claims = Claims::default();
    let default = Config::of(clusters(&map, &mut claims, env));
    Some(Config {
        admin: admin::admin(&map, &mut claims, env),
        workers: map.read("workers", None, |node| node.auto_or(|node| count(node, &limits::WORKERS))),
        max_sessions: map.read("max_sessions", None, |n| n.auto_or(|n| count(n, &limits::MAX_SESSIONS))),
        drain_timeout: map
            .read("drain_timeout", default.drain_timeout, |n| n.duration(&limits::DRAIN_TIMEOUT)),
        upgrade_timeout: map
            .read("upgrade_timeout", default.upgrade_timeout, |n| n.duration(&limits::UPGRADE_TIMEOUT)),
        log: log(&map).unwrap_or_default(),
        ..default
    })
}

/// The section `admin`, whatever may be wrong with the rest.
pub fn admin_alone(root: &Node<'_>, env: Environment<'_>) -> super::Admin {
    let map = root.map(&["admin"]);
    map.map(|map| admin::admin(&map, &mut Claims::default(), env)).unwrap_or_default()
}

fn clusters<'a>(map: &Map<'a>, claims: &mut Claims<'a>, env: Environment<'_>) -> Vec<Cluster> {
    let Some(node) = map.need("clusters", "a list such as `[{patroni: [HOST:8008]}]`") else {
        return Vec::new();
    };
    let expected = "a list of clusters, each with `- patroni: [HOST:8008]`";
    let Some(items) = node.items(expected, limits::MAX_CLUSTERS) else { return Vec::new() };
    let mut names = HashMap::new();
    let mut clusters = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let known = [&CLUSTER_KEYS[..], &transport::KEYS].concat();
        let Some(map) = item.map(&known) else { continue };
        let cluster = cluster(&map, i == 0, claims, env);
        if let (Some(name), Some(at)) = (&cluster.name, map.find("name")) {
            unique(&mut names, name.clone(), at, || format!("{name:?} names two clusters; change one"));
        }
        clusters.push(cluster);
    }
    clusters
}

/// Complains at the second one with the same `key`.
pub(super) fn unique<'a, K: Hash + Eq>(
    seen: &mut HashMap<K, Node<'a>>,
    key: K,
    at: Node<'a>,
    complaint: impl Fn() -> String,
) {
    match seen.get(&key) {
        Some(first) => at.refuse_beside(first, complaint()),
        None => drop(seen.insert(key, at)),
    }
}

fn cluster<'a>(map: &Map<'a>, first: bool, claims: &mut Claims<'a>, env: Environment<'_>) -> Cluster {
    let patroni = map.need("patroni", ENDPOINTS).and_then(|node| patroni(&node, env));
    let default = Cluster::of(patroni.unwrap_or_else(|| Patroni::of(Vec::new())));
    let (primary, replicas) = pools::pools(map, first, claims);
    let cluster = Cluster {
        name: map.find("name").and_then(|node| name(&node)),
        primary,
        replicas,
        protocol: map.read("protocol", Protocol::default(), Node::word),
        connect_timeout: map
            .read("connect_timeout", default.connect_timeout, |n| n.duration(&limits::CONNECT_TIMEOUT)),
        idle: transport::idle_timeouts(map),
        tcp: transport::tcp(map),
        ..default
    };
    if ["primary", "replicas"].iter().all(|pool| map.find(pool).is_some_and(|node| node.is_off())) {
        map.node().refuse("primary and replicas are both off, so nobody could connect; leave one of them on");
    }
    cluster
}

/// Endpoints alone, or a map with them.
fn patroni(node: &Node<'_>, env: Environment<'_>) -> Option<Patroni> {
    if !node.is_map() {
        return endpoints(node).map(Patroni::of);
    }
    let map = node.map(&[
        "endpoints",
        "interval",
        "fast_interval",
        "timeout",
        "leader_grace",
        "fall",
        "rise",
        "tls",
        "auth",
    ])?;
    let endpoints = map.need("endpoints", ENDPOINTS).and_then(|node| endpoints(&node)).unwrap_or_default();
    let default = Patroni::of(endpoints);
    let interval = map.find("interval").map_or(Some(default.interval), |n| n.duration(&limits::INTERVAL));
    let patroni = Patroni {
        interval: interval.unwrap_or(default.interval),
        fast_interval: map
            .read("fast_interval", default.fast_interval, |n| n.duration(&limits::FAST_INTERVAL)),
        timeout: map.read("timeout", default.timeout, |n| n.duration(&limits::TIMEOUT)),
        leader_grace: map.find("leader_grace").and_then(|n| n.duration(&limits::LEADER_GRACE)),
        fall: map.read("fall", default.fall, |n| count(n, &limits::STREAK)),
        rise: map.read("rise", default.rise, |n| count(n, &limits::STREAK)),
        tls: tls(&map, &default.endpoints),
        auth: auth(&map, env),
        ..default
    };
    // The default of the one is the least of the other, so it takes a stated fast_interval to be slower.
    if let (Some(fast), Some(interval)) = (map.find("fast_interval"), interval)
        && patroni.fast_interval > interval
    {
        let interval = value::show_duration(interval);
        fast.refuse_value::<()>(format!(
            "is slower than the interval, {interval}; write less, or raise interval"
        ));
    }
    Some(patroni)
}

/// The endpoints of a list, or of a text with commas between. Those that cannot be used are left out.
pub fn endpoints(node: &Node<'_>) -> Option<Vec<Endpoint>> {
    let stated = node.texts(ENDPOINTS, limits::MAX_ENDPOINTS, Endpoint::parse)?;
    let mut seen = HashMap::new();
    for (at, endpoint) in &stated {
        let host_and_port = (&endpoint.host, endpoint.port);
        unique(&mut seen, host_and_port, at.clone(), || format!("{endpoint} is given twice; keep one"));
    }
    Some(stated.into_iter().map(|(_, endpoint)| endpoint).collect())
}

fn tls(patroni: &Map<'_>, endpoints: &[Endpoint]) -> Option<Tls> {
    let map = patroni.find("tls")?.map(&["ca", "cert", "key", "server_name", "verify"])?;
    let file = |key| map.find(key).and_then(|node| file(&node));
    let tls = Tls {
        ca: file("ca"),
        cert: file("cert"),
        key: file("key"),
        server_name: map.find("server_name").and_then(|node| server_name(&node)),
        verify: map.read("verify", Verify::default(), Node::word),
    };
    match (map.find("cert"), map.find("key")) {
        (Some(cert), None) => cert.refuse("has no key beside it; give both, or neither"),
        (None, Some(key)) => key.refuse("has no cert beside it; give both, or neither"),
        _ => {}
    }
    if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.scheme == Scheme::Http) {
        map.node().refuse("no endpoint begins with https://; write https://HOST:8008, or leave tls out");
    }
    (tls != Tls::default()).then_some(tls)
}

fn server_name(node: &Node<'_>) -> Option<String> {
    let text = node.text("a name such as patroni.internal")?;
    endpoint::host_name(text).map_or_else(|_| node.refuse_value("is no host name"), Some)
}

/// Who pilotfish is to Patroni, or to a proxy before it. The password stands elsewhere.
fn auth(patroni: &Map<'_>, env: Environment<'_>) -> Option<Auth> {
    let map = patroni.find("auth")?.map(&["username", "password_file", "password_env"])?;
    let username = map.need("username", "what to log in as");
    let username = username.and_then(|node| node.text("a name; a number needs quotes").map(str::to_owned));
    let password = match (map.find("password_file"), map.find("password_env")) {
        (Some(file), None) => admin::password_file(&file),
        (None, Some(variable)) => admin::password_env(&variable, env),
        _ => {
            map.node().refuse("has to have one of password_file and password_env");
            None
        }
    };
    Some(Auth { username: username?, password: password? })
}

/// The path of a file that can be read now.
pub(super) fn file(node: &Node<'_>) -> Option<PathBuf> {
    let path = Path::new(node.text("the path of a PEM file")?);
    match crate::file::open(path) {
        Ok(_) => Some(path.into()),
        Err(error) => node.refuse_value(format!("cannot be read: {error}; give the path of a PEM file")),
    }
}

fn log(map: &Map<'_>) -> Option<Log> {
    let map = map.map("log", &["format", "level"])?;
    let default = Log::default();
    Some(Log {
        format: map.read("format", default.format, Node::word),
        level: map.read("level", default.level, Node::word),
    })
}

/// A name that is safe in a URL, a metric label and a column of CSV.
pub(super) fn name(node: &Node<'_>) -> Option<String> {
    let text = node.text("a name; a number needs quotes")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins_well || !text.chars().all(plain) || text.len() > limits::MAX_NAME_BYTES {
        return node.refuse_value(format!(
            "is not a name; write up to {} letters, digits, - _ or . and begin with a letter or digit",
            limits::MAX_NAME_BYTES
        ));
    }
    Some(text.into())
}

/// A number within bounds that the type is sure to hold.
pub(super) fn count<T: TryFrom<u64>>(node: &Node<'_>, bounds: &limits::Bounds<u64>) -> Option<T> {
    node.number(bounds).and_then(|number| T::try_from(number).ok())
}
