//! The way over from HAProxy: its configuration in, pilotfish's out, and what became of each line.
//!
//! The text is cut into words (`words`), the words into sections (`sections`, `condition`), and each proxy is taken with its
//! defaults (`proxies`). What HAProxy would refuse is told from what it knows (`grammar`, `vocabulary`). A frontend with the
//! backend that it leads to is a pool if its health check asks Patroni (`check`, `pool`); pools that ask the same Patroni are
//! a cluster (`clusters`), which `yaml` writes. On the way everybody puts down what became of a line (`notes`); the `table`
//! answers for the lines of which nobody spoke.
//!
//! Pure: text in, text out. Knows nothing of files, of HAProxy at run time, or of a running pilotfish. What is a secret in
//! HAProxy's file is in nothing that comes out, but as a hash.

mod address;
mod bind;
mod check;
mod choices;
mod clusters;
mod condition;
mod grammar;
pub mod keywords;
mod notes;
mod options;
mod page;
mod pool;
mod process;
mod proxies;
mod queue;
mod readers;
mod rules;
mod sections;
mod servers;
mod sessions;
mod setting;
mod table;
mod vocabulary;
mod words;
mod yaml;

use std::collections::BTreeSet;

pub use self::notes::{Class, Note, Slip};

use self::keywords::Place;
use self::notes::Notes;
use self::page::Page;
use self::pool::{Around, Pool};
use self::proxies::Proxy;
use self::sections::{Line, Section, shown};
use self::setting::Settings;

/// HAProxy's file and its surroundings.
#[allow(missing_debug_implementations, reason = "it holds functions")]
pub struct Source<'a> {
    /// For comments only.
    pub name: &'a str,
    pub text: &'a str,
    /// The environment of HAProxy's service.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// A hash of a password as `admin.users` takes it; `None` where none can be made.
    pub hash: &'a dyn Fn(&str) -> Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Import {
    /// The configuration. `None` when no proxy asks Patroni, so that there is nothing to balance.
    pub yaml: Option<String>,
    /// In the order of the file.
    pub notes: Vec<Note>,
}

/// More than any configuration of HAProxy that somebody wrote.
pub const MAX_BYTES: usize = 4 << 20;

impl Import {
    /// Whether anything is lost.
    pub fn is_whole(&self) -> bool {
        self.yaml.is_some() && self.notes.iter().all(|note| note.class != Class::Lost)
    }
}

/// Translates the whole file.
///
/// # Errors
/// All that HAProxy would not accept either, in the order of the file.
pub fn haproxy(source: &Source<'_>) -> Result<Import, Vec<Slip>> {
    let notes = Notes::default();
    let sections = sections::read(source.text, source.env, &notes);
    let mut page = Page::default();
    let (process, global) = process::read(&sections, &mut page, &notes);
    let proxies = proxies::proxies(&sections, &notes);
    let newer = grammar::check(&sections, &proxies, &global.unix, &notes);
    let around = Around { proxies: &proxies, global: &global, notes: &notes };
    let mut reader = Reader {
        around: &around,
        sections: &sections,
        page,
        pools: Vec::new(),
        used: BTreeSet::new(),
        source,
    };
    for front in proxies.iter().filter(|proxy| proxy.section.kind != "backend") {
        reader.front(front);
    }
    reader.unreached();
    let Reader { page, pools, used, .. } = reader;
    let mut tcplog = Settings::default();
    for proxy in proxies.iter().filter(|proxy| used.contains(&proxy.section.number) && !proxy.is_http()) {
        if let Some(line) = proxy.last("option tcplog") {
            tcplog.set("format", "tcplog", line.number, line.said());
        }
    }
    let clusters = clusters::group(pools, &notes);
    let body = (!clusters.is_empty()).then(|| yaml::body(&clusters, &page, &process, &tcplog, &notes));
    if body.is_none() {
        notes.lost(
            0,
            "no proxy asks Patroni which server is the primary or a replica, so there is nothing to write",
        );
    }
    unknown(newer, &sections, &used, &notes);
    unspoken(&sections, &used, &notes);
    let (notes, slips) = notes.into_parts();
    match slips.is_empty() {
        true => Ok(Import { yaml: body.map(|body| yaml::head(source.name, &notes) + &body), notes }),
        false => Err(slips),
    }
}

