//! The options behind the address of a `bind` or `server` line.

use super::keywords::{self, Keyword, Place};
use super::notes::{Class, Notes};
use super::sections::{Line, shown};
use super::vocabulary;

/// One option with its argument, where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub name: &'a str,
    /// Empty where it takes none.
    pub argument: &'a str,
    /// `None`: not known.
    pub row: Option<&'static Keyword>,
}

impl Choice<'_> {
    /// How it is spoken of.
    pub fn said(&self) -> String {
        shown(format!("{} {}", self.name, self.argument).trim_end())
    }
}

/// Takes the options of a line apart, from the word at `from` on. A missing argument is a slip.
pub fn read<'a>(line: &'a Line, from: usize, place: Place, notes: &Notes) -> Vec<Choice<'a>> {
    let mut words = line.words.iter().skip(from).map(String::as_str);
    let mut choices = Vec::new();
    while let Some(name) = words.next() {
        let row = keywords::find(place, name);
        let mut argument = "";
        if let Some(why) = vocabulary::complaint(vocabulary::root(place), &[name]) {
            notes.slip(line.number, why);
        }
        if row.is_some_and(|row| row.arguments > 0) {
            match words.next() {
                Some(word) => {
                    argument = word;
                    let why = vocabulary::complaint(vocabulary::root(place), &[name, word]);
                    if let Some(why) = why.filter(|_| row.is_some_and(|row| row.name == name)) {
                        notes.slip(line.number, why);
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
        let (class, what) = match choice.row {
            Some(row) if row.class == Class::Taken => continue,
            Some(row) => (row.class, row.what),
            None => (Class::Lost, "not known here"),
        };
        match groups.iter_mut().find(|group| group.0 == class && group.1 == what) {
            Some(group) => group.2.push(choice.said()),
            None => groups.push((class, what, vec![choice.said()])),
        }
    }
    for (class, what, names) in groups {
        notes.add(line.number, class, format!("{}: {what}", names.join(", ")));
    }
}
