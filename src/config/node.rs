//! A value on its way into the configuration: it knows its path, and takes complaints instead of failing.
//!
//! Every reader answers `None` for what it cannot use and has then complained about it, so the caller takes a default
//! and reads on.

use super::complaints::{Complaint, Complaints};
use super::limits::Bounds;
use super::raw::{Raw, Value};
use super::value;
use super::word::{Word, nearest};
use std::collections::HashMap;
use std::time::Duration;

/// One value of the tree.
#[derive(Clone)]
pub struct Node<'a> {
    raw: &'a Raw,
    path: String,
    complaints: &'a Complaints,
}

impl<'a> Node<'a> {
    pub fn root(raw: &'a Raw, complaints: &'a Complaints) -> Self {
        Self::named("", raw, complaints)
    }

    pub fn named(name: &str, raw: &'a Raw, complaints: &'a Complaints) -> Self {
        Self { raw, path: name.into(), complaints }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn refuse(&self, message: impl Into<String>) {
        self.complain(self.raw.id, message.into(), None);
    }

    /// Refused because of `first`, which came before.
    pub fn refuse_beside(&self, first: &Node<'_>, message: impl Into<String>) {
        self.complain(self.raw.id, message.into(), Some(first.raw.id));
    }

    fn complain(&self, id: usize, message: String, first: Option<usize>) {
        self.complaints.add(Complaint { id, path: self.path.clone(), message, first });
    }

    /// The path of what is below `key`, in one line whatever the key holds.
    fn key(&self, key: &str) -> String {
        let is_safe = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
        let key: String = key.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect();
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.raw.value, Value::Empty)
    }

    pub fn is_map(&self) -> bool {
        matches!(self.raw.value, Value::Map(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.raw.value, Value::List(_))
    }

    /// It is this word.
    pub fn says(&self, word: &str) -> bool {
        matches!(&self.raw.value, Value::Text(text) | Value::Filled { text, .. } if text == word)
    }

    /// `off` or `false`, which YAML may read as either text or a truth value.
    pub fn is_off(&self) -> bool {
        match &self.raw.value {
            Value::Bool(bool) => !bool,
            Value::Text(text) | Value::Filled { text, .. } => matches!(text.as_str(), "off" | "false"),
            _ => false,
        }
    }

    /// The value as the subject of a sentence.
    fn found(&self) -> String {
        match &self.raw.value {
            Value::Empty => "nothing".into(),
            Value::Bool(bool) => bool.to_string(),
            Value::Number(digits) => format!("the number {}", shortened(digits)),
            Value::Text(text) => quoted(text),
            Value::Filled { text, .. } => self.part(text),
            Value::List(list) if list.is_empty() => "an empty list".into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Unusable(_) => "something unusable".into(),
        }
    }

    /// `part` of the text, and the variables that it came from.
    fn part(&self, part: &str) -> String {
        match &self.raw.value {
            Value::Filled { written, .. } => format!("{} (from {})", quoted(part), quoted(written)),
            _ => quoted(part),
        }
    }

    /// Complains that something else was expected.
    pub fn mismatch<T>(&self, expected: &str) -> Option<T> {
        match &self.raw.value {
            Value::Unusable(why) => self.refuse(why.clone()),
            _ => self.refuse(format!("found {}, expected {expected}", self.found())),
        }
        None
    }

    /// Complains about a value that does read, with `why` as the end of the sentence.
    pub fn refuse_value<T>(&self, why: impl AsRef<str>) -> Option<T> {
        self.refuse(format!("{} {}", self.found(), why.as_ref()));
        None
    }

    /// Text, not a number.
    pub fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.raw.value {
            Value::Text(text) | Value::Filled { text, .. } => Some(text),
            _ => self.mismatch(expected),
        }
    }

