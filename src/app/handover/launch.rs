//! The program of this process, to be started once more.
//!
//! `/proc/self/exe` is of no use for that: after an upgrade it is the old file, which has no name any more. What counts is the
//! path by which this process was started, so that a link which was changed since leads to the new program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says to the program that it is to take another's place.
pub(super) const STAGE: &str = "PILOTFISH_UPGRADE";
/// It is to start itself once more, see [`launch`](super::launch).
pub(super) const LAUNCH: &str = "launch";
/// It is to serve.
pub(super) const SERVE: &str = "serve";

#[derive(Debug)]
pub(in crate::app) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    pub fn of_this_process() -> Launch {
        let mut arguments = std::env::args_os();
        let called = arguments.next().unwrap_or_default();
        let folder = std::env::current_dir().unwrap_or_default();
        let runs = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(&called));
        let searched = std::env::var_os("PATH").unwrap_or_default();
        let is_it = |path: &Path| path.canonicalize().is_ok_and(|path| path == runs);
        let program = places(&called, &folder, &searched).into_iter().find(|path| is_it(path));
        Launch { program: program.unwrap_or(runs), arguments: arguments.collect() }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// With the same arguments, folder and outputs as this process.
    pub fn command(&self, stage: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(STAGE, stage).stdin(Stdio::null());
        command
    }
}

/// Where the file may be that was called by this name.
fn places(called: &OsStr, folder: &Path, searched: &OsStr) -> Vec<PathBuf> {
    let called = Path::new(called);
    match called.components().count() {
        0 => Vec::new(),
        1 if !called.as_os_str().as_encoded_bytes().contains(&b'/') => {
            std::env::split_paths(searched).map(|path| folder.join(path).join(called)).collect()
        }
        _ => vec![folder.join(called)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_it_was_called() {
        for (called, expected) in [
            ("/usr/bin/pilotfish", "/usr/bin/pilotfish"),
            ("./pilotfish", "/home/me/./pilotfish"),
            ("target/pilotfish", "/home/me/target/pilotfish"),
            ("pilotfish", "/usr/bin/pilotfish /home/me/bin/pilotfish"),
            ("", ""),
        ] {
            let found = places(called.as_ref(), "/home/me".as_ref(), "/usr/bin:bin".as_ref());
            let found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            assert_eq!(found.join(" "), expected, "{called}");
        }
    }
}
