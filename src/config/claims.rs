//! Who listens where: no two listeners on one address.

use super::listen::ListenAddress;
use super::node::Node;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The addresses of the whole configuration, in the order of reading.
#[derive(Default)]
pub struct Claims<'a> {
    by_port: HashMap<u16, Vec<Claim<'a>>>,
    by_path: HashMap<PathBuf, Node<'a>>,
}

struct Claim<'a> {
    address: SocketAddr,
    /// The address itself where it is stated, else the pool that has it by default.
    node: Node<'a>,
    stated: bool,
}

impl<'a> Claims<'a> {
    /// An address that the configuration states, at `node`.
    pub fn state(&mut self, address: &ListenAddress, node: &Node<'a>) {
        match address {
            ListenAddress::Ip(address) => {
                self.add(Claim { address: *address, node: node.clone(), stated: true });
            }
            ListenAddress::Unix(path) => match self.by_path.get(path) {
                Some(first) => {
                    let message = format!("{address} is taken: {} has it; give each its own", first.path());
                    node.refuse_beside(first, message);
                }
                None => drop(self.by_path.insert(path.clone(), node.clone())),
            },
        }
    }

    /// An address that `owner` has by default.
    pub fn assume(&mut self, address: &ListenAddress, owner: &Node<'a>) {
        if let ListenAddress::Ip(address) = address {
            self.add(Claim { address: *address, node: owner.clone(), stated: false });
        }
    }

    fn add(&mut self, claim: Claim<'a>) {
        // Port 0 is any free port: a different one each time.
        if claim.address.port() == 0 {
            return;
        }
        let claims = self.by_port.entry(claim.address.port()).or_default();
        if let Some(first) = claims.iter().find(|first| overlap(first.address, claim.address)) {
            collide(first, &claim);
        }
        claims.push(claim);
    }
}

/// Complains at an address that was stated: the one that can be changed where it stands.
fn collide(first: &Claim<'_>, second: &Claim<'_>) {
    let (complain, other) = if second.stated { (second, first) } else { (first, second) };
    let conflict = match complain.address == other.address {
        true => format!("{} is taken:", complain.address),
        false => format!("{} overlaps {}:", complain.address, other.address),
    };
    let path = other.node.path();
    match other.stated {
        true => {
            complain.node.refuse_beside(&other.node, format!("{conflict} {path} has it; give each its own"))
        }
        false => complain.node.refuse(format!("{conflict} {path} has it by default; give each its own")),
    }
}

/// Whether one of the two would be refused by the kernel. `[::]` takes no IPv4 address.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (port, other_port) = (a.port(), b.port());
    let (a, b) = (a.ip(), b.ip());
    port == other_port
        && (a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())))
}
