//! In which keys two configurations differ.
//!
//! Both are written out with their defaults and compared value by value, so no key can be forgotten here. Hashes of
//! passwords are not written out: who compares those compares [`User`](super::User)s.

use super::Config;
use super::raw::{self, Raw, Value};
use std::collections::BTreeSet;

impl Config {
    /// The paths of all keys whose values differ, sorted, such as `clusters[0].primary.hold`.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let mut paths = BTreeSet::new();
        if let (Ok(ours), Ok(theirs)) = (raw::parse(&self.to_string()), raw::parse(&other.to_string())) {
            compare(String::new(), &ours, &theirs, &mut paths);
        }
        paths.into_iter().collect()
    }
}

fn compare(path: String, ours: &Raw, theirs: &Raw, paths: &mut BTreeSet<String>) {
    match (&ours.value, &theirs.value) {
        (Value::Map(ours), Value::Map(theirs)) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            for (key, value) in named(ours) {
                match named(theirs).find(|(other, _)| *other == key) {
                    Some((_, other)) => compare(below(key), value, other, paths),
                    None => drop(paths.insert(below(key))),
                }
            }
            let is_new = |key: &str| named(ours).all(|(known, _)| known != key);
            paths.extend(named(theirs).map(|(key, _)| key).filter(|key| is_new(key)).map(below));
        }
        (Value::List(ours), Value::List(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare(format!("{path}[{index}]"), ours, theirs, paths);
            }
        }
        (ours, theirs) => {
            if plain(ours).is_none() || plain(ours) != plain(theirs) {
                paths.insert(path);
            }
        }
    }
}

fn named(entries: &[(Raw, Raw)]) -> impl Iterator<Item = (&str, &Raw)> {
    entries.iter().filter_map(|(key, value)| Some((plain(&key.value)?, value)))
}

/// A single value as text. Nothing that is written out is empty or unusable.
fn plain(value: &Value) -> Option<&str> {
    match value {
        Value::Bool(true) => Some("true"),
        Value::Bool(false) => Some("false"),
        Value::Number(text) | Value::Text(text) | Value::Filled { text, .. } => Some(text),
        Value::Empty | Value::List(_) | Value::Map(_) | Value::Unusable(_) => None,
    }
}
