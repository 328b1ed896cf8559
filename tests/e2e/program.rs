//! PostgreSQL's own programs, all on libpq: psql, pgbench, pg_dump.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use crate::cluster::Cluster;

/// In seconds; a program that takes longer is ended, and its test has failed.
const PATIENCE: &str = "120";

/// A program and where it connects to.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// As the application's user; `mode` is libpq's `sslmode`.
    pub fn new(cluster: &Cluster, name: &str, address: SocketAddr, mode: &str) -> Program {
        let mut command = Command::new("timeout");
        command.arg("--foreground").arg(PATIENCE).arg(cluster.program(name));
        Program::connecting(command, address, mode)
    }

    /// The same without a limit of time, so that a signal reaches the program itself.
    pub fn bare(cluster: &Cluster, name: &str, address: SocketAddr, mode: &str) -> Program {
        Program::connecting(Command::new(cluster.program(name)), address, mode)
    }

    pub fn psql(cluster: &Cluster, address: SocketAddr, mode: &str) -> Program {
        Program::new(cluster, "psql", address, mode).arguments(["-X", "-A", "-t", "-w"])
    }

    fn connecting(mut command: Command, address: SocketAddr, mode: &str) -> Program {
        let settings = std::env::vars_os().map(|(key, _)| key);
        settings.filter(|key| key.as_encoded_bytes().starts_with(b"PG")).for_each(|key| {
            command.env_remove(key);
        });
        command.env("PGHOST", address.ip().to_string()).env("PGPORT", address.port().to_string());
        command.env("PGUSER", "app").env("PGDATABASE", "app").env("PGSSLMODE", mode);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Program { command }
    }

    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.command.args(arguments);
        self
    }

    pub fn setting(mut self, key: &str, value: impl AsRef<OsStr>) -> Program {
        self.command.env(key, value);
        self
    }

    /// For those who want more than the end of it.
    pub fn command(self) -> Command {
        self.command
    }

    pub fn output(mut self) -> Output {
        self.command.output().expect("a program that starts")
    }

    /// What it printed; it must succeed.
    #[track_caller]
    pub fn succeeds(self) -> String {
        let words = format!("{:?}", self.command);
        let output = self.output();
        let (printed, errors) = texts(&output);
        assert!(output.status.success(), "{words}: {}\n{printed}\n{errors}", output.status);
        printed
    }

    /// What it said on its error output; it must fail.
    #[track_caller]
    pub fn fails(self) -> String {
        let words = format!("{:?}", self.command);
        let output = self.output();
        let (printed, errors) = texts(&output);
        assert!(!output.status.success(), "{words}: {}\n{printed}\n{errors}", output.status);
        errors
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (text(&output.stdout), text(&output.stderr))
}
