//! The section global: what holds for the whole process.

use super::bind;
use super::notes::Notes;
use super::page::{self, Page};
use super::pool::Global;
use super::sections::{Line, Section};
use super::setting::{Said, Settings, number_at, number_within, time_within, timeout_at};
use crate::config::limits;

/// Reads all sections global, which count as one. The keys of the process, and what pools need of it.
pub fn read(sections: &[Section], page: &mut Page, notes: &Notes) -> (Settings, Global) {
    let lines =
        || sections.iter().filter(|section| section.kind == "global").flat_map(|section| &section.lines);
    let mut global = Global::default();
    for line in lines().filter(|line| line.is("unix-bind")) {
        let find = |name: &str| line.words.iter().position(|word| word == name).map(|at| line.word(at + 1));
        global.unix.prefix = find("prefix").unwrap_or("").to_owned();
        global.unix.mode = find("mode").and_then(|mode| bind::permissions(mode, line, notes));
        for owner in ["user", "group", "uid", "gid"].into_iter().filter(|owner| find(owner).is_some()) {
            notes.lost(line.number, format!("{owner}: a socket belongs to whom pilotfish runs as"));
        }
    }
    let mut process = Settings::default();
    for line in lines().filter(|line| !line.no) {
        one(line, &mut process, &mut global, notes);
        if line.is("stats socket") {
            page::socket(line, &global.unix, page, notes);
        }
    }
    (process, global)
}

fn one(line: &Line, process: &mut Settings, global: &mut Global, notes: &Notes) {
    let at = (line.number, line.said());
    let mut number = |key, bounds| {
        if let Some(number) = number_at(line, 1, notes).filter(|number| *number > 0) {
            let number = number_within(number, bounds, (at.0, &at.1), notes);
            process.set(key, number.to_string(), at.0, at.1.clone());
        }
    };
    match line.word(0) {
        "maxconn" => number("max_sessions", &limits::MAX_SESSIONS),
        "nbthread" => number("workers", &limits::WORKERS),
        "hard-stop-after" => {
            if let Some(ms) = timeout_at(line, 1, notes) {
                let time = time_within(ms, &limits::DRAIN_TIMEOUT, (at.0, &at.1), notes);
                process.set("drain_timeout", time, at.0, at.1);
            }
        }
        "ca-base" => global.ca_base = line.word(1).to_owned(),
        "crt-base" => global.crt_base = line.word(1).to_owned(),
        "ssl-server-verify" => {
            let value = line.word(1) == "none";
            global.verify_none = Some(Said { value, line: at.0, words: at.1 });
        }
        _ => {}
    }
}
