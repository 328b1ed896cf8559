//! The file as HAProxy sees it: sections of lines of words, after variables and `.if` blocks.

use std::cell::RefCell;
use std::collections::HashMap;

use super::condition;
use super::notes::Notes;
use super::words;

/// One line that says something.
#[derive(Debug)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// At least one. Without `no` or `default` before them.
    pub words: Vec<String>,
    /// `no` or `default` stood before it: what came earlier is taken back.
    pub no: bool,
}

/// What stands between two section keywords.
#[derive(Debug)]
pub struct Section {
    pub kind: &'static str,
    /// Empty where there is none.
    pub name: String,
    /// `from NAME`: the defaults that it takes.
    pub from: Option<String>,
    pub number: usize,
    pub lines: Vec<Line>,
}

/// The keywords that begin a section, up to HAProxy 3.3.
const KINDS: [&str; 21] = [
    "global",
    "defaults",
    "listen",
    "frontend",
    "backend",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "program",
    "cache",
    "ring",
    "http-errors",
    "fcgi-app",
    "log-forward",
    "crt-store",
    "traces",
    "log-profile",
    "acme",
    "healthcheck",
    "haterm",
];

impl Line {
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// Whether it begins with these words.
    pub fn is(&self, keyword: &str) -> bool {
        let mut words = self.words.iter();
        keyword.split(' ').all(|word| words.next().is_some_and(|found| found == word))
    }

    /// Whether it shows a login to Patroni, also within a request that is one word.
    pub fn is_secret(&self) -> bool {
        self.words.iter().any(|word| word.to_ascii_lowercase().contains("authorization"))
    }

    /// How it is spoken of: shortened, harmless on a terminal, and without what may be secret.
    pub fn said(&self) -> String {
        let no = if self.no { "no " } else { "" };
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let secret = |shown: usize| [&words[..shown.min(words.len())], &["…"]].concat();
        let words = match words[..] {
            ["stats", "auth", who, ..] => vec!["stats", "auth", who.split(':').next().unwrap_or("")],
            ["user", ..] | ["setenv" | "presetenv", ..] => secret(2),
            ["cluster-secret" | "cookie", ..] => secret(1),
            _ if self.is_secret() => secret(2),
            _ => words,
        };
        shown(&format!("{no}{}", words.join(" ")))
    }
}

/// Longer lines are cut where they are spoken of.
const MAX_SHOWN: usize = 72;

/// Text from the file for a comment or a terminal.
pub fn shown(text: &str) -> String {
    let harmless =
        |c: char| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(harmless).collect();
    if text.chars().count() > MAX_SHOWN {
        shown.push('…');
    }
    shown
}

/// Whether HAProxy takes it for the name of a proxy or server.
pub fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the whole text. What HAProxy would not accept is noted as a slip.
pub fn read(text: &str, env: Environment<'_>, notes: &Notes) -> Vec<Section> {
    let mut reader =
        Reader { env, notes, own: RefCell::default(), blocks: Vec::new(), sections: Vec::new(), line: 0 };
    for (i, line) in text.lines().enumerate() {
        reader.line = i + 1;
        reader.read(line);
    }
    if let Some(block) = reader.blocks.last() {
        notes.slip(block.line, "this .if has no .endif");
    }
    if reader.sections.is_empty() {
        notes.slip(
            0,
            "there is no section such as global, defaults or listen; is this HAProxy's configuration?",
        );
    }
    reader.sections
}

/// An open `.if`.
struct Block {
    line: usize,
    /// Lines are read now.
    active: bool,
    /// One of its branches has been read.
    done: bool,
    /// `.else` has come.
    last: bool,
}

struct Reader<'a> {
    env: Environment<'a>,
    notes: &'a Notes,
    /// What setenv and its like have set, or taken away.
    own: RefCell<HashMap<String, Option<String>>>,
    blocks: Vec<Block>,
    sections: Vec<Section>,
    line: usize,
}