/// Goes through the proxies that listen.
struct Reader<'a> {
    around: &'a Around<'a>,
    sections: &'a [Section],
    page: Page,
    pools: Vec<Pool>,
    /// Sections of which each line is spoken of, by the line that they begin at.
    used: BTreeSet<usize>,
    source: &'a Source<'a>,
}

impl<'a> Reader<'a> {
    fn front(&mut self, front: &'a Proxy<'a>) {
        let notes = self.around.notes;
        let (number, kind, name) = (front.section.number, front.section.kind, shown(front.name()));
        if front.is_disabled() {
            return notes.taken(number, format!("{kind} {name}: disabled, so it is left out"));
        }
        if page::is_page(front) {
            if self.page.seen {
                return notes
                    .lost(number, format!("{kind} {name}: pilotfish has one page; this one is left out"));
            }
            page::read(front, self.sections, &mut self.page, self.source.hash, notes);
            rules::lose(front.lines(), "the page has no rules but logins", notes);
            return self.spoken(front);
        }
        if front.is_http() {
            return notes.lost(number, format!("{kind} {name}: HTTP, not PostgreSQL; left out"));
        }
        if let Some(way) = rules::fallback(front)
            && let (Some(readers), Some(_)) = (self.backend(way.readers), self.backend(way.primary))
        {
            let before = self.pools.len();
            self.pool(front, readers);
            for pool in &mut self.pools[before..] {
                // The primary stands in, as by default.
                pool.own.0.retain(|setting| setting.key != "fallback");
            }
            return;
        }
        let unconditional = front.all("use_backend").into_iter().find(|line| line.words.len() == 2);
        let choice = unconditional.or_else(|| front.last("default_backend"));
        let goes_to =
            choice.map_or_else(String::new, |line| format!(", and all its clients go to {}", line.word(1)));
        for line in front.all("use_backend").into_iter().filter(|line| line.words.len() > 2) {
            notes.lost(line.number, format!("{}: a listener leads to one pool{goes_to}", line.said()));
        }
        match choice {
            _ if front.has_servers() => self.pool(front, front),
            // Where there is none, that is said already.
            Some(line) => self.backend(line.word(1)).into_iter().for_each(|back| self.pool(front, back)),
            None => notes.lost(number, format!("{kind} {name}: it leads to no backend; left out")),
        }
    }

    fn backend(&self, name: &str) -> Option<&'a Proxy<'a>> {
        self.around.proxies.iter().find(|proxy| proxy.section.kind != "frontend" && proxy.name() == name)
    }

    fn pool(&mut self, front: &'a Proxy<'a>, back: &'a Proxy<'a>) {
        let notes = self.around.notes;
        // A pool that is left out has nothing to say of its lines but why.
        let quiet = Notes::default();
        let tried = pool::read(front, back, &Around { notes: &quiet, ..*self.around });
        let (said, slips) = quiet.into_parts();
        match tried {
            Ok(_) => {
                self.pools.extend(pool::read(front, back, self.around).ok());
                rules::say_acls(front, notes);
                if !std::ptr::eq(front.section, back.section) {
                    rules::lose(
                        back.section.lines.iter(),
                        "rules are those of a listener, not of a backend",
                        notes,
                    );
                }
                self.spoken(front);
                self.spoken(back);
            }
            Err((line, why)) => {
                slips.into_iter().for_each(|slip| notes.slip(slip.line, slip.message));
                // Why a server or an address is left out may be the reason for the whole.
                let counts = |line: usize| {
                    let mut lines = back.section.lines.iter().chain(&front.section.lines);
                    lines.any(|it| it.number == line && (it.word(0).starts_with("server") || it.is("bind")))
                };
                for note in said.into_iter().filter(|note| note.class == Class::Lost && counts(note.line)) {
                    notes.lost(note.line, note.text);
                }
                let (kind, name) = (front.section.kind, shown(front.name()));
                notes.lost(line, format!("{kind} {name}: {why}; left out"));
            }
        }
    }

