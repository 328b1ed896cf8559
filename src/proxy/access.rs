//! Who may come in at a listener, and who a client is.
//!
//! A client is known by the address of its connection or, where a trusted proxy is in front, by what that says in its
//! header. Only the trusted may say so, and they have to: whoever could speak for others without being trusted could
//! take any name, and a trusted one that forgets its header would pass for the client.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::proxy_protocol::{self, Parse, Proxied, canonical};
use super::sessions::Session;
use super::stream::Stream;
use crate::stats::{End, Origin};

/// How long a proxy may take for its header. It has it ready; three seconds, the least that the protocol's text asks
/// for, allow for a lost packet.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// Where a client is, as it is shown and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    Ip(SocketAddr),
    /// On this host, through a unix socket: the user that has connected, by number.
    Unix {
        uid: u32,
    },
}

/// Addresses by network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    pub ip: Vec<IpNet>,
    /// Clients of a unix socket.
    pub unix: bool,
}

/// The rules of one listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who may be a client; `None`: everybody.
    pub allow: Option<Networks>,
    /// Proxies that say who the client is, in a header that they have to send.
    pub trusted: Networks,
}

impl ClientAddress {
    pub fn of(address: SocketAddr) -> ClientAddress {
        ClientAddress::Ip(canonical(address))
    }

    /// For what goes by the client and not by its connection.
    pub fn origin(self) -> Origin {
        match self {
            ClientAddress::Ip(address) => Origin::Ip(address.ip()),
            ClientAddress::Unix { uid } => Origin::Uid(uid),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAddress::Ip(address) => address.fmt(f),
            ClientAddress::Unix { uid } => write!(f, "unix:{uid}"),
        }
    }
}

impl Networks {
    pub fn contain(&self, client: ClientAddress) -> bool {
        match client {
            ClientAddress::Ip(address) => self.ip.iter().any(|network| network.contains(&address.ip())),
            ClientAddress::Unix { .. } => self.unix,
        }
    }
}

impl Access {
    fn allows(&self, client: ClientAddress) -> bool {
        self.allow.as_ref().is_none_or(|networks| networks.contain(client))
    }

    /// Lets a new connection in, or says why not. Nothing is read of one that is not allowed; of a trusted proxy's, its
    /// header and not a byte more.
    ///
    /// # Errors
    /// With the end of the session.
    pub(super) async fn admit(&self, client: &mut Stream, session: &Session) -> Result<(), End> {
        if self.trusted.contain(session.client())
            && let Some(proxied) = read_header(client, session).await?
        {
            session.is_proxied(proxied);
        }
        if self.allows(session.client()) { Ok(()) } else { Err(End::ClientDenied) }
    }
}

/// What goes before the first byte towards a member: nothing, unless the pool says who its clients are.
pub(super) fn announcement(client: &Stream, session: &Session) -> Vec<u8> {
    if !session.pool.options.send_proxy {
        return Vec::new();
    }
    let of_connection = || match session.client() {
        ClientAddress::Ip(source) => {
            let destination = canonical(client.local_addr().ok()?);
            Some(Proxied { source, destination })
        }
        ClientAddress::Unix { .. } => None,
    };
    proxy_protocol::encode(session.proxied().or_else(of_connection))
}

async fn read_header(client: &mut Stream, session: &Session) -> Result<Option<Proxied>, End> {
    let deadline = Instant::now() + HEADER_PATIENCE;
    let mut bytes = Vec::new();
    loop {
        let missing = match proxy_protocol::parse(&bytes) {
            Parse::Done(proxied, _) => return Ok(proxied),
            Parse::Garbage(why) => {
                session.remark(why);
                return Err(End::ProxyHeader);
            }
            Parse::Need(length) => length - bytes.len(),
        };
        // Not a byte more: what follows is the client's.
        let mut header = (&mut *client).take(missing as u64);
        match timeout_at(deadline, header.read_buf(&mut bytes)).await {
            Err(_) => {
                session.remark("no PROXY protocol header in time");
                return Err(End::ProxyHeader);
            }
            Ok(Ok(0) | Err(_)) if bytes.is_empty() => return Err(End::ClientProbe),
            Ok(Ok(0) | Err(_)) => return Err(End::ProxyHeader),
            Ok(Ok(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_addresses_of_their_own_family() {
        let networks = |list: &[&str]| Networks {
            ip: list.iter().map(|text| text.parse().expect("a network")).collect(),
            unix: false,
        };
        for (list, address, expected) in [
            (&["10.0.0.0/8"][..], "10.1.2.3:1", true),
            (&["10.0.0.0/8"], "11.1.2.3:1", false),
            (&["10.0.0.0/8"], "[::ffff:10.1.2.3]:1", true),
            (&["::/0"], "10.1.2.3:1", false),
            (&["::/0"], "[2001:db8::1]:1", true),
            (&["::1/128"], "[::1]:1", true),
            (&["192.0.2.1/32", "fd00::/8"], "[fd12::1]:1", true),
            (&["192.0.2.1/32", "fd00::/8"], "192.0.2.2:1", false),
            (&[], "10.1.2.3:1", false),
        ] {
            let client = ClientAddress::of(address.parse().expect("an address"));
            assert_eq!(networks(list).contain(client), expected, "{list:?} {address}");
        }
        assert!(!networks(&["0.0.0.0/0", "::/0"]).contain(ClientAddress::Unix { uid: 0 }));
        assert!(Networks { ip: Vec::new(), unix: true }.contain(ClientAddress::Unix { uid: 0 }));
    }
}
