//! What holds for the sessions of a pool: timeouts and keepalive.

use super::bind::Binds;
use super::notes::Notes;
use super::pool::common;
use super::proxies::Proxy;
use super::sections::Line;
use super::servers::Server;
use super::setting::{Said, Settings, is_set, number_at, number_within, time_at, time_within, timeout_at};
use crate::config::limits;

/// The keys of a cluster that are about its sessions.
pub fn settings(
    front: &Proxy<'_>,
    back: &Proxy<'_>,
    servers: &[Server],
    binds: &Binds,
    notes: &Notes,
) -> Settings {
    let mut sessions = Settings::default();
    for (keyword, key, proxy) in [
        ("timeout connect", "connect_timeout", back),
        ("timeout client", "client_timeout", front),
        ("timeout server", "server_timeout", back),
        ("timeout tunnel", "tunnel_timeout", back),
    ] {
        // Not `timeout client-fin`: `is` compares whole words.
        let Some(line) = proxy.last(keyword) else { continue };
        let Some(ms) = timeout_at(line, 2, notes) else { continue };
        let bounds = match key {
            "connect_timeout" => &limits::CONNECT_TIMEOUT,
            _ => &limits::IDLE_TIMEOUT,
        };
        let value = time_within(ms, bounds, (line.number, &line.said()), notes);
        if key == "connect_timeout" && value == "1s" {
            notes.taken(line.number, format!("{}: that is so by default", line.said()));
            continue;
        }
        sessions.set(key, value, line.number, line.said());
    }
    keepalive(front, back, &mut sessions, notes);
    let of_servers = common(servers, "tcp-ut", |server| &server.options.user_timeout, notes);
    if let (Some(front), Some(back)) = (&binds.user_timeout, &of_servers)
        && front.value != back.value
    {
        notes.lost(back.line, format!("{}: both sides get {}", back.words, front.words));
    }
    if let Some(Said { value, line, words }) = binds.user_timeout.clone().or(of_servers)
        && let Some(value) = is_set(value, (line, &words), notes)
    {
        let time = time_within(value, &limits::USER_TIMEOUT, (line, &words), notes);
        sessions.set("tcp_user_timeout", time, line, words);
    }
    sessions
}

/// The three times of TCP's keepalive. pilotfish has one set for both sides.
fn keepalive(front: &Proxy<'_>, back: &Proxy<'_>, sessions: &mut Settings, notes: &Notes) {
    let mut parts: Vec<(&str, String, &Line)> = Vec::new();
    for (key, suffix) in [("idle", "idle"), ("interval", "intvl"), ("count", "cnt")] {
        let read = |line: &Line| {
            let at = (line.number, line.said());
            match key {
                "count" => number_at(line, 1, notes).map(|count| {
                    number_within(count, &limits::KEEPALIVE_COUNT, (at.0, &at.1), notes).to_string()
                }),
                _ => seconds_at(line, notes)
                    .and_then(|ms| is_set(ms, (at.0, &at.1), notes))
                    .map(|ms| time_within(ms, &limits::KEEPALIVE, (at.0, &at.1), notes)),
            }
        };
        let client = front.last(&format!("clitcpka-{suffix}")).and_then(|line| Some((read(line)?, line)));
        let server = back.last(&format!("srvtcpka-{suffix}")).and_then(|line| Some((read(line)?, line)));
        if let (Some(client), Some(server)) = (&client, &server)
            && client.0 != server.0
        {
            let said = server.1.said();
            notes.lost(server.1.number, format!("{said}: both sides get {}", client.1.said()));
        }
        parts.extend(client.or(server).map(|(value, line)| (key, value, line)));
    }
    let Some((_, _, first)) = parts.first() else { return };
    let map: Vec<String> = parts.iter().map(|(key, value, _)| format!("{key}: {value}")).collect();
    let said: Vec<String> = parts.iter().map(|(_, _, line)| line.said()).collect();
    sessions.set("tcp_keepalive", format!("{{{}}}", map.join(", ")), first.number, said.join(", "));
}

/// A time in milliseconds that is in seconds where it has no unit, as HAProxy has it for keepalive alone. TCP counts whole
/// ones.
fn seconds_at(line: &Line, notes: &Notes) -> Option<u64> {
    let ms = match line.word(1).parse::<u64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1000)),
        Err(_) => time_at(line, 1, notes),
    };
    ms.map(|ms| ms.div_ceil(1000).saturating_mul(1000))
}