    fn spoken(&mut self, proxy: &Proxy<'_>) {
        self.used.insert(proxy.section.number);
        self.used.extend(proxy.defaults.iter().map(|section| section.number));
    }

    /// Backends that no frontend leads to. Those of frontends that were left out went with them.
    fn unreached(&self) {
        for proxy in self.around.proxies.iter().filter(|proxy| proxy.section.kind == "backend") {
            let names = |line: &Line| {
                matches!(line.word(0), "default_backend" | "use_backend") && line.word(1) == proxy.name()
            };
            let tracked =
                |line: &Line| line.words.iter().any(|word| word.starts_with(&format!("{}/", proxy.name())));
            let all = || self.sections.iter().flat_map(|section| &section.lines);
            if !all().any(names) {
                let (number, name) = (proxy.section.number, shown(proxy.name()));
                match all().any(tracked) {
                    true => self
                        .around
                        .notes
                        .taken(number, format!("backend {name}: its checks, which others follow")),
                    false => self
                        .around
                        .notes
                        .not_needed(number, format!("backend {name}: no frontend leads to it")),
                }
            }
        }
    }
}

/// Says what becomes of words that HAProxy may have since: they are lost where their section is taken over, and mean nothing
/// where it is not.
fn unknown(newer: Vec<(usize, String)>, sections: &[Section], used: &BTreeSet<usize>, notes: &Notes) {
    let is_taken = |section: &&Section| section.kind == "global" || used.contains(&section.number);
    for (line, what) in newer {
        let section = sections.iter().rfind(|section| section.number <= line);
        match section.filter(is_taken) {
            Some(_) => notes.lost(line, what),
            None => notes.not_needed(line, what),
        }
    }
}

/// Says what the table knows of lines that nobody has spoken of.
fn unspoken(sections: &[Section], used: &BTreeSet<usize>, notes: &Notes) {
    for section in sections {
        let place = match section.kind {
            "global" => Place::Global,
            "defaults" | "listen" | "frontend" | "backend" if used.contains(&section.number) => Place::Proxy,
            "defaults" | "listen" | "frontend" | "backend" | "userlist" => continue,
            kind => {
                let row = keywords::find(Place::Section, kind);
                let (class, what) = row.map_or((Class::Lost, "not known here"), |row| (row.class, row.what));
                let said = shown(format!("{kind} {}", section.name).trim_end());
                notes.add(section.number, class, format!("{said}: {what}"));
                continue;
            }
        };
        for line in section.lines.iter().filter(|line| !notes.mention(line.number)) {
            speak(line, place, notes);
        }
    }
}

fn speak(line: &Line, place: Place, notes: &Notes) {
    let said = line.said();
    let row = keywords::find(place, &line.words.join(" "));
    match row {
        None => notes.lost(line.number, format!("{said}: not known here")),
        Some(_) if line.no => notes.taken(line.number, format!("{said}: taken back, as in HAProxy")),
        Some(_) if line.is("log") && !logs_here(line) => notes.lost(
            line.number,
            format!("{said}: the log goes to standard error; have the service manager send it on"),
        ),
        Some(row) => notes.add(line.number, row.class, format!("{said}: {}", row.what)),
    }
}

/// Whether a line `log` means this machine.
fn logs_here(line: &Line) -> bool {
    let to = line.word(1);
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host);
    let local = ["global", "stdout", "stderr", "127.0.0.1", "localhost", "::1", "[::1]"];
    local.contains(&host) || ["/", "fd@", "ring@", "unix@", "null"].iter().any(|begin| to.starts_with(begin))
}
