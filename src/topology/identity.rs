//! Which cluster is ours?
//!
//! Every node states the `database_system_identifier` of its data directory, the same on all nodes of one cluster.
//! A wrong endpoint in the configuration, or a node rebuilt from another cluster, must never get a session. The
//! identity is what most of the first answers agree on; once settled it stays, and a tie settles nothing.

use std::collections::BTreeMap;

/// The identity that these answers agree on: more than half of `expected` nodes, or, once all of them have been
/// heard or given up (`complete`), more nodes than any other.
pub fn elect<'a>(stated: impl Iterator<Item = &'a str>, expected: usize, complete: bool) -> Option<String> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for identifier in stated {
        *votes.entry(identifier).or_default() += 1;
    }
    let (&leading, &most) = votes.iter().max_by_key(|&(_, &count)| count)?;
    let tied = votes.values().filter(|&&count| count == most).count() > 1;
    let majority = most * 2 > expected;
    (majority || (complete && !tied)).then(|| leading.to_owned())
}

#[cfg(test)]
mod tests {
    use super::elect;

    #[test]
    fn most_answers_win_and_a_tie_settles_nothing() {
        for (stated, expected, complete, identity) in [
            ("", 3, true, None),
            ("a", 1, false, Some("a")),
            ("a", 3, false, None),
            ("a", 3, true, Some("a")),
            ("aa", 3, false, Some("a")),
            ("ab", 2, true, None),
            ("ab", 3, true, None),
            ("aba", 3, false, Some("a")),
            ("abb", 4, false, None),
            ("abb", 4, true, Some("b")),
        ] {
            let words: Vec<String> = stated.chars().map(String::from).collect();
            let elected = elect(words.iter().map(String::as_str), expected, complete);
            assert_eq!(elected.as_deref(), identity, "{stated} of {expected}, complete: {complete}");
        }
    }
}
