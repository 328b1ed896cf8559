//! One line of HAProxy's statistics: a pool's front, one of its members, or the pool as a whole.

use super::field::{COLUMNS, Field};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Frontend,
    Backend,
    Server,
}

/// What stands in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A line; what pilotfish has no true figure for is empty.
#[derive(Debug, Clone)]
pub struct Row {
    pub object: Object,
    values: Vec<Option<Value>>,
}

impl Object {
    /// The value of the column `type`.
    pub fn number(self) -> u32 {
        match self {
            Object::Frontend => 0,
            Object::Backend => 1,
            Object::Server => 2,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Object::Frontend => "Frontend",
            Object::Backend => "Backend",
            Object::Server => "Server",
        }
    }
}

impl Row {
    pub fn new(object: Object) -> Row {
        let mut row = Row { object, values: vec![None; COLUMNS.len()] };
        row.number(Field::Pid, 1);
        row.number(Field::Type, object.number());
        row.text(Field::Mode, "tcp");
        row
    }

    pub fn text(&mut self, field: Field, text: impl Into<String>) {
        self.values[field as usize] = Some(Value::Text(text.into()));
    }

    pub fn number<N: TryInto<i64>>(&mut self, field: Field, number: N) {
        self.values[field as usize] = Some(Value::Number(number.try_into().unwrap_or(i64::MAX)));
    }

    pub fn get(&self, field: Field) -> Option<&Value> {
        self.values[field as usize].as_ref()
    }

    /// The number in this column; `None` when it is empty or a text.
    pub fn number_in(&self, field: Field) -> Option<i64> {
        match self.get(field) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The text in this column; empty when there is none.
    pub fn text_in(&self, field: Field) -> &str {
        match self.get(field) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The columns that are not empty, in their order.
    pub fn filled(&self) -> impl Iterator<Item = (Field, &Value)> {
        Field::ALL.iter().filter_map(|&field| Some((field, self.get(field)?)))
    }
}
