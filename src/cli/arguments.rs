//! The arguments of every command. The only file that names clap.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{Config, DEFAULT_PATH, Problems};

const EXIT_CODES: &str = "Exit codes:
  0   done, or the condition holds
  1   the condition does not hold, or the command failed
  2   wrong arguments
  3   import-haproxy: not all could be taken over
  69  no pilotfish answers at the admin address
  77  not allowed: no login, a wrong one, a viewer's, or too many wrong ones
  78  the configuration is at fault";

const IMPORT_EXIT_CODES: &str = "Exit codes:
  0   all is taken over, or not needed any more
  3   something is lost: see the lines with \"lost\"
  78  not a configuration that HAProxy would take";

const ABOUT_ADMIN: &str = "Commands that talk to a running pilotfish find it by --admin, else by the variable
PILOTFISH_ADMIN, else by the section admin of the configuration: without a login at its
unix socket (default /run/pilotfish/admin.sock) where that lets them in, else at its address
(default 127.0.0.1:7000).
They log in with --user and PILOTFISH_PASSWORD or --password-file, or with PILOTFISH_TOKEN
or --token-file. Over the unix socket no login is needed.";

/// The TCP load balancer that follows your PostgreSQL leader.
#[derive(Debug, Parser)]
#[command(name = "pilotfish", version, about, after_help = EXIT_CODES,
    after_long_help = format!("{ABOUT_ADMIN}\n\n{EXIT_CODES}"))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Balance until told to stop (SIGTERM, SIGINT or SIGUSR1: finish sessions first; a second one: at once)
    Run(Source),
    /// Say what is wrong with a configuration, or how it is understood
    Check(Source),
    /// Show clusters, members and pools, or test them for a script
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// List open sessions, oldest first
    #[command(after_help = EXIT_CODES)]
    Sessions {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        filter: Filter,
    },
    /// Tell the losses of the writer, step by step
    #[command(after_help = EXIT_CODES)]
    Events {
        #[command(flatten)]
        remote: Remote,
        /// Of this cluster only
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// Go on telling what happens until interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// Watch members live (keys: q quit, p pause, s sort, r reverse, / filter); with -o json one line each time
    #[command(after_help = EXIT_CODES)]
    Top {
        #[command(flatten)]
        remote: Remote,
        /// Time between two looks: a number with ms or s, 100ms to 60s
        #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
        interval: Duration,
    },
    /// Send no new sessions to a member; open ones finish, unless open_sessions.drained is cut
    #[command(after_help = EXIT_CODES)]
    Drain {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        target: Target,
    },
    /// Take a member out of service: as drain, and no alarms about it
    #[command(after_help = EXIT_CODES)]
    Maint {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        target: Target,
    },
    /// Put a member back into service
    #[command(after_help = EXIT_CODES)]
    Ready {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        target: Target,
    },
    /// Close the sessions of a member; drain it first if they must not come back
    #[command(after_help = EXIT_CODES)]
    CloseSessions {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        target: Target,
    },
    /// Read the configuration anew and apply it while sessions run, or say why not; name what needs a restart
    #[command(after_help = EXIT_CODES)]
    Reload {
        #[command(flatten)]
        remote: Remote,
    },
    /// Let a new process of the program take the place of the running one, without refusing a connection, or say why not
    #[command(after_help = EXIT_CODES)]
    Upgrade {
        #[command(flatten)]
        remote: Remote,
    },
    /// Translate HAProxy's configuration: ours to standard output, what became of each line to standard error
    #[command(name = "import-haproxy", after_help = IMPORT_EXIT_CODES)]
    ImportHaproxy {
        /// Such as /etc/haproxy/haproxy.cfg; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write completions for a shell
    Completions { shell: Shell },
    /// Write the manual page of pilotfish or of one command
    Man {
        /// Such as `status`
        command: Option<String>,
        /// Write all pages into this folder instead
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct Source {
    /// Configuration file [default: /etc/pilotfish/config.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Patroni REST endpoints instead of a file; all else has its default
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', conflicts_with = "config")]
    patroni: Vec<String>,
}

/// Which pilotfish, and who asks it.
#[derive(Debug, Args)]
pub struct Remote {
    /// Where to ask: HOST:PORT, http://HOST:PORT, https://HOST:PORT, or unix:PATH
    #[arg(long, value_name = "ADDRESS", env = "PILOTFISH_ADMIN")]
    pub admin: Option<String>,
    /// Configuration file whose section admin says where
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log in under this name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the password in its first line (else: the variable PILOTFISH_PASSWORD)
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// File with a token in its first line (else: the variable PILOTFISH_TOKEN)
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub token_file: Option<PathBuf>,
    /// File with the authorities to trust for https, in PEM form, in place of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Form,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    #[default]
    Text,
    Json,
}

/// What `status` is asked for.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Of this cluster only
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Say nothing but whether it takes clients: 0 or 1, for supervisors such as keepalived
    #[arg(long, conflicts_with = "wait_writer")]
    pub ready: bool,
    /// With --ready: and whether a node of every cluster answers it, so that it would notice a new leader
    #[arg(long, requires = "ready")]
    pub informed: bool,
    /// Wait up to this long until every cluster has a writer: a number with ms, s, m or h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait_writer: Option<Duration>,
}

/// Which sessions `sessions` lists.
#[derive(Debug, Args)]
pub struct Filter {
    /// Of this cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Of this pool
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// On this member
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Of clients whose address begins so
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<String>,
    /// In this phase: greeting, waiting or relaying
    #[arg(long, value_name = "PHASE", value_parser = ["greeting", "waiting", "relaying"])]
    pub phase: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub limit: Option<usize>,
}

/// One member.
#[derive(Debug, Args)]
pub struct Target {
    /// Name of the member, as `status` shows it
    pub member: String,
    /// Its cluster; needed when several have a member of that name
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

impl Source {
    pub fn read(&self) -> Result<Config, Problems> {
        if !self.patroni.is_empty() {
            return Config::from_endpoints(&self.patroni);
        }
        let path = self.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
        Config::load(&path)
    }
}

/// Ends the process for wrong arguments, and for help.
pub fn parse() -> Command {
    Arguments::parse().command
}

/// All commands, for completions and manual pages.
pub fn commands() -> clap::Command {
    Arguments::command()
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number with ms, s, m or h, such as 30s".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "write a whole number and a unit, such as 30s".to_owned())?;
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

fn interval(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
    let interval = duration(text)?;
    bounds.contains(&interval).then_some(interval).ok_or_else(|| "write 100ms to 60s".to_owned())
}
