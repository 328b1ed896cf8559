//! What goes to standard output and standard error.
//!
//! Whoever has read enough may close the pipe (`pilotfish sessions | head`): that is no error, and the end of it.

use std::io::{self, Write};

use super::{EXIT_FAILED, Failure};

/// Writes `text` as it is.
///
/// # Errors
/// When it cannot be written for another reason than a closed pipe. A closed pipe ends the command with success: an
/// error without words.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(0, "")),
        Err(error) => Err(Failure::new(EXIT_FAILED, format!("standard output cannot be written: {error}"))),
    }
}

/// A JSON value for programs, on one line.
///
/// # Errors
/// Those of [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

pub fn complain(words: &str) {
    // Nobody is left to tell when standard error is closed; the exit code says it all the same.
    let _ = writeln!(io::stderr(), "{words}");
}

/// Bytes for people: binary units, three digits.
pub fn bytes(count: u64) -> String {
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
pub fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// What others chose (names of members and clusters) must not steer the terminal that it is shown on.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
