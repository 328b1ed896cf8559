//! A pool: where clients come in, whom they reach, and what holds for them.

use std::collections::BTreeSet;

use super::address::with_port;
use super::bind::{self, Binds, EVERYBODY, Listen, UnixBind};
use super::check::{self, Check, Role};
use super::notes::Notes;
use super::proxies::Proxy;
use super::queue;
use super::readers;
use super::rules;
use super::sections::shown;
use super::servers::{self, Server};
use super::sessions;
use super::setting::{Said, Settings, number_at, number_within, show_ms, time_within, timeout_at};
use crate::config::limits;

/// One member as HAProxy knew it.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// Patroni's REST address.
    pub host: String,
    pub port: u16,
    pub https: bool,
    pub line: usize,
}

#[derive(Clone, Debug)]
pub struct Pool {
    /// The name of HAProxy's proxy, as pilotfish takes names.
    pub name: String,
    pub line: usize,
    pub role: Role,
    pub listens: Vec<Listen>,
    pub members: Vec<Member>,
    /// Keys of the pool.
    pub own: Settings,
    /// Keys of the cluster: about sessions, about checks, about TLS to Patroni.
    pub sessions: Settings,
    pub checks: Settings,
    pub tls: Settings,
    /// Who checks log in as.
    pub user: Option<Said<String>>,
}

/// What the section global says that pools need.
#[derive(Clone, Debug, Default)]
pub struct Global {
    pub unix: UnixBind,
    pub ca_base: String,
    pub crt_base: String,
    pub verify_none: Option<Said<bool>>,
}

/// Patroni's own default.
const PATRONI_PORT: u16 = 8008;
const POSTGRESQL_PORT: u16 = 5432;

/// All proxies by which servers can follow others (`track`), and the section global.
pub struct Around<'a> {
    pub proxies: &'a [Proxy<'a>],
    pub global: &'a Global,
    pub notes: &'a Notes,
}

/// The pool of a frontend and the backend that it leads to, which are one for a `listen`. An error is the reason why
/// there is none, and the line to say it of.
pub fn read(front: &Proxy<'_>, back: &Proxy<'_>, around: &Around<'_>) -> Result<Pool, (usize, String)> {
    let notes = around.notes;
    let servers = servers::read(back, notes);
    let followed = servers.iter().find_map(|server| followed(server, around.proxies));
    let check = match check::read(back, notes) {
        Ok(check) => check,
        Err(why) => match followed {
            Some(other) => check::read(other, notes)?,
            None => return Err(why),
        },
    };
    if servers.is_empty() {
        return Err((back.section.number, "it has no servers that could be asked".into()));
    }
    if let Some(groups) = citus_groups(back.name(), &check, &servers) {
        return Err((
            back.section.number,
            format!(
                "the workers of several Citus groups ({groups}), each with a primary of its own; write a cluster with a \
                 port for each group"
            ),
        ));
    }
    let members = members(&servers, &check, around);
    if members.is_empty() {
        return Err((back.section.number, "none of its servers is checked".into()));
    }
    let binds = bind::read(front, &around.global.unix, false, notes);
    let listens = listens(front, &binds, notes);
    if listens.listens.is_empty() {
        return Err((front.section.number, "it listens nowhere where pilotfish could".into()));
    }
    let mut pool = Pool {
        name: name(front.name()),
        line: front.section.number,
        role: check.role.clone(),
        sessions: sessions::settings(front, back, &servers, &binds, notes),
        checks: checks(back, &servers, notes),
        tls: tls(&servers, &check, &members, around),
        user: check.user.clone(),
        own: Settings::default(),
        listens: listens.listens,
        members,
    };
    limits(front, back, &servers, &binds, &listens.per_client, &mut pool.own, notes);
    ports(&servers, &mut pool.own);
    match pool.role {
        Role::Primary => of_primary(back, &servers, notes),
        Role::Readers { .. } => readers::settings(back, &servers, &check, &mut pool.own, notes),
    }
    notes.taken(check.line, format!("{}: {}", check.said, is_now(&pool.role)));
    Ok(pool)
}

fn is_now(role: &Role) -> &'static str {
    match role {
        Role::Primary => "a pool primary",
        Role::Readers { include_primary: false, .. } => "a pool of replicas",
        Role::Readers { include_primary: true, .. } => "a pool of replicas, the primary among them",
    }
}

