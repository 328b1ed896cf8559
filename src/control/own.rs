//! Would a dial come back to this process?
//!
//! It does when a member's `connect_address` in Patroni is the balancer's: a slip, and one client would then take all
//! places, since each session to that member is a new client. A listener on one address is compared with it; one on all
//! addresses is met by every address of this host, and which those are is for the kernel's routes to say. They change
//! when a virtual address moves, so it is asked again and again.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer of the kernel is used: a decision may ask for it a thousand times in that time.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Cheap to clone; clones share what they know.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnListeners(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_port: BTreeMap<u16, Vec<IpAddr>>,
    /// Whether these are of this host, and when that was asked.
    local: HashMap<IpAddr, (Instant, bool)>,
}

impl OwnListeners {
    /// From now on there are these and no others.
    pub fn are(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut by_port: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
        for address in addresses {
            by_port.entry(address.port()).or_default().push(address.ip());
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_port = by_port;
    }

    /// Whether a connection to this address comes to one of them. Takes a moment where the port alone does not tell.
    pub fn take(&self, address: SocketAddr) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { by_port, local } = &mut *known;
        let Some(own) = by_port.get(&address.port()) else { return false };
        let ip = dialled(address.ip());
        let on_all = |own: &IpAddr| own.is_unspecified() && own.is_ipv4() == ip.is_ipv4();
        own.contains(&ip) || own.iter().any(on_all) && is_local_lately(local, ip)
    }
}

/// What a dial makes of it: an IPv4 address within IPv6 is one of IPv4, and no address at all is this host.
fn dialled(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn is_local_lately(local: &mut HashMap<IpAddr, (Instant, bool)>, ip: IpAddr) -> bool {
    let now = Instant::now();
    local.retain(|_, (asked, _)| now < *asked + FRESH_FOR);
    // Without a way there, or a descriptor to ask with, it is not known to be of this host.
    local.entry(ip).or_insert_with(|| (now, is_local(ip).unwrap_or(false))).1
}

/// Whether this host has that address: a packet to it would come from itself. A datagram socket finds the way when it is
/// connected, and sends nothing.
fn is_local(ip: IpAddr) -> std::io::Result<bool> {
    let anywhere: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    /// Any will do.
    const PORT: u16 = 9;
    if ip.is_loopback() {
        return Ok(true);
    }
    let socket = UdpSocket::bind((anywhere, 0))?;
    socket.connect((ip, PORT))?;
    Ok(socket.local_addr()?.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of this host that is none of loopback, if it has one.
    fn of_this_host() -> Option<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Set aside for documentation (RFC 5737): nobody is there, and nothing is sent.
        socket.connect("192.0.2.1:9").ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    }

    #[test]
    fn what_comes_back_is_told_from_what_does_not() {
        for (own, dialled, comes_back) in [
            ("10.0.0.9:5000", "10.0.0.9:5000", true),
            ("10.0.0.9:5000", "10.0.0.9:5001", false),
            ("10.0.0.9:5000", "10.0.0.8:5000", false),
            ("10.0.0.9:5000", "[::ffff:10.0.0.9]:5000", true),
            ("127.0.0.1:5000", "0.0.0.0:5000", true),
            ("[::1]:5000", "[::]:5000", true),
            ("0.0.0.0:5000", "127.0.0.1:5000", true),
            ("0.0.0.0:5000", "127.7.7.7:5000", true),
            ("0.0.0.0:5000", "127.0.0.1:5432", false),
            ("0.0.0.0:5000", "192.0.2.1:5000", false),
            // One of all IPv6 addresses takes nothing else.
            ("[::]:5000", "127.0.0.1:5000", false),
            ("[::]:5000", "[::1]:5000", true),
        ] {
            let listeners = OwnListeners::default();
            let [own, dialled] =
                [own, dialled].map(|address| address.parse::<SocketAddr>().expect("an address"));
            assert!(!listeners.take(dialled), "{dialled}: there is no listener yet");
            listeners.are([own]);
            for _ in 0..2 {
                assert_eq!(listeners.take(dialled), comes_back, "{own} {dialled}");
            }
            listeners.are([]);
            assert!(!listeners.take(dialled), "{dialled}: it has gone");
        }
    }

    #[test]
    fn every_address_of_this_host_leads_to_a_listener_on_all() {
        let Some(ip) = of_this_host() else { return };
        assert!(is_local(ip).is_ok_and(|is_local| is_local), "{ip}");
    }
}
