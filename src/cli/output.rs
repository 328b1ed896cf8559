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

/// What others chose (names of members and clusters) must not steer the terminal that it is shown on.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