    /// Text that must not be shown, not even where it is wrong.
    pub fn hidden_text(&self, expected: &str) -> Option<&'a str> {
        match &self.raw.value {
            Value::Text(text) | Value::Filled { text, .. } => return Some(text),
            Value::Unusable(_) => {
                self.refuse(format!("holds a ${{VAR}} that cannot be filled in; write {expected}"));
            }
            _ => self.refuse(format!("is not text (not shown here); write {expected}")),
        }
        None
    }

    /// Text or a number, as text.
    fn scalar(&self, expected: &str) -> Option<&'a str> {
        match &self.raw.value {
            Value::Text(text) | Value::Filled { text, .. } | Value::Number(text) => Some(text),
            _ => self.mismatch(expected),
        }
    }

    pub fn duration(&self, bounds: &Bounds<Duration>) -> Option<Duration> {
        match value::duration(self.scalar("a duration such as 100ms, 1s, 2m")?) {
            Ok(duration) => {
                self.within(duration, bounds, ["short", "long"], |bound| value::show_duration(*bound))
            }
            Err(why) => self.refuse_value(why),
        }
    }

    pub fn number(&self, bounds: &Bounds<u64>) -> Option<u64> {
        let text = self.scalar("a whole number")?;
        match text.parse() {
            Ok(number) => self.within(number, bounds, ["small", "large"], u64::to_string),
            Err(_) => {
                let Bounds { least, most, .. } = bounds;
                let what = match text.parse::<i64>() {
                    Ok(..0) => "is negative; write a whole number",
                    _ => "is not a whole number; write one",
                };
                self.refuse_value(format!("{what} from {least} to {most}"))
            }
        }
    }

    fn within<T: PartialOrd>(
        &self,
        value: T,
        bounds: &Bounds<T>,
        [under, over]: [&str; 2],
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let range = format!("{} to {}", show(&bounds.least), show(&bounds.most));
        if value < bounds.least {
            return self.refuse_value(format!("is too {under}; write {range} ({})", bounds.why));
        }
        if value > bounds.most {
            return self.refuse_value(format!("is too {over}; write {range}"));
        }
        Some(value)
    }

    pub fn size(&self) -> Option<u64> {
        match value::size(self.scalar("a size in bytes such as 16MiB")?) {
            Ok(bytes) => Some(bytes),
            Err(why) => self.refuse_value(why),
        }
    }

    pub fn word<W: Word>(&self) -> Option<W> {
        let words: Vec<&str> = W::WORDS.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", words.join(", "));
        let text = self.text(&expected)?;
        let choice = W::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        let elsewhere = W::ELSEWHERE.iter().find(|(theirs, _)| *theirs == text).map(|(_, ours)| *ours);
        choice.or_else(|| match elsewhere.or_else(|| nearest(text, &words)) {
            Some(near) => self.mismatch(&format!("{expected}; did you mean {near}?")),
            None => self.mismatch(&expected),
        })
    }

    /// `auto`, or what `read` makes of it.
    pub fn auto_or<T>(&self, read: impl FnOnce(&Self) -> Option<T>) -> Option<Option<T>> {
        if self.says("auto") { Some(None) } else { read(self).map(Some) }
    }

    pub fn truth(&self) -> Option<bool> {
        match &self.raw.value {
            Value::Bool(bool) => Some(*bool),
            _ if self.says("true") => Some(true),
            _ if self.says("false") => Some(false),
            _ => self.mismatch("true or false"),
        }
    }

    /// `off`, or what `read` makes of it.
    pub fn off_or<T>(&self, read: impl FnOnce(&Self) -> Option<T>) -> Option<Option<T>> {
        if self.is_off() { Some(None) } else { read(self).map(Some) }
    }

    /// A choice of which `off` is one, however YAML has read that.
    pub fn off_or_word<W: Word>(&self) -> Option<W> {
        let off = W::WORDS.iter().find(|(word, _)| *word == "off" && self.is_off());
        off.map(|(_, choice)| *choice).or_else(|| self.word())
    }

    /// A single value of any kind, as text.
    pub fn plain(&self) -> Option<String> {
        match &self.raw.value {
            Value::Bool(bool) => Some(bool.to_string()),
            _ => self.scalar("a single value such as true, 1 or text").map(str::to_owned),
        }
    }

    /// Keys that are the operator's to choose, `most` at most, with their values.
    pub fn entries(&self, expected: &str, most: usize) -> Option<Vec<(String, Node<'a>)>> {
        let Value::Map(entries) = &self.raw.value else { return self.mismatch(expected) };
        if entries.len() > most {
            self.too_many(most);
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut found = Vec::new();
        for (key, raw) in entries.iter().take(most) {
            let name = Node { raw: key, path: self.path.clone(), complaints: self.complaints };
            let Some(text) = name.plain() else { continue };
            let node = Node { raw, path: self.key(&text), complaints: self.complaints };
            match seen.insert(text.clone(), key.id) {
                Some(first) => {
                    node.complain(key.id, "this key is given twice; keep one".into(), Some(first));
                }
                None => found.push((text, node)),
            }
        }
        Some(found)
    }

    /// The items of a list, `most` at most.
    pub fn items(&self, expected: &str, most: usize) -> Option<Vec<Node<'a>>> {
        let Value::List(list) = &self.raw.value else { return self.mismatch(expected) };
        if list.is_empty() {
            return self.mismatch(expected);
        }
        if list.len() > most {
            self.too_many(most);
        }
        let item = |(i, raw)| Node { raw, path: format!("{}[{i}]", self.path), complaints: self.complaints };
        Some(list.iter().take(most).enumerate().map(item).collect())
    }

    fn too_many(&self, most: usize) {
        self.refuse(format!("holds more than {most} items; write fewer"));
    }

    /// What `read` makes of a text or each text of a list, where a text with commas stands for several. An error of
    /// `read` is the end of a sentence that begins with the text.
    pub fn texts<T>(
        &self,
        expected: &str,
        most: usize,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<(Node<'a>, T)>> {
        let items = match &self.raw.value {
            Value::List(_) => self.items(expected, most)?,
            _ => vec![self.clone()],
        };
        let mut values = Vec::new();
        for item in items {
            let Some(text) = item.text(expected) else { continue };
            for part in text.split(',').map(str::trim) {
                if values.len() == most {
                    self.too_many(most);
                    return Some(values);
                }
                match read(part) {
                    Ok(value) => values.push((item.clone(), value)),
                    Err(why) => item.refuse(format!("{} {why}", item.part(part))),
                }
            }
        }
        Some(values)
    }

    /// The value of `key` in a map, which is not checked for other keys here.
    pub fn at(&self, key: &str) -> Option<Node<'a>> {
        let Value::Map(entries) = &self.raw.value else { return None };
        let (_, raw) =
            entries.iter().find(|(name, _)| matches!(&name.value, Value::Text(text) if text == key))?;
        Some(Node { raw, path: self.key(key), complaints: self.complaints })
    }

    /// A map with no keys but the `known`.
    pub fn map(&self, known: &[&str]) -> Option<Map<'a>> {
        self.map_or(known, "")
    }

    /// The same; `or_else` names what else would have been accepted.
    fn map_or(&self, known: &[&str], or_else: &str) -> Option<Map<'a>> {
        let Value::Map(entries) = &self.raw.value else {
            return self.mismatch(&format!("a map (keys: {}){or_else}", known.join(", ")));
        };
        let mut first_of: HashMap<&str, usize> = HashMap::new();
        let mut map = Map { node: self.clone(), entries: Vec::new() };
        for (key, raw) in entries {
            let name = Node { raw: key, path: self.path.clone(), complaints: self.complaints };
            let Some(text) = name.scalar("a key") else { continue };
            let node = Node { raw, path: self.key(text), complaints: self.complaints };
            if !known.contains(&text) {
                name.refuse(unknown_key(text, known));
            } else if let Some(first) = first_of.insert(text, key.id) {
                node.complain(key.id, "this key is given twice; keep one".into(), Some(first));
            } else {
                map.entries.push(node);
            }
        }
        Some(map)
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let hint = match nearest(key, known) {
        _ if key == "<<" => "YAML merge keys are not read here, write the keys out".into(),
        Some(near) => format!("did you mean {near}?"),
        None => format!("known here: {}", known.join(", ")),
    };
    format!("unknown key {}; {hint}", quoted(key))
}

