//! The servers of a proxy, each with what `default-server` says of it.

use super::address::{self, Address};
use super::keywords::Place;
use super::notes::Notes;
use super::options::{self, Choice};
use super::proxies::Proxy;
use super::sections::{Line, is_name, shown};
use super::setting::{Said, time_ms};
use crate::config::limits::{self, Bounds};

/// What the options of a server say. Times in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub check: bool,
    pub check_ssl: Option<bool>,
    pub port: Option<Said<u16>>,
    pub addr: Option<String>,
    pub track: Option<Said<String>>,
    pub verify_none: Option<Said<bool>>,
    pub verifyhost: Option<Said<String>>,
    pub check_sni: Option<Said<String>>,
    pub ca_file: Option<Said<String>>,
    pub crt: Option<Said<String>>,
    pub inter: Option<Said<u64>>,
    pub fastinter: Option<Said<u64>>,
    pub fall: Option<Said<u64>>,
    pub rise: Option<Said<u64>>,
    pub weight: Option<Said<u64>>,
    pub slowstart: Option<Said<u64>>,
    pub maxconn: Option<Said<u64>>,
    pub maxqueue: Option<Said<u64>>,
    pub user_timeout: Option<Said<u64>>,
    pub shutdown_sessions: Option<Said<()>>,
    pub backup: Option<Said<()>>,
    pub send_proxy: Option<Said<u8>>,
}

/// One server, or a template of several.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    /// A name or an IP address without brackets.
    pub host: String,
    /// `None`: the port that the client came to, or one counted from it.
    pub port: Option<u16>,
    pub options: Options,
    pub line: usize,
    /// Of a template: it stands for several that its name leads to.
    pub template: bool,
}

/// The servers in their order.
pub fn read(proxy: &Proxy<'_>, notes: &Notes) -> Vec<Server> {
    let mut options = Options::default();
    let mut servers: Vec<Server> = Vec::new();
    for line in proxy.lines() {
        match line.word(0) {
            "default-server" => read_options(line, 1, &mut options, notes),
            "server" => servers.extend(server(line, 1, &options, notes)),
            "server-template" => servers.extend(server(line, 2, &options, notes)),
            _ => {}
        }
    }
    for (i, server) in servers.iter().enumerate() {
        if let Some(twin) = servers[..i].iter().find(|twin| twin.name == server.name) {
            let name = shown(&server.name);
            notes
                .slip(server.line, format!("the name {name:?} is taken by the server in line {}", twin.line));
        }
    }
    servers
}

/// `at` is where the address stands, less one for the keyword.
fn server(line: &Line, at: usize, defaults: &Options, notes: &Notes) -> Option<Server> {
    let (name, Some(text)) = (line.word(1), line.words.get(at + 1)) else {
        notes.slip(line.number, format!("{} needs a name and an address", line.word(0)));
        return None;
    };
    if !is_name(name) {
        notes.slip(
            line.number,
            format!("{:?} is not a name; HAProxy takes letters, digits and - _ . :", shown(name)),
        );
        return None;
    }
    let mut options = defaults.clone();
    read_options(line, at + 2, &mut options, notes);
    let refuse = |why: String| {
        notes.lost(line.number, format!("server {}: {why}", shown(name)));
        None
    };
    let (host, port) = match address::parse(text) {
        Address::Tcp { host, port, .. } => (host, port),
        Address::Unix(_) => return refuse("a unix socket tells no address of Patroni".into()),
        Address::Other(what) => return refuse(format!("pilotfish does not dial {what}")),
    };
    if host.starts_with('_') && host.contains("._tcp") {
        return refuse(
            "records of type SRV are not looked up; list Patroni's addresses under endpoints".into(),
        );
    }
    if !address::is_host(&host) {
        notes.slip(line.number, format!("{:?} is not the address of a server; write HOST:PORT", shown(text)));
        return None;
    }
    let port = match port.parse::<u16>() {
        Ok(number) if number != 0 && !port.starts_with('+') => Some(number),
        _ if matches!(&*port, "" | "0") || port.starts_with(['+', '-']) => None,
        _ => {
            notes.slip(line.number, format!("{:?} has no port from 1 to 65535", shown(text)));
            return None;
        }
    };
    let template = at == 2;
    Some(Server { name: name.to_owned(), host, port, options, line: line.number, template })
}

fn read_options(line: &Line, from: usize, options: &mut Options, notes: &Notes) {
    let choices = options::read(line, from, Place::Server, notes);
    options::report(line, &choices, notes);
    for choice in &choices {
        if let Err(why) = take(line, choice, options) {
            notes.slip(line.number, why);
        }
    }
}

fn take(line: &Line, choice: &Choice<'_>, options: &mut Options) -> Result<(), String> {
    fn said<T>(line: &Line, choice: &Choice<'_>, value: T) -> Option<Said<T>> {
        Some(Said { value, line: line.number, words: choice.said() })
    }
    let argument = choice.argument;
    let number = || argument.parse::<u64>().map_err(|_| format!("{} needs a whole number", choice.name));
    let text = || said(line, choice, argument.to_owned());
    match choice.name {
        "check" => options.check = true,
        "no-check" => options.check = false,
        "check-ssl" => options.check_ssl = Some(true),
        "no-check-ssl" => options.check_ssl = Some(false),
        "port" => {
            let port = argument.parse().ok().filter(|port| *port != 0);
            options.port = said(line, choice, port.ok_or("port needs a number from 1 to 65535")?);
        }
        "addr" => match address::parse(argument) {
            Address::Tcp { host, .. } if address::is_host(&host) => options.addr = Some(host),
            _ => return Err("addr needs an IP address".into()),
        },
        "track" => options.track = text(),
        "verify" => options.verify_none = said(line, choice, argument == "none"),
        "verifyhost" => options.verifyhost = text(),
        "check-sni" => options.check_sni = text(),
        "ca-file" => options.ca_file = text(),
        "crt" => options.crt = text(),
        "inter" => options.inter = said(line, choice, time_ms(argument)?),
        "fastinter" => options.fastinter = said(line, choice, time_ms(argument)?),
        "fall" => options.fall = said(line, choice, number()?),
        "rise" => options.rise = said(line, choice, number()?),
        "weight" => {
            let weight = number()?;
            let Bounds { least, most, .. } = limits::WEIGHT;
            if !(least..=most).contains(&weight) {
                return Err(format!("weight goes from {least} to {most}"));
            }
            options.weight = said(line, choice, weight);
        }
        "slowstart" => options.slowstart = said(line, choice, time_ms(argument)?),
        "maxconn" => options.maxconn = said(line, choice, number()?),
        "maxqueue" => options.maxqueue = said(line, choice, number()?),
        "tcp-ut" => options.user_timeout = said(line, choice, time_ms(argument)?),
        "on-marked-down" => options.shutdown_sessions = said(line, choice, ()),
        "backup" => options.backup = said(line, choice, ()),
        "no-backup" => options.backup = None,
        "send-proxy" => options.send_proxy = said(line, choice, 1),
        "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
            options.send_proxy = said(line, choice, 2);
        }
        "no-send-proxy" | "no-send-proxy-v2" => options.send_proxy = None,
        _ => {}
    }
    Ok(())
}
