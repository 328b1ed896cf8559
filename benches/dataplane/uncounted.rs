//! pilotfish without its byte counters, for `make bench`: what counting costs is what this one is faster by.

use std::process::ExitCode;

fn main() -> ExitCode {
    pilotfish::cli::main()
}
