//! The admin section: where people and programs look at pilotfish, who may, and who may change something.
//!
//! A password or token never stands here in clear text. What stands here is where it is, or a hash of it; and no
//! complaint and no output repeats it.

use super::claims::Claims;
use super::listen::ListenAddress;
use super::node::{Map, Node};
use super::runtime_socket::{RuntimeSocket, runtime_socket};
use super::word::Word;
use super::{endpoint, limits, read, value};
use crate::file;
use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Dashboard, API and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Default `127.0.0.1:7000`; off loopback only with `users`. `None` (`off`): not over the network.
    pub listen: Option<SocketAddr>,
    /// A unix socket; whoever may open it is an operator. Default `$RUNTIME_DIRECTORY/admin.sock` where systemd sets
    /// that, else none.
    pub socket: Option<PathBuf>,
    /// HAProxy's runtime commands. Default off.
    pub haproxy_socket: Option<RuntimeSocket>,
    /// Names by which browsers may call this host, beside IP addresses, localhost and its own name.
    pub allowed_hosts: Vec<String>,
    /// Nobody: whoever reaches `listen` is a viewer.
    pub users: Vec<User>,
    pub tls: Option<AdminTls>,
}

/// Who may log in. Has a password, a token or both.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub name: String,
    pub role: Role,
    /// For HTTP Basic.
    pub password: Option<Secret>,
    /// For HTTP Bearer.
    pub token: Option<Secret>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Sees everything, changes nothing.
    #[default]
    Viewer,
    /// Changes the states of members, closes sessions, reloads.
    Operator,
}

/// Where a secret is; never the secret itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The first line of a file, or a hash there.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// A hash by argon2 or bcrypt.
    Hash(String),
}

/// Files in PEM form, readable when the configuration was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminTls {
    /// The certificate and what leads from it to an authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Only clients with a certificate from these authorities are talked to.
    pub client_ca: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some((Ipv4Addr::LOCALHOST, 7000).into()),
            socket: None,
            haproxy_socket: None,
            allowed_hosts: Vec::new(),
            users: Vec::new(),
            tls: None,
        }
    }
}

impl Word for Role {
    const WORDS: &'static [(&'static str, Self)] = &[("viewer", Self::Viewer), ("operator", Self::Operator)];
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Hash(_) => f.write_str("(a hash)"),
        }
    }
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the socket is by default. systemd names several directories with colons between; the first is the service's.
pub fn default_socket(env: Environment<'_>) -> Option<PathBuf> {
    let directories = env("RUNTIME_DIRECTORY")?;
    let first = directories.split(':').next().filter(|first| !first.is_empty())?;
    Some(Path::new(first).join("admin.sock"))
}

/// The section `admin` of `root`, as far as it can be used.
pub fn admin<'a>(root: &Map<'a>, claims: &mut Claims<'a>, env: Environment<'_>) -> Admin {
    let default = Admin { socket: default_socket(env), ..Admin::default() };
    if root.find("admin").is_some_and(|node| node.is_off()) {
        return Admin { listen: None, socket: None, ..default };
    }
    let known = ["listen", "socket", "haproxy_socket", "allowed_hosts", "users", "tls"];
    let Some(map) = root.map_or_off("admin", &known) else { return default };
    let hosts = map.find("allowed_hosts").and_then(|node| {
        node.texts("host names such as [lb.example.org]", limits::MAX_HOSTS, endpoint::host_name)
    });
    let admin = Admin {
        socket: map.find("socket").map_or(default.socket, |node| socket(&node, claims)),
        haproxy_socket: map.find("haproxy_socket").and_then(|node| runtime_socket(&node, claims)),
        allowed_hosts: hosts.unwrap_or_default().into_iter().map(|(_, host)| host).collect(),
        users: map.find("users").map(|node| users(&node, env)).unwrap_or_default(),
        tls: tls(&map),
        ..default
    };
    Admin { listen: listen(&map, default.listen, claims), ..admin }
}

fn listen<'a>(map: &Map<'a>, default: Option<SocketAddr>, claims: &mut Claims<'a>) -> Option<SocketAddr> {
    let Some(node) = map.find("listen") else {
        default.iter().for_each(|address| claims.assume(&ListenAddress::Ip(*address), map.node()));
        return default;
    };
    if node.is_off() {
        return None;
    }
    let address = match value::listen_address(node.text("an address such as 127.0.0.1:7000, or off")?) {
        Ok(address) => address,
        Err(why) => return node.refuse_value(why),
    };
    // Users that cannot be used have been complained about already.
    if !address.ip().is_loopback() && map.find("users").is_none() {
        return node.refuse_value(
            "is not on loopback, and nobody would have to log in; list who may under admin.users, \
             or listen on loopback and use ssh -L",
        );
    }
    claims.state(&ListenAddress::Ip(address), &node);
    Some(address)
}

pub(super) fn socket<'a>(node: &Node<'a>, claims: &mut Claims<'a>) -> Option<PathBuf> {
    if node.is_off() {
        return None;
    }
    let text = node.text("the path of a unix socket such as /run/pilotfish/admin.sock, or off")?;
    if !text.starts_with('/') || text.len() > limits::MAX_SOCKET_PATH_BYTES {
        let most = limits::MAX_SOCKET_PATH_BYTES;
        return node.refuse_value(format!(
            "cannot be a unix socket; write a path from the root (/) of up to {most} bytes"
        ));
    }
    claims.state(&ListenAddress::Unix(text.into()), node);
    Some(text.into())
}

