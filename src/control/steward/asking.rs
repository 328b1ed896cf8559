//! Whom a cluster's steward asks, and what it knows of where each member is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Steward;
use super::own::Dialled;
use crate::control::controller::Event;
use crate::control::discovery::Targets;
use crate::control::patroni::fault;
use crate::control::poller::{Poller, PollerOptions};
use crate::routing::{Bar, PoolRules, Site};
use crate::stats::Part;
use crate::topology::cluster::Tracked;
use crate::topology::{Class, Observation};

impl Steward {
    /// Every member is asked by one poller; who is no member any more is not.
    pub(super) fn follow_members(&mut self, first_after: Duration) {
        let apis: Vec<String> = self.core.tracked().map(|tracked| tracked.member.api.clone()).collect();
        for (gone, _) in self.pollers.extract_if(|api, _| !apis.contains(api)) {
            self.patroni.forget(&gone);
        }
        self.checks.retain(|api, _| apis.contains(api));
        for api in apis {
            let (patroni, inbox) = (self.patroni.clone(), self.inbox.clone());
            let (cluster, fast_interval) = (self.id, self.options.fast_interval);
            self.pollers.entry(api).or_insert_with_key(|api| {
                let options = PollerOptions { fast_interval, first_after };
                let (api, panics) = (api.clone(), inbox.panics.clone());
                let ask = move || {
                    let (api, patroni, panics) = (api.clone(), patroni.clone(), panics.clone());
                    async move {
                        let asked = Instant::now();
                        let observation = panics.caught(Part::Poller, patroni.leader(&api)).await;
                        let observation = observation.unwrap_or_else(|| Observation::Silent(fault()));
                        Event::Observed { cluster, api, observation, asked, took: asked.elapsed() }
                    }
                };
                Poller::start(options, fast_interval, inbox, ask)
            });
        }
        self.follow_ports();
        self.aim_discovery();
    }

    /// The whole process stood still: everybody is asked anew, and what is under way is not waited for.
    pub fn stood_still(&mut self, now: Duration, first_after: Duration) {
        self.core.stood_still(now);
        self.pollers.clear();
        self.follow_members(first_after);
    }

    /// The ports of their own that pools have are asked on every member whose address is known.
    pub(super) fn follow_ports(&mut self) {
        let mut wanted = BTreeMap::new();
        for port in self.pools.iter().filter_map(|rules| rules.port) {
            for Tracked { member, .. } in self.core.tracked() {
                let Dialled { addresses, .. } = self.dialled(member, Some(port));
                if !addresses.is_empty() {
                    wanted.insert((member.name.clone(), port), addresses);
                }
            }
        }
        self.ports.follow(wanted, &self.inbox);
    }

    /// What a pool's routes need to know of a member.
    pub(super) fn site(&self, name: &str, rules: &PoolRules) -> Site<'_> {
        let tracked = self.core.member(name);
        let report = tracked.and_then(|tracked| tracked.health.last_report());
        let dialled = tracked.map(|tracked| self.dialled(&tracked.member, rules.port));
        let Dialled { addresses, comes_back } = dialled.unwrap_or_default();
        let own = comes_back.map(|address| Bar::OwnListener { address });
        Site {
            addresses,
            tags: report.map(|report| &report.tags[..]).unwrap_or_default(),
            obstacle: own.or_else(|| rules.port.and_then(|port| self.ports.obstacle(name, port))),
        }
    }

    /// Nodes that may tell the members: they answer, and they belong to this cluster as far as is known.
    pub(super) fn worth_asking(&self) -> impl Iterator<Item = &Tracked> {
        let known = self.core.identity().is_some() || self.core.is_settled();
        let answers =
            |tracked: &&Tracked| tracked.class != Class::Foreign && tracked.health.report().is_some();
        self.core.tracked().filter(answers).filter(move |_| known)
    }

    /// The writer knows best.
    pub(super) fn aim_discovery(&self) {
        let mut worth: Vec<&Tracked> = self.worth_asking().collect();
        worth.sort_by_key(|tracked| tracked.class != Class::Writer);
        let apis = worth.iter().map(|tracked| tracked.member.api.clone()).collect();
        let names = self.core.tracked().map(|tracked| tracked.member.host.clone());
        let hosts = names.filter(|host| host.parse::<IpAddr>().is_err()).collect();
        self.discovery.set_targets(Targets { apis, hosts });
    }
}
