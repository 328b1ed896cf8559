//! What is wrong with a configuration, one line for each thing.

use std::fmt;

/// One thing to mend. Shown as `file:line:column: path: message`, as far as these are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// Line and column in the file, both from 1.
    pub place: Option<(usize, usize)>,
    /// The key that it is about, such as `clusters[0].patroni.interval`; empty for the file as a whole.
    pub path: String,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl Problem {
    /// About the file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        Self { file: file.into(), place: None, path: String::new(), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// All that is wrong, in the order of the file. Never empty. Shows as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// How many more there are than `list` names.
    unnamed: usize,
}

impl Problems {
    pub(super) fn new(mut list: Vec<Problem>, unnamed: usize) -> Self {
        list.sort_by_key(|problem| problem.place);
        Self { list, unnamed }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem], 0)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.unnamed > 0 {
            write!(f, "\nand {} more; mend these first", self.unnamed)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