/// Keys and values, all of the known ones, each there once.
pub struct Map<'a> {
    node: Node<'a>,
    entries: Vec<Node<'a>>,
}

impl<'a> Map<'a> {
    /// Where complaints about the map as a whole go.
    pub fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// The value of `key`. An empty one counts as left out.
    pub fn find(&self, key: &str) -> Option<Node<'a>> {
        let path = self.node.key(key);
        self.entries.iter().find(|node| node.path == path && !node.is_empty()).cloned()
    }

    /// The value of a key that has to be there.
    pub fn need(&self, key: &str, expected: &str) -> Option<Node<'a>> {
        let found = self.find(key);
        if found.is_none() {
            self.node.refuse(format!("the key {key} is missing or empty; give {expected}"));
        }
        found
    }

    /// What `read` makes of the value of `key`, or the default where there is none to use.
    pub fn read<T>(&self, key: &str, default: T, read: impl FnOnce(&Node<'a>) -> Option<T>) -> T {
        self.find(key).and_then(|node| read(&node)).unwrap_or(default)
    }

    /// The map under `key`, empty where it is left out.
    pub fn map(&self, key: &str, known: &[&str]) -> Option<Map<'a>> {
        match self.find(key) {
            Some(node) => node.map(known),
            None => Some(self.empty(key)),
        }
    }

    /// The same, or `None` without a complaint where it is `off`.
    pub fn map_or_off(&self, key: &str, known: &[&str]) -> Option<Map<'a>> {
        match self.find(key) {
            Some(node) if node.is_off() => None,
            Some(node) => node.map_or(known, ", or off"),
            None => Some(self.empty(key)),
        }
    }

    fn empty(&self, key: &str) -> Map<'a> {
        Map { node: Node { path: self.node.key(key), ..self.node.clone() }, entries: Vec::new() }
    }
}

/// As much of a text as fits in a line of complaint.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}
