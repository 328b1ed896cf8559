//! What the health check of a proxy asks Patroni, and so which pool it stands for.

use super::notes::Notes;
use super::proxies::Proxy;
use super::sections::{Line, shown};
use super::setting::Said;

/// Who passes the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The leader alone.
    Primary,
    /// Replicas, all or some.
    Readers {
        /// The primary passes too.
        include_primary: bool,
        /// Only those of this kind: `sync`, `quorum`, `async`.
        sync: Option<&'static str>,
    },
}

/// What is asked, and where.
#[derive(Clone, Debug)]
pub struct Check {
    pub role: Role,
    /// The line that says the path.
    pub line: usize,
    pub said: String,
    /// Bytes, as Patroni writes them.
    pub lag: Option<String>,
    pub tags: Vec<(String, String)>,
    /// The check itself connects with TLS, or to this port.
    pub ssl: bool,
    pub port: Option<u16>,
    pub addr: Option<String>,
    pub server_name: Option<String>,
    /// Who it logs in as (HTTP basic auth); the password is not kept.
    pub user: Option<Said<String>>,
}

/// Patroni's health checks (its REST API, `do_GET` of `patroni/api.py`), and who answers 200 to them.
const PATHS: [(&[&str], Role); 8] = [
    (&["", "primary", "master", "leader", "read-write"], Role::Primary),
    (&["replica"], readers(false, None)),
    (&["read-only", "health"], readers(true, None)),
    (&["synchronous", "sync"], readers(false, Some("sync"))),
    (&["asynchronous", "async"], readers(false, Some("async"))),
    (&["quorum"], readers(false, Some("quorum"))),
    (&["read-only-sync"], readers(true, Some("sync"))),
    (&["read-only-quorum"], readers(true, Some("quorum"))),
];

const fn readers(include_primary: bool, sync: Option<&'static str>) -> Role {
    Role::Readers { include_primary, sync }
}

/// The check of a proxy. An error is the reason why it stands for no pool, and the line to say it of.
pub fn read(proxy: &Proxy<'_>, notes: &Notes) -> Result<Check, (usize, String)> {
    let is_check = |line: &&Line| {
        let option = line.word(1);
        line.is("option") && (option == "httpchk" || option.ends_with("-check") || option.ends_with("chk"))
    };
    let of_no_pool = (proxy.section.number, "no health check asks Patroni which servers to use".to_owned());
    let Some(option) = proxy.lines().rfind(is_check).filter(|line| !line.no) else {
        return Err(of_no_pool);
    };
    let mut check = match option.word(1) {
        "httpchk" => http(proxy, option, notes)?,
        "tcp-check" => tcp(proxy, notes).ok_or(of_no_pool)?,
        _ => {
            return Err((
                option.number,
                format!("{} does not ask Patroni which servers to use", option.said()),
            ));
        }
    };
    for line in proxy.rules("http-check connect").into_iter().chain(proxy.rules("tcp-check connect")) {
        connect(line, &mut check, notes);
    }
    Ok(check)
}

/// `option httpchk [METHOD] [URI] [VERSION]`, where headers may follow the version in one word, and `http-check send`.
fn http(proxy: &Proxy<'_>, option: &Line, notes: &Notes) -> Result<Check, (usize, String)> {
    let mut asked = (option, if option.words.len() > 3 { option.word(3) } else { option.word(2) });
    let mut user = login(option, notes);
    let sends = proxy.rules("http-check send");
    for line in &sends {
        let find = |name: &str| line.words.iter().position(|word| word == name).map(|at| line.word(at + 1));
        if let Some(uri) = find("uri").or_else(|| find("uri-lf")) {
            asked = (line, uri);
        }
        user = login(line, notes).or(user);
    }
    let (line, uri) = asked;
    let mut check = path(line, uri, &proxy.rules("http-check expect")).map_err(|why| (line.number, why))?;
    check.user = user;
    Ok(check)
}

/// Who a check logs in as. A login that cannot be taken over is lost, and said to be.
fn login(line: &Line, notes: &Notes) -> Option<Said<String>> {
    let value = authorization(line)?;
    let words = format!("{} {}", line.word(0), line.word(1));
    let user = basic_user(&value).map(|value| Said { value, line: line.number, words });
    if user.is_none() {
        notes.lost(
            line.number,
            format!("{}: no login of type Basic with a name and a password; write patroni.auth", line.said()),
        );
    }
    user
}

/// The value of the header: `hdr Authorization "Basic …"`, or a line within a word that holds a whole request.
fn authorization(line: &Line) -> Option<String> {
    if let Some(at) = line.words.iter().position(|word| word.eq_ignore_ascii_case("authorization")) {
        return Some(line.word(at + 1).to_owned());
    }
    let mut headers = line.words.iter().flat_map(|word| word.split(['\r', '\n']));
    headers.find_map(|header| {
        let (name, value) = header.split_once(':')?;
        name.trim().eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
    })
}

