//! Values on their way from HAProxy's words to pilotfish's keys.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::notes::Notes;
use super::sections::Line;
use crate::config::limits::Bounds;
use crate::config::show_duration;

/// One key of pilotfish and what it gets, with the place that it came from.
#[derive(Clone, Debug)]
pub struct Setting {
    pub key: &'static str,
    /// As YAML.
    pub value: String,
    pub line: usize,
    /// The words that said it.
    pub said: String,
}

/// Several keys, each once, in the order in which they were first set.
#[derive(Clone, Debug, Default)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// Sets a key; a later setting takes the place of an earlier one.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>, line: usize, said: impl Into<String>) {
        let setting = Setting { key, value: value.into(), line, said: said.into() };
        match self.0.iter_mut().find(|old| old.key == key) {
            Some(old) => *old = setting,
            None => self.0.push(setting),
        }
    }

    pub fn find(&self, key: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.key == key)
    }

    /// Whether both say the same, wherever they were said.
    pub fn same(&self, other: &Settings) -> bool {
        let within = |a: &Settings, b: &Settings| {
            a.0.iter().all(|setting| b.find(setting.key).is_some_and(|found| found.value == setting.value))
        };
        within(self, other) && within(other, self)
    }
}

/// A value, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    pub value: T,
    pub line: usize,
    pub words: String,
}

/// A time of HAProxy's in milliseconds: `us`, `ms` (without a unit), `s`, `m`, `h`, `d` (configuration.txt, section 2.5).
/// Parts of a millisecond count as a whole one.
pub fn time_ms(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let wrong = || format!("{text:?} is not a time; HAProxy takes a number with us, ms, s, m, h or d");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "us" => Some(number.div_ceil(1000)),
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(wrong()),
    };
    ms.ok_or_else(|| format!("{text:?} is longer than anyone can wait"))
}

pub fn show_ms(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

/// The time at `at` of a line; a slip where there is none.
pub fn time_at(line: &Line, at: usize, notes: &Notes) -> Option<u64> {
    let ms = match line.words.get(at) {
        Some(word) => time_ms(word),
        None => Err(format!("{} needs a time such as 30s", line.said())),
    };
    ms.map_err(|why| notes.slip(line.number, why)).ok()
}

/// The same of a timeout; `None` also for 0, by which HAProxy takes it as not set.
pub fn timeout_at(line: &Line, at: usize, notes: &Notes) -> Option<u64> {
    time_at(line, at, notes).and_then(|ms| is_set(ms, (line.number, &line.said()), notes))
}

/// A time that HAProxy takes as not set where it is 0, which is then noted.
pub fn is_set(ms: u64, at: (usize, &str), notes: &Notes) -> Option<u64> {
    if ms == 0 {
        notes.taken(at.0, format!("{}: 0 is not set, as if the line were not there", at.1));
    }
    (ms > 0).then_some(ms)
}

/// The whole number at `at` of a line; a slip where there is none.
pub fn number_at(line: &Line, at: usize, notes: &Notes) -> Option<u64> {
    match line.words.get(at).map(|word| word.parse()) {
        Some(Ok(number)) => Some(number),
        _ => {
            notes.slip(line.number, format!("{} needs a whole number", line.said()));
            None
        }
    }
}

/// A bound as HAProxy's times are counted.
pub fn in_ms(bound: Duration) -> u64 {
    u64::try_from(bound.as_millis()).unwrap_or(u64::MAX)
}

/// The time itself where pilotfish takes it, else the nearest that it takes and a note of that; as it is written.
/// `at`: the line, and how it is spoken of.
pub fn time_within(ms: u64, bounds: &Bounds<Duration>, at: (usize, &str), notes: &Notes) -> String {
    show_ms(within(ms, in_ms(bounds.least)..=in_ms(bounds.most), show_ms, at, notes))
}

/// The same of a number.
pub fn number_within(number: u64, bounds: &Bounds<u64>, at: (usize, &str), notes: &Notes) -> u64 {
    within(number, bounds.least..=bounds.most, |number| number.to_string(), at, notes)
}

fn within(
    value: u64,
    bounds: RangeInclusive<u64>,
    show: impl Fn(u64) -> String,
    at: (usize, &str),
    notes: &Notes,
) -> u64 {
    let nearest = value.clamp(*bounds.start(), *bounds.end());
    if nearest != value {
        notes.lost(at.0, format!("{}: pilotfish takes {} at the nearest", at.1, show(nearest)));
    }
    nearest
}
