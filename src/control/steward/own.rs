//! Members that are said to be where this process listens itself: they are not dialled.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Steward;
use crate::control::journal;
use crate::routing::{Backend, Bar, Routes};
use crate::topology::Member;

/// Where a member is dialled.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    /// Empty while its host name has not resolved, or when every dial would come back.
    pub addresses: Arc<[SocketAddr]>,
    /// An address by which it would, if there is no other.
    pub comes_back: Option<SocketAddr>,
}

impl Steward {
    /// `port` in place of PostgreSQL's.
    pub(super) fn dialled(&self, member: &Member, port: Option<u16>) -> Dialled {
        let addresses = self.addresses.of(member, port);
        let Some(own) = addresses.iter().copied().find(|address| self.own.take(*address)) else {
            return Dialled { addresses, comes_back: None };
        };
        let others = addresses.iter().copied().filter(|address| !self.own.take(*address));
        let addresses: Arc<[SocketAddr]> = others.collect();
        let comes_back = addresses.is_empty().then_some(own);
        Dialled { addresses, comes_back }
    }

    /// Says of whom that is so, and of whom no more: once, whichever pools have it.
    pub(super) fn note_own(&mut self, routes: &Routes) {
        let own = |backend: &Backend| match &backend.obstacle {
            Some(Bar::OwnListener { address }) => Some((Arc::clone(&backend.name), *address)),
            _ => None,
        };
        let now: BTreeSet<(Arc<str>, SocketAddr)> =
            routes.pools.iter().flat_map(|pool| &pool.backends).filter_map(own).collect();
        if now == self.comes_back {
            return;
        }
        journal::own(&self.name, &self.comes_back, &now);
        self.comes_back = now;
        // Nobody is asked there whether it takes connections.
        self.follow_ports();
    }
}
