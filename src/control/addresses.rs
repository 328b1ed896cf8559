//! Where members are dialled.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::topology::Member;

/// The last good addresses of the members' host names. A name that fails to resolve keeps those that it had.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    known: HashMap<String, Vec<IpAddr>>,
    /// Did not resolve when they were last looked up.
    failing: HashSet<String>,
}

impl AddressBook {
    /// Takes in a lookup.
    ///
    /// # Errors
    /// With its problem, if the name resolved the last time: a failure is news only once.
    pub(super) fn learn(&mut self, host: String, found: Result<Vec<IpAddr>, String>) -> Result<(), String> {
        match found {
            Ok(addresses) => {
                self.failing.remove(&host);
                self.known.insert(host, addresses);
                Ok(())
            }
            Err(problem) if self.failing.insert(host) => Err(problem),
            Err(_) => Ok(()),
        }
    }

    /// Empty while the host name has never resolved. `port` in place of PostgreSQL's.
    pub(super) fn of(&self, member: &Member, port: Option<u16>) -> Arc<[SocketAddr]> {
        let port = port.unwrap_or(member.port);
        if let Ok(address) = member.host.parse::<IpAddr>() {
            return Arc::from([SocketAddr::new(address, port)]);
        }
        let known = self.known.get(&member.host).map_or(&[][..], Vec::as_slice);
        known.iter().map(|&address| SocketAddr::new(address, port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fails_keeps_its_addresses_and_says_so_once() {
        let member = Member { name: "a".into(), host: "db".into(), port: 5432, api: String::new() };
        let mut book = AddressBook::default();
        assert!(book.of(&member, None).is_empty());
        assert_eq!(book.learn("db".into(), Ok(vec![IpAddr::from([10, 0, 0, 1])])), Ok(()));
        assert_eq!(book.learn("db".into(), Err("no answer".into())), Err("no answer".to_owned()));
        assert_eq!(book.learn("db".into(), Err("no answer".into())), Ok(()));
        assert_eq!(*book.of(&member, None), [SocketAddr::from(([10, 0, 0, 1], 5432))]);
        let direct = Member { host: "fd00::1".into(), ..member };
        assert_eq!(book.of(&direct, Some(6432))[0].to_string(), "[fd00::1]:6432");
    }
}
