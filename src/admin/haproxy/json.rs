//! `;json` and `show stat json`: each row as a list of its filled columns, each with all that is known of it.
//! (Source: `stats_dump_fields_json`, HAProxy 2.6.)

use serde::Serialize;

use super::field::{self, Field, Kind};
use super::info::Figure;
use super::row::{Row, Value};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(flatten)]
    of: Option<Of>,
    field: Place,
    process_num: u32,
    tags: Tags,
    value: Typed<'a>,
}

#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct Of {
    obj_type: &'static str,
    proxy_id: i64,
    id: i64,
}

#[derive(Serialize)]
struct Place {
    pos: usize,
    name: &'static str,
}

#[derive(Serialize)]
struct Tags {
    origin: &'static str,
    nature: &'static str,
    scope: &'static str,
}

#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    value: Plain<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Plain<'a> {
    Text(&'a str),
    Number(i64),
}

impl<'a> Item<'a> {
    fn new(of: Option<Of>, place: Place, tags: &str, kind: Kind, value: &'a Value) -> Item<'a> {
        let value = match value {
            Value::Text(text) => Plain::Text(text),
            Value::Number(number) => Plain::Number(*number),
        };
        Item {
            of,
            field: place,
            process_num: 1,
            tags: Tags {
                origin: field::origin(tags),
                nature: field::nature(tags),
                scope: field::scope(tags),
            },
            value: Typed { r#type: kind.as_str(), value },
        }
    }
}

/// The rows as HAProxy's JSON.
pub fn draw(rows: &[Row]) -> String {
    let drawn: Vec<Vec<Item>> = rows.iter().map(items).collect();
    text(&drawn)
}

fn items(row: &Row) -> Vec<Item<'_>> {
    let of = Of {
        obj_type: row.object.as_str(),
        proxy_id: row.number_in(Field::Iid).unwrap_or(0),
        id: row.number_in(Field::Sid).unwrap_or(0),
    };
    row.filled()
        .map(|(field, value)| {
            let column = field.column();
            let place = Place { pos: field as usize, name: column.name };
            Item::new(Some(of), place, column.tags, column.kind, value)
        })
        .collect()
}

/// `show info json`: all figures in one list.
pub fn draw_figures(figures: &[Figure]) -> String {
    let items: Vec<Item> = figures
        .iter()
        .map(|figure| {
            let place = Place { pos: figure.place, name: figure.name };
            Item::new(None, place, figure.tags, figure.kind, &figure.value)
        })
        .collect();
    text(&items)
}

/// Nothing in these items can fail to be written.
fn text(items: &impl Serialize) -> String {
    serde_json::to_string(items).unwrap_or_default()
}