fn users(node: &Node<'_>, env: Environment<'_>) -> Vec<User> {
    let expected = "a list of users such as `[{name: me, role: operator, password: file:/path}]`";
    let mut names = HashMap::new();
    let mut users = Vec::new();
    for item in node.items(expected, limits::MAX_USERS).unwrap_or_default() {
        let Some(map) = item.map(&["name", "role", "password", "token"]) else { continue };
        let secret = |key| map.find(key).and_then(|node| secret(&node, env));
        let (password, token) = (secret("password"), secret("token"));
        let at = map.need("name", "what to log in as");
        let Some(name) = at.as_ref().and_then(read::name) else { continue };
        if let Some(at) = at {
            read::unique(&mut names, name.clone(), at, || format!("{name:?} names two users; change one"));
        }
        if map.find("password").is_none() && map.find("token").is_none() {
            map.node().refuse("has neither password nor token; give one, such as `password: file:/path`");
        }
        users.push(User { name, role: map.read("role", Role::default(), Node::word), password, token });
    }
    users
}

const SECRET: &str = "file:PATH, env:NAME, or a hash by argon2 or bcrypt";

/// Says what is wrong with a secret without saying what stands there.
fn secret(node: &Node<'_>, env: Environment<'_>) -> Option<Secret> {
    let text = node.hidden_text(SECRET)?;
    let complain = |problem: String| {
        node.refuse(problem);
        None
    };
    if let Some(path) = text.strip_prefix("file:") {
        return in_file(path).map_or_else(complain, Some);
    }
    if let Some(name) = text.strip_prefix("env:") {
        let found = in_variable(name, env);
        return found.map_or_else(|why| complain(format!("{why}; set it, or write {SECRET}")), Some);
    }
    if is_hash(text) {
        return Some(Secret::Hash(text.into()));
    }
    complain(format!("holds a secret in clear text, or a broken hash (not shown here); write {SECRET}"))
}

fn in_file(path: &str) -> Result<Secret, String> {
    let found = secret_in(Path::new(path));
    found.map(|_| Secret::File(path.into())).map_err(|why| format!("the file {path:?} {why}"))
}

fn in_variable(name: &str, env: Environment<'_>) -> Result<Secret, String> {
    match env(name) {
        Some(value) if !value.is_empty() => Ok(Secret::Env(name.into())),
        _ => Err(format!("the environment variable {name:?} is not set or empty")),
    }
}

/// The password in the first line of the file that is named here.
pub(super) fn password_file(node: &Node<'_>) -> Option<Secret> {
    let found = in_file(node.text("the path of a file with the password in its first line")?);
    found.map_err(|why| node.refuse(why)).ok()
}

/// The password in the variable that is named here.
pub(super) fn password_env(node: &Node<'_>, env: Environment<'_>) -> Option<Secret> {
    let found = in_variable(node.text("the name of an environment variable")?, env);
    found.map_err(|why| node.refuse(format!("{why}; set it, or use password_file"))).ok()
}

/// The shape of what `argon2 -e` and `htpasswd -B` write.
fn is_hash(text: &str) -> bool {
    let parts: Vec<&str> = text.split('$').collect();
    match parts[..] {
        ["", "argon2id" | "argon2i" | "argon2d", version, params, salt, hash] => {
            version.starts_with("v=") && params.starts_with("m=") && !salt.is_empty() && !hash.is_empty()
        }
        ["", "2a" | "2b" | "2x" | "2y", cost, rest] => cost.len() == 2 && rest.len() == 53,
        _ => false,
    }
}

/// The secret in a file: its first line. An error is the end of a sentence that begins with the file.
pub(super) fn secret_in(path: &Path) -> Result<String, String> {
    let cannot = |error| format!("cannot be read: {error}");
    let bytes = file::read(path, limits::MAX_SECRET_BYTES).map_err(cannot)?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text; save the file as UTF-8")?;
    let line = text.lines().next().unwrap_or("").to_owned();
    if line.is_empty() {
        Err("holds nothing in its first line; write the secret there".into())
    } else {
        Ok(line)
    }
}

impl Secret {
    /// What it is now: the secret, or its hash.
    ///
    /// # Errors
    /// When the file or variable has changed for the worse since the configuration was checked: a whole sentence.
    pub fn reveal(&self) -> Result<String, String> {
        match self {
            Self::File(path) => {
                secret_in(path).map_err(|why| format!("the file {:?} {why}", path.display().to_string()))
            }
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name:?} is not set"))
            }
            Self::Hash(hash) => Ok(hash.clone()),
        }
    }
}

fn tls(admin: &Map<'_>) -> Option<AdminTls> {
    let map = admin.find("tls")?.map(&["cert", "key", "client_ca"])?;
    let cert = map.need("cert", "the path of a certificate in PEM form");
    let key = map.need("key", "the path of the certificate's key in PEM form");
    let client_ca = map.find("client_ca").and_then(|node| read::file(&node));
    let (cert, key) = (cert.and_then(|node| read::file(&node)), key.and_then(|node| read::file(&node)));
    Some(AdminTls { cert: cert?, key: key?, client_ca })
}
