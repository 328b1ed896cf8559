//! The ports of their own that pools have on members: each is asked whether anybody is there.
//!
//! A pgbouncer that has died says nothing of its node: Patroni and PostgreSQL go on, and so do the other pools. So each
//! such port has a [`PortHealth`] beside the member's, and takes its member out of its own pools only.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::controller::Event;
use super::inbox::Inbox;
use super::patroni::fault;
use super::poller::{Poller, PollerOptions};
use crate::proxy::connect::{DialError, dial};
use crate::routing::{Bar, ClusterId, PoolRules};
use crate::stats::Part;
use crate::topology::health::Thresholds;
use crate::topology::{Knock, PortHealth};

/// Members and their ports.
type Key = (String, u16);

#[derive(Debug)]
pub(super) struct Ports {
    cluster: ClusterId,
    /// Between two checks of a port, and how long one may take.
    interval: Duration,
    fast_interval: Duration,
    timeout: Duration,
    thresholds: Thresholds,
    known: BTreeMap<Key, Port>,
}

#[derive(Debug)]
struct Port {
    health: PortHealth,
    addresses: Arc<[SocketAddr]>,
    poller: Poller,
}

impl Ports {
    pub fn new(
        cluster: ClusterId,
        [interval, fast_interval, timeout]: [Duration; 3],
        thresholds: Thresholds,
    ) -> Ports {
        Ports { cluster, interval, fast_interval, timeout, thresholds, known: BTreeMap::new() }
    }

    /// Asks at another pace and judges by other thresholds from now on; what is known of the ports stays.
    pub fn set_pace(
        &mut self,
        [interval, fast_interval, timeout]: [Duration; 3],
        thresholds: Thresholds,
        inbox: &Inbox,
    ) {
        self.thresholds = thresholds;
        if (self.interval, self.fast_interval, self.timeout) == (interval, fast_interval, timeout) {
            return;
        }
        (self.interval, self.fast_interval, self.timeout) = (interval, fast_interval, timeout);
        let mut known = std::mem::take(&mut self.known);
        for (key, port) in &mut known {
            port.poller = self.ask(key, &port.addresses, inbox);
        }
        self.known = known;
    }

    /// Asks these and no others. One that has moved keeps its record until it is heard at its new place.
    pub fn follow(&mut self, wanted: BTreeMap<Key, Arc<[SocketAddr]>>, inbox: &Inbox) {
        self.known.retain(|key, _| wanted.contains_key(key));
        for (key, addresses) in wanted {
            if self.known.get(&key).is_some_and(|port| port.addresses == addresses) {
                continue;
            }
            let poller = self.ask(&key, &addresses, inbox);
            match self.known.get_mut(&key) {
                Some(port) => (port.addresses, port.poller) = (addresses, poller),
                None => {
                    self.known.insert(key, Port { health: PortHealth::default(), addresses, poller });
                }
            }
        }
    }

    fn ask(&self, key: &Key, addresses: &Arc<[SocketAddr]>, inbox: &Inbox) -> Poller {
        let Ports { cluster, interval, fast_interval, timeout, .. } = *self;
        let ((member, port), addresses) = (key.clone(), Arc::clone(addresses));
        let panics = inbox.panics.clone();
        let ask = move || {
            let (member, addresses, panics) = (member.clone(), Arc::clone(&addresses), panics.clone());
            async move {
                let knock = panics.caught(Part::Poller, knock(&addresses, timeout)).await;
                let knock = knock.unwrap_or_else(|| Knock::Silent(fault().detail));
                Event::Knocked { cluster, member, port, knock }
            }
        };
        let options = PollerOptions { fast_interval, first_after: Duration::ZERO };
        Poller::start(options, interval, inbox.clone(), ask)
    }

    /// Takes in one check. `cluster` and `pools` are for the log.
    pub fn knocked(&mut self, cluster: &str, pools: &[PoolRules], (member, port): (&str, u16), knock: Knock) {
        let Some(known) = self.known.get_mut(&(member.to_owned(), port)) else { return };
        if known.health.record(knock, self.thresholds) {
            let pools = pools.iter().filter(|rules| rules.port == Some(port)).map(|rules| &*rules.name);
            let pool = pools.collect::<Vec<_>>().join(", ");
            match known.health.problem() {
                None => tracing::info!(cluster, pool, member, port, "the port takes connections"),
                Some(problem) => {
                    tracing::warn!(cluster, pool, member, port, problem, "the port takes no connections")
                }
            }
        }
    }

    /// A session was refused there: it is asked at once. Says whether that is news.
    pub fn troubled(&mut self, member: &str, port: u16, refused: bool) -> bool {
        let Some(known) = self.known.get_mut(&(member.to_owned(), port)) else { return false };
        known.poller.poke();
        refused && known.health.suspect("a session was refused there")
    }

    /// Why nobody is sent there.
    pub fn obstacle(&self, member: &str, port: u16) -> Option<Bar> {
        let known = self.known.get(&(member.to_owned(), port));
        if known.is_some_and(|known| known.health.is_open()) {
            return None;
        }
        let dead = known.filter(|known| known.health.is_dead());
        Some(match dead.and_then(|known| known.health.problem()) {
            Some(problem) => Bar::Port { port, problem: Arc::from(problem) },
            None => Bar::PortAsked { port },
        })
    }
}

/// Connects and hangs up.
async fn knock(addresses: &[SocketAddr], patience: Duration) -> Knock {
    match dial(addresses, patience, TcpStream::connect::<SocketAddr>).await {
        Ok(_) => Knock::Open,
        Err(DialError::Member(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            Knock::Refused(error.to_string())
        }
        Err(error) => Knock::Silent(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::control::inbox;

    /// On a runtime without sockets every dial panics.
    #[test]
    fn a_check_that_panics_is_one_without_an_answer() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let event = runtime.block_on(async {
            let (inbox, mut events) = inbox();
            let pace = [Duration::from_secs(1); 3];
            let mut ports = Ports::new(ClusterId(0), pace, Thresholds { fall: 3, rise: 2 });
            let addresses: Arc<[SocketAddr]> = [SocketAddr::from(([127, 0, 0, 1], 1))].into();
            ports.follow([(("a".to_owned(), 1), addresses)].into(), &inbox);
            let event = events.recv().await;
            assert_eq!(inbox.panics.of(Part::Poller), 1);
            event
        });
        let Some(Event::Knocked { member, port: 1, knock: Knock::Silent(problem), .. }) = event else {
            panic!("{event:?}");
        };
        assert_eq!((&*member, problem), ("a", fault().detail));
    }
}
