//! Commands that only look.

use super::super::view::{self, StatusView};
use super::super::{Sources, figures, listing};
use super::command::{Desk, Reply};
use super::field::Field;
use super::order::Place;
use super::request::Scope;
use super::row::Row;
use super::rows::{Proxy, proxies};
use super::{csv, info, json, servers, typed};

fn text(text: impl Into<String>) -> Reply {
    Reply::Text(text.into())
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == wanted)
}

pub fn info(desk: Desk<'_>, words: &[String]) -> Reply {
    let status = view::status(desk.sources);
    let figures = figures_of(desk.sources, &status, &super::rows_of(desk.sources, &status));
    if has(words, "json") {
        text(json::draw_figures(&figures) + "\n")
    } else if has(words, "typed") {
        text(info::draw_typed(&figures))
    } else {
        text(info::draw(&figures))
    }
}

/// The process, from a status and rows that somebody has made already.
pub fn figures_of(sources: &Sources, status: &StatusView, rows: &[Row]) -> Vec<info::Figure> {
    let fronts = rows.iter().filter(|row| row.object == super::row::Object::Frontend);
    let sum = |field| fronts.clone().filter_map(|row| row.number_in(field)).sum::<i64>().unsigned_abs();
    let pools = status.clusters.iter().flat_map(|cluster| &cluster.pools);
    let started = sources.started_at.duration_since(std::time::UNIX_EPOCH);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let (connections_per_s, most_connections_per_s) = super::connection_rates(sources);
    info::figures(&info::Process {
        id: std::process::id(),
        workers: sources.workers.count(),
        uptime_s: sources.started.elapsed().as_secs(),
        started_unix_s: started.map_or(0, |since| since.as_secs()),
        open_files: files.unwrap_or(u64::MAX),
        max_sessions: sources.workers.max_sessions(),
        sessions: sources.workers.open_sessions(),
        connections: sum(Field::ConnTot),
        connections_per_s,
        most_connections_per_s,
        bytes_out: sum(Field::Bout),
        bytes_out_per_s: pools.map(|pool| pool.bytes_out_per_s).sum::<f64>() as u64,
        listeners: sources.served.load().pools.iter().map(|pool| pool.listen.len()).sum(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        stopping: sources.stopping.load(std::sync::atomic::Ordering::Relaxed),
    })
}

/// `show stat [<iid>|<proxy> <type> <sid>] [json|typed|up|no-maint]*`
pub fn stat(desk: Desk<'_>, words: &[String]) -> Reply {
    let mut rows = super::rows(desk.sources);
    if let [proxy, kind, id, ..] = words {
        let is_known = |row: &Row| row.text_in(Field::Pxname) == proxy;
        if number(proxy) == 0 && !rows.iter().any(is_known) {
            return text("No such proxy.\n");
        }
        rows.retain(|row| is_asked_for(row, proxy, number(kind), number(id)));
    }
    let scope = Scope { up: has(words, "up"), no_maint: has(words, "no-maint") };
    rows.retain(|row| scope.shows(row));
    if has(words, "json") {
        text(json::draw(&rows) + "\n")
    } else if has(words, "typed") {
        text(typed::draw(&rows))
    } else {
        text(csv::draw(&rows))
    }
}

/// The number that a word begins with, 0 when it begins with none. (HAProxy reads them by `atoi`.)
fn number(word: &str) -> i64 {
    let sign = usize::from(word.starts_with(['-', '+']));
    let digits = word[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len() - sign);
    word[..sign + digits].parse().unwrap_or(0)
}

/// `kind` is a sum of 1 for fronts, 2 for backends and 4 for servers; -1 is any, here and for the numbers. A proxy that is
/// no number is a name.
fn is_asked_for(row: &Row, proxy: &str, kind: i64, id: i64) -> bool {
    let of_proxy = match number(proxy) {
        0 => row.text_in(Field::Pxname) == proxy,
        number => number == -1 || row.number_in(Field::Iid) == Some(number),
    };
    let of_kind = kind == -1 || kind & (1 << row.object.number()) != 0;
    of_proxy && of_kind && (id == -1 || row.number_in(Field::Sid) == Some(id))
}

pub fn servers_state(desk: Desk<'_>, words: &[String]) -> Reply {
    list_servers(desk, words, servers::state)
}

pub fn servers_conn(desk: Desk<'_>, words: &[String]) -> Reply {
    list_servers(desk, words, servers::conn)
}

fn list_servers(
    desk: Desk<'_>,
    words: &[String],
    draw: fn(&StatusView, &[Row], Option<&str>) -> Option<String>,
) -> Reply {
    let status = view::status(desk.sources);
    let rows = super::rows_of(desk.sources, &status);
    let drawn = draw(&status, &rows, words.first().map(String::as_str));
    text(drawn.unwrap_or_else(|| "Can't find backend.\n".to_owned()))
}

pub fn backend(desk: Desk<'_>, _: &[String]) -> Reply {
    let status = view::status(desk.sources);
    let names: String = proxies(&status).iter().map(|proxy| format!("{}\n", proxy.name)).collect();
    text(format!("# name\n{names}"))
}

/// A session's number in HAProxy's form, which is that of a pointer.
pub fn sess(desk: Desk<'_>, words: &[String]) -> Reply {
    let status = view::status(desk.sources);
    let proxies = proxies(&status);
    let wanted = match words.first().map(String::as_str) {
        None | Some("all") => None,
        Some(id) => match session_id(id) {
            Some(id) => Some(id),
            None => return text("Session not found.\n"),
        },
    };
    let sessions = listing::sessions(desk.sources);
    let sessions = sessions.iter().filter(|session| wanted.is_none_or(|id| session.id == id));
    let lines: String = sessions.map(|session| session_line(session, &proxies)).collect();
    match lines.is_empty() && wanted.is_some() {
        true => text("Session not found.\n"),
        false => text(lines),
    }
}

/// `0x1f`, as [`sess`] shows it.
pub fn session_id(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

fn session_line(session: &listing::SessionView, proxies: &[Proxy<'_>]) -> String {
    let of = |proxy: &&Proxy<'_>| proxy.cluster.name == session.cluster && proxy.pool.name == session.pool;
    let proxy = proxies.iter().find(of).map_or(session.pool.as_str(), |proxy| &proxy.name);
    let seconds = session.age_s as u64;
    let age = match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    };
    format!(
        "0x{:x}: proto={} src={} fe={proxy} be={proxy} srv={} age={age} in={} out={} phase={}\n",
        session.id,
        transport(&session.client),
        session.client,
        session.member.as_deref().unwrap_or("<none>"),
        session.bytes_in,
        session.bytes_out,
        session.phase,
    )
}

pub fn version(_: Desk<'_>, _: &[String]) -> Reply {
    text(format!("{}\n", info::VERSION))
}

pub fn cli_level(desk: Desk<'_>, _: &[String]) -> Reply {
    text(format!("{}\n", desk.level.as_str()))
}

pub fn cli_sockets(desk: Desk<'_>, _: &[String]) -> Reply {
    text(format!("# socket lvl processes\nunix@{} {} all\n", desk.path, desk.highest.as_str()))
}

/// Passwords may come by the environment, so nothing of it is told.
pub fn env(_: Desk<'_>, words: &[String]) -> Reply {
    text(if words.is_empty() { "" } else { "Variable not found\n" })
}

pub fn errors(desk: Desk<'_>, words: &[String]) -> Reply {
    let status = view::status(desk.sources);
    let is_known =
        |word: &String| number(word) != 0 || proxies(&status).iter().any(|proxy| proxy.name == *word);
    if words.first().is_some_and(|word| !is_known(word)) {
        return text("No such proxy.\n");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = figures::utc(now.map_or(0, |since| since.as_millis() as u64));
    text(format!("Total events captured on [{now}] : 0\n"))
}

pub fn pools(_: Desk<'_>, _: &[String]) -> Reply {
    text("Total: 0 pools, 0 bytes allocated, 0 used.\n")
}

pub fn resolvers(_: Desk<'_>, words: &[String]) -> Reply {
    text(if words.is_empty() { "" } else { "Can't find that resolvers section\n" })
}

pub fn table(_: Desk<'_>, words: &[String]) -> Reply {
    text(if words.is_empty() { "" } else { "No such table\n" })
}

pub fn weight(desk: Desk<'_>, words: &[String]) -> Reply {
    match super::order::place(desk.sources, words) {
        Ok(Place { weights: (weight, initial), .. }) => text(format!("{weight} (initial {initial})\n")),
        Err(problem) => text(problem),
    }
}

/// By what a client has come, from its address as it is shown.
fn transport(client: &str) -> &'static str {
    match client {
        "unix" => "unix_stream",
        address if address.starts_with('[') => "tcpv6",
        _ => "tcpv4",
    }
}
