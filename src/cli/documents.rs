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

/// One page to standard output, or all into a folder.
pub fn man(command: Option<&str>, dir: Option<&Path>) -> Result<(), Failure> {
    let mut whole = arguments::commands();
    // Pages of commands are called pilotfish-status and the like.
    whole.build();
    let failed = |error: std::io::Error| Failure::new(EXIT_FAILED, format!("no page written: {error}"));
    if let Some(dir) = dir {
        return clap_mangen::generate_to(arguments::commands(), dir).map_err(failed);
    }
    let page = match command {
        None => whole,
        Some(name) => {
            let found = whole.get_subcommands().find(|command| command.get_name() == name).cloned();
            found.ok_or_else(|| {
                Failure::new(EXIT_USAGE, format!("{name:?} is no command; see pilotfish --help"))
            })?
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(failed)?;
    print(&String::from_utf8_lossy(&text))
}