/// The name in `Basic …`.
fn basic_user(value: &str) -> Option<String> {
    use base64::Engine as _;
    let (kind, encoded) = value.split_once(' ')?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let (user, _password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    kind.eq_ignore_ascii_case("basic").then(|| user.to_owned())
}

/// `tcp-check send "GET /primary HTTP/1.0\r\n\r\n"`.
fn tcp(proxy: &Proxy<'_>, notes: &Notes) -> Option<Check> {
    proxy.rules("tcp-check send").into_iter().find_map(|line| {
        let mut request = line.word(2).split_whitespace();
        let method = request.next()?;
        let uri = request.next().filter(|uri| uri.starts_with('/'))?;
        let known = ["GET", "HEAD", "OPTIONS"].contains(&method);
        let check = path(line, uri, &[]).ok().filter(|_| known)?;
        Some(Check { user: login(line, notes), ..check })
    })
}

/// Who passes the check of this path, with these expectations of the answer.
fn path(line: &Line, uri: &str, expects: &[&Line]) -> Result<Check, String> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let name = path.trim_matches('/').to_ascii_lowercase();
    let found = PATHS.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, role)| role.clone());
    let negated = expects.iter().any(|line| expects_denial(line));
    let role = match (found, body_role(expects)) {
        // The body is the same behind each path, and tells the role.
        (_, Some(role)) => role,
        // Whoever is not the leader: the replicas.
        (Some(Role::Primary), _) if negated => readers(false, None),
        (Some(_), _) if negated => return Err(format!("a check that wants {} to be denied", shown(uri))),
        (Some(role), _) => role,
        (None, _) => return Err(why_not(&name, uri)),
    };
    let mut check = Check {
        role,
        line: line.number,
        said: line.said(),
        lag: None,
        tags: Vec::new(),
        ssl: false,
        port: None,
        addr: None,
        server_name: None,
        user: None,
    };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.strip_prefix("tag_") {
            _ if check.role == Role::Primary => {
                return Err(format!("the primary cannot be chosen by {}", shown(&key)));
            }
            Some(tag) => check.tags.push((tag.to_owned(), value.into_owned())),
            None if key == "lag" => check.lag = Some(lag(&value)?),
            None => return Err(format!("Patroni's {} has no counterpart", shown(&key))),
        }
    }
    Ok(check)
}

fn why_not(name: &str, uri: &str) -> String {
    match name {
        "standby-leader" | "standby_leader" => {
            "a standby leader has no pool of its own; it is one of the readers".into()
        }
        "patroni" | "liveness" | "readiness" | "cluster" | "history" | "config" | "metrics" => {
            format!("{} does not say who is the primary or a replica", shown(uri))
        }
        _ => format!("{} is not one of Patroni's health checks", shown(uri)),
    }
}

/// Patroni's sizes: bytes, or kB, MB, GB, TB.
fn lag(text: &str) -> Result<String, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let known = ["", "b", "kb", "mb", "gb", "tb"].contains(&unit.to_ascii_lowercase().as_str());
    match number.parse::<u64>() {
        Ok(_) if known => Ok(text.to_owned()),
        _ => Err(format!("lag={} is not a size in whole kB, MB, GB or TB", shown(text))),
    }
}

/// The words behind `http-check expect` from the match on: whether it is negated, what it matches, and the pattern.
fn expectation(line: &Line) -> Option<(bool, &str, &str)> {
    const MATCHES: [&str; 7] = ["status", "rstatus", "string", "rstring", "string-lf", "hdr", "fhdr"];
    let at = line.words.iter().skip(2).position(|word| MATCHES.contains(&word.as_str()))? + 2;
    Some((line.word(at - 1) == "!", line.word(at), line.word(at + 1)))
}

/// Whether it wants the answer that Patroni gives those that are not what was asked for.
fn expects_denial(line: &Line) -> bool {
    matches!(
        expectation(line),
        Some((false, "status", "503"))
            | Some((true, "status", "200"))
            | Some((false, "rstatus", "503" | "^503"))
    )
}

/// The role that the body has to tell, such as `"role": "replica"`.
fn body_role(expects: &[&Line]) -> Option<Role> {
    expects.iter().find_map(|line| {
        let (negated, kind, pattern) = expectation(line)?;
        let fits = kind.contains("string") && pattern.contains("role") && !negated;
        let (leads, follows) = (["primary", "master"], ["replica"]);
        match fits {
            true if leads.iter().any(|word| pattern.contains(word)) => Some(Role::Primary),
            true if follows.iter().any(|word| pattern.contains(word)) => Some(readers(false, None)),
            _ => None,
        }
    })
}

/// `http-check connect [port N] [ssl] [sni NAME] [addr IP]`.
fn connect(line: &Line, check: &mut Check, notes: &Notes) {
    let find = |name: &str| line.words.iter().position(|word| word == name).map(|at| line.word(at + 1));
    check.ssl |= find("ssl").is_some();
    if let Some(port) = find("port") {
        match port.parse().ok().filter(|port| *port != 0) {
            Some(port) => check.port = Some(port),
            None => notes.lost(line.number, format!("{}: the port is not a number", line.said())),
        }
    }
    if let Some(addr) = find("addr") {
        check.addr = Some(addr.to_owned());
    }
    if let Some(name) = find("sni") {
        let fixed = name.strip_prefix("str(").and_then(|name| name.strip_suffix(')')).unwrap_or(name);
        check.server_name = Some(fixed.to_owned());
    }
    for word in ["send-proxy", "via-socks4"] {
        if find(word).is_some() {
            notes.lost(line.number, format!("{word}: Patroni is asked directly, without a PROXY header"));
        }
    }
}
