//! The command line: arguments in, an exit code out.

mod logging;
mod run;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, DEFAULT_PATH, Problems};

/// sysexits.h `EX_CONFIG`: the configuration is at fault, and trying again will not help.
pub const EXIT_CONFIG: u8 = 78;

/// The TCP load balancer that follows your PostgreSQL leader.
#[derive(Debug, Parser)]
#[command(name = "pilotfish", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance until told to stop (SIGTERM or SIGINT: finish sessions first; a second one: at once).
    Run(Source),
    /// Say what is wrong with a configuration, or how it is understood.
    Check(Source),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct Source {
    /// Configuration file [default: /etc/pilotfish/config.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Patroni REST endpoints instead of a file; all else has its default
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', conflicts_with = "config")]
    patroni: Vec<String>,
}

impl Source {
    fn read(&self) -> Result<Config, Problems> {
        if !self.patroni.is_empty() {
            return Config::from_endpoints(&self.patroni);
        }
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
        Config::load(&path)
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Run(source) => source.read().map(run::run),
        Command::Check(source) => source.read().map(|config| show(&config)),
    };
    outcome.unwrap_or_else(|problems| {
        complain(&problems.to_string());
        ExitCode::from(EXIT_CONFIG)
    })
}

/// Whoever has read enough may close the pipe (`pilotfish check | head`).
fn show(config: &Config) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{config}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("the configuration cannot be shown: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn complain(words: &str) {
    // Nobody is left to tell when standard error is closed; the exit code says it all the same.
    let _ = writeln!(io::stderr(), "{words}");
}
