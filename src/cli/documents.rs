//! Completions and manual pages, made from the arguments themselves.

use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

use super::output::print;
use super::{EXIT_FAILED, EXIT_USAGE, Failure, arguments};

pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut arguments::commands(), "pilotfish", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// When the commands changed last: the foot of a page has a date.
const CHANGED: &str = "2026-11-27";

/// One page to standard output, or all into a folder.
pub fn man(command: Option<&str>, dir: Option<&Path>) -> Result<(), Failure> {
    // A page is the help of its command: `pilotfish help` has none.
    let mut whole = arguments::commands().disable_help_subcommand(true);
    // Pages of commands are called pilotfish-status and the like.
    whole.build();
    let mut pages = std::iter::once(&whole).chain(whole.get_subcommands()).map(|command| {
        let about = format!("pilotfish {}", env!("CARGO_PKG_VERSION"));
        (command.get_name(), Man::new(command.clone()).date(CHANGED).source(about).manual("pilotfish"))
    });
    if let Some(dir) = dir {
        return pages.try_for_each(|(_, page)| page.generate_to(dir).map(drop)).map_err(|error| {
            let words = format!("--dir: no page can be written into {}: {error}", dir.display());
            Failure::new(EXIT_FAILED, words)
        });
    }
    let name = command.unwrap_or("pilotfish");
    let unknown = || Failure::new(EXIT_USAGE, format!("{name:?} is no command; see pilotfish --help"));
    let (_, page) = pages.find(|(known, _)| *known == name).ok_or_else(unknown)?;
    let mut text = Vec::new();
    let failed = |error| Failure::new(EXIT_FAILED, format!("no page written: {error}"));
    page.render(&mut text).map_err(failed)?;
    print(&String::from_utf8_lossy(&text))
}