impl Reader<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        match name {
            ".LINE" => return Some(self.line.to_string()),
            ".SECTION" => {
                let section = self.sections.last()?;
                let name = if section.name.is_empty() { section.kind } else { &section.name };
                return Some(name.to_owned());
            }
            _ => {}
        }
        self.own.borrow().get(name).cloned().unwrap_or_else(|| (self.env)(name))
    }

    fn read(&mut self, text: &str) {
        let env = |name: &str| self.variable(name);
        let cut = match words::cut(text, &env).and_then(|cut| words::with_address(cut, &env)) {
            Ok(cut) => cut,
            // HAProxy cuts lines of a block that does not count too.
            Err(why) => return self.notes.slip(self.line, why),
        };
        let mut words = cut.words;
        if self.is_active() {
            cut.unset.iter().for_each(|name| self.notes.unset(self.line, &shown(name)));
        }
        if words.first().is_some_and(|word| word.starts_with('.')) {
            return self.directive(&words);
        }
        if words.is_empty() || !self.is_active() {
            return;
        }
        for name in cut.filled {
            self.notes.taken(self.line, format!("the variable {} as it is now", shown(&name)));
        }
        if let Some(kind) = KINDS.iter().find(|kind| **kind == words[0]) {
            return self.open(kind, &words);
        }
        let no = matches!(words[0].as_str(), "no" | "default") && words.len() > 1;
        if no {
            words.remove(0);
        }
        let Some(section) = self.sections.last_mut() else {
            let word = shown(&words[0]);
            return self
                .notes
                .slip(self.line, format!("{word:?} stands before any section such as global or listen"));
        };
        let is_global = section.kind == "global";
        section.lines.push(Line { number: self.line, words, no });
        if is_global {
            self.set();
        }
    }

    fn open(&mut self, kind: &'static str, words: &[String]) {
        let (name, from) = match words {
            [_] => ("", None),
            [_, from, other] if from == "from" && kind == "defaults" => ("", Some(other.clone())),
            [_, name] => (name.as_str(), None),
            [_, name, from, other] if from == "from" => (name.as_str(), Some(other.clone())),
            // Others (`listen NAME :PORT` until 2.0, `ring NAME …`) are said where the section is read.
            [_, name, ..] => (name.as_str(), None),
            [] => return,
        };
        let needs_name = ["listen", "frontend", "backend"].contains(&kind);
        if needs_name && name.is_empty() {
            self.notes.slip(self.line, format!("{kind} needs a name"));
        }
        if needs_name && !is_name(name) {
            self.notes.slip(
                self.line,
                format!("{:?} is not a name; HAProxy takes letters, digits and - _ . :", shown(name)),
            );
        }
        if needs_name && words.len() == 3 {
            self.notes.slip(
                self.line,
                format!("{kind} takes a name alone since HAProxy 2.1; write the address in a line `bind`"),
            );
        }
        self.sections.push(Section {
            kind,
            name: name.to_owned(),
            from,
            number: self.line,
            lines: Vec::new(),
        });
    }

    /// setenv and its like hold from their line on.
    fn set(&mut self) {
        let Some(line) = self.sections.last().and_then(|section| section.lines.last()) else { return };
        let (name, value) = (line.word(1).to_owned(), line.word(2).to_owned());
        match line.word(0) {
            "setenv" => drop(self.own.borrow_mut().insert(name, Some(value))),
            "presetenv" if self.variable(&name).is_none() => {
                self.own.borrow_mut().insert(name, Some(value));
            }
            "unsetenv" => {
                for name in &line.words[1..] {
                    self.own.borrow_mut().insert(name.clone(), None);
                }
            }
            _ => {}
        }
    }

    fn is_active(&self) -> bool {
        self.blocks.iter().all(|block| block.active)
    }

    /// A line that begins with a dot.
    fn directive(&mut self, words: &[String]) {
        let line = self.line;
        let outer = self.blocks.iter().rev().skip(1).all(|block| block.active);
        match words[0].as_str() {
            ".if" => {
                let active = self.is_active() && self.holds(&words[1..]);
                self.blocks.push(Block { line, active, done: active, last: false });
            }
            ".elif" | ".else" => {
                let is_else = words[0] == ".else";
                let Some(done) = self.blocks.last().filter(|block| !block.last).map(|block| block.done)
                else {
                    return self.notes.slip(line, format!("{} has no .if before it", words[0]));
                };
                let active = outer && !done && (is_else || self.holds(&words[1..]));
                if let Some(block) = self.blocks.last_mut() {
                    *block = Block { active, done: done || active, last: is_else, ..*block };
                }
            }
            ".endif" => {
                if self.blocks.pop().is_none() {
                    self.notes.slip(line, ".endif has no .if before it");
                }
            }
            _ if !self.is_active() => {}
            ".alert" => {
                self.notes.slip(line, format!("HAProxy stops here: {}", shown(&words[1..].join(" "))))
            }
            ".notice" | ".warning" | ".diag" => {
                self.notes.not_needed(line, format!("{} is a message of HAProxy's file", words[0]));
            }
            other => self.notes.slip(line, format!("{:?} is not known", shown(other))),
        }
    }

    fn holds(&self, words: &[String]) -> bool {
        match condition::outcome(&words.join(" "), &|name| self.variable(name)) {
            Ok(condition::Outcome { holds, assumed }) => {
                let outcome = if holds { "holds" } else { "does not hold" };
                match assumed {
                    false => self.notes.taken(self.line, format!("the condition {outcome} here")),
                    true => self.notes.lost(
                        self.line,
                        format!("the condition asks HAProxy about itself; it is taken that it {outcome}"),
                    ),
                }
                holds
            }
            Err(why) => {
                self.notes.slip(self.line, why);
                false
            }
        }
    }
}
