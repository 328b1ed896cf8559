//! As much of PromQL as it takes to tell which series an expression asks for. Whether it is well formed is promtool's to say.

use std::collections::BTreeSet;

/// A name in an expression, and what its labels must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub name: String,
    pub matchers: Vec<(String, String)>,
}

/// Everything that an expression asks for.
#[derive(Debug, Default)]
pub struct Wanted {
    pub selectors: Vec<Selector>,
    /// Labels that series are joined or summed up by.
    pub labels: BTreeSet<String>,
}

const GROUPING: [&str; 6] = ["by", "on", "without", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 10] = ["and", "or", "unless", "bool", "offset", "sum", "max", "min", "count", "avg"];

impl Wanted {
    pub fn of(expression: &str) -> Wanted {
        let mut wanted = Wanted::default();
        let mut rest = expression.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '"' => rest[1..].split_once('"').expect("the end of a string").1,
                '[' => rest.split_once(']').expect("the end of a range").1,
                _ if is_letter(first) => wanted.word(rest),
                _ if first.is_ascii_digit() => {
                    rest.trim_start_matches(|c| is_letter(c) || c == '.' || c.is_ascii_digit())
                }
                _ => &rest[first.len_utf8()..],
            }
            .trim_start();
        }
        wanted
    }

    /// Takes a word and what belongs to it; what follows.
    fn word<'a>(&mut self, text: &'a str) -> &'a str {
        let end = text.find(|c: char| !is_letter(c) && !c.is_ascii_digit()).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let rest = rest.trim_start();
        if let (true, Some(list)) = (GROUPING.contains(&word), rest.strip_prefix('(')) {
            let (list, rest) = list.split_once(')').expect("the end of a list");
            self.labels.extend(
                list.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()),
            );
            return rest;
        }
        if GROUPING.contains(&word) || WORDS.contains(&word) || rest.starts_with('(') {
            return rest;
        }
        let (matchers, rest) = rest.strip_prefix('{').map_or((Vec::new(), rest), matchers);
        self.selectors.push(Selector { name: word.to_owned(), matchers });
        rest
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

/// Up to the closing brace, and what follows it.
fn matchers(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\n']);
        if let Some(rest) = rest.strip_prefix('}') {
            return (found, rest);
        }
        let (label, quoted) = rest.split_once('"').expect("a value in quotes");
        let (value, after) = quoted.split_once('"').expect("the end of a value");
        found.push((label.trim_end_matches(['=', '~', '!', ' ']).to_owned(), value.to_owned()));
        rest = after;
    }
}

#[test]
fn names_are_told_from_functions_words_and_labels() {
    let wanted = Wanted::of(
        "histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{x=\"1\", y=~\"b|c\"}[5m]))) > 2 * 1e3\n\
         unless on (job) count(b:c) == bool 1 or label_replace(d, \"e\", \"$1\", \"f\", \"(.*)\") offset 5m",
    );
    let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let selector = |name: &str, matchers| Selector { name: name.to_owned(), matchers };
    assert_eq!(
        wanted.selectors,
        [
            selector("a_bucket", vec![pair("x", "1"), pair("y", "b|c")]),
            selector("b:c", vec![]),
            selector("d", vec![])
        ]
    );
    assert_eq!(wanted.labels.into_iter().collect::<Vec<_>>(), ["job", "le"]);
}
