//! The options behind the address of a `bind` or `server` line.

use super::keywords::{self, Keyword, Place};
use super::notes::{Class, Notes};
use super::sections::{Line, shown};
use super::vocabulary::{self, Unknown};

/// One option with its argument, where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub name: &'a str,
    /// Empty where it takes none.
    pub argument: &'a str,
    /// `None`: not known, which is said already.
    pub row: Option<&'static Keyword>,
}

impl Choice<'_> {
    /// How it is spoken of.
    pub fn said(&self) -> String {
        shown(format!("{} {}", self.name, self.argument).trim_end())
    }
}

/// Takes the options of a line apart, from the word at `from` on. A missing argument is a slip. What stands behind an option
/// that is not known is taken for its argument, if it is no option itself.
pub fn read<'a>(line: &'a Line, from: usize, place: Place, notes: &Notes) -> Vec<Choice<'a>> {
    let mut words = line.words.iter().skip(from).map(String::as_str).peekable();
    let root = vocabulary::root(place);
    let mut choices = Vec::new();
    while let Some(name) = words.next() {
        let unknown = vocabulary::unknown(root, &[name]);
        let row = keywords::find(place, name).filter(|_| unknown.is_none());
        let mut argument = "";
        if let Some(unknown) = unknown {
            if matches!(unknown, Unknown::Newer(_)) {
                argument = words.next_if(|word| vocabulary::unknown(root, &[word]).is_some()).unwrap_or("");
            }
            notes.unknown(line.number, unknown);
        }
        if row.is_some_and(|row| row.arguments > 0) {
            match words.next() {
                Some(word) => {
                    argument = word;
                    let unknown = vocabulary::unknown(root, &[name, word]);
                    if let Some(unknown) = unknown.filter(|_| row.is_some_and(|row| row.name == name)) {
                        notes.unknown(line.number, unknown);
                    }
                }
                None => notes.slip(line.number, format!("{} needs a value behind it", shown(name))),
            }
        }
        choices.push(Choice { name, argument, row });
    }
    choices
}

/// Says what becomes of options that nobody took over: one sentence for all with the same reason.
pub fn report(line: &Line, choices: &[Choice<'_>], notes: &Notes) {
    let mut groups: Vec<(Class, &str, Vec<String>)> = Vec::new();
    for choice in choices {
        let Some(row) = choice.row.filter(|row| row.class != Class::Taken) else { continue };
        let (class, what) = (row.class, row.what);
        match groups.iter_mut().find(|group| group.0 == class && group.1 == what) {
            Some(group) => group.2.push(choice.said()),
            None => groups.push((class, what, vec![choice.said()])),
        }
    }
    for (class, what, names) in groups {
        notes.add(line.number, class, format!("{}: {what}", names.join(", ")));
    }
}
