//! The configuration: what is accepted, what is refused and in which words.

use pilotfish::config::{
    Balance, Config, Endpoint, Fallback, Listen, LogFormat, LogLevel, Protocol, Role, Scheme, SyncState,
    Verify,
};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

mod networks;
mod reference;
mod shown;

const MINIMAL: &str = include_str!("../../config/minimal.yaml");
const FULL: &str = include_str!("../../config/full.yaml");
const SEVERAL: &str = include_str!("../../config/several-clusters.yaml");
const POOLS: &str = include_str!("../../config/several-pools.yaml");
const ENVIRONMENT: &str = include_str!("../../config/environment.yaml");

/// Blocks with a blank line between: a configuration, then after `! ` every problem that it has, in order.
const REFUSED: &str = include_str!("config/refused.txt");

/// Where the files are that full.yaml names.
static TLS_DIR: LazyLock<String> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/config-tls");
    std::fs::create_dir_all(folder).expect("a folder");
    let tls = ["ca.pem", "client.pem", "client.key", "admin.pem", "admin.key", "clients.pem"];
    for file in tls.into_iter().chain(["alice.password", "alice.token"]) {
        std::fs::write(format!("{folder}/{file}"), "hunter2\n").expect("a file");
    }
    folder.into()
});

pub fn env(name: &str) -> Option<String> {
    let value = match name {
        "FIVE" => "5",
        "EMPTY" => "",
        "OFF" => "off",
        "PATRONI_ENDPOINTS" => "10.0.0.1, 10.0.0.2:8009,https://[fd00::3]",
        "PILOTFISH_TLS_DIR" => &TLS_DIR,
        _ => return None,
    };
    Some(value.into())
}

fn parse(text: &str) -> Config {
    Config::parse("config.yaml", text, &env).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn refuse(text: &str) -> String {
    match Config::parse("config.yaml", text, &env) {
        Ok(config) => panic!("accepted:\n{text}\nas:\n{config}"),
        Err(problems) => problems.to_string(),
    }
}

fn endpoint(scheme: Scheme, host: &str, port: u16) -> Endpoint {
    Endpoint { scheme, host: host.into(), port }
}

fn listen(address: &str) -> Listen {
    address.parse::<SocketAddr>().expect("an address").into()
}

#[test]
fn what_is_refused_and_in_which_words() {
    let mut blocks = 0;
    for block in REFUSED.split("\n\n") {
        let (problems, text): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| line.starts_with("! "));
        let expected: Vec<String> =
            problems.iter().map(|line| line.replacen("! ", "config.yaml:", 1)).collect();
        assert!(!expected.is_empty(), "no problem in:\n{block}");
        let text = text.join("\n") + "\n";
        assert_eq!(refuse(&text), expected.join("\n"), "for:\n{text}");
        blocks += 1;
    }
    assert!(blocks >= 50, "{blocks} blocks");
}

#[test]
fn nothing_at_all_is_refused() {
    let expected = "config.yaml:1:1: is empty; the least is `clusters: [{patroni: [HOST:8008]}]`";
    assert_eq!(refuse(""), expected);
}

#[test]
fn minimal_has_the_defaults() {
    let config = parse(MINIMAL);
    let [cluster] = &config.clusters[..] else { panic!("{config:?}") };
    let http = |host| endpoint(Scheme::Http, host, 8008);
    assert_eq!(cluster.patroni.endpoints, ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(http));
    assert_eq!(cluster.patroni.interval, Duration::from_secs(1));
    assert_eq!(cluster.patroni.fast_interval, Duration::from_millis(100));
    assert_eq!(cluster.patroni.timeout, Duration::from_secs(2));
    assert_eq!((cluster.patroni.fall, cluster.patroni.rise), (3, 2));
    assert_eq!((&cluster.name, &cluster.patroni.leader_grace, &cluster.patroni.tls), (&None, &None, &None));
    let (Some(primary), [replicas]) = (&cluster.primary, &cluster.replicas[..]) else {
        panic!("{cluster:?}")
    };
    assert_eq!(primary.listen, [listen("0.0.0.0:5000")]);
    assert_eq!(replicas.listen, [listen("0.0.0.0:5001")]);
    assert_eq!((primary.name.as_str(), replicas.name.as_str()), ("primary", "replicas"));
    assert_eq!((primary.hold, replicas.hold), (Duration::from_secs(45), Duration::from_secs(45)));
    assert_eq!((replicas.balance, replicas.fallback), (Balance::LeastConnections, Fallback::Primary));
    assert_eq!(replicas.max_lag, None);
    assert_eq!((cluster.protocol, cluster.connect_timeout), (Protocol::Postgresql, Duration::from_secs(1)));
    assert_eq!(config.admin.listen, Some("127.0.0.1:7000".parse().unwrap()));
    assert_eq!((config.workers, config.max_sessions), (None, None));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Auto, LogLevel::Info));
}