/// The proxy whose checks a server follows.
fn followed<'a>(server: &Server, proxies: &'a [Proxy<'a>]) -> Option<&'a Proxy<'a>> {
    let (proxy, _) = server.options.track.as_ref()?.value.split_once('/')?;
    proxies.iter().find(|candidate| candidate.name() == proxy && candidate.has_servers())
}

/// A name as pilotfish takes names.
pub fn name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = text.chars().take(64).map(plain).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "pool".into() } else { name.into() }
}

/// Patroni's template for Citus puts the workers of all groups into one proxy, named `work1-1`, `work2-1` and so on.
fn citus_groups(proxy: &str, check: &Check, servers: &[Server]) -> Option<String> {
    if check.role != Role::Primary || !proxy.contains("worker") {
        return None;
    }
    let group = |server: &Server| server.name.rsplit_once('-').map_or("", |(group, _)| group).to_owned();
    let groups: BTreeSet<String> = servers.iter().map(group).collect();
    (groups.len() > 1).then(|| shown(&Vec::from_iter(groups).join(", ")))
}

fn members(servers: &[Server], check: &Check, around: &Around<'_>) -> Vec<Member> {
    let notes = around.notes;
    let mut members: Vec<Member> = Vec::new();
    for server in servers {
        let source = match (&server.options.track, followed(server, around.proxies)) {
            (Some(track), Some(other)) => {
                let name = track.value.rsplit('/').next().unwrap_or("");
                let quiet = Notes::default();
                servers::read(other, &quiet).into_iter().find(|server| server.name == name)
            }
            _ => None,
        };
        let options = source.as_ref().map_or(&server.options, |source| &source.options);
        let name = shown(&server.name);
        if !options.check {
            notes.lost(
                server.line,
                format!("server {name} has no check, so HAProxy always uses it; left out"),
            );
            continue;
        }
        let port = check.port.or(options.port.as_ref().map(|port| port.value));
        if port.is_none() {
            notes.lost(
                server.line,
                format!("server {name} has no port for its check; Patroni's default {PATRONI_PORT} is taken"),
            );
        }
        let host = source.as_ref().map_or(&server.host, |source| &source.host);
        let host = check.addr.as_ref().or(options.addr.as_ref()).unwrap_or(host).to_ascii_lowercase();
        let https = check.ssl || options.check_ssl == Some(true);
        let port = port.unwrap_or(PATRONI_PORT);
        let scheme = if https { "https" } else { "http" };
        let several = if server.template { ", from which the others are found" } else { "" };
        notes.taken(server.line, format!("server {name}: {scheme}://{}{several}", with_port(&host, port)));
        if !members.iter().any(|member| (&member.host, member.port) == (&host, port)) {
            members.push(Member { name: server.name.clone(), host, port, https, line: server.line });
        }
    }
    members
}

struct Listens {
    listens: Vec<Listen>,
    per_client: Option<(u64, usize)>,
}

/// The addresses, and who may come.
fn listens(front: &Proxy<'_>, binds: &Binds, notes: &Notes) -> Listens {
    let accept_proxy = binds.listens.iter().any(|listen| !listen.accept_proxy.is_empty());
    let access = rules::read(front, accept_proxy, notes);
    let mut listens = binds.listens.clone();
    for listen in &mut listens {
        listen.allow.clone_from(&access.allow);
        let is_unix = listen.is_unix();
        let everybody = |networks: &[String]| networks.iter().eq(EVERYBODY.iter());
        match is_unix {
            // Clients of a unix socket have no address that a rule could name.
            true if everybody(&access.proxies) => listen.accept_proxy = vec!["unix".to_owned()],
            true => {}
            false if access.proxies.is_empty() => {}
            false => listen.accept_proxy.clone_from(&access.proxies),
        }
        if listen.expects_proxy {
            let whom = match &listen.accept_proxy {
                _ if is_unix => "from everybody who may open the socket".to_owned(),
                trusted if everybody(trusted) => {
                    "from everybody as in HAProxy; name the addresses of your proxies there".to_owned()
                }
                trusted => format!("from {}, as a rule says", trusted.join(", ")),
            };
            notes.taken(listen.line, format!("accept-proxy: accept_proxy, {whom}"));
        }
    }
    listens.retain(|listen| {
        let lets_in = !listen.is_unix() || listen.allow.is_empty() || !listen.accept_proxy.is_empty();
        if !lets_in {
            notes.lost(
                listen.line,
                format!(
                    "{}: {} is left out: its clients have no address, and only some addresses are let in",
                    listen.said, listen.address
                ),
            );
        }
        lets_in
    });
    Listens { listens, per_client: access.per_client }
}

