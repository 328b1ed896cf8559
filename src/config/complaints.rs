//! What was found wrong while reading; a location is looked up only when there is something to show.

use super::limits::MAX_PROBLEMS;
use super::problem::{Problem, Problems};
use std::cell::{Cell, RefCell};

/// What was found wrong so far, places still as numbers of the tree.
#[derive(Default)]
pub struct Complaints {
    list: RefCell<Vec<Complaint>>,
    unnamed: Cell<usize>,
}

pub struct Complaint {
    /// The number of the value or key in the tree.
    pub id: usize,
    pub path: String,
    pub message: String,
    /// The other half of a collision, shown as its line.
    pub first: Option<usize>,
}

impl Complaints {
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub fn add(&self, complaint: Complaint) {
        let mut list = self.list.borrow_mut();
        match list.len() < MAX_PROBLEMS {
            true => list.push(complaint),
            false => self.unnamed.set(self.unnamed.get() + 1),
        }
    }

    /// The complaints as problems of `file`; `locate` answers line and column.
    pub fn located(self, file: &str, locate: impl Fn(usize) -> Option<(usize, usize)>) -> Problems {
        let problem = |Complaint { id, path, mut message, first }: Complaint| {
            if let Some((line, _)) = first.and_then(&locate) {
                message.push_str(&format!(" (first at line {line})"));
            }
            Problem { file: file.into(), place: locate(id), path, message }
        };
        Problems::new(self.list.into_inner().into_iter().map(problem).collect(), self.unnamed.get())
    }
}
