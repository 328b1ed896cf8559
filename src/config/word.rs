//! Words that a key takes, and the word that somebody may have meant.

use super::{Balance, Fallback, Fate, LogFormat, LogLevel, Protocol, SendProxy, SyncState, Verify};

/// A closed choice, written as a word.
pub trait Word: Copy + PartialEq + 'static {
    /// Every choice with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// What HAProxy calls some of them.
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[];

    /// The word for this choice.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, choice)| *choice == self).map_or("", |(word, _)| word)
    }
}

impl Word for Protocol {
    const WORDS: &'static [(&'static str, Self)] = &[("postgresql", Self::Postgresql), ("tcp", Self::Tcp)];
}

impl Word for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("least_connections", Self::LeastConnections),
        ("round_robin", Self::RoundRobin),
        ("random2", Self::Random2),
        ("source", Self::Source),
        ("first", Self::First),
    ];
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[
        ("leastconn", "least_connections"),
        ("roundrobin", "round_robin"),
        ("static-rr", "round_robin"),
        ("random", "random2"),
        ("random(2)", "random2"),
        ("hash", "source"),
    ];
}

impl Word for Fallback {
    const WORDS: &'static [(&'static str, Self)] = &[("primary", Self::Primary), ("none", Self::None)];
}

impl Word for Verify {
    const WORDS: &'static [(&'static str, Self)] = &[("full", Self::Full), ("none", Self::None)];
    const ELSEWHERE: &'static [(&'static str, &'static str)] = &[("required", "full")];
}

impl Word for SendProxy {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("v2", Self::V2)];
    const ELSEWHERE: &'static [(&'static str, &'static str)] =
        &[("send-proxy-v2", "v2"), ("send-proxy", "v2"), ("v1", "v2")];
}

impl Word for SyncState {
    const WORDS: &'static [(&'static str, Self)] =
        &[("sync", Self::Sync), ("quorum", Self::Quorum), ("async", Self::Async)];
}

impl Word for Fate {
    const WORDS: &'static [(&'static str, Self)] = &[("keep", Self::Keep), ("cut", Self::Cut)];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json), ("tcplog", Self::Tcplog)];
}

impl Word for LogLevel {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug)];
}

/// No key is longer; what is longer was not meant to be one.
const LONGEST: usize = 32;

/// The choice that `word` is a slip of, if one is near enough: up to a third of its letters differ.
pub fn nearest<'c>(word: &str, choices: &[&'c str]) -> Option<&'c str> {
    similar(&word.to_lowercase().replace(['-', ' '], "_"), choices)
}

/// The same of words that are written as they are.
pub fn similar<'c>(word: &str, choices: &[&'c str]) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let (distance, choice) = choices.iter().map(|choice| (distance(word, choice), *choice)).min()?;
    (distance * 3 <= choice.len()).then_some(choice)
}

/// How many letters to add, drop or change to get from one to the other (Levenshtein).
pub fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
