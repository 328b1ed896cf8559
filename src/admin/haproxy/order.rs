//! Commands that change something, and how that is done: by the same ways as over the page, and with as much in the log.
//!
//! HAProxy keeps a state for each server of each backend. Here the state is the member's: a node that is taken out for
//! maintenance is taken out of all pools. So that a loop over the readers does not stop the writes, the writer's state
//! cannot be taken from a pool that it does not serve.

use super::super::actions;
use super::super::caller::{Caller, Peer, Role};
use super::super::refusal::Refusal;
use super::super::view::{self, MemberView};
use super::super::{PoolKey, Sources};
use super::command::{Desk, Reply};
use super::rows::proxies;
use super::show::session_id;
use crate::control::Unanswered;
use crate::routing::ClusterId;
use crate::routing::weights::MAX_WEIGHT;
use crate::stats::MOST_SESSIONS;
use crate::topology::Operator;

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    State {
        place: Place,
        wish: Operator,
    },
    CloseOn {
        place: Place,
    },
    Close {
        session: u64,
    },
    Clear {
        all: bool,
    },
    Weigh {
        place: Place,
        weight: u16,
    },
    /// Of a member in a pool, or of a pool.
    Limit {
        pool: PoolKey,
        member: Option<String>,
        limit: Option<usize>,
    },
}

/// A server of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub proxy: String,
    pub cluster: ClusterId,
    pub pool: String,
    pub member: String,
    /// The member's weight, and what that is without an operator.
    pub weights: (u16, u16),
    /// The cluster's writer, asked for by a pool that does not use it.
    writer_elsewhere: bool,
    /// The cluster's writer, by a pool for writers.
    takes_writes: bool,
}

fn text(text: impl Into<String>) -> Reply {
    Reply::Text(text.into())
}

/// What `BACKEND/SERVER` in front of these words names.
///
/// # Errors
/// HAProxy's words for what there is none of.
pub fn place(sources: &Sources, words: &[String]) -> Result<Place, String> {
    let named = words.first().and_then(|word| word.split_once('/'));
    let Some((backend, server)) = named else { return Err("Require 'backend/server'.\n".to_owned()) };
    let status = view::status(sources);
    let proxies = proxies(&status);
    let Some(proxy) = proxies.iter().find(|proxy| proxy.name == backend) else {
        return Err("No such backend.\n".to_owned());
    };
    let is_it = |member: &&MemberView| member.name == server;
    let Some(member) = proxy.cluster.members.iter().find(is_it) else {
        return Err("No such server.\n".to_owned());
    };
    let is_writer = proxy.cluster.writer.as_ref() == Some(&member.name);
    Ok(Place {
        proxy: proxy.name.clone(),
        cluster: proxy.cluster.id,
        pool: proxy.pool.name.clone(),
        member: member.name.clone(),
        weights: proxy.weights(&member.name),
        writer_elsewhere: is_writer && !proxy.pool.routable.contains(&member.name),
        takes_writes: is_writer && proxy.pool.kind == "primary",
    })
}

fn state(desk: Desk<'_>, words: &[String], wish: Operator) -> Reply {
    match place(desk.sources, words) {
        Err(problem) => text(problem),
        Ok(place) if place.writer_elsewhere && wish != Operator::Ready => text(format!(
            "{} is the writer and does not serve {}; a state counts for all pools of a member, so new writers would \
             wait. Name it by its primary pool if that is meant.\n",
            place.member, place.proxy
        )),
        Ok(place) => Reply::Order(Order::State { place, wish }),
    }
}

pub fn enable_server(desk: Desk<'_>, words: &[String]) -> Reply {
    state(desk, words, Operator::Ready)
}

pub fn disable_server(desk: Desk<'_>, words: &[String]) -> Reply {
    state(desk, words, Operator::Maint)
}

pub fn set_server(desk: Desk<'_>, words: &[String]) -> Reply {
    if let Err(problem) = place(desk.sources, words) {
        return text(problem);
    }
    match words.get(1).map(String::as_str) {
        Some("state") => {
            let wished = words.get(2).map(String::as_str).unwrap_or_default();
            match Operator::ALL.into_iter().find(|wish| wish.as_str() == wished) {
                Some(wish) => state(desk, words, wish),
                None => text("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n"),
            }
        }
        Some("weight") => set_weight(desk, &[words[0].clone(), words.get(2).cloned().unwrap_or_default()]),
        Some("addr" | "fqdn" | "check-addr" | "check-port" | "ssl") => {
            text("Addresses come from Patroni, and cannot be changed here.\n")
        }
        Some("health") => text("A member's health comes from its checks, and cannot be changed here.\n"),
        Some("agent" | "agent-addr" | "agent-port" | "agent-send") => {
            text("agent checks are not enabled on this server.\n")
        }
        _ => text("usage: set server <backend>/<server> state | weight\n"),
    }
}

/// There is none to be disabled.
pub fn disable_agent(desk: Desk<'_>, words: &[String]) -> Reply {
    text(place(desk.sources, words).err().unwrap_or_default())
}

