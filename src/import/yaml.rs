//! The configuration as text: what differs from the defaults, each behind it the line that it came from.

use std::fmt::Write as _;

use super::address::with_port;
use super::bind::Listen;
use super::clusters::Cluster;
use super::notes::{Class, Note, Notes};
use super::page::{DEFAULT_PORT, Page, octal};
use super::pool::{Member, Pool};
use super::readers::plain;
use super::sections::shown;
use super::setting::{Said, Setting, Settings};
use crate::config::quoted;

/// Where a password for Patroni is to be put, as it is not copied.
const PATRONI_PASSWORD: &str = "PATRONI_PASSWORD";

/// Lines of YAML, and what is said of those that they came from.
struct Writer<'a> {
    text: String,
    notes: &'a Notes,
}

/// All but the head.
pub fn body(
    clusters: &[Cluster],
    page: &Page,
    process: &Settings,
    tcplog: &Settings,
    notes: &Notes,
) -> String {
    let mut writer = Writer { text: String::new(), notes };
    writer.plain("clusters:");
    for cluster in clusters {
        writer.cluster(cluster);
    }
    let suffix = format!(":{DEFAULT_PORT}");
    let listens = clusters.iter().flat_map(|cluster| cluster.primary.iter().chain(&cluster.replicas));
    let claimed = listens.flat_map(|pool| &pool.listens).any(|listen| listen.address.ends_with(&suffix));
    let rows = page.yaml(claimed);
    if !rows.is_empty() {
        writer.plain("admin:");
    }
    for (text, from) in rows {
        match from {
            Some((line, said)) => writer.from(&text, line, &said),
            None => writer.plain(&text),
        }
    }
    writer.settings("", process);
    if !tcplog.0.is_empty() {
        writer.plain("log:");
        writer.settings("  ", tcplog);
    }
    writer.text
}

/// The comments at the top: where it came from, what is lost and what is not needed.
pub fn head(file: &str, notes: &[Note]) -> String {
    let mut text = format!(
        "# From {}, by pilotfish import-haproxy. Behind each setting stands the line that it came from;\n\
         # what is not here has pilotfish's default.\n",
        shown(file)
    );
    for (class, title) in
        [(Class::Lost, "Lost: pilotfish cannot do this"), (Class::NotNeeded, "Not needed any more")]
    {
        let mut listed = notes.iter().filter(|note| note.class == class).peekable();
        if listed.peek().is_some() {
            let _ = writeln!(text, "#\n# {title}:");
        }
        for note in listed {
            let _ = match note.line {
                0 => writeln!(text, "#   {}", note.text),
                line => writeln!(text, "#   line {line}: {}", note.text),
            };
        }
    }
    text.push('\n');
    text
}

impl Writer<'_> {
    fn plain(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A line with its origin, of which it is also noted what became.
    fn from(&mut self, text: &str, line: usize, said: &str) {
        let _ = writeln!(self.text, "{text}  # line {line}: {}", shown(said));
    }

    fn settings(&mut self, indent: &str, settings: &Settings) {
        for Setting { key, value, line, said } in &settings.0 {
            self.from(&format!("{indent}{key}: {value}"), *line, said);
            self.notes.taken(*line, format!("{}: {key}: {value}", shown(said)));
        }
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let dash = match &cluster.name {
            Some(name) => {
                self.plain(&format!("  - name: {}", plain(name)));
                "    "
            }
            None => "  - ",
        };
        self.plain(&format!("{dash}patroni:"));
        self.plain("      endpoints:");
        for Member { name, host, port, https, line } in &cluster.members {
            let scheme = if *https { "https" } else { "http" };
            let url = quoted(&format!("{scheme}://{}", with_port(host, *port)));
            self.from(&format!("        - {url}"), *line, &format!("server {name}"));
        }
        self.settings("      ", &cluster.checks);
        if !cluster.tls.0.is_empty() {
            self.plain("      tls:");
            self.settings("        ", &cluster.tls);
        }
        if let Some(Said { value, line, words }) = &cluster.user {
            let auth = format!("{{username: {}, password_env: {PATRONI_PASSWORD}}}", quoted(value));
            self.from(&format!("      auth: {auth}"), *line, words);
            let text =
                format!("{words}: patroni.auth; put the password into the variable {PATRONI_PASSWORD}");
            self.notes.taken(*line, text);
        }
        self.settings("    ", &cluster.sessions);
        match &cluster.primary {
            Some(pool) => {
                self.plain("    primary:");
                self.pool("      ", pool, "primary");
            }
            None => self.plain("    primary: off"),
        }
        match &cluster.replicas[..] {
            [] => self.plain("    replicas: off"),
            [pool] => {
                self.plain("    replicas:");
                self.pool("      ", pool, "replicas");
            }
            several => {
                self.plain("    replicas:");
                for pool in several {
                    self.plain(&format!("      - name: {}", plain(&pool.name)));
                    self.pool("        ", pool, &pool.name);
                }
            }
        }
    }

    /// `usual` is the name that goes without saying.
    fn pool(&mut self, indent: &str, pool: &Pool, usual: &str) {
        if pool.name != usual {
            let _ = writeln!(self.text, "{indent}name: {}", plain(&pool.name));
        }
        self.plain(&format!("{indent}listen:"));
        for listen in &pool.listens {
            self.from(&format!("{indent}  - {}", address(listen)), listen.line, &listen.said);
        }
        self.settings(indent, &pool.own);
    }
}

/// An address alone where nothing more is said of it.
fn address(listen: &Listen) -> String {
    let Listen { address, mode, accept_proxy, free_bind, allow, .. } = listen;
    let list = |key: &str, networks: &[String]| {
        let networks: Vec<String> = networks.iter().map(|network| quoted(network)).collect();
        (!networks.is_empty()).then(|| format!("{key}: [{}]", networks.join(", ")))
    };
    let more: Vec<String> = [
        list("allow", allow),
        list("accept_proxy", accept_proxy),
        free_bind.then(|| "free_bind: true".to_owned()),
        mode.as_ref().map(|mode| format!("mode: {}", quoted(&octal(mode)))),
    ]
    .into_iter()
    .flatten()
    .collect();
    match more.is_empty() {
        true => quoted(address),
        false => format!("{{address: {}, {}}}", quoted(address), more.join(", ")),
    }
}