#[test]
fn full_says_the_defaults() {
    let mut config = parse(FULL);
    let cluster = &mut config.clusters[0];
    let tls = cluster.patroni.tls.take().expect("tls is there");
    assert!([tls.ca, tls.cert, tls.key].iter().flatten().all(|file| file.is_file()));
    assert_eq!((tls.server_name.as_deref(), tls.verify), (Some("patroni.internal"), Verify::Full));
    let auth = cluster.patroni.auth.take().expect("auth is there");
    assert_eq!((auth.username.as_str(), auth.password.reveal().as_deref()), ("pilotfish", Ok("hunter2")));
    // What its comments say is not the default.
    assert_eq!(cluster.name.take().as_deref(), Some("demo"));
    assert_eq!(cluster.patroni.leader_grace.take(), Some(Duration::from_secs(30)));
    assert_eq!(cluster.replicas[0].max_lag.take(), Some(16 << 20));
    let primary = cluster.primary.as_mut().expect("a pool");
    let guarded = primary.listen.drain(1..).map(|listen| listen.address.to_string());
    assert_eq!(guarded.collect::<Vec<_>>(), ["[fd00::9]:5000", "unix:/run/pilotfish/.s.PGSQL.5000"]);
    assert_eq!(cluster.replicas[0].zone.take().as_deref(), Some("eu-1a"));
    cluster.patroni.endpoints[2].scheme = Scheme::Http;
    let admin = &mut config.admin;
    let alice = admin.users.pop().expect("a user");
    assert_eq!((alice.name.as_str(), alice.role, admin.users.len()), ("alice", Role::Operator, 0));
    assert_eq!(alice.password.expect("a password").reveal().as_deref(), Ok("hunter2"));
    assert_eq!(admin.allowed_hosts.pop().as_deref(), Some("lb.example.org"));
    assert!(admin.haproxy_socket.take().is_some_and(|socket| socket.mode == Some(0o660)));
    assert!(admin.socket.take().is_some() && admin.tls.take().is_some_and(|tls| tls.client_ca.is_some()));
    assert_eq!(config, parse(MINIMAL));
}

/// Puts a key that does not exist beside each one that does: the complaints name all keys of all maps.
#[test]
fn full_names_every_key() {
    let mut with_intruders = String::new();
    let mut named = BTreeSet::new();
    for line in FULL.lines() {
        let key_at = line.find(|c: char| c != ' ' && c != '-').unwrap_or(line.len());
        let key = line[key_at..].split(": ").next().unwrap_or("").trim_end_matches(':');
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_first = line.contains("- ");
        let intruder = format!("{}zzz: 1\n", " ".repeat(key_at));
        if is_key {
            named.insert((key_at, key));
        }
        with_intruders += &if is_key && !is_first { intruder } else { String::new() };
        with_intruders += &format!("{line}\n");
    }
    let complaints = refuse(&with_intruders);
    let mut known = BTreeSet::new();
    for line in complaints.lines() {
        let Some((place, keys)) = line.split_once("known here: ") else { continue };
        let column: usize = place.split(':').nth(2).expect("a column").parse().expect("a number");
        known.extend(keys.split(", ").map(|key| (column - 1, key)));
    }
    assert_eq!(named, known);
}

