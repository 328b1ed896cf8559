//! The page that says what can go wrong tells no stories: the tests that it names are there.

use std::fs;
use std::path::Path;

/// The failures that are known, each a row.
const FAILURES: usize = 30;
/// The promises before them.
const FIGURES: usize = 10;
/// What a saved result says in its last column, and the page of the figure.
const MISSED: [&str; 2] = ["NO", "**not reached**"];
/// Figures with a saved result.
const SAVED: [(usize, &str); 2] = [(4, "overload"), (5, "attack")];

/// The rows of the table below this heading, each as its cells.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let below = page.split_once(&format!("## {heading}\n")).expect("the heading").1;
    let lines = below.lines().take_while(|line| !line.starts_with("## "));
    let numbered = |cells: &Vec<&str>| cells[0].parse::<usize>().is_ok();
    lines
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|row| row.split('|').map(str::trim).collect())
        .filter(numbered)
        .collect()
}

/// What stands in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// `FILE::NAME`, a function of Rust or Python.
fn is_there(root: &Path, reference: &str) -> bool {
    let Some((file, name)) = reference.split_once("::") else { return false };
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    ["fn ", "def "].iter().any(|word| text.contains(&format!("{word}{name}(")))
}

#[test]
fn each_failure_has_a_test_that_is_there_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/reliability.md")).expect("the page");
    let failures = rows(&page, "What can go wrong");
    assert_eq!(failures.len(), FAILURES);
    for (number, cells) in (1..).zip(&failures) {
        let [place, failure, answer, proof] = cells[..] else { panic!("four cells, not {cells:?}") };
        assert_eq!(place, number.to_string(), "{failure}");
        assert!(!failure.is_empty() && answer.len() > 20 && proof.len() > 20, "{failure}");
        let tests: Vec<&str> = quoted(proof).collect();
        let missing: Vec<&&str> = tests.iter().filter(|test| !is_there(root, test)).collect();
        assert!(missing.is_empty(), "{failure}: no test {missing:?}");
    }
    let without: Vec<&str> =
        failures.iter().filter(|cells| quoted(cells[3]).count() == 0).map(|cells| cells[1]).collect();
    assert_eq!(without, ["a flood of SYN packets"], "these have a reason alone");
}

#[test]
fn each_promise_says_what_is_to_be_reached_and_how_to_measure_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/reliability.md")).expect("the page");
    let makefile = fs::read_to_string(root.join("Makefile")).expect("the doors");
    let figures = rows(&page, "The figures");
    assert_eq!(figures.len(), FIGURES);
    for cells in &figures {
        assert!(cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
        for command in quoted(cells[4]).filter_map(|command| command.strip_prefix("make ")) {
            let target = command.split(' ').next().unwrap_or_default();
            assert!(makefile.contains(&format!("\n{target}: ")), "make {target}");
        }
    }
}

#[test]
fn what_was_not_reached_in_the_saved_results_is_said_and_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/reliability.md")).expect("the page");
    let figures = rows(&page, "The figures");
    for (number, name) in SAVED {
        let saved = fs::read_to_string(root.join(format!("benches/hostile/results/{name}.md")));
        let saved = saved.expect("a saved result");
        let reached: Vec<&str> =
            saved.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit("| ").next()).collect();
        assert!(reached.contains(&"yes"), "{name}: no column that says what was reached");
        let figure = &figures[number - 1];
        assert_eq!(figure[0], number.to_string());
        let missed = [reached.contains(&MISSED[0]), figure[3].contains(MISSED[1])];
        assert_eq!(missed[0], missed[1], "{name}: {figure:?}");
    }
}
