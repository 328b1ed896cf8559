//! By which names browsers may call this host.
//!
//! A page of somebody else's site can have its own name point here and then read the answers (DNS rebinding). It
//! cannot choose what its requests say in `Host`: that is its own name, and such names are not answered. An IP
//! address there is nobody's name.

use std::net::{IpAddr, Ipv6Addr};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// These names beside localhost and the name of this machine.
    pub fn new(more: impl IntoIterator<Item = String>) -> Hosts {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let names = more.into_iter().chain(["localhost".to_owned(), own]);
        Hosts { names: names.map(|name| plain(&name)).collect() }
    }

    /// `authority` is a host, with or without a port.
    pub fn allow(&self, authority: &str) -> bool {
        if let Some(rest) = authority.strip_prefix('[') {
            let address = rest.split_once(']').map(|(address, _)| address);
            return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        }
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        host.parse::<IpAddr>().is_ok() || self.names.contains(&plain(host))
    }
}

/// Names differ neither by case nor by the dot at their end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn names_of_others_are_not_answered() {
        let hosts = Hosts::new(["LB.example.org.".to_owned()]);
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for good in
            ["127.0.0.1", "10.1.2.3:7000", "[::1]:7000", "[::1]", "localhost:7000", "lb.example.org:1", &own]
        {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in
            ["", ":7000", "evil.example", "lb.example.org.evil.example", "127.0.0.1.evil.example", "[a]", "["]
        {
            assert!(!hosts.allow(bad), "{bad}");
        }
    }
}