/// What a reload names.
#[test]
fn differences_are_named_by_their_keys() {
    let full = parse(FULL);
    assert_eq!(full.differences(&parse(&full.to_string())), [""; 0]);
    for (from, to, paths) in [
        ("hold: 45s", "hold: 46s", &["clusters[0].primary.hold", "clusters[0].replicas.hold"][..]),
        ("interval: 1s", "interval: 2s", &["clusters[0].patroni.interval"]),
        ("weights: {}", "weights: {a: 7}", &["clusters[0].replicas.weights.a"]),
        ("leader_grace: 30s", "", &["clusters[0].patroni.leader_grace"]),
        ("\"0.0.0.0:5000\"\n", "\":5002\"\n", &["clusters[0].primary.listen[0]"]),
        ("workers: auto", "workers: 3", &["workers"]),
        ("role: operator", "role: viewer", &["admin.users[0].role"]),
        ("  socket: /run/pilotfish/admin.sock", "  socket: off", &["admin.socket"]),
        ("level: admin", "level: user", &["admin.haproxy_socket.level"]),
        ("mode: \"0660\"", "mode: \"0600\"", &["admin.haproxy_socket.mode"]),
    ] {
        let changed = FULL.replace(from, to);
        assert_ne!(changed, FULL, "{from}");
        assert_eq!(full.differences(&parse(&changed)), paths);
    }
    let others = parse(SEVERAL).differences(&full);
    assert_eq!(
        others,
        [
            "admin.allowed_hosts",
            "admin.haproxy_socket",
            "admin.socket",
            "admin.tls",
            "admin.users",
            "clusters"
        ]
    );
}

#[test]
fn several_clusters_listen_apart() {
    let config = parse(SEVERAL);
    let [orders, reports, audit] = &config.clusters[..] else { panic!("{config:?}") };
    assert_eq!(orders.name.as_deref(), Some("orders"));
    assert_eq!(reports.patroni.interval, Duration::from_secs(5));
    let [replicas] = &reports.replicas[..] else { panic!("{reports:?}") };
    assert_eq!((replicas.max_lag, replicas.fallback), (Some(64 << 20), Fallback::None));
    let listen = &audit.primary.as_ref().expect("audit has a primary").listen;
    assert_eq!(listen[..], ["10.0.0.5:5020", "[fd00::5]:5020"].map(self::listen));
    assert_eq!(audit.replicas, []);
}

#[test]
fn a_cluster_may_have_several_pools_of_readers() {
    let config = parse(POOLS);
    let [replicas, reporting] = &config.clusters[0].replicas[..] else { panic!("{config:?}") };
    assert_eq!((replicas.name.as_str(), replicas.max_lag), ("replicas", Some(16 << 20)));
    assert_eq!((reporting.name.as_str(), reporting.max_lag), ("reporting", None));
    assert_eq!(reporting.require.tags, [("reporting".to_owned(), "true".to_owned())]);
    let sync = |text: &str| {
        let yaml = format!("clusters: [{{patroni: a, replicas: {{require: {{sync: {text}}}}}}}]");
        parse(&yaml).clusters[0].replicas[0].require.sync.clone()
    };
    assert_eq!(sync("any"), []);
    assert_eq!(sync("quorum"), [SyncState::Quorum]);
    assert_eq!(sync("[sync, quorum, sync]"), [SyncState::Sync, SyncState::Quorum]);
}

#[test]
fn the_environment_fills_values() {
    let config = parse(ENVIRONMENT);
    let cluster = &config.clusters[0];
    let expected = [
        endpoint(Scheme::Http, "10.0.0.1", 8008),
        endpoint(Scheme::Http, "10.0.0.2", 8009),
        endpoint(Scheme::Https, "fd00::3", 8008),
    ];
    assert_eq!(cluster.patroni.endpoints, expected);
    assert_eq!(cluster.name.as_deref(), Some("demo"));
    assert_eq!(cluster.replicas[0].max_lag, None);

    let config = parse(
        "# ${NOPE} in a comment is left alone
         \nclusters: [{patroni: 'h${FIVE}:${FIVE}', name: 'a${NOPE:-b}${EMPTY:-c}${EMPTY}', primary: '${OFF}'}]
         \nworkers: ${FIVE}\nmax_sessions: ${EMPTY}\ndrain_timeout: ${FIVE}s\nadmin: ${OFF}\nlog:\n  level: ${NOPE:-warn}",
    );
    let cluster = &config.clusters[0];
    assert_eq!(cluster.patroni.endpoints, [endpoint(Scheme::Http, "h5", 5)]);
    assert_eq!((cluster.name.as_deref(), &cluster.primary), (Some("abc"), &None));
    assert_eq!((config.workers, config.max_sessions), (Some(5), None));
    assert_eq!((config.drain_timeout, config.admin.listen), (Duration::from_secs(5), None));
    assert_eq!(config.log.level, LogLevel::Warn);
}

