//! Where a proxy listens.

use super::address::{self, Address};
use super::keywords::Place;
use super::notes::Notes;
use super::options::{self, Choice};
use super::proxies::Proxy;
use super::sections::{Line, shown};
use super::setting::{Said, time_ms};

/// One address of a pool, and who may come through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `IP:PORT` or `unix:PATH`.
    pub address: String,
    /// Of a unix socket, in octal digits.
    pub mode: Option<String>,
    /// Who may send a PROXY header; empty: nobody.
    pub accept_proxy: Vec<String>,
    pub free_bind: bool,
    /// Who may connect; empty: everybody.
    pub allow: Vec<String>,
    pub line: usize,
    pub said: String,
}

impl Listen {
    pub fn is_unix(&self) -> bool {
        self.address.starts_with("unix:")
    }
}

/// All that the `bind` lines of a proxy say.
#[derive(Debug, Default)]
pub struct Binds {
    pub listens: Vec<Listen>,
    /// One for each line that limits its own sessions.
    pub maxconn: Vec<Said<u64>>,
    /// In milliseconds.
    pub user_timeout: Option<Said<u64>>,
    /// A file with a certificate and its key: it speaks TLS itself.
    pub certificate: Option<Said<String>>,
}

/// `unix-bind` of the section global, which holds for all unix sockets.
#[derive(Clone, Debug, Default)]
pub struct UnixBind {
    pub prefix: String,
    pub mode: Option<String>,
}

/// As many as one pool takes.
const MAX_LISTEN: usize = 16;
/// Everybody, as HAProxy trusts those that send a PROXY header.
pub const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Reads all `bind` lines of a proxy. With `tls` it may speak TLS itself: the page may, a pool may not.
pub fn read(proxy: &Proxy<'_>, unix: &UnixBind, tls: bool, notes: &Notes) -> Binds {
    let mut binds = Binds::default();
    for line in proxy.section.lines.iter().filter(|line| line.is("bind")) {
        one(line, unix, tls, &mut binds, notes);
    }
    let mut seen = Vec::new();
    binds.listens.retain(|listen| {
        let new = !seen.contains(&listen.address);
        seen.push(listen.address.clone());
        new
    });
    if binds.listens.len() > MAX_LISTEN {
        let line = binds.listens[MAX_LISTEN].line;
        notes
            .lost(line, format!("a pool listens on {MAX_LISTEN} addresses at most; the others are left out"));
        binds.listens.truncate(MAX_LISTEN);
    }
    binds
}

fn one(line: &Line, unix: &UnixBind, tls: bool, binds: &mut Binds, notes: &Notes) {
    let Some(addresses) = line.words.get(1) else {
        return notes.slip(line.number, "bind needs an address such as *:5000");
    };
    let choices = options::read(line, 2, Place::Bind, notes);
    let find = |name: &str| choices.iter().find(|choice| choice.name == name);
    for choice in &choices {
        limits(line, choice, binds, notes);
    }
    let speaks_tls = tls && find("ssl").is_some();
    if let Some(crt) = find("crt").filter(|_| speaks_tls) {
        let words = crt.said();
        binds.certificate = Some(Said { value: crt.argument.into(), line: line.number, words });
    }
    let rest: Vec<Choice<'_>> = choices
        .iter()
        .filter(|choice| !(speaks_tls && matches!(choice.name, "ssl" | "crt")))
        .copied()
        .collect();
    options::report(line, &rest, notes);

    let model = Listen {
        address: String::new(),
        mode: match find("mode") {
            Some(choice) => permissions(choice.argument, line, notes),
            None => unix.mode.clone(),
        },
        accept_proxy: match find("accept-proxy") {
            Some(_) => EVERYBODY.map(str::to_owned).to_vec(),
            None => Vec::new(),
        },
        free_bind: find("transparent").is_some(),
        allow: Vec::new(),
        line: line.number,
        said: format!("bind {}", shown(addresses)),
    };
    if find("accept-proxy").is_some() {
        notes.taken(
            line.number,
            "accept-proxy: accept_proxy, from everybody as in HAProxy; name the addresses of your proxies there",
        );
    }
    for text in addresses.split(',') {
        let places = places(line, text, unix, find("v6only").is_some(), notes);
        binds.listens.extend(places.into_iter().map(|address| {
            let is_unix = address.starts_with("unix:");
            let mode = model.mode.clone().filter(|_| is_unix);
            let accept_proxy = match is_unix && !model.accept_proxy.is_empty() {
                true => vec!["unix".to_owned()],
                false => model.accept_proxy.clone(),
            };
            Listen { address, mode, accept_proxy, free_bind: model.free_bind && !is_unix, ..model.clone() }
        }));
    }
}

/// The mode of a socket's file, if it is one that pilotfish gives.
pub fn permissions(mode: &str, line: &Line, notes: &Notes) -> Option<String> {
    match u32::from_str_radix(mode, 8) {
        Ok(bits) if bits <= 0o777 => return Some(mode.to_owned()),
        Ok(_) => notes.lost(line.number, format!("mode {}: permissions go up to 777", shown(mode))),
        // That nothing stands behind the word is said already.
        Err(_) if mode.is_empty() => {}
        Err(_) => notes.slip(line.number, format!("mode {}: permissions are octal digits", shown(mode))),
    }
    None
}

fn limits(line: &Line, choice: &Choice<'_>, binds: &mut Binds, notes: &Notes) {
    let said = |value| Said { value, line: line.number, words: choice.said() };
    match choice.name {
        "maxconn" => match choice.argument.parse() {
            Ok(number) => binds.maxconn.push(said(number)),
            Err(_) => notes.slip(line.number, "maxconn needs a whole number"),
        },
        "tcp-ut" => match time_ms(choice.argument) {
            Ok(ms) => binds.user_timeout = Some(said(ms)),
            Err(why) => notes.slip(line.number, why),
        },
        _ => {}
    }
}

/// The addresses that one of a `bind` line stands for, as pilotfish writes them.
fn places(line: &Line, text: &str, unix: &UnixBind, v6only: bool, notes: &Notes) -> Vec<String> {
    let number = line.number;
    let lost = |why: String| {
        notes.lost(number, format!("bind {}: {why}", shown(text)));
        Vec::new()
    };
    match address::parse(text) {
        Address::Other(what) => lost(format!("pilotfish does not listen on {what}")),
        Address::Unix(path) => {
            let path = format!("{}{path}", unix.prefix);
            if !path.starts_with('/') || path.len() > 107 {
                return lost("the path of a unix socket begins with / and has up to 107 bytes".into());
            }
            vec![format!("unix:{path}")]
        }
        Address::Tcp { host, ipv6, port } => {
            let Some((first, last)) = address::port_range(&port) else {
                notes.slip(
                    number,
                    format!("bind {} needs a port from 1 to 65535 behind a colon", shown(text)),
                );
                return Vec::new();
            };
            let Some(ip) = address::listen_ip(&host, ipv6) else {
                return lost("a name is not looked up here; write the IP address".into());
            };
            // Linux lets a socket of all IPv6 addresses take IPv4 too, unless told otherwise.
            let both = ip.is_ipv6() && ip.is_unspecified() && !v6only;
            let hosts = if both { vec!["0.0.0.0".to_owned(), "::".to_owned()] } else { vec![ip.to_string()] };
            let ports = (first..=last).take(MAX_LISTEN + 1);
            ports.flat_map(|port| hosts.iter().map(move |host| address::with_port(host, port))).collect()
        }
    }
}
