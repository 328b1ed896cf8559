//! docs/settings.md against the program: no key is missing or made up, and every default is the one that counts.

use std::collections::{BTreeMap, BTreeSet};

use super::{FULL, MINIMAL, parse, refuse};

const REFERENCE: &str = include_str!("../../../docs/settings.md");

/// Each key with its default, as the reference has them.
fn told() -> BTreeMap<String, String> {
    let row = |line: &str| {
        let cells: Vec<&str> =
            line.strip_prefix("| `")?.trim_end_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "five columns: {line}");
        Some((cells[0].trim_end_matches('`').to_owned(), cells[2].to_owned()))
    };
    let rows: Vec<(String, String)> = REFERENCE.lines().filter_map(row).collect();
    let keys: BTreeMap<String, String> = rows.iter().cloned().collect();
    assert_eq!(keys.len(), rows.len(), "a key stands there twice");
    keys
}

/// A path with `[]` for each number.
fn general(path: &str) -> String {
    let mut parts = path.split('[');
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |path, part| path + "[" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// Every key that the program reads: it names those of a map when it finds one there that it does not know.
fn known() -> BTreeSet<String> {
    let mut with_intruders = String::new();
    for line in FULL.lines() {
        let at = line.find(|c: char| c != ' ' && c != '-').unwrap_or(line.len());
        let key = line[at..].split(':').next().unwrap_or("");
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_key && line[at..].contains(':') && !line.contains("- ") {
            with_intruders += &format!("{}zzz: 1\n", " ".repeat(at));
        }
        with_intruders += &format!("{line}\n");
    }
    let mut keys = BTreeSet::new();
    for line in refuse(&with_intruders).lines() {
        let Some((before, known)) = line.split_once("unknown key \"zzz\"; known here: ") else { continue };
        let path = before.splitn(4, ':').nth(3).expect("a place").trim().trim_end_matches(':');
        let path = general(path);
        keys.extend(known.split(", ").map(|key| match path.is_empty() {
            true => key.to_owned(),
            false => format!("{path}.{key}"),
        }));
    }
    keys
}

/// What `check` shows of a configuration that says nothing: each key with its value, or the comment in its place.
fn shown() -> BTreeMap<String, String> {
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut values = BTreeMap::new();
    for line in parse(MINIMAL).to_string().lines() {
        let at = line.find(|c: char| c != ' ' && c != '-' && c != '#').unwrap_or(line.len());
        let Some((key, value)) = line[at..].split_once(':') else { continue };
        while open.last().is_some_and(|(column, _)| *column >= at) {
            open.pop();
        }
        let mut path: String = open.iter().map(|(_, key)| format!("{key}.")).collect();
        path = path.replace("clusters.", "clusters[].");
        if !key.contains('"') {
            values.insert(path + key, value.trim().to_owned());
        }
        if value.trim().is_empty() {
            open.push((at, key.to_owned()));
        }
    }
    values
}

#[test]
fn every_key_is_in_the_reference_and_nothing_else() {
    let told: BTreeSet<String> = told().into_keys().collect();
    let known = known();
    let missing: Vec<_> =
        known.difference(&told).filter(|key| !key.starts_with("clusters[].replicas.listen[]")).collect();
    let made_up: Vec<_> = told.difference(&known).collect();
    assert!(missing.is_empty() && made_up.is_empty(), "not told: {missing:#?}\nnot read: {made_up:#?}");
    assert!(known.len() > 60, "{known:?}");
}

#[test]
fn every_default_in_the_reference_is_the_one_that_counts() {
    let shown = shown();
    let mut checked = 0;
    for (key, default) in told() {
        match (default.strip_prefix('`').and_then(|text| text.strip_suffix('`')), shown.get(&key)) {
            (Some(default), found) => {
                assert_eq!(Some(default), found.map(String::as_str), "the default of {key}");
                checked += 1;
            }
            // In words: what a comment says in its place, if there is one.
            (None, Some(found)) if !found.is_empty() && default != "needed" => {
                assert_eq!(&default, found, "the default of {key}");
            }
            (None, _) => {}
        }
    }
    assert!(checked > 30, "{checked} defaults");
}

#[test]
fn the_keys_that_a_reload_cannot_apply_are_marked() {
    let mut marked = 0;
    for (key, _) in told() {
        let row = REFERENCE.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).expect("a row");
        assert_eq!(row.contains("*restart*"), pilotfish::app::counts_at_start_only(&key), "{key}");
        marked += usize::from(row.contains("*restart*"));
    }
    assert_eq!(marked, 4, "workers, and log with its two keys");
}