pub fn no_agent(desk: Desk<'_>, words: &[String]) -> Reply {
    if let Err(problem) = place(desk.sources, words) {
        return text(problem);
    }
    text("Agent was not configured on this server, cannot enable.\n")
}

pub fn no_health(_: Desk<'_>, _: &[String]) -> Reply {
    text("Checks cannot be switched off; to take a member out use 'set server <srv> state maint'.\n")
}

/// They are on.
pub fn enable_health(desk: Desk<'_>, words: &[String]) -> Reply {
    text(place(desk.sources, words).err().unwrap_or_default())
}

pub fn set_weight(desk: Desk<'_>, words: &[String]) -> Reply {
    match (place(desk.sources, words), words.get(1)) {
        (Err(problem), _) => text(problem),
        (Ok(_), None) => text("Require <weight> or <weight%>.\n"),
        (Ok(place), Some(word)) => match weight(word, place.weights.1) {
            Ok(weight) => Reply::Order(Order::Weigh { place, weight }),
            Err(problem) => text(problem),
        },
    }
}

/// A weight, or a percentage of the member's initial one; of that more than the most is the most.
fn weight(word: &str, initial: u16) -> Result<u16, String> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    if end == 0 {
        return Err("Empty weight string empty or preceded by garbage\n".to_owned());
    }
    // Longer ones are too much of anything.
    let number = word[..end].parse::<u16>().unwrap_or(u16::MAX);
    match &word[end..] {
        "%" => Ok((u32::from(initial) * u32::from(number) / 100).min(MAX_WEIGHT.into()) as u16),
        "" if number <= MAX_WEIGHT => Ok(number),
        "" => Err("Absolute weight can only be between 0 and 256 inclusive.\n".to_owned()),
        _ => Err("Trailing garbage in weight string\n".to_owned()),
    }
}

/// A limit as HAProxy takes it: 0 is none.
fn limit(word: Option<&String>, missing: &str) -> Result<Option<usize>, String> {
    let Some(word) = word else { return Err(format!("{missing}\n")) };
    let number =
        word.parse::<usize>().map_err(|_| "maxconn string empty or preceded by garbage\n".to_owned());
    match number? {
        0 => Ok(None),
        limit if limit > MOST_SESSIONS => {
            Err(format!("maxconn is {MOST_SESSIONS} at most, or 0 for none.\n"))
        }
        limit => Ok(Some(limit)),
    }
}

pub fn maxconn_server(desk: Desk<'_>, words: &[String]) -> Reply {
    let limited = place(desk.sources, words).and_then(|place| {
        let limit = limit(words.get(1), "Require <maxconn>.")?;
        Ok(Order::Limit { pool: (place.cluster, place.pool.into()), member: Some(place.member), limit })
    });
    limited.map_or_else(text, Reply::Order)
}

pub fn maxconn_frontend(desk: Desk<'_>, words: &[String]) -> Reply {
    let status = view::status(desk.sources);
    let named = words.first().and_then(|name| proxies(&status).into_iter().find(|proxy| proxy.name == *name));
    let Some(proxy) = named else { return text("No such frontend.\n") };
    let limited = limit(words.get(1), "Integer value expected.");
    limited.map_or_else(text, |limit| {
        Reply::Order(Order::Limit { pool: proxy.key.clone(), member: None, limit })
    })
}

pub fn maxconn_global(_: Desk<'_>, _: &[String]) -> Reply {
    text("The limit of the process comes from the configuration; set max_sessions and reload.\n")
}

pub fn shutdown_sessions(desk: Desk<'_>, words: &[String]) -> Reply {
    place(desk.sources, words).map_or_else(text, |place| Reply::Order(Order::CloseOn { place }))
}

pub fn shutdown_session(_: Desk<'_>, words: &[String]) -> Reply {
    match words.first() {
        None => text("Session pointer expected (use 'show sess').\n"),
        Some(word) => match session_id(word) {
            Some(session) => Reply::Order(Order::Close { session }),
            None => text("No such session (use 'show sess').\n"),
        },
    }
}

/// HAProxy lets operators forget maxima, and admins everything.
pub fn clear_counters(desk: Desk<'_>, words: &[String]) -> Reply {
    let all = words.first().is_some_and(|word| word == "all");
    if all && desk.level < super::command::Level::Admin {
        return text("Permission denied\n");
    }
    Reply::Order(Order::Clear { all })
}

pub fn set_timeout(_: Desk<'_>, words: &[String]) -> Reply {
    let delay = words.get(1).and_then(|word| seconds(word));
    match (words.first().map(String::as_str), delay) {
        (Some("cli"), Some(seconds)) => Reply::Patience(seconds),
        (Some("cli"), None) if words.len() < 2 => text("Expects an integer value.\n"),
        (Some("cli"), None) => text("Invalid timeout value.\n"),
        _ => text("'set timeout' only supports 'cli'.\n"),
    }
}

