//! HAProxy's own page and socket, which become pilotfish's admin side.

use std::net::IpAddr;

use super::bind::{self, UnixBind};
use super::notes::Notes;
use super::pool::name;
use super::proxies::Proxy;
use super::sections::{Line, Section, shown};
use super::setting::{Said, Setting};
use crate::config::quoted;

/// Who may look, or more.
#[derive(Debug)]
pub struct User {
    pub name: String,
    pub operator: bool,
    /// By bcrypt or argon2.
    pub hash: String,
    pub line: usize,
}

/// The admin side as far as HAProxy's file tells.
#[derive(Debug, Default)]
pub struct Page {
    pub listen: Option<Setting>,
    pub certificate: Option<Said<String>>,
    pub users: Vec<User>,
    pub socket: Option<Socket>,
    /// A page has been read: further ones have no place.
    pub seen: bool,
}

/// HAProxy's runtime socket.
#[derive(Debug)]
pub struct Socket {
    pub path: String,
    pub level: Option<String>,
    pub mode: Option<String>,
    pub line: usize,
    pub said: String,
}

/// Where a page is at hand for views of HAProxy's by itself.
const VIEW_PATHS: [&str; 4] = ["/", "/stats", "/haproxy", "/haproxy?stats"];
/// Where pilotfish has its page by default.
pub const DEFAULT_PORT: u16 = 7000;

type Hash<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether a proxy is HAProxy's own page, or its metrics, and nothing else.
pub fn is_page(proxy: &Proxy<'_>) -> bool {
    let shows = |line: &Line| line.word(0) == "stats" || line.is("http-request use-service");
    proxy.is_http()
        && !proxy.has_servers()
        && proxy.last("default_backend").is_none()
        && proxy.lines().any(shows)
}

/// Reads one such proxy.
pub fn read(proxy: &Proxy<'_>, sections: &[Section], page: &mut Page, hash: Hash<'_>, notes: &Notes) {
    let number = proxy.section.number;
    page.seen = true;
    users(proxy, sections, page, hash, notes);
    let binds = bind::read(proxy, &UnixBind::default(), true, notes);
    let mut addresses = binds.listens.iter().filter(|listen| !listen.address.starts_with("unix:"));
    // Of all addresses of both families the IPv4 one, as others look there first.
    let Some(first) = addresses.next() else {
        return notes.lost(number, format!("{}: no address that the page could have", shown(proxy.name())));
    };
    for other in addresses.filter(|other| other.line != first.line) {
        notes.lost(other.line, format!("{}: the page has one address, {}", other.said, first.address));
    }
    listen(&first.address, first.line, &first.said, page, notes);
    for listen in binds.listens.iter().filter(|listen| listen.expects_proxy) {
        notes.lost(listen.line, "accept-proxy: the page takes no PROXY header");
    }
    page.certificate = binds.certificate;
    paths(proxy, notes);
    for line in proxy
        .section
        .lines
        .iter()
        .filter(|line| matches!(line.word(0), "mode" | "timeout" | "maxconn" | "option"))
    {
        notes.not_needed(line.number, format!("{}: the page needs no such setting", line.said()));
    }
}

/// An address off loopback needs users who log in.
fn listen(address: &str, line: usize, said: &str, page: &mut Page, notes: &Notes) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let public = !ip.is_ok_and(|ip| ip.is_loopback());
    let stays = !public || !page.users.is_empty();
    let address = if stays { address.to_owned() } else { format!("127.0.0.1:{port}") };
    if !stays {
        notes.lost(
            line,
            format!(
                "{said}: without a login pilotfish shows its page on loopback only, at {address}; list admin.users to \
                 show it to others"
            ),
        );
    }
    if stays {
        notes.taken(line, format!("{said}: admin.listen"));
    }
    page.listen = Some(Setting { key: "listen", value: address, line, said: said.to_owned() });
}

fn paths(proxy: &Proxy<'_>, notes: &Notes) {
    if let Some(line) = proxy.last("stats uri") {
        match VIEW_PATHS.contains(&line.word(2)) {
            true => notes.taken(line.number, format!("{}: and the page at /", line.said())),
            false => notes.lost(line.number, format!("{}: the page is at /, its CSV at /;csv", line.said())),
        }
    }
    if let Some(line) = proxy.last("stats admin").filter(|line| !line.word(3).is_empty()) {
        let said = line.said();
        match lets_everybody_change(line) {
            true => notes.taken(
                line.number,
                format!("{said}: who may change something has the role operator and logs in"),
            ),
            false => notes.lost(
                line.number,
                format!("{said}: a role has no further condition; give the role operator to those who may"),
            ),
        }
    }
}

/// `stats admin`, with no condition but one that always holds.
fn lets_everybody_change(line: &Line) -> bool {
    matches!((line.word(2), line.word(3)), ("", _) | ("if", "TRUE") | ("unless", "FALSE"))
        && line.word(4).is_empty()
}

