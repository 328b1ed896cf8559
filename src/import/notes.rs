//! What is said of each line, and what is wrong with the file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::vocabulary::Unknown;

/// What became of something that HAProxy was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It stands in the new configuration, or is so by default.
    Taken,
    /// pilotfish does it by itself, or does better without.
    NotNeeded,
    /// pilotfish cannot be told this.
    Lost,
}

impl Class {
    pub fn words(self) -> &'static str {
        match self {
            Class::Taken => "taken over",
            Class::NotNeeded => "not needed",
            Class::Lost => "lost",
        }
    }
}

/// One sentence about one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// From 1; 0 for the file as a whole.
    pub line: usize,
    pub class: Class,
    /// No secret is in it.
    pub text: String,
}

/// Something that HAProxy would not accept either.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slip {
    pub line: usize,
    pub message: String,
}

/// Takes what the readers of the lines have to say, so that they can go on reading.
#[derive(Debug, Default)]
pub struct Notes {
    notes: RefCell<BTreeSet<Note>>,
    slips: RefCell<BTreeSet<Slip>>,
    /// Words that HAProxy may have since, by their line.
    newer: RefCell<BTreeSet<(usize, String)>>,
    /// Variables that are not set, by the line that asks for them.
    unset: RefCell<BTreeMap<usize, Vec<String>>>,
}

impl Notes {
    pub fn taken(&self, line: usize, text: impl Into<String>) {
        self.add(line, Class::Taken, text);
    }

    pub fn not_needed(&self, line: usize, text: impl Into<String>) {
        self.add(line, Class::NotNeeded, text);
    }

    pub fn lost(&self, line: usize, text: impl Into<String>) {
        self.add(line, Class::Lost, text);
    }

    pub fn add(&self, line: usize, class: Class, text: impl Into<String>) {
        self.notes.borrow_mut().insert(Note { line, class, text: text.into() });
    }

    pub fn slip(&self, line: usize, message: impl Into<String>) {
        self.slips.borrow_mut().insert(Slip { line, message: message.into() });
    }

    /// A word that is not known: a slip, or one for [`Notes::newer`].
    pub fn unknown(&self, line: usize, word: Unknown) {
        match word {
            Unknown::Slip(why) => self.slip(line, why),
            Unknown::Newer(what) => drop(self.newer.borrow_mut().insert((line, what))),
        }
    }

    /// Words that HAProxy may have since, each with its line and what to say of it. What becomes of them says who knows
    /// what their section leads to.
    pub fn newer(&self) -> Vec<(usize, String)> {
        self.newer.borrow().iter().cloned().collect()
    }

    /// A variable that a line asks for is not set: it is lost, and named with all that is wrong with the line.
    pub fn unset(&self, line: usize, name: &str) {
        self.lost(
            line,
            format!("the variable {name} is not set here, so it is empty; set it as HAProxy's service does"),
        );
        self.unset.borrow_mut().entry(line).or_default().push(name.to_owned());
    }

    /// Whether anything has been said of this line.
    pub fn mention(&self, line: usize) -> bool {
        let first = |line| Note { line, class: Class::Taken, text: String::new() };
        let noted = self.notes.borrow().range(first(line)..first(line + 1)).next().is_some();
        let begin = |line| Slip { line, message: String::new() };
        noted || self.slips.borrow().range(begin(line)..begin(line + 1)).next().is_some()
    }

    /// All, in the order of the file.
    pub fn into_parts(self) -> (Vec<Note>, Vec<Slip>) {
        let unset = self.unset.into_inner();
        let explained = |mut slip: Slip| {
            for name in unset.get(&slip.line).into_iter().flatten() {
                slip.message.push_str(&format!("; the variable {name} is not set here"));
            }
            slip
        };
        let slips = self.slips.into_inner().into_iter().map(explained).collect();
        (self.notes.into_inner().into_iter().collect(), slips)
    }
}
