//! Where a pool listens, and who may come in there.

use super::claims::Claims;
use super::limits;
use super::node::{Map, Node};
use super::runtime_socket::permissions;
use super::value;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// One place to listen at.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    pub address: ListenAddress,
    /// Who may be a client. `None`: everybody who can connect.
    pub allow: Option<Vec<Network>>,
    /// Proxies that say who the client is, by a PROXY protocol header that they have to send. Nobody else may.
    pub accept_proxy: Vec<Network>,
    /// Also at an address that this host does not have, or not yet. Default false.
    pub free_bind: bool,
    /// Of a unix socket's file: who may write to it may connect. `None`: 0777, as PostgreSQL's own, and as it is where the
    /// service manager passes the socket.
    pub mode: Option<u32>,
}

/// `[::]` stands for all IPv6 addresses and no IPv4 one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// Clients, by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Ip(IpNet),
    /// Whoever has come through the unix socket.
    Unix,
}

const LISTEN: &str = "an address such as 0.0.0.0:5000 or unix:/run/app.sock, or a list of these";
const NETWORKS: &str = "networks such as [10.0.0.0/8, \"::1\"]";
const WITHOUT_ADDRESS: &str = "has a network, which nobody who comes through a unix socket is in; write unix";
const WITHOUT_HEADER: &str = "has a network, which nobody who comes through a unix socket is in; write unix, or say by \
     accept_proxy: [unix] that a proxy there tells its clients' addresses";
const DEFAULT_MODE: u32 = 0o777;
/// The bits of an IPv6 address before the IPv4 one that is mapped into it.
const MAPPED_BITS: u8 = 96;

impl Listen {
    /// For everybody.
    pub fn at(address: ListenAddress) -> Self {
        Self { address, allow: None, accept_proxy: Vec::new(), free_bind: false, mode: None }
    }

    /// Of the file that is made.
    pub fn new_mode(&self) -> u32 {
        self.mode.unwrap_or(DEFAULT_MODE)
    }

    /// What its file is to have, which is this process's own or not. `None`: what it has.
    pub fn file_mode(&self, is_own: bool) -> Option<u32> {
        self.mode.or_else(|| is_own.then_some(DEFAULT_MODE))
    }

    pub fn is_plain(&self) -> bool {
        *self == Self::at(self.address.clone())
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::at(ListenAddress::Ip(address))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The addresses of a pool. Two pools cannot share the default, so only the first of the first cluster has one.
pub fn listen<'a>(pool: &Map<'a>, default: Vec<Listen>, first: bool, claims: &mut Claims<'a>) -> Vec<Listen> {
    let Some(node) = pool.find("listen") else {
        if first {
            default.iter().for_each(|listen| claims.assume(&listen.address, pool.node()));
        } else {
            pool.node().refuse(
                "the key listen is missing, and its default is for the first pool of its kind only; \
                 give an address, or turn this pool off",
            );
        }
        return default;
    };
    let stated = entries(&node);
    stated.iter().for_each(|(at, listen)| claims.state(&listen.address, at));
    stated.into_iter().map(|(_, listen)| listen).collect()
}

fn entries<'a>(node: &Node<'a>) -> Vec<(Node<'a>, Listen)> {
    let items = match node.is_list() {
        true => node.items(LISTEN, limits::MAX_LISTEN).unwrap_or_default(),
        false => vec![node.clone()],
    };
    let mut entries = Vec::new();
    for item in items {
        if item.is_list() {
            item.mismatch::<()>(LISTEN);
        } else if item.is_map() {
            entries.extend(entry(&item));
        } else {
            let plain = item.texts(LISTEN, limits::MAX_LISTEN, address).unwrap_or_default();
            entries.extend(plain.into_iter().map(|(at, address)| (at, Listen::at(address))));
        }
    }
    entries
}

