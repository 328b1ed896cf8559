//! docs/log.md and docs/read-a-failover.md against the program: every cause of an end, every line that is logged, and the
//! words for members and clusters.

use std::collections::BTreeSet;
use std::path::Path;

use pilotfish::stats::End;
use pilotfish::topology::{Class, Condition};

use crate::tidy::sources;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).expect("a page")
}

/// The cells of a table's rows between two marks of the page.
fn table(mark: &str) -> Vec<Vec<String>> {
    let page = page("log.md");
    let (_, rest) = page.split_once(&format!("<!-- {mark} -->\n")).expect("a place");
    let (shown, _) = rest.split_once(&format!("<!-- end of {mark} -->")).expect("its end");
    let row = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    shown.lines().skip(2).map(row).collect()
}

#[test]
fn every_cause_is_explained_with_its_side() {
    let told: Vec<[String; 2]> = table("causes").iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    let known: Vec<[String; 2]> =
        End::ALL.iter().map(|end| [format!("`{end}`"), end.side().as_str().to_owned()]).collect();
    assert_eq!(told, known);
    for row in table("causes") {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row[3].len() > 10 && row[4].len() > 5, "{row:?} says too little");
    }
}

#[test]
fn every_word_for_members_and_clusters_is_explained() {
    let page = page("read-a-failover.md");
    let words = Class::ALL.iter().map(|class| class.as_str());
    for word in words.chain(Condition::ALL.iter().map(|condition| condition.as_str())) {
        let explains =
            |line: &str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{word}`")));
        assert!(page.lines().any(explains), "{word}");
    }
}

/// Messages at INFO and above, with the levels that they have.
fn logged() -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    for source in sources(&["src"]) {
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        for (at, head) in code.match_indices("tracing::") {
            let call = &code[at + head.len()..];
            let shows = ["info!(", "warn!(", "error!(", "$level!("].iter().any(|head| call.starts_with(head));
            let Some((_, arguments)) = call.split_once('(').filter(|_| shows) else { continue };
            let literal = last_literal(arguments);
            // One that is made up at run time has no line of its own: the reason of a failed start, HAProxy's format.
            messages.extend(literal.filter(|text| !text.contains('{')));
        }
    }
    messages
}

/// The last text between quotation marks before the parenthesis that ends the call: the message.
fn last_literal(arguments: &str) -> Option<String> {
    let (mut depth, mut last, mut text) = (1, None, None::<String>);
    for c in arguments.chars() {
        match (&mut text, c) {
            (Some(_), '"') => {
                let ended = text.take();
                last = if depth == 1 { ended } else { last };
            }
            (Some(text), c) => text.push(c),
            (None, '"') => text = Some(String::new()),
            (None, '(' | '{' | '[') => depth += 1,
            (None, ')' | '}' | ']') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    last
}

#[test]
fn every_line_of_the_log_is_explained() {
    let rows = table("lines");
    let told: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(told.len(), rows.len(), "a line stands there twice");
    let logged = logged();
    let missing: Vec<_> = logged.difference(&told).collect();
    let made_up: Vec<_> = told.difference(&logged).collect();
    assert!(missing.is_empty() && made_up.is_empty(), "not told: {missing:#?}\nnot logged: {made_up:#?}");
    assert!(logged.len() > 40, "{logged:?}");
    for row in rows {
        assert!(["INFO", "WARN", "ERROR"].contains(&&*row[1]) && !row[2].is_empty(), "{row:?}");
    }
}

#[test]
fn the_message_is_the_last_text_of_a_call() {
    for (call, message) in [
        ("cluster, \"alarm\")", Some("alarm")),
        ("names = all.join(\", \"), \"reloaded\")", Some("reloaded")),
        ("page = format!(\"{scheme}://\"), %error, \"listening\"); other(\"no\")", Some("listening")),
        ("error)", None),
    ] {
        assert_eq!(last_literal(call).as_deref(), message, "{call}");
    }
}
