//! Proxies with what they take from `defaults`.

use std::collections::HashMap;

use super::notes::Notes;
use super::sections::{Line, Section, shown};

/// One listen, frontend or backend.
#[derive(Clone, Debug)]
pub struct Proxy<'a> {
    pub section: &'a Section,
    /// The sections defaults that it takes from, the first one first.
    pub defaults: Vec<&'a Section>,
}

impl<'a> Proxy<'a> {
    pub fn name(&self) -> &'a str {
        &self.section.name
    }

    /// Its lines behind those that it takes from defaults.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &'a Line> + use<'a> {
        let sections: Vec<&'a Section> = self.defaults.iter().copied().chain([self.section]).collect();
        sections.into_iter().flat_map(|section| section.lines.iter())
    }

    /// The line that counts for a keyword that is told once. `None` when it was taken back.
    pub fn last(&self, keyword: &str) -> Option<&'a Line> {
        self.lines().rev().find(|line| line.is(keyword)).filter(|line| !line.no)
    }

    pub fn all(&self, keyword: &str) -> Vec<&'a Line> {
        self.lines().filter(|line| line.is(keyword) && !line.no).collect()
    }

    /// Rules of the proxy; those of its defaults count only while it has none.
    pub fn rules(&self, keyword: &str) -> Vec<&'a Line> {
        let own: Vec<_> = self.section.lines.iter().filter(|line| line.is(keyword)).collect();
        if own.is_empty() { self.all(keyword) } else { own }
    }

    pub fn is_http(&self) -> bool {
        self.last("mode").is_some_and(|line| line.word(1) == "http")
    }

    pub fn is_disabled(&self) -> bool {
        let last = self.lines().rev().find(|line| line.is("disabled") || line.is("enabled"));
        last.is_some_and(|line| line.is("disabled"))
    }

    pub fn has_servers(&self) -> bool {
        self.section.lines.iter().any(|line| line.is("server") || line.is("server-template"))
    }
}

/// All proxies of the file, each with its defaults: those that it names, else the last before it.
pub fn proxies<'a>(sections: &'a [Section], notes: &Notes) -> Vec<Proxy<'a>> {
    let mut proxies = Vec::new();
    let mut last = None;
    for (i, section) in sections.iter().enumerate() {
        match section.kind {
            "defaults" => {
                // A name that does not exist is said even where nobody takes these defaults.
                chain(sections, Some(i), notes);
                last = Some(i);
            }
            "listen" | "frontend" | "backend" => {
                let from = match &section.from {
                    Some(name) => named(sections, name, i, section.number, notes),
                    None => last,
                };
                proxies.push(Proxy { section, defaults: chain(sections, from, notes) });
            }
            _ => {}
        }
    }
    same_names(&proxies, notes);
    proxies
}

/// The section defaults of that name before `before`.
fn named(sections: &[Section], name: &str, before: usize, line: usize, notes: &Notes) -> Option<usize> {
    let fits = |section: &Section| section.kind == "defaults" && section.name == name;
    let found = sections[..before].iter().rposition(fits);
    if found.is_none() {
        notes.slip(line, format!("there is no section `defaults {}` before this line", shown(name)));
    }
    found
}

/// A section defaults behind those that it is derived from.
fn chain<'a>(sections: &'a [Section], from: Option<usize>, notes: &Notes) -> Vec<&'a Section> {
    let mut chain = Vec::new();
    let mut next = from;
    while let Some(at) = next {
        let section = &sections[at];
        chain.insert(0, section);
        // Always one that stands earlier, so this ends.
        next = section.from.as_ref().and_then(|name| named(sections, name, at, section.number, notes));
    }
    chain
}

/// HAProxy takes a frontend and a backend of one name, but not two that would do the same.
fn same_names(proxies: &[Proxy<'_>], notes: &Notes) {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for proxy in proxies {
        let number = proxy.section.number;
        for side in ["frontend", "backend"] {
            if ![side, "listen"].contains(&proxy.section.kind) {
                continue;
            }
            if let Some(first) = seen.insert((side, proxy.name()), number) {
                let name = shown(proxy.name());
                notes.slip(number, format!("the name {name:?} is taken since line {first}"));
            }
        }
    }
}
