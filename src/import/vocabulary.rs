//! Which words HAProxy knows, so that one that it does not know is not taken for one that means nothing here.
//!
//! A word is known where the table of keywords has a row of its own for it, or `vocabulary.txt` lists it. A family in the
//! table (`tune.*`) says what becomes of a word, not that there is one. A word that is close to a known one is a slip; one
//! that is close to none may belong to an HAProxy that is newer than the vocabulary.

use std::sync::LazyLock;

use super::keywords::{Place, rows};
use super::sections::shown;
use crate::config::{distance, similar};

/// The last version whose words are known.
pub const NEWEST: &str = "3.3";
/// A word that differs by more letters from each known one was not meant to be any of them.
const SLIP_LETTERS: usize = 2;

/// A word that is not known, and what to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Close to a known one: HAProxy would not take it.
    Slip(String),
    /// Close to none: HAProxy may have it since.
    Newer(String),
}

/// Which words may stand somewhere.
struct List {
    /// A place or the kind of a section, and the words before; `*` is any.
    before: Vec<&'static str>,
    /// The words, each with how many of its own follow it. `None`: it is one word, and the next list says what follows.
    words: Vec<(&'static str, Option<usize>)>,
}

static LISTS: LazyLock<Vec<List>> = LazyLock::new(|| {
    let mut lists: Vec<List> = Vec::new();
    for line in include_str!("vocabulary.txt").lines().filter(|line| !line.starts_with('#')) {
        let words = match line.split_once('>') {
            Some((before, words)) => {
                let before = before.split_whitespace().collect();
                lists.push(List { before, words: Vec::new() });
                words
            }
            None => line,
        };
        let words = words.split_whitespace().filter(|word| *word != ">");
        if let Some(list) = lists.last_mut() {
            list.words.extend(words.map(counted));
        }
    }
    for row in rows().filter(|row| !row.name.contains('*')) {
        let mut before = vec![root(row.place)];
        for word in row.name.split(' ') {
            match lists.iter_mut().find(|list| list.before == before) {
                Some(list) => list.words.push((word, None)),
                None => lists.push(List { before: before.clone(), words: vec![(word, None)] }),
            }
            before.push(word);
        }
    }
    lists
});

/// `port+1`: a word that one of its own follows.
fn counted(text: &'static str) -> (&'static str, Option<usize>) {
    let count = text.rsplit_once('+').and_then(|(word, count)| Some((word, count.parse().ok()?)));
    count.map_or((text, None), |(word, count)| (word, Some(count)))
}

/// How a place is called in `vocabulary.txt`.
pub fn root(place: Place) -> &'static str {
    match place {
        Place::Section => "section",
        Place::Global => "global",
        Place::Proxy => "proxy",
        Place::Bind => "bind",
        Place::Server => "server",
    }
}

/// The first of these words below `root` that is not known. Where there is no list, any will do.
pub fn unknown(root: &str, words: &[&str]) -> Option<Unknown> {
    (0..words.len()).find_map(|at| {
        let before = &words[..at];
        let lists: Vec<&List> = LISTS.iter().filter(|list| list.follows(root, before)).collect();
        let choices: Vec<_> = lists.iter().flat_map(|list| list.words.iter().copied()).collect();
        match choices.iter().any(|(_, count)| count.is_some()) {
            _ if choices.is_empty() => None,
            true => options(&words[at..], &choices, before),
            false if choices.iter().any(|(choice, _)| fits(choice, words[at])) => None,
            false => Some(judged(words[at], &choices, before)),
        }
    })
}