/// How many sessions, and how many wait.
fn limits(
    front: &Proxy<'_>,
    back: &Proxy<'_>,
    servers: &[Server],
    binds: &Binds,
    per_client: &Option<(u64, usize)>,
    own: &mut Settings,
    notes: &Notes,
) {
    let stated = front.last("maxconn").and_then(|line| Some((line, number_at(line, 1, notes)?)));
    // 0 is HAProxy's word for no limit of its own.
    let mut most = stated.filter(|(_, number)| *number > 0).map(|(line, number)| Said {
        value: number,
        line: line.number,
        words: line.said(),
    });
    for bind in &binds.maxconn {
        match binds.listens.len() {
            1 if most.as_ref().is_none_or(|most| bind.value < most.value) => most = Some(bind.clone()),
            1 => {}
            _ => notes.lost(bind.line, format!("{}: addresses of a pool share its max_sessions", bind.words)),
        }
    }
    if let Some(most) = most {
        let differs = "clients over max_sessions are refused (SQLSTATE 53300), where HAProxy lets them wait";
        notes.taken(most.line, format!("{}: {differs}", most.words));
        own.set("max_sessions", most.value.to_string(), most.line, most.words);
    }
    queue::settings(back, servers, own, notes);
    if per_client.is_none() {
        for line in front.all("stick-table").into_iter().chain(back.all("stick-table")) {
            notes.not_needed(line.number, format!("{}: no rule counts by it", line.said()));
        }
    }
    if let Some((limit, line)) = per_client {
        own.set("max_sessions_per_client", limit.to_string(), *line, "tcp-request … src_conn_cur");
    }
    if let Some(line) = back.last("option transparent") {
        notes.lost(line.number, "option transparent: members see pilotfish's address, or the PROXY header's");
    }
    let Some(version) = common(servers, "send_proxy", |s| &s.options.send_proxy, notes) else { return };
    if version.value == 1 {
        notes.lost(version.line, format!("{}: the PROXY header is sent as v2", version.words));
    }
    own.set("send_proxy", "v2", version.line, version.words);
}

/// What all servers have in common. Where they differ the first one's is taken, and said to be so.
pub fn common<T: Clone + PartialEq>(
    servers: &[Server],
    key: &str,
    of: impl Fn(&Server) -> &Option<Said<T>>,
    notes: &Notes,
) -> Option<Said<T>> {
    let first = servers.iter().find_map(|server| of(server).as_ref())?;
    let differs = |server: &&Server| of(server).as_ref().map(|said| &said.value) != Some(&first.value);
    if let Some(other) = servers.iter().find(differs) {
        let line = of(other).as_ref().map_or(other.line, |said| said.line);
        let name = shown(&other.name);
        notes.lost(line, format!("server {name} differs from the others in {key}; all get {}", first.words));
    }
    Some(first.clone())
}

/// A port that is not PostgreSQL's: a pooler on each node.
fn ports(servers: &[Server], own: &mut Settings) {
    let Some(first) = servers.first() else { return };
    let Some(port) = first.port.filter(|port| *port != POSTGRESQL_PORT) else { return };
    if servers.iter().all(|server| server.port == Some(port)) {
        own.set("port", port.to_string(), first.line, format!("server … :{port}"));
    }
}

/// What means nothing where there is one member to choose from.
fn of_primary(back: &Proxy<'_>, servers: &[Server], notes: &Notes) {
    if let Some(line) = back.last("balance") {
        notes.not_needed(line.number, format!("{}: there is one primary", line.said()));
    }
    for line in back.all("stick") {
        notes.not_needed(line.number, format!("{}: there is one primary", line.said()));
    }
    for line in back.all("option allbackups") {
        notes.not_needed(line.number, "option allbackups: there is one primary");
    }
    for server in servers {
        let options = &server.options;
        if let Some(backup) = &options.backup {
            notes.not_needed(backup.line, "backup: who is the primary is Patroni's word");
        }
        if let Some(weight) = options.weight.as_ref().filter(|weight| weight.value == 0) {
            notes.lost(weight.line, "weight 0: who is the primary is Patroni's word; use its tag nofailover");
        }
        if let Some(cut) = &options.shutdown_sessions {
            notes.taken(cut.line, format!("{}: the primary's sessions are always cut so", cut.words));
        }
    }
}

