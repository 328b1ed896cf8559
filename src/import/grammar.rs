//! What HAProxy would refuse, line by line, whatever becomes of the section that a line stands in.
//!
//! A pool, a page or a proxy that is left out is read only as far as it is understood. Here all lines are gone through, so
//! that each wrong one is named in one go, as by `haproxy -c`.

use super::bind::{self, UnixBind};
use super::notes::Notes;
use super::proxies::Proxy;
use super::sections::{Line, Section, shown};
use super::servers;
use super::setting::time_at;
use super::vocabulary::{self, Unknown};

/// Notes each wrong line of all sections as a slip. Returned are the words that HAProxy may have since, each with its line
/// and what to say of it.
pub fn check(
    sections: &[Section],
    proxies: &[Proxy<'_>],
    unix: &UnixBind,
    notes: &Notes,
) -> Vec<(usize, String)> {
    // Only what is wrong counts here: what becomes of a line says who takes it over.
    let scratch = Notes::default();
    for section in sections {
        let root = match section.kind {
            "defaults" | "listen" | "frontend" | "backend" => "proxy",
            kind => kind,
        };
        for line in &section.lines {
            words(root, line, &scratch);
            match (root, line.word(0)) {
                ("proxy", "timeout") if line.words.len() > 1 => {
                    let _ = time_at(line, 2, &scratch);
                }
                ("userlist", "user") if !["password", "insecure-password"].contains(&line.word(2)) => {
                    scratch.slip(line.number, "user needs a name, and password or insecure-password");
                }
                _ => {}
            }
        }
    }
    for proxy in proxies {
        bind::read(proxy, unix, false, &scratch);
        servers::read(proxy, &scratch);
        backends(proxy, proxies, &scratch);
    }
    let newer = scratch.newer();
    let (_, slips) = scratch.into_parts();
    slips.into_iter().for_each(|slip| notes.slip(slip.line, slip.message));
    newer
}

fn words(root: &str, line: &Line, notes: &Notes) {
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    let Some(unknown) = vocabulary::unknown(root, &words) else { return };
    let unknown = match unknown {
        Unknown::Slip(_) if line.is_secret() => {
            Unknown::Slip(format!("{}: HAProxy does not know one of its words", line.said()))
        }
        Unknown::Newer(_) if line.is_secret() => {
            Unknown::Newer(format!("{}: one of its words is not known here", line.said()))
        }
        unknown => unknown,
    };
    notes.unknown(line.number, unknown);
}

/// Backends that a proxy leads to, as far as their names are known before a request comes.
fn backends(proxy: &Proxy<'_>, proxies: &[Proxy<'_>], notes: &Notes) {
    if proxy.section.kind == "backend" || proxy.is_disabled() {
        return;
    }
    let choices = proxy.all("use_backend").into_iter().chain(proxy.last("default_backend"));
    for line in choices.filter(|line| line.words.len() > 1 && !line.word(1).contains("%[")) {
        let name = line.word(1);
        let found = proxies.iter().any(|other| other.section.kind != "frontend" && other.name() == name);
        if !found {
            notes.slip(line.number, format!("there is no backend {:?} in this file", shown(name)));
        }
    }
}
