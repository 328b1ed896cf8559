//! The line from which the views count since somebody has said `clear counters all`. What pilotfish itself counts goes
//! on, for Prometheus and the page.

use std::collections::HashMap;

use super::field::Field;
use super::row::{Object, Row};

/// The counters as they were.
#[derive(Debug, Default)]
pub struct Zero {
    /// By the proxy, the kind of row and the server.
    lines: HashMap<(String, u32, String), Vec<(Field, i64)>>,
}

impl Zero {
    /// What stands in these rows is zero from now on.
    pub fn at(rows: &[Row]) -> Zero {
        let counters = |row: &Row| {
            let counter = |(field, _): (Field, _)| Some((field, row.number_in(field)?));
            row.filled().filter(|(field, _)| field.is_counter()).filter_map(counter).collect()
        };
        Zero { lines: rows.iter().map(|row| (key(row), counters(row))).collect() }
    }

    pub fn subtract(&self, rows: &mut [Row]) {
        for row in rows {
            for &(field, before) in self.lines.get(&key(row)).into_iter().flatten() {
                if let Some(number) = row.number_in(field) {
                    row.number(field, (number - before).max(0));
                }
            }
        }
    }
}

fn key(row: &Row) -> (String, u32, String) {
    let object: Object = row.object;
    (row.text_in(Field::Pxname).to_owned(), object.number(), row.text_in(Field::Svname).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(total: u64, current: u64) -> Row {
        let mut row = Row::new(Object::Server);
        row.text(Field::Pxname, "primary");
        row.text(Field::Svname, "a");
        row.number(Field::Stot, total);
        row.number(Field::Scur, current);
        row
    }

    #[test]
    fn counters_begin_anew_and_gauges_stay() {
        let zero = Zero::at(&[row(10, 3)]);
        let mut rows = [row(12, 4)];
        zero.subtract(&mut rows);
        assert_eq!((rows[0].number_in(Field::Stot), rows[0].number_in(Field::Scur)), (Some(2), Some(4)));
    }
}
