//! Faults of this program itself, as they are shown: counted by part, and a finding while the last one is young.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sources;
use super::figures::ago;
use super::findings::{Finding, Level};
use crate::stats::Part;

/// So long a panic is among the findings: until whoever looks once a day has seen it.
const SHOWN_S: f64 = 24.0 * 3600.0;

/// Since the start of the process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PanicsView {
    /// A field for each part.
    #[serde(flatten)]
    pub by_part: BTreeMap<&'static str, u64>,
    pub last_ago_s: Option<f64>,
}

pub fn panics(sources: &Sources) -> PanicsView {
    let panics = &sources.inbox.panics;
    PanicsView {
        by_part: Part::ALL.map(|part| (part.as_str(), panics.of(part))).into(),
        last_ago_s: panics.last_ago().map(|ago| ago.as_secs_f64()),
    }
}

impl PanicsView {
    pub fn of(&self, part: Part) -> u64 {
        self.by_part.get(part.as_str()).copied().unwrap_or_default()
    }

    /// What it means, while it is news.
    pub fn finding(&self) -> Option<Finding> {
        let last_ago_s = self.last_ago_s.filter(|ago| *ago < SHOWN_S)?;
        let counted = Part::ALL.map(|part| (part, self.of(part)));
        let parts = counted.iter().filter(|(_, count)| *count > 0);
        let parts: Vec<String> = parts.map(|(part, count)| format!("{} {count}", part.as_str())).collect();
        Some(Finding {
            code: "panicked",
            level: Level::Warning,
            what: "pilotfish itself has a fault: a part of it has panicked, and goes on.".to_owned(),
            evidence: format!("By part: {}. The last time {} ago.", parts.join(", "), ago(last_ago_s)),
            remedy: "Please report it with the lines \"panicked\" of the log, which have the place. Of sessions only those that \
                     are counted here were lost. If it comes again and again, go back to the version before (pilotfish upgrade)."
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_for_a_day() {
        let panics = PanicsView { by_part: [("session", 2), ("control", 1)].into(), last_ago_s: None };
        assert_eq!(panics.finding(), None);
        let found = PanicsView { last_ago_s: Some(90.0), ..panics.clone() }.finding().expect("a finding");
        assert_eq!(found.evidence, "By part: session 2, control 1. The last time 90 s ago.");
        assert_eq!(PanicsView { last_ago_s: Some(SHOWN_S), ..panics }.finding(), None);
    }
}
