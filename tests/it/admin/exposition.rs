//! A strict reader of Prometheus' text format: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Exposition {
    /// Kind by family.
    pub kinds: BTreeMap<String, String>,
    /// What it means, by family.
    pub helps: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

impl Exposition {
    /// # Panics
    /// At the first line that is not as it must be.
    pub fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut page = Exposition::default();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a help text");
                let first = page.helps.insert(name.to_owned(), words.to_owned()).is_none();
                assert!(first, "{name} is described twice");
                assert!(words.ends_with('.'), "{name}: {words:?} is no sentence");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                assert!(page.helps.contains_key(name) && is_name(name), "{name} has no help");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{name}: {kind}");
                assert!(
                    page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{name} has two kinds"
                );
                family = name.to_owned();
            } else {
                let sample = Sample::parse(line);
                assert_eq!(page.family_of(&sample.name), Some(family.as_str()), "out of its place: {line}");
                page.samples.push(sample);
            }
        }
        page.check();
        page
    }

    fn family_of(&self, sample: &str) -> Option<&str> {
        let known =
            |name: &str| self.kinds.get_key_value(name).map(|(name, kind)| (name.as_str(), kind.as_str()));
        if let Some((name, kind)) = known(sample) {
            return (kind != "histogram").then_some(name);
        }
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.strip_suffix(end))?;
        known(stem).filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name)
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for Sample { name, labels, value } in &self.samples {
            assert!(seen.insert((name, labels)), "{name}{labels:?} is there twice");
            let ours = ["pilotfish_", "process_", "haproxy_"].iter().any(|start| name.starts_with(start));
            assert!(ours, "{name}");
            let ends = |units: &[&str]| units.iter().any(|unit| name.ends_with(unit));
            assert!(!ends(&["_ms", "_us", "_minutes", "_kb"]), "{name} is not in base units");
            let counter = self.kinds.get(name).is_some_and(|kind| kind == "counter");
            assert_eq!(counter, name.ends_with("_total"), "{name}");
            assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
        }
        for name in self.kinds.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            self.check_histogram(name);
        }
    }

    fn check_histogram(&self, name: &str) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.of(&format!("{name}_bucket")) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").expect("a bound");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") };
            buckets.entry(labels).or_default().push((bound, sample.value));
        }
        for (labels, buckets) in &buckets {
            let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
            assert!(buckets.windows(2).all(rises), "{name}{labels:?} {buckets:?}");
            let all = buckets.last().expect("a bucket");
            assert_eq!((f64::INFINITY, self.value_of(&format!("{name}_count"), labels)), *all);
            self.value_of(&format!("{name}_sum"), labels);
        }
        assert!(!buckets.is_empty(), "{name} has no buckets");
    }

    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    fn value_of(&self, name: &str, labels: &Labels) -> f64 {
        let mut found = self.of(name).filter(|sample| sample.labels == *labels);
        found.next().unwrap_or_else(|| panic!("no {name}{labels:?}")).value
    }

    /// The value with these labels, written as pairs.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.value_of(name, &labels)
    }
}

impl Sample {
    fn parse(line: &str) -> Sample {
        let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
        let (name, rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest),
            None => (Labels::new(), rest),
        };
        let value = value.strip_prefix(' ').and_then(|value| value.parse().ok());
        Sample { name: name.to_owned(), labels, value: value.unwrap_or_else(|| panic!("no number: {line}")) }
    }
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        assert!(is_name(name) && !name.contains(':') && !name.starts_with("__"), "{name}");
        let (value, after) = unquote(quoted);
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        match after.split_at_checked(1) {
            Some((",", more)) => rest = more,
            Some(("}", end)) => return (labels, end),
            _ => panic!("neither , nor }}: {after}"),
        }
    }
}

/// A label's value up to its closing quote, and what follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.push(match letters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('"' | '\\'))) => escaped,
                other => panic!("{other:?} is nothing to escape: {quoted}"),
            }),
            letter => value.push(letter),
        }
    }
    panic!("no closing quote: {quoted}");
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}
