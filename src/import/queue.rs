//! How many sessions a member takes, and how many clients wait how long when all are full.

use super::notes::Notes;
use super::pool::common;
use super::proxies::Proxy;
use super::servers::Server;
use super::setting::{Said, Settings, time_within, timeout_at};
use crate::config::{Limits, limits};

/// The keys of a pool that are about its queue, and what fills it.
pub fn settings(back: &Proxy<'_>, servers: &[Server], own: &mut Settings, notes: &Notes) {
    let limit = common(servers, "max_sessions_per_member", |s| &s.options.maxconn, notes);
    let limit = limit.filter(|limit| limit.value > 0);
    let queued = common(servers, "max_queued", |s| &s.options.maxqueue, notes);
    match (&queued, &limit) {
        (Some(most), _) if most.value > 0 => {
            own.set("max_queued", most.value.to_string(), most.line, most.words.clone());
        }
        // 0 and none at all are HAProxy's words for no limit.
        (Some(Said { line, words, .. }), _) | (None, Some(Said { line, words, .. })) => {
            let default = Limits::default().max_queued;
            notes.taken(
                *line,
                format!("{words}: HAProxy's queue has no limit; max_queued is {default} by default"),
            );
        }
        (None, None) => {}
    }
    // Without a time of its own, HAProxy's queue has that of a dial.
    let stated = back.last("timeout queue").and_then(|line| Some((line, timeout_at(line, 2, notes)?)));
    let dial = || back.last("timeout connect").and_then(|line| Some((line, timeout_at(line, 2, notes)?)));
    if let Some((line, ms)) = stated.or_else(|| limit.as_ref().and_then(|_| dial())) {
        let time = time_within(ms, &limits::QUEUE_TIMEOUT, (line.number, &line.said()), notes);
        own.set("queue_timeout", time, line.number, line.said());
    }
    if let Some(limit) = limit {
        own.set("max_sessions_per_member", limit.value.to_string(), limit.line, limit.words);
    }
}
