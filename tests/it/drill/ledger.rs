//! What must hold, told from what pilotfish had heard by then and nothing else.

use std::collections::VecDeque;
use std::fmt::Write;

use pilotfish::topology::{Observation, Report};

use super::world::{Ms, NODES};
use crate::topology::witness::claims;

/// Lines of the story that a complaint is shown with.
const LINES: usize = 60;

#[derive(Default)]
pub struct Ledger {
    /// The last check of each node, and its last answer, however long ago.
    heard: [Option<Observation>; NODES.len()],
    word: [Option<Report>; NODES.len()],
    /// The newest timeline that a routed writer has had.
    newest: u32,
    pub handed_over: u64,
    pub held: u64,
    pub cut: u64,
    story: VecDeque<String>,
    complaint: Option<String>,
}

impl Ledger {
    pub fn tell(&mut self, now: Ms, what: impl FnOnce() -> String) {
        if self.story.len() == LINES {
            self.story.pop_front();
        }
        self.story.push_back(format!("{:8.3}  {}", now as f64 / 1e3, what()));
    }

    pub fn complain(&mut self, now: Ms, what: String) {
        self.tell(now, || format!("WRONG: {what}"));
        self.complaint.get_or_insert(what);
    }

    /// The first thing that went wrong, with what led to it.
    pub fn verdict(&self) -> Result<(), String> {
        let Some(complaint) = &self.complaint else { return Ok(()) };
        let mut told = format!("{complaint}\n");
        for line in &self.story {
            let _ = writeln!(told, "{line}");
        }
        Err(told)
    }

    pub fn is_fine(&self) -> bool {
        self.complaint.is_none()
    }

    pub fn hear(&mut self, now: Ms, i: usize, observation: &Observation) {
        if self.heard[i].as_ref() != Some(observation) {
            self.tell(now, || {
                format!("{} says {}", NODES[i], crate::topology::script::in_words(observation))
            });
        }
        self.heard[i] = Some(observation.clone());
        if let Observation::Answered(report) = observation {
            self.word[i] = Some(report.clone());
        }
    }

    pub fn routed(&mut self, now: Ms, writer: Option<usize>, why: &str) {
        self.tell(now, || format!("writer: {} ({why})", writer.map_or("-", |i| NODES[i])));
        let timeline = writer.and_then(|i| self.word[i].as_ref()?.timeline);
        self.newest = self.newest.max(timeline.unwrap_or(0));
    }

    /// A writer's session begins on a node.
    pub fn hand_over(&mut self, now: Ms, i: usize) {
        self.handed_over += 1;
        let name = NODES[i];
        let Some(word) = self.word[i].as_ref().filter(|word| claims(word)) else {
            return self.complain(now, format!("a session for {name}, whose last word was no"));
        };
        let timeline = word.timeline;
        if timeline < Some(self.newest) {
            return self.complain(now, format!("a session for {name}, whose timeline is over"));
        }
        let newer = |observation: &Option<Observation>| match observation {
            Some(Observation::Answered(report)) => claims(report) && report.timeline > timeline,
            _ => false,
        };
        if self.heard.iter().any(newer) {
            self.complain(now, format!("a session for {name} while another is the writer"));
        }
    }

    /// Where writers' sessions are once a table is in force.
    pub fn sessions(&mut self, now: Ms, mut on: Vec<usize>) {
        on.sort_unstable();
        on.dedup();
        if on.len() > 1 {
            return self.complain(now, "sessions on two writers".to_owned());
        }
        let [i] = on[..] else { return };
        if let Some(Observation::Answered(report)) = &self.heard[i]
            && report.status != 200
        {
            self.complain(now, format!("sessions are left on {}, which has lost the lock", NODES[i]));
        }
    }
}