/// How members are checked.
fn checks(back: &Proxy<'_>, servers: &[Server], notes: &Notes) -> Settings {
    let mut checks = Settings::default();
    let quicker = |said: Said<u64>, key: &'static str, than: u64, bounds, checks: &mut Settings| {
        if said.value >= than {
            let text = format!("{}: {key} is {} by default", said.words, show_ms(than));
            return notes.not_needed(said.line, text);
        }
        let time = time_within(said.value, bounds, (said.line, &said.words), notes);
        checks.set(key, time, said.line, said.words);
    };
    // The quickest counts where servers differ: each is asked by itself anyhow.
    let quickest = |of: fn(&Server) -> &Option<Said<u64>>| {
        servers.iter().filter_map(|server| of(server).clone()).min_by_key(|said| said.value)
    };
    if let Some(inter) = quickest(|server| &server.options.inter) {
        quicker(inter, "interval", 1000, &limits::INTERVAL, &mut checks);
    }
    if let Some(inter) = quickest(|server| &server.options.fastinter) {
        quicker(inter, "fast_interval", 100, &limits::FAST_INTERVAL, &mut checks);
    }
    if let Some(line) = back.last("timeout check")
        && let Some(ms) = timeout_at(line, 2, notes)
    {
        let time = time_within(ms, &limits::TIMEOUT, (line.number, &line.said()), notes);
        checks.set("timeout", time, line.number, line.said());
    }
    for (key, default, said) in [
        ("fall", 3, common(servers, "fall", |s| &s.options.fall, notes)),
        ("rise", 2, common(servers, "rise", |s| &s.options.rise, notes)),
    ] {
        let Some(said) = said else { continue };
        let value = number_within(said.value, &limits::STREAK, (said.line, &said.words), notes);
        match value == default {
            true => notes.taken(said.line, format!("{}: that is so by default", said.words)),
            false => checks.set(key, value.to_string(), said.line, said.words),
        }
    }
    checks
}

/// How Patroni's certificate is checked, and what is shown to it.
fn tls(servers: &[Server], check: &Check, members: &[Member], around: &Around<'_>) -> Settings {
    let (notes, global) = (around.notes, around.global);
    let mut tls = Settings::default();
    if members.iter().all(|member| !member.https) {
        return tls;
    }
    let quoted = crate::config::quoted;
    let based = |base: &str, file: &str| match file.starts_with('/') || base.is_empty() {
        true => file.to_owned(),
        false => format!("{base}/{file}"),
    };
    if let Some(ca) = common(servers, "ca-file", |s| &s.options.ca_file, notes)
        && !ca.value.starts_with('@')
    {
        tls.set("ca", quoted(&based(&global.ca_base, &ca.value)), ca.line, ca.words);
    }
    if let Some(crt) = common(servers, "crt", |s| &s.options.crt, notes) {
        let file = quoted(&based(&global.crt_base, &crt.value));
        tls.set("cert", file.clone(), crt.line, crt.words.clone());
        tls.set("key", file, crt.line, crt.words);
    }
    let verify = common(servers, "verify", |s| &s.options.verify_none, notes).or(global.verify_none.clone());
    let trusts_all = verify.as_ref().is_some_and(|verify| verify.value);
    if let Some(verify) = verify.filter(|verify| verify.value) {
        tls.set("verify", "none", verify.line, verify.words);
    }
    let host = common(servers, "verifyhost", |s| &s.options.verifyhost, notes)
        .or(common(servers, "check-sni", |s| &s.options.check_sni, notes))
        .or(check.server_name.clone().map(|value| Said { value, line: check.line, words: "sni".into() }));
    match host {
        Some(host) if crate::config::host_name(&host.value).is_err() => {
            notes.lost(host.line, format!("{}: {:?} is no host name", host.words, shown(&host.value)));
        }
        Some(host) => tls.set("server_name", quoted(&host.value), host.line, host.words),
        None if !trusts_all => notes.lost(
            members[0].line,
            "check-ssl without verifyhost: HAProxy takes a certificate for any name; pilotfish wants the name or \
             address of the endpoint in it, or tls.server_name",
        ),
        None => {}
    }
    tls
}