fn entry<'a>(node: &Node<'a>) -> Option<(Node<'a>, Listen)> {
    let map = node.map(&["address", "allow", "accept_proxy", "free_bind", "mode"])?;
    let at = map.need("address", "an address such as 0.0.0.0:5000 or unix:/run/app.sock")?;
    let address = match address(at.text("an address such as 0.0.0.0:5000")?) {
        Ok(address) => address,
        Err(why) => return at.refuse_value(why),
    };
    let is_unix = matches!(address, ListenAddress::Unix(_));
    let networks = |key| {
        let list = map.find(key)?.texts(NETWORKS, limits::MAX_NETWORKS, |text| network(text, is_unix))?;
        Some(list.into_iter().map(|(_, network)| network).collect::<Vec<_>>())
    };
    let (allow, accept_proxy) = (networks("allow"), networks("accept_proxy"));
    if is_unix {
        // Who comes through the socket has no IP address, unless a proxy there says one.
        refuse_networks(map.find("accept_proxy"), accept_proxy.as_deref(), WITHOUT_ADDRESS);
        let says_addresses = map.find("accept_proxy").is_some();
        refuse_networks(map.find("allow").filter(|_| !says_addresses), allow.as_deref(), WITHOUT_HEADER);
    }
    let for_ip_only = map.find("free_bind").filter(|_| is_unix);
    for_ip_only
        .iter()
        .for_each(|node| node.refuse("is for IP addresses; a unix socket has none, leave it out"));
    let for_unix_only = map.find("mode").filter(|_| !is_unix);
    for_unix_only.iter().for_each(|node| node.refuse("is for unix sockets (unix:PATH); leave it out"));
    let default = Listen::at(address);
    let listen = Listen {
        allow,
        accept_proxy: accept_proxy.unwrap_or_default(),
        free_bind: map.read("free_bind", false, Node::truth),
        mode: map.find("mode").and_then(|node| permissions(&node)),
        ..default
    };
    Some((at, listen))
}

/// `unix:PATH`, or an IP address with its port.
fn address(text: &str) -> Result<ListenAddress, String> {
    match text.strip_prefix("unix:") {
        None if text.starts_with('/') => Err(format!("is a path; write unix:{text} for a unix socket")),
        None => value::listen_address(text).map(ListenAddress::Ip),
        Some(path) if path.starts_with('/') && path.len() <= limits::MAX_SOCKET_PATH_BYTES => {
            Ok(ListenAddress::Unix(path.into()))
        }
        Some(_) => Err(format!(
            "cannot be a unix socket; write unix: and a path from the root (/) of up to {} bytes",
            limits::MAX_SOCKET_PATH_BYTES
        )),
    }
}

fn refuse_networks(node: Option<Node<'_>>, networks: Option<&[Network]>, why: &str) {
    let has_network = networks.is_some_and(|list| list.iter().any(|network| *network != Network::Unix));
    node.filter(|_| has_network).iter().for_each(|node| node.refuse(why));
}

/// A network, or one address. Bits behind the prefix mean nothing, and of IPv4 addresses mapped into IPv6 it is an IPv4
/// one: clients are known by those.
fn network(text: &str, is_unix: bool) -> Result<Network, String> {
    if text == "unix" {
        return if is_unix { Ok(Network::Unix) } else { Err("is for a listener at unix:PATH".into()) };
    }
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| Network::Ip(canonical(net).trunc()))
        .map_err(|_| "is no network; write ADDRESS/BITS such as 10.0.0.0/8, or an address".into())
}

fn canonical(net: IpNet) -> IpNet {
    let mapped = net.prefix_len().checked_sub(MAPPED_BITS).zip(Some(net.addr().to_canonical()));
    match (net, mapped) {
        (IpNet::V6(_), Some((bits, ip @ IpAddr::V4(_)))) => IpNet::new(ip, bits).unwrap_or(net),
        _ => net,
    }
}

/// The addresses as YAML that reads back as the same.
pub(super) fn show(listens: &[Listen]) -> String {
    let list = |networks: &[Network]| {
        let networks: Vec<String> = networks.iter().map(|network| format!("\"{network}\"")).collect();
        networks.join(", ")
    };
    let one = |listen: &Listen| {
        let address = super::show::quoted(&listen.address.to_string());
        if listen.is_plain() {
            return address;
        }
        let mut keys = format!("address: {address}");
        if let Some(allow) = &listen.allow {
            keys.push_str(&format!(", allow: [{}]", list(allow)));
        }
        if !listen.accept_proxy.is_empty() {
            keys.push_str(&format!(", accept_proxy: [{}]", list(&listen.accept_proxy)));
        }
        match listen.address {
            ListenAddress::Ip(_) => keys.push_str(&format!(", free_bind: {}", listen.free_bind)),
            ListenAddress::Unix(_) => {
                let mode = listen.mode.map(|mode| format!(", mode: \"{mode:04o}\""));
                keys.extend(mode);
            }
        }
        format!("{{{keys}}}")
    };
    let shown: Vec<String> = listens.iter().map(one).collect();
    format!("[{}]", shown.join(", "))
}