#[test]
fn durations_sizes_and_addresses() {
    let hold = |text: &str| {
        let yaml = format!("clusters: [{{patroni: a, primary: {{hold: {text}}}}}]");
        parse(&yaml).clusters[0].primary.as_ref().map(|pool| pool.hold.as_millis())
    };
    for (text, ms) in [
        ("0", 0),
        ("0s", 0),
        ("0.0", 0),
        ("1ms", 1),
        ("1.5s", 1500),
        ("0.001s", 1),
        ("2m", 120_000),
        ("1h", 3_600_000),
    ] {
        assert_eq!(hold(text), Some(ms), "{text}");
    }
    let max_lag = |text: &str| {
        let yaml = format!("clusters: [{{patroni: a, replicas: {{max_lag: {text}}}}}]");
        parse(&yaml).clusters[0].replicas[0].max_lag
    };
    let sizes =
        [("0", 0), ("77", 77), ("77B", 77), ("64k", 64 << 10), ("64kB", 64 << 10), ("64KiB", 64 << 10)];
    let larger = [("16MB", 16 << 20), ("16mib", 16 << 20), ("2G", 2 << 30), ("3TB", 3 << 40), ("0x10", 16)];
    for (text, bytes) in sizes.into_iter().chain(larger) {
        assert_eq!(max_lag(text), Some(bytes), "{text}");
    }
    let listen = |text: &str| {
        let yaml = format!("clusters: [{{patroni: a, primary: {{listen: \"{text}\"}}}}]");
        let config = parse(&yaml);
        let pool = config.clusters[0].primary.clone().expect("a primary");
        pool.listen.iter().map(|listen| listen.address.to_string()).collect::<Vec<_>>().join(" ")
    };
    for (text, addresses) in [
        (":6000", "0.0.0.0:6000"),
        ("*:6000, [::]:6000", "0.0.0.0:6000 [::]:6000"),
        (
            "localhost:6000,[::1%2]:0, 127.0.0.1:0,127.0.0.1:0",
            "127.0.0.1:6000 [::1%2]:0 127.0.0.1:0 127.0.0.1:0",
        ),
    ] {
        assert_eq!(listen(text), addresses);
    }
}

#[test]
fn endpoints_in_all_their_forms() {
    let forms = "a, A.example.org.:81, http://b, https://c:9, HTTP://d/, 10.0.0.1, [::1], https://[FD00::0:1]:8, x_y-z";
    let shown: Vec<String> = Config::from_endpoints(&[forms.into(), "e:1".into()])
        .unwrap_or_else(|problems| panic!("{problems}"))
        .clusters
        .iter()
        .flat_map(|cluster| cluster.patroni.endpoints.iter().map(ToString::to_string))
        .collect();
    let expected = "http://a:8008 http://a.example.org.:81 http://b:8008 https://c:9 http://d:8008 \
        http://10.0.0.1:8008 http://[::1]:8008 https://[fd00::1]:8 http://x_y-z:8008 http://e:1";
    assert_eq!(shown.join(" "), expected);
}

#[test]
fn names_have_a_length() {
    let host = |label: usize, labels: usize| {
        let host = vec!["h".repeat(label); labels].join(".");
        Config::from_endpoints(&[host]).is_ok()
    };
    assert_eq!([host(63, 1), host(64, 1), host(62, 4), host(63, 4)], [true, false, true, false]);
    let name = |length: usize| {
        let yaml = format!("clusters: [{{patroni: a, name: {}}}]", "n".repeat(length));
        Config::parse("config.yaml", &yaml, &env).is_ok()
    };
    assert_eq!([name(64), name(65)], [true, false]);
}

