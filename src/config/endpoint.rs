//! Where one Patroni member answers REST requests.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Scheme, host and port; paths are pilotfish's own. Shows as a URL without a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Default `http`.
    pub scheme: Scheme,
    /// A name in small letters or an IP address, an IPv6 one without brackets.
    pub host: String,
    /// Default 8008, with either scheme.
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// Patroni's own default for `restapi.listen`.
const PATRONI_PORT: u16 = 8008;
/// From the DNS: a whole name, and one label of it.
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

impl Endpoint {
    /// `HOST`, `HOST:PORT`, `[IPv6]:PORT`, with or without `http://` or `https://`. An error is the end of a sentence
    /// that begins with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err("does not begin with http:// or https://, all that Patroni speaks".into()),
        };
        // A lone slash is what a browser appends.
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("has a path or a query; write HOST:PORT alone, the paths are always Patroni's".into());
        }
        if authority.contains('@') {
            return Err("has a user in it; write HOST:PORT alone, Patroni's checks need no login".into());
        }
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, port) = bracketed.split_once(']').ok_or("has [ without ]; write [IPv6]:PORT")?;
            (host.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address in its brackets")?.to_string(), port)
        } else {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if port.matches(':').count() > 1 {
                return Err(
                    "has more than one colon; write an IPv6 address in brackets: [fd00::1]:8008".into()
                );
            }
            (host_name(host)?, port)
        };
        Ok(Self { scheme, host, port: port_number(port)? })
    }
}

/// `""` or `:PORT`.
fn port_number(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Ok(PATRONI_PORT);
    }
    let number = text.strip_prefix(':').and_then(|digits| digits.parse().ok());
    number.filter(|port| *port != 0).ok_or_else(|| "does not end in a port from 1 to 65535".into())
}

/// A name of the DNS, or an IPv4 address.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("has no host; write HOST:PORT".into());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let label = |label: &str| !label.is_empty() && label.len() <= MAX_LABEL_BYTES && label.chars().all(plain);
    if name.len() > MAX_HOST_BYTES || !name.split('.').all(label) {
        return Err("has a host that is neither a name nor an IP address; write HOST:PORT".into());
    }
    // A name never ends in digits alone, so this was meant as an address.
    let ends_in_number = name.rsplit('.').next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    if ends_in_number && name.parse::<Ipv4Addr>().is_err() {
        return Err("has an IPv4 address that is not one: four numbers from 0 to 255".into());
    }
    Ok(text.to_ascii_lowercase())
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}
