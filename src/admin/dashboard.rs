//! The page: a drawing of the view, readable without JavaScript.

use askama::Template;

use super::view::StatusView;

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Page<'a> {
    status: &'a StatusView,
}

/// The page as it is now.
///
/// # Errors
/// Those of the template.
pub fn draw(status: &StatusView) -> askama::Result<String> {
    Page { status }.render()
}

/// What the template may write after a `|`.
mod filters {
    use askama::Values;

    #[askama::filter_fn]
    pub fn bytes(count: &u64, _: &dyn Values) -> askama::Result<String> {
        Ok(super::bytes(*count))
    }

    #[askama::filter_fn]
    pub fn ago(seconds: &f64, _: &dyn Values) -> askama::Result<String> {
        Ok(super::ago(*seconds))
    }
}

/// Bytes for people: binary units, three digits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || scaled >= 100.0 { 0 } else { 1 };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// A duration for people, in one unit.
fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (500 << 20, "500 MiB")] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [(0.44, "0.4 s"), (61.0, "61 s"), (600.0, "10 min"), (86_400.0 * 3.0, "3 d")] {
            assert_eq!(ago(seconds), text);
        }
    }
}
