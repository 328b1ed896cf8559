//! `show stat typed`: a line for each filled column, with its place, its name and what it is.

use super::field::Field;
use super::row::{Object, Row, Value};

/// These rows.
pub fn draw(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let letter = match row.object {
            Object::Frontend => 'F',
            Object::Backend => 'B',
            Object::Server => 'S',
        };
        let (proxy, id) = (row.number_in(Field::Iid).unwrap_or(0), row.number_in(Field::Sid).unwrap_or(0));
        for (field, value) in row.filled() {
            let column = field.column();
            let (place, name, tags, kind) = (field as usize, column.name, column.tags, column.kind.as_str());
            let value = shown(value);
            text.push_str(&format!("{letter}.{proxy}.{id}.{place}.{name}.1:{tags}:{kind}:{value}\n"));
        }
    }
    text
}

/// A value on one line.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.replace(['\n', '\r'], " "),
    }
}