/// A delay in HAProxy's units; without one it is in seconds. At least a second.
fn seconds(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let ms = match &word[digits.len()..] {
        "ms" => number,
        "" | "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    Some((ms / 1000).max(1))
}

/// Carries it out, and says what there is to say.
pub async fn carry_out(sources: &Sources, uid: u32, order: Order) -> String {
    let said = act(sources, uid, order).await;
    sources.live.drawings.forget();
    said
}

async fn act(sources: &Sources, uid: u32, order: Order) -> String {
    let caller = Caller {
        user: Some(format!("haproxy socket, uid {uid}")),
        role: Role::Operator,
        peer: Peer::Socket { uid },
    };
    let is_lost = matches!(order, Order::Weigh { .. } | Order::Limit { .. });
    let _change = match is_lost.then(|| sources.upgrade.change()).transpose() {
        Ok(change) => change,
        Err(refusal) => return refusal.error + "\n",
    };
    match order {
        Order::State { place, wish } => {
            match actions::operate_member(sources, place.cluster, &place.member, wish, &caller).await {
                Ok((_, note)) => note.map(|note| note + "\n").unwrap_or_default(),
                Err(refusal) => refusal.error + "\n",
            }
        }
        Order::CloseOn { place } => {
            actions::close_on(sources, place.cluster, Some(&place.pool), &place.member, &caller);
            String::new()
        }
        Order::Close { session } => match actions::close_one(sources, session, &caller) {
            true => String::new(),
            false => "No such session (use 'show sess').\n".to_owned(),
        },
        Order::Weigh { place, weight } => weigh(sources, place, weight, &caller).await,
        Order::Limit { pool, member, limit } => set_limit(sources, &pool, member.as_deref(), limit, &caller),
        Order::Clear { all } => {
            tracing::info!(user = caller.name(), all, "the figures of HAProxy's views were set to zero");
            super::clear(sources, all);
            String::new()
        }
    }
}

async fn weigh(sources: &Sources, place: Place, weight: u16, caller: &Caller) -> String {
    let Place { cluster, pool, member, proxy, takes_writes, .. } = place;
    let note = match weight {
        0 if takes_writes => note_on_weightless_writer(&proxy, &member),
        _ => String::new(),
    };
    let user = caller.name();
    match sources.inbox.weigh(cluster, Some(pool), member.clone(), Some(weight)).await {
        Ok(false) => "No such server.\n".to_owned(),
        Ok(true) => {
            tracing::info!(user, proxy, member, weight, "an operator set the weight of a member");
            note
        }
        Err(Unanswered) => {
            tracing::error!(
                user,
                proxy,
                member,
                weight,
                "an operator set the weight of a member, and control had a fault: whether it was done is not known"
            );
            Refusal::fault().error + "\n"
        }
    }
}

fn set_limit(
    sources: &Sources,
    key: &PoolKey,
    member: Option<&str>,
    limit: Option<usize>,
    caller: &Caller,
) -> String {
    let served = sources.served.load();
    let Some(source) = served.pools.iter().find(|source| source.key() == *key) else {
        return "No such proxy.\n".to_owned();
    };
    let pool = &source.pool;
    match member {
        Some(member) => pool.stats.limit_members(Some(member), limit),
        None => pool.stats.limits.sessions.set(limit),
    }
    let name = &*pool.options.name;
    tracing::info!(user = caller.name(), pool = name, member, limit, "an operator set a limit of sessions");
    String::new()
}

/// As of a writer that is drained: see `actions`.
fn note_on_weightless_writer(proxy: &str, member: &str) -> String {
    format!(
        "{member} is the writer: new writers of {proxy} wait until it has a weight again or another node leads, and its \
         open writer sessions go on; to move the leader use patronictl switchover\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{seconds, weight};

    #[test]
    fn a_weight_is_a_number_or_a_part_of_the_initial_one() {
        for (word, initial, expected) in [
            ("0", 100, Some(0)),
            ("256", 100, Some(256)),
            ("50%", 100, Some(50)),
            ("257", 100, None),
            ("101%", 100, Some(101)),
            ("999%", 100, Some(256)),
            ("100%", 200, Some(200)),
            ("50%", 200, Some(100)),
            ("65535%", 256, Some(256)),
            ("50%", 1, Some(0)),
            ("100%", 0, Some(0)),
        ] {
            assert_eq!(weight(word, initial).ok(), expected, "{word} of {initial}");
        }
        for word in ["5x", "5%x", "99999999999", "", "%", "x", "-1"] {
            assert!(weight(word, 100).is_err_and(|problem| problem.ends_with('\n')), "{word}");
        }
    }

    #[test]
    fn a_delay_is_in_seconds_or_in_its_own_unit() {
        for (word, expected) in [
            ("5", Some(5)),
            ("100ms", Some(1)),
            ("2m", Some(120)),
            ("1h", Some(3600)),
            ("x", None),
            ("1w", None),
        ] {
            assert_eq!(seconds(word), expected, "{word}");
        }
    }
}
