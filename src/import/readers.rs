//! What holds for a pool of replicas alone.

use super::check::{Check, Role};
use super::notes::Notes;
use super::pool::common;
use super::proxies::Proxy;
use super::sections::shown;
use super::servers::Server;
use super::setting::{Settings, is_set, time_within};
use crate::config::limits;
use crate::config::quoted;

/// The keys of a pool of replicas.
pub fn settings(back: &Proxy<'_>, servers: &[Server], check: &Check, own: &mut Settings, notes: &Notes) {
    let Role::Readers { include_primary, sync } = check.role else { return };
    if include_primary {
        own.set("include_primary", "true", check.line, check.said.clone());
    } else {
        // HAProxy sends nobody to the primary here.
        own.set("fallback", "none", check.line, check.said.clone());
    }
    if let Some(lag) = &check.lag {
        own.set("max_lag", lag.clone(), check.line, check.said.clone());
    }
    let tags: Vec<String> =
        check.tags.iter().map(|(tag, value)| format!("{}: {}", plain(tag), plain(value))).collect();
    let sync = sync.map(|sync| format!("sync: {sync}"));
    let tags = (!tags.is_empty()).then(|| format!("tags: {{{}}}", tags.join(", ")));
    let require: Vec<String> = sync.into_iter().chain(tags).collect();
    if !require.is_empty() {
        own.set("require", format!("{{{}}}", require.join(", ")), check.line, check.said.clone());
    }
    balance(back, own, notes);
    weights(servers, own, notes);
    if let Some(slow) = common(servers, "slowstart", |s| &s.options.slowstart, notes)
        && is_set(slow.value, (slow.line, &slow.words), notes).is_some()
    {
        let time = time_within(slow.value, &limits::SLOW_START, (slow.line, &slow.words), notes);
        own.set("slow_start", time, slow.line, slow.words);
    }
    if let Some(cut) = common(servers, "on-marked-down", |s| &s.options.shutdown_sessions, notes) {
        let lagging = if check.lag.is_some() { ", lagging: cut" } else { "" };
        let fates = format!("{{promoted: cut{lagging}, noloadbalance: cut}}");
        own.set("open_sessions", fates, cut.line, cut.words);
    }
    for server in servers.iter().filter(|server| server.options.backup.is_some()) {
        let name = shown(&server.name);
        notes.lost(
            server.line,
            format!("backup: {name} takes its share; give members a tag and write `zone` to prefer some"),
        );
    }
}

fn balance(back: &Proxy<'_>, own: &mut Settings, notes: &Notes) {
    let Some(line) = back.last("balance") else { return };
    let (algorithm, lost) = match line.word(1) {
        "leastconn" => {
            return notes.taken(line.number, "balance leastconn: least_connections, as by default");
        }
        "roundrobin" | "static-rr" => ("round_robin", false),
        "first" => ("first", false),
        "source" => ("source", false),
        word if word == "random" || word.starts_with("random(") => ("random2", false),
        "hash" if line.word(2) == "src" => ("source", false),
        _ => ("", true),
    };
    match lost {
        true => {
            notes.lost(line.number, format!("{}: the reader with the fewest sessions is taken", line.said()))
        }
        false => own.set("balance", algorithm, line.number, line.said()),
    }
}

/// Weights, where any differ: HAProxy's is 1 for a server without one.
fn weights(servers: &[Server], own: &mut Settings, notes: &Notes) {
    let weight = |server: &Server| server.options.weight.as_ref().map_or(1, |weight| weight.value);
    let Some(first) = servers.first().map(weight) else { return };
    let Some(stated) = servers.iter().find_map(|server| server.options.weight.as_ref()) else { return };
    if servers.iter().all(|server| weight(server) == first) && first > 0 {
        return notes.taken(stated.line, format!("{}: the same for all, as by default", stated.words));
    }
    let templates: Vec<&Server> = servers.iter().filter(|server| server.template).collect();
    if let Some(template) = templates.first() {
        return notes.lost(
            template.line,
            "weight of a server-template: its names are not those of Patroni's members",
        );
    }
    let map: Vec<String> =
        servers.iter().map(|server| format!("{}: {}", plain(&server.name), weight(server))).collect();
    notes.taken(
        stated.line,
        format!(
            "{}: weights, by the names of Patroni's members; see that these are the servers' names: a member that is \
             not named has the weight 100, where HAProxy's would have 1",
            stated.words
        ),
    );
    own.set("weights", format!("{{{}}}", map.join(", ")), stated.line, shown("weight"));
}

/// A key or value of a flow map: as it is where YAML reads it as text, else in quotes.
pub fn plain(text: &str) -> String {
    let simple = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let special = ["null", "y", "n", "yes", "no", "on", "off"];
    let boolean = ["true", "false"].contains(&text);
    match simple && (boolean || !special.contains(&text.to_ascii_lowercase().as_str())) {
        true => text.to_owned(),
        false => quoted(text),
    }
}
