//! `;csv` and `show stat`: a heading of all columns, and a line for each row. Each line ends with a comma, as HAProxy's do.

use super::field::COLUMNS;
use super::field::Field;
use super::row::{Row, Value};

/// The heading and these rows.
pub fn draw(rows: &[Row]) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let mut text = format!("# {},\n", names.join(","));
    for row in rows {
        for &field in Field::ALL {
            match row.get(field) {
                Some(Value::Number(number)) => text.push_str(&number.to_string()),
                Some(Value::Text(word)) => quote(word, &mut text),
                None => {}
            }
            text.push(',');
        }
        text.push('\n');
    }
    text
}

/// In quotes when it has to be.
fn quote(word: &str, text: &mut String) {
    if word.contains(['"', ',', '\n', '\r']) {
        text.push('"');
        text.push_str(&word.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(word);
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Object;
    use super::*;

    #[test]
    fn a_line_has_all_columns_and_a_comma_more_and_quotes_only_what_needs_it() {
        let mut row = Row::new(Object::Server);
        row.text(Field::Pxname, "primary");
        row.text(Field::Svname, "a,\"b\"");
        row.number(Field::Scur, 7_u64);
        let text = draw(&[row]);
        let (heading, line) = text.split_once('\n').unwrap();
        assert!(heading.starts_with("# pxname,svname,qcur,"), "{heading}");
        assert!(heading.ends_with(",agg_check_status,"), "{heading}");
        assert!(line.starts_with("primary,\"a,\"\"b\"\"\",,,7,,"), "{line}");
        assert!(line.ends_with(",\n"), "{line}");
        assert_eq!(line.matches(',').count(), heading.matches(',').count() + 1);
    }
}