#[test]
fn endpoints_on_the_command_line() {
    let of = |endpoints: &[&str]| {
        Config::from_endpoints(&endpoints.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let minimal = of(&["10.0.0.1:8008", "10.0.0.2", "http://10.0.0.3"]);
    assert_eq!(minimal, Ok(parse(MINIMAL)));
    let problems = of(&["a,b:0", "a", "$${x}"]).expect_err("three problems").to_string();
    let expected = "command line: --patroni: \"b:0\" does not end in a port from 1 to 65535\n\
        command line: --patroni: \"$${x}\" has a host that is neither a name nor an IP address; write HOST:PORT\n\
        command line: --patroni: http://a:8008 is given twice; keep one";
    assert_eq!(problems, expected);
    assert_eq!(
        of(&[]).expect_err("none").to_string(),
        "command line: --patroni: \"\" has no host; write HOST:PORT"
    );
}

#[test]
fn yaml_aliases_repeat_a_value() {
    let config = parse(
        "clusters: [{patroni: &p {endpoints: a, fall: 7}}, {patroni: *p, primary: off, replicas: {listen: ':1'}}]",
    );
    assert_eq!(config.clusters[0].patroni, config.clusters[1].patroni);
}

#[test]
fn files_that_cannot_be_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |path: &Path| Config::load(path).expect_err("refused").to_string();
    let none = folder.path().join("none.yaml");
    let said = format!(
        "{}: cannot be read: No such file or directory (os error 2); give the path of a file with --config FILE",
        none.display()
    );
    assert_eq!(load(&none), said);
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    assert!(
        load(&write("latin1", b"a: 1\nb: \xfc\n"))
            .ends_with("line 2 is not UTF-8 text; save the file as UTF-8")
    );
    // Cut off at the limit, this ends within a letter.
    assert!(load(&write("large", "\u{fc}".repeat(200_000).as_bytes())).contains("is larger than 256 KiB"));
    assert!(load(Path::new("/dev/zero")).contains("it is a device, not a file; give the path of a file"));
    let good = write("good", MINIMAL.as_bytes());
    assert_eq!(Config::load(&good), Ok(parse(MINIMAL)));
    let path = good.display();
    std::fs::write(&good, "clusters: 5").expect("a file");
    assert!(load(&good).starts_with(&format!("{path}:1:11: clusters: found the number 5")));
}

#[test]
fn huge_and_deep_texts_are_refused_soon() {
    let bomb = (0..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string(), |text, i| {
        let next = i + 1;
        format!("{text}a{next}: &a{next} [{}]\n", format!("*a{i}, ").repeat(10))
    });
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), ["*a"; 100].join(", "));
    for (text, reason) in [
        ("#\n".repeat(200_000), "is larger than 256 KiB"),
        ("[".repeat(200_000), "more than 10000 opening brackets"),
        ("{a: ".repeat(10_000), "nested too deeply"),
        ("- ".repeat(100_000), "nested too deeply"),
        ("? ".repeat(10_000), "nested too deeply"),
        (bomb, "more than 50000 values"),
        (long, "1024 KiB of text"),
        ("- a\n".repeat(60_000), "more than 50000 values"),
        (format!("clusters: [{{patroni: [{}]}}]", "a,".repeat(5_000)), "holds more than 64 items"),
        (format!("clusters: [{}]", "{patroni: a},".repeat(1100)), "holds more than 1024 items"),
        (
            format!("clusters: [{{patroni: a, primary: {{listen: '{}'}}}}]", ":1,".repeat(17)),
            "holds more than 16 items",
        ),
    ] {
        let problems = refuse(&text);
        assert!(problems.contains(reason), "{reason}: {problems}");
    }
}

#[test]
fn many_problems_are_counted() {
    let text = (0..150).map(|i| format!("key{i}: 1\n")).collect::<String>() + MINIMAL;
    let problems = refuse(&text);
    assert_eq!(problems.lines().count(), 101);
    assert!(problems.starts_with("config.yaml:1:1: unknown key \"key0\""));
    assert!(problems.ends_with("\nand 50 more; mend these first"));
}
