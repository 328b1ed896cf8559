//! How a keyword of HAProxy is looked up in the one table of what becomes of it (`table`, `choices`).

use super::notes::Class;
use super::{choices, table};

/// Where a keyword stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A section as a whole.
    Section,
    Global,
    /// A line of defaults, listen, frontend or backend.
    Proxy,
    /// An option of `bind`.
    Bind,
    /// An option of `server`, `server-template` or `default-server`.
    Server,
}

/// One row.
#[derive(Debug)]
pub struct Keyword {
    pub place: Place,
    /// One or more words; a `*` at the end stands for anything.
    pub name: &'static str,
    /// Words that follow it, for options of `bind` and `server`.
    pub arguments: usize,
    pub class: Class,
    /// For [`Class::Taken`] the key of pilotfish, else the reason.
    pub what: &'static str,
}

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Keyword> {
    table::TABLE.iter().chain(choices::TABLE)
}

/// The row for this word or these words, the longest that fits.
pub fn find(place: Place, words: &str) -> Option<&'static Keyword> {
    let fits = |keyword: &&Keyword| keyword.place == place && fits(keyword.name, words);
    rows().filter(fits).max_by_key(|keyword| keyword.name.len())
}

fn fits(name: &str, words: &str) -> bool {
    match name.strip_suffix('*') {
        Some(begin) => words.starts_with(begin),
        None => words.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
    }
}

pub const fn row(
    place: Place,
    name: &'static str,
    arguments: usize,
    class: Class,
    what: &'static str,
) -> Keyword {
    Keyword { place, name, arguments, class, what }
}
