//! Which words HAProxy knows, so that one that it does not know is not taken for one that means nothing here.
//!
//! A word is known where the table of keywords has a row of its own for it, or `vocabulary.txt` lists it. A family in the
//! table (`tune.*`) says what becomes of a word, not that there is one.

use std::sync::LazyLock;

use super::keywords::{Place, TABLE};
use super::sections::shown;
use crate::config::similar;

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
    for row in TABLE.iter().filter(|row| !row.name.contains('*')) {
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

/// What is wrong with these words below `root`, if HAProxy does not know one of them. Where there is no list, any will do.
pub fn complaint(root: &str, words: &[&str]) -> Option<String> {
    (0..words.len()).find_map(|at| {
        let before = &words[..at];
        let lists: Vec<&List> = LISTS.iter().filter(|list| list.follows(root, before)).collect();
        let choices: Vec<_> = lists.iter().flat_map(|list| list.words.iter().copied()).collect();
        match choices.iter().any(|(_, count)| count.is_some()) {
            _ if choices.is_empty() => None,
            true => options(&words[at..], &choices, before),
            false if choices.iter().any(|(choice, _)| fits(choice, words[at])) => None,
            false => Some(unknown(words[at], &choices, before)),
        }
    })
}

/// The same of options in any order, each with words of its own.
fn options(words: &[&str], choices: &[(&'static str, Option<usize>)], before: &[&str]) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let plain = if word.len() > 1 { word.trim_start_matches('!') } else { word };
        let Some((_, count)) = choices.iter().find(|(choice, _)| fits(choice, plain)) else {
            return Some(unknown(word, choices, before));
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

fn unknown(word: &str, choices: &[(&'static str, Option<usize>)], before: &[&str]) -> String {
    let names: Vec<&str> = choices.iter().map(|(choice, _)| choice.trim_end_matches(['(', '*'])).collect();
    let stem = word.split('(').next().unwrap_or(word);
    let place = match before {
        [] => "HAProxy knows no such keyword here".to_owned(),
        before => format!("HAProxy knows no such word behind {}", shown(&before.join(" "))),
    };
    match similar(stem, &names) {
        Some(near) => format!("{:?}: {place}; did you mean {near}?", shown(word)),
        None => format!("{:?}: {place}", shown(word)),
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
    use super::complaint;

    #[test]
    fn words_that_haproxy_does_not_know_are_told_from_those_that_mean_nothing_here() {
        for (root, line, near) in [
            ("proxy", "option httpchkk GET /", Some("httpchk")),
            ("proxy", "statss enable", Some("stats")),
            ("proxy", "balance whatever", None),
            ("proxy", "balance randon(2)", Some("random")),
            ("proxy", "tcp-request connection rejct if bad", Some("reject")),
            ("proxy", "tcp-request connection reject iff bad", None),
            ("proxy", "http-check connect prt 8008", Some("port")),
            ("proxy", "http-check expect ! statuss 200", Some("status")),
            ("proxy", "stick-table type ip size 1k exspire 1h", Some("expire")),
            ("global", "tune.bufsiz 1", Some("tune.bufsize")),
            ("server", "force-tlsv9", Some("force-tlsv10")),
            ("server", "observe layer5", Some("layer4")),
            ("userlist", "usr a", Some("user")),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let found = complaint(root, &words).unwrap_or_else(|| panic!("taken: {line}"));
            let meant = found.split_once("did you mean ").map(|(_, near)| near.trim_end_matches('?'));
            assert_eq!(meant, near, "{line}: {found}");
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
            assert_eq!(complaint(root, &line.split(' ').collect::<Vec<_>>()), None, "{line}");
        }
    }
}