/// The same of options in any order, each with words of its own.
fn options(words: &[&str], choices: &[(&'static str, Option<usize>)], before: &[&str]) -> Option<Unknown> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let plain = if word.len() > 1 { word.trim_start_matches('!') } else { word };
        let Some((_, count)) = choices.iter().find(|(choice, _)| fits(choice, plain)) else {
            return Some(judged(word, choices, before));
        };
        words.by_ref().take(count.unwrap_or(0)).for_each(drop);
    }
    None
}

fn fits(choice: &str, word: &str) -> bool {
    match choice.strip_suffix('*') {
        Some(begin) => word.starts_with(begin),
        None if choice.ends_with('(') => word.starts_with(choice),
        None => choice == word,
    }
}

fn judged(word: &str, choices: &[(&'static str, Option<usize>)], before: &[&str]) -> Unknown {
    let names: Vec<&str> = choices.iter().map(|(choice, _)| choice.trim_end_matches(['(', '*'])).collect();
    let stem = word.split('(').next().unwrap_or(word);
    let near = similar(stem, &names).filter(|near| distance(stem, near) <= SLIP_LETTERS);
    let behind = match before {
        [] => String::new(),
        before => format!(" behind {}", shown(&before.join(" "))),
    };
    let word = shown(word);
    match (near, before) {
        (Some(near), []) => Unknown::Slip(format!(
            "{word:?}: HAProxy knows no such keyword here (up to {NEWEST}); did you mean {near}?"
        )),
        (Some(near), _) => Unknown::Slip(format!(
            "{word:?}: HAProxy knows no such word{behind} (up to {NEWEST}); did you mean {near}?"
        )),
        (None, _) => {
            Unknown::Newer(format!("{word}{behind}: not known here; is it newer than HAProxy {NEWEST}?"))
        }
    }
}

impl List {
    fn follows(&self, root: &str, before: &[&str]) -> bool {
        self.before.len() == before.len() + 1
            && self.before[0] == root
            && self.before[1..].iter().zip(before).all(|(listed, word)| *listed == "*" || listed == word)
    }
}

#[cfg(test)]
mod tests {
    use super::{LISTS, Unknown, unknown};
    use crate::import::keywords::{Place, find};

    #[test]
    fn words_that_haproxy_does_not_know_are_told_from_those_that_mean_nothing_here() {
        for (root, line, near) in [
            ("proxy", "option httpchkk GET /", Some("httpchk")),
            ("proxy", "statss enable", Some("stats")),
            ("proxy", "balance randon(2)", Some("random")),
            ("proxy", "tcp-request connection rejct if bad", Some("reject")),
            ("proxy", "tcp-request connection reject iff bad", None),
            ("proxy", "http-check connect prt 8008", Some("port")),
            ("proxy", "http-check expect ! statuss 200", Some("status")),
            ("proxy", "stick-table type ip size 1k exspire 1h", Some("expire")),
            ("proxy", "ssl-f-use crtt a.pem", Some("crt")),
            ("global", "tune.bufsiz 1", Some("tune.bufsize")),
            ("global", "stats calculate-max-counter on", Some("calculate-max-counters")),
            ("bind", "guidprefix", Some("guid-prefix")),
            ("server", "force-tlsv9", Some("force-tlsv10")),
            ("server", "observe layer5", Some("layer4")),
            ("userlist", "usr a", Some("user")),
            // Nothing that anybody could have meant.
            ("proxy", "balance whatever", None),
            ("proxy", "option brand-new", None),
            ("global", "brand-new", None),
            // Long words have much in common without being meant for each other.
            ("global", "tune.quic.fe.stream.max-total 1", None),
            ("bind", "guid-suffixes", None),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let found = unknown(root, &words).unwrap_or_else(|| panic!("taken: {line}"));
            let meant = match &found {
                Unknown::Slip(why) => {
                    why.split_once("did you mean ").map(|(_, near)| near.trim_end_matches('?'))
                }
                Unknown::Newer(_) => None,
            };
            assert_eq!(meant, near, "{line}: {found:?}");
        }
        for (root, line) in [
            ("proxy", "option httpchk GET /"),
            ("proxy", "balance random(2)"),
            ("proxy", "http-check expect !rstatus ^5"),
            ("proxy", "http-check expect hdr name x value y"),
            ("proxy", "http-check send meth GET uri / hdr meth uri hdr Host x"),
            ("proxy", "http-request set-var(txn.a) src"),
            ("proxy", "http-request lua.anything"),
            ("proxy", "use_backend a if TRUE"),
            ("bind", "no-tlsv12"),
            ("traces", "whatever"),
        ] {
            assert_eq!(unknown(root, &line.split(' ').collect::<Vec<_>>()), None, "{line}");
        }
    }

    /// What is known must not be said to be unknown where nobody takes it over.
    #[test]
    fn each_known_word_has_a_row() {
        for (root, place) in [
            ("global", Place::Global),
            ("proxy", Place::Proxy),
            ("bind", Place::Bind),
            ("server", Place::Server),
        ] {
            let more = |before: &[&str]| LISTS.iter().any(|list| list.before == before);
            for list in LISTS.iter().filter(|list| list.before == [root]) {
                for (word, _) in list.words.iter().filter(|(word, _)| !more(&[root, word])) {
                    assert!(find(place, word).is_some(), "{root} {word}");
                }
            }
        }
    }
}
