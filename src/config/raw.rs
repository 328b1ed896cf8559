//! YAML text to a tree of plain values. The only file that names the YAML crate.
//!
//! A location costs nothing until a problem needs one. Each value and key gets a number in the order of the text;
//! [`locate`] reads the text once more and raises an error at that number, to which the YAML crate adds the line and
//! the column. So duplicate keys stay in the tree as they are, and whoever reads it can say where each of them is.

use super::limits::{MAX_BRACKETS, MAX_TEXT_BYTES, MAX_VALUES};
use super::problem::Problem;
use super::syntax;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

/// A value or a key, and its number in the text.
#[derive(Debug)]
pub struct Raw {
    pub id: usize,
    pub value: Value,
}

#[derive(Debug)]
pub enum Value {
    /// Nothing written, or `null`.
    Empty,
    Bool(bool),
    /// As YAML understood it, in decimal.
    Number(String),
    Text(String),
    /// What `${VAR}` made of a text; `written` is the text in the file.
    Filled {
        text: String,
        written: String,
    },
    List(Vec<Raw>),
    /// Key and value as they come; a key may be there twice.
    Map(Vec<(Raw, Raw)>),
    /// Cannot be used whatever is expected, and why.
    Unusable(String),
}

impl Raw {
    /// Text that does not come from a file.
    pub fn text(text: String) -> Self {
        Raw { id: 0, value: Value::Text(text) }
    }
}

/// Text that is not YAML, or not one that can be taken.
pub struct Broken {
    place: Option<(usize, usize)>,
    message: String,
}

impl Broken {
    pub fn in_file(self, file: &str) -> Problem {
        Problem { file: file.into(), place: self.place, path: String::new(), message: self.message }
    }
}

/// The whole text as one tree.
pub fn parse(text: &str) -> Result<Raw, Broken> {
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > MAX_BRACKETS {
        let message =
            format!("has more than {MAX_BRACKETS} opening brackets; write lists and maps in block form");
        return Err(Broken { place: None, message });
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let mut pass = Pass::default();
    let tree = match documents.next().map(|first| Seed(&mut pass).deserialize(first)) {
        Some(Ok(tree)) => tree,
        Some(Err(error)) => return Err(broken(text, &error, pass.overflow)),
        None => Raw { id: 0, value: Value::Empty },
    };
    let Some(second) = documents.next() else { return Ok(tree) };
    let mut pass = Pass { stop: Some(0), ..Pass::default() };
    match Seed(&mut pass).deserialize(second) {
        Err(error) if !pass.stopped() => Err(broken(text, &error, None)),
        outcome => Err(Broken {
            place: outcome.err().and_then(|error| place(&error)),
            message: "a second YAML document starts here; keep one in the file".into(),
        }),
    }
}

/// Line and column, from 1, of the value or key with this number.
pub fn locate(text: &str, id: usize) -> Option<(usize, usize)> {
    let mut pass = Pass { stop: Some(id), ..Pass::default() };
    let first = serde_yaml::Deserializer::from_str(text).next()?;
    let error = Seed(&mut pass).deserialize(first).err()?;
    place(&error)
}

fn place(error: &serde_yaml::Error) -> Option<(usize, usize)> {
    error.location().map(|location| (location.line(), location.column()))
}

fn broken(text: &str, error: &serde_yaml::Error, overflow: Option<String>) -> Broken {
    let place = place(error);
    let message = overflow.unwrap_or_else(|| syntax::explain(text, place, &error.to_string()));
    Broken { place, message }
}

/// One reading of the text: how far it came, and where it is to stop.
#[derive(Default)]
struct Pass {
    values: usize,
    text_bytes: usize,
    stop: Option<usize>,
    /// The limit that was passed.
    overflow: Option<String>,
}

impl Pass {
    /// Counts one value in and gives it its number.
    fn enter<E: Error>(&mut self, text_bytes: usize) -> Result<usize, E> {
        let id = self.values;
        self.values += 1;
        self.text_bytes += text_bytes;
        if self.stop == Some(id) {
            return Err(E::custom("here"));
        }
        if self.values > MAX_VALUES || self.text_bytes > MAX_TEXT_BYTES {
            self.overflow = Some(format!(
                "has more than {MAX_VALUES} values or {} KiB of text, with YAML aliases written out; make it smaller",
                MAX_TEXT_BYTES >> 10
            ));
            return Err(E::custom("too much"));
        }
        Ok(id)
    }

    fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| self.values > stop)
    }
}

struct Seed<'p>(&'p mut Pass);

impl Seed<'_> {
    fn leaf<E: Error>(self, text_bytes: usize, value: impl FnOnce() -> Value) -> Result<Raw, E> {
        Ok(Raw { id: self.0.enter(text_bytes)?, value: value() })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        self.leaf(0, || Value::Empty)
    }

    fn visit_none<E: Error>(self) -> Result<Raw, E> {
        self.leaf(0, || Value::Empty)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Raw, E> {
        self.leaf(0, || Value::Bool(bool))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Raw, E> {
        self.leaf(0, || Value::Number(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Raw, E> {
        self.leaf(0, || Value::Number(number.to_string()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Raw, E> {
        self.leaf(0, || Value::Number(number.to_string()))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Raw, E> {
        self.leaf(0, || Value::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Raw, E> {
        self.leaf(0, || Value::Number(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        self.leaf(text.len(), || Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let id = self.0.enter(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(&mut *self.0))? {
            list.push(item);
        }
        Ok(Raw { id, value: Value::List(list) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let id = self.0.enter(0)?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Seed(&mut *self.0))? {
            map.push((key, entries.next_value_seed(Seed(&mut *self.0))?));
        }
        Ok(Raw { id, value: Value::Map(map) })
    }

    /// A value with a YAML tag of its own, such as `!secret`.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Raw, A::Error> {
        let id = self.0.enter(0)?;
        let (tag, content) = tagged.variant::<String>()?;
        content.newtype_variant_seed(Seed(&mut *self.0))?;
        let why = format!("the YAML tag !{} is not known here; leave it out", tag.escape_debug());
        Ok(Raw { id, value: Value::Unusable(why) })
    }
}
