//! The program of this process, to be started once more.
//!
//! `/proc/self/exe` is of no use for that: after an upgrade it is the old file, which has no name any more. What counts is the
//! path by which this process was started, so that a link which was changed since leads to the new program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
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

    /// Looks whether the system itself would run the file. One that it would not run is read by a shell otherwise (execvp(3)),
    /// line by line.
    ///
    /// # Errors
    /// In words, what it is.
    pub fn verify(&self) -> Result<(), &'static str> {
        let own = Header::of("/proc/self/exe".as_ref());
        // One that is not there, or may be run but not read, is told of by the system.
        Header::of(&self.program).map_or(Ok(()), |header| header.verify(own.as_ref()))
    }

    /// With the same arguments, folder and outputs as this process.
    pub fn command(&self, stage: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env(STAGE, stage).stdin(Stdio::null());
        command
    }
}

/// How a file begins.
#[derive(Debug)]
struct Header(Vec<u8>);

impl Header {
    const BYTES: u64 = 20;

    fn of(path: &Path) -> Option<Header> {
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(Header::BYTES).read_to_end(&mut bytes)).ok()?;
        Some(Header(bytes))
    }

    /// Compared with that of the program that runs.
    fn verify(&self, own: Option<&Header>) -> Result<(), &'static str> {
        let is_script = self.0.starts_with(b"#!");
        match (self.machine(), own.and_then(Header::machine)) {
            (Some(machine), Some(own)) if machine != own => {
                Err("it is a program for another kind of machine")
            }
            (Some(_), _) => Ok(()),
            (None, _) if is_script => Ok(()),
            (None, _) => Err("it is no whole program, and no script that names its interpreter (#!)"),
        }
    }

    /// Of an ELF file: class, byte order and machine (elf(5): EI_CLASS, EI_DATA, e_machine).
    fn machine(&self) -> Option<([u8; 2], [u8; 2])> {
        match self.0[..] {
            [0x7f, b'E', b'L', b'F', class, order, .., low, high] if self.0.len() as u64 == Header::BYTES => {
                Some(([class, order], [low, high]))
            }
            _ => None,
        }
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
    #[test]
    fn a_file_that_a_shell_would_have_to_read_is_no_program() {
        let elf = |class: u8, machine: u8| {
            let rest = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, machine, 0];
            Header([&b"\x7fELF"[..], &[class], &rest].concat())
        };
        let own = elf(2, 62);
        assert_eq!(own.0.len() as u64, Header::BYTES);
        let text = |text: &[u8]| Header(text.to_vec());
        for (header, expected) in [
            (elf(2, 62), ""),
            (text(b"#!/bin/sh\n"), ""),
            (elf(2, 183), "another kind of machine"),
            (elf(1, 62), "another kind of machine"),
            (text(b"exec pilotfish \"$@\""), "no script that names its interpreter"),
            (text(b"\x7fELF\x02\x01"), "no whole program"),
            (text(b""), "no whole program"),
        ] {
            let said = header.verify(Some(&own)).err().unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{header:?}: {said}");
            assert_eq!(elf(1, 3).verify(None), Ok(()), "what runs cannot be read");
        }
        assert_eq!(Launch::of_this_process().verify(), Ok(()));
    }
}
