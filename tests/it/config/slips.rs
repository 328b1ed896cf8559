//! Whatever the text: no panic, a place within it for each problem, and what is accepted reads back as the same.

use super::{ENVIRONMENT, FULL, MINIMAL, SEVERAL, env, reads_back};
use pilotfish::config::Config;
use proptest::prelude::*;

fn survives(text: &str) {
    match Config::parse("config.yaml", text, &env) {
        Ok(config) => reads_back(&config),
        Err(problems) => {
            assert!(problems.iter().count() > 0);
            // YAML's line breaks are more than those of a terminal.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for problem in problems.iter() {
                let (line, column) = problem.place.unwrap_or((1, 1));
                assert!((1..=lines + 1).contains(&line) && column >= 1, "{problem}");
                assert!(!problem.message.is_empty() && !problem.to_string().contains('\n'), "{problem}");
            }
        }
    }
}

/// An example with pieces of it replaced, often by what means something to YAML.
fn mutated() -> impl Strategy<Value = String> {
    let example = prop::sample::select(vec![MINIMAL, FULL, SEVERAL, ENVIRONMENT]);
    let piece =
        prop_oneof!["[-{}\\[\\]:,&*!|>'\"%@`#?~ \n\t$0-9a-z.]{0,12}", ".{0,6}", Just("${FIVE}".to_string())];
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, piece), 1..4);
    (example, cuts).prop_map(|(example, cuts)| {
        let lines = example.lines().filter(|line| !line.trim_start().starts_with('#'));
        let mut text: Vec<char> = lines.flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, length, piece) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}|[-{}\\[\\]:,&*!|>'\"%@`#? \n\ta-c0]{0,120}") {
        survives(&text);
    }

    #[test]
    fn any_slip_in_an_example_is_survived(text in mutated()) {
        survives(&text);
    }
}