/// `stats auth USER:PASSWORD`, or a userlist.
fn users(proxy: &Proxy<'_>, sections: &[Section], page: &mut Page, hash: Hash<'_>, notes: &Notes) {
    let operator = proxy.last("stats admin").is_some_and(lets_everybody_change);
    let mut add = |user: &str, hashed: Option<String>, line: &Line| {
        let fitting = name(user) == user;
        match hashed {
            Some(hash) if fitting && page.users.iter().all(|known| known.name != user) => {
                let role = if operator { "operator" } else { "viewer" };
                notes.taken(
                    line.number,
                    format!("user {user}: {role} in admin.users, with a hash in place of the password"),
                );
                page.users.push(User { name: user.to_owned(), operator, hash, line: line.number });
            }
            Some(_) => notes.lost(line.number, format!("user {}: not a name that pilotfish takes", shown(user))),
            None => notes.lost(
                line.number,
                format!(
                    "user {}: the password cannot be carried over; give a hash by `htpasswd -nB`, or password: file:PATH",
                    shown(user)
                ),
            ),
        }
    };
    for line in proxy.all("stats auth") {
        match line.word(2).split_once(':') {
            Some((user, password)) if !password.is_empty() => add(user, hash(password), line),
            _ => notes.slip(line.number, "stats auth needs USER:PASSWORD"),
        }
    }
    let named = |section: &&Section| {
        let asked = format!("http_auth({})", section.name);
        let asks = |line: &Line| line.words.iter().any(|word| word.contains(&asked));
        section.kind == "userlist" && proxy.lines().any(asks)
    };
    for line in sections.iter().filter(named).flat_map(|list| &list.lines).filter(|line| line.is("user")) {
        let secret = line.word(3);
        match line.word(2) {
            "insecure-password" => add(line.word(1), hash(secret), line),
            // bcrypt is among what crypt(3) may know.
            "password" => add(line.word(1), secret.starts_with("$2").then(|| secret.to_owned()), line),
            _ => notes.slip(line.number, "user needs a name, and password or insecure-password"),
        }
    }
}

/// `stats socket PATH [mode M] [level L]` of the section global.
pub fn socket(line: &Line, unix: &UnixBind, page: &mut Page, notes: &Notes) {
    use super::address::{self, Address};
    use super::keywords::Place;
    use super::options;
    let choices = options::read(line, 3, Place::Bind, notes);
    let find = |name: &str| {
        choices.iter().find(|choice| choice.name == name).map(|choice| choice.argument.to_owned())
    };
    options::report(line, &choices, notes);
    let Address::Unix(path) = address::parse(line.word(2)) else {
        return notes.lost(line.number, format!("{}: the socket is a unix socket", line.said()));
    };
    let path = format!("{}{path}", unix.prefix);
    if page.socket.is_some() {
        return notes.lost(line.number, format!("{}: there is one such socket", line.said()));
    }
    if !path.starts_with('/') || path.len() > 107 {
        return notes
            .lost(line.number, format!("{}: the path begins with / and has up to 107 bytes", line.said()));
    }
    let level = find("level");
    // Of another level it is said already what it can be.
    if level.as_ref().is_some_and(|level| !["user", "operator", "admin"].contains(&level.as_str())) {
        return;
    }
    let said = format!("stats socket {}", shown(&path));
    page.socket = Some(Socket {
        path,
        level,
        mode: find("mode").and_then(|mode| bind::permissions(&mode, line, notes)),
        line: line.number,
        said,
    });
}

/// A mode with four digits, as pilotfish writes it.
pub fn octal(mode: &str) -> String {
    format!("{mode:0>4}")
}

impl Page {
    /// The section admin, as YAML with comments; `None` where all is so by default. `claimed`: a pool has the port that
    /// the page has by default.
    pub fn yaml(&self, claimed: bool) -> Vec<(String, Option<(usize, String)>)> {
        let mut rows = Vec::new();
        let at = |line: usize, said: &str| Some((line, said.to_owned()));
        match &self.listen {
            Some(listen) if listen.value != format!("127.0.0.1:{DEFAULT_PORT}") => {
                rows.push((format!("  listen: {}", quoted(&listen.value)), at(listen.line, &listen.said)));
            }
            None if claimed => rows.push(("  listen: off".to_owned(), None)),
            _ => {}
        }
        if let Some(Said { value, line, words }) = &self.certificate {
            let file = quoted(value);
            rows.push((format!("  tls: {{cert: {file}, key: {file}}}"), at(*line, words)));
        }
        if let Some(socket) = &self.socket {
            let path = quoted(&socket.path);
            let level = socket.level.as_ref().filter(|level| *level != "operator");
            let level = level.map(|level| format!(", level: {level}"));
            let mode = socket.mode.as_ref().map(|mode| format!(", mode: {}", quoted(&octal(mode))));
            let value = match (level, mode) {
                (None, None) => path,
                (level, mode) => {
                    format!("{{path: {path}{}{}}}", level.unwrap_or_default(), mode.unwrap_or_default())
                }
            };
            rows.push((format!("  haproxy_socket: {value}"), at(socket.line, &socket.said)));
        }
        if !self.users.is_empty() {
            rows.push(("  users:".to_owned(), None));
        }
        for user in &self.users {
            let role = if user.operator { ", role: operator" } else { "" };
            let (name, hash) = (super::readers::plain(&user.name), quoted(&user.hash));
            let said = format!("user {}", user.name);
            rows.push((format!("    - {{name: {name}{role}, password: {hash}}}"), at(user.line, &said)));
        }
        rows
    }
}
