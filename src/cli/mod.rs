//! The command line: arguments in, an exit code out.
//!
//! `run`, `check` and `import-haproxy` are about a configuration. All other commands talk to a running pilotfish over its admin side:
//! [`client`] asks, [`answers`] is the part of what comes back that they need, and each command shows it.

mod act;
mod answers;
mod arguments;
mod client;
mod documents;
mod door;
mod events;
mod faults;
mod import;
mod logging;
mod output;
mod run;
mod screen;
mod sessions;
mod status;
mod table;
mod top;

use std::process::ExitCode;

use self::arguments::Command;
use self::output::{complain, print};
use crate::config::Config;

/// The condition asked for does not hold, or what was asked for failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong arguments (clap's own code).
pub const EXIT_USAGE: u8 = 2;
/// `import-haproxy` wrote a configuration, and not all of HAProxy's could be taken over.
pub const EXIT_LOSSES: u8 = 3;
/// sysexits.h `EX_UNAVAILABLE`: no pilotfish answers at the admin address.
pub const EXIT_UNREACHABLE: u8 = 69;
/// sysexits.h `EX_NOPERM`: not allowed, by who asks or how often.
pub const EXIT_NOT_ALLOWED: u8 = 77;
/// sysexits.h `EX_CONFIG`: the configuration is at fault, and trying again will not help.
pub const EXIT_CONFIG: u8 = 78;

/// Why a command did not do what it should: what to say, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// Empty when all has been said already.
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    // Before all else: until then a hangup ends the process. Other commands are to end with their terminal.
    let control = (std::env::args_os().nth(1).is_some_and(|word| word == "run")).then(run::Control::new);
    let outcome = match arguments::parse() {
        Command::Run(source) => match run::run(source, control.unwrap_or_else(run::Control::new)) {
            Ok(code) => return code,
            Err(failure) => Err(failure),
        },
        Command::Check(source) => check(source.read()),
        Command::ImportHaproxy { file } => import::haproxy(&file),
        Command::Completions { shell } => documents::completions(shell),
        Command::Man { command, dir } => documents::man(command.as_deref(), dir.as_deref()),
        Command::Status { remote, wanted } => remote.ask(|remote| status::status(remote, wanted)),
        Command::Sessions { remote, filter } => remote.ask(|remote| sessions::sessions(remote, filter)),
        Command::Events { remote, cluster, follow } => {
            remote.ask(|remote| events::events(remote, cluster, follow))
        }
        Command::Top { remote, interval } => remote.ask(|remote| top::top(remote, interval)),
        Command::Drain { remote, target } => remote.ask(|remote| act::set_state(remote, target, "drain")),
        Command::Maint { remote, target } => remote.ask(|remote| act::set_state(remote, target, "maint")),
        Command::Ready { remote, target } => remote.ask(|remote| act::set_state(remote, target, "ready")),
        Command::CloseSessions { remote, target } => remote.ask(|remote| act::close_sessions(remote, target)),
        Command::Reload { remote } => remote.ask(act::reload),
        Command::Upgrade { remote } => remote.ask(act::upgrade),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                complain(&message);
            }
            ExitCode::from(code)
        }
    }
}

fn check(config: Result<Config, crate::config::Problems>) -> Result<(), Failure> {
    let config = config.map_err(|problems| Failure::new(EXIT_CONFIG, problems.to_string()))?;
    crate::app::check(&config).map_err(|error| Failure::new(EXIT_CONFIG, error.to_string()))?;
    print(&config.to_string())
}
