//! Addresses that become wider or narrower: `127.0.0.1:5000`, then `0.0.0.0:5000`.
//!
//! The former socket is in the way of the new one, so that one is bound beside it ([`beside`](crate::proxy::beside)). Then nobody
//! new comes to the former one, which is served for as long as somebody may be on the way to it.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::StartError;
use super::super::bind::unbound;
use super::super::console::CLOSING;
use super::super::plan::{Plan, addresses};
use super::Running;
use crate::config::{self, Config, overlap};
use crate::proxy::Workers;
use crate::proxy::beside::{Former, HANDSHAKES};
use crate::proxy::listener::{Bound, ListenAddress, Listening, Watched};

impl Running {
    /// Own sockets that this configuration closes, and that are in the way of this address.
    pub fn in_the_way(&self, plan: &Plan, next: &Config, address: SocketAddr) -> Former {
        let is_closed = |(place, _): &(usize, _)| !plan.sockets.contains(&Some(*place));
        let closed = self.sockets.iter().enumerate().filter(is_closed);
        let closed = closed.map(|(_, (_, listening))| (&listening.address, &listening.share));
        let closed = closed.filter(|(other, _)| **other != ListenAddress::Ip(address));
        let hidden = self.hidden.iter().map(|(_, listening)| (&listening.address, &listening.share));
        let page = self.config.admin.listen.filter(|page| next.admin.listen != Some(*page));
        let page = page.zip(self.console.page());
        let page =
            page.filter(|(page, _)| *page != address && overlap(*page, address)).map(|(_, share)| share);
        let in_the_way = |(other, _): &(&ListenAddress, _)| is_overlap(other, address);
        let sockets = closed.chain(hidden).filter(in_the_way).map(|(_, share)| share).chain(page);
        Former(sockets.filter_map(|share| share.socket()).collect())
    }

    /// A socket is not wished any more. It is given back to be closed at once; or, where another one takes its clients, kept
    /// until nobody is on the way to it any more.
    pub(super) fn retire(&mut self, listening: Listening, next: &Config) -> Option<Listening> {
        tracing::info!(listen = listening.address.to_string(), "listening no more");
        let ip = |address: &config::ListenAddress| match address {
            config::ListenAddress::Ip(address) => Some(*address),
            config::ListenAddress::Unix(_) => None,
        };
        let pools = addresses(next).filter_map(|(_, _, listen)| ip(&listen.address));
        if pools.chain(next.admin.listen).any(|address| is_overlap(&listening.address, address)) {
            listening.hide();
            self.hidden.push((Instant::now() + HANDSHAKES, listening));
            return None;
        }
        Some(listening)
    }

    /// Closes what nobody is on the way to any more.
    pub(super) fn sweep_hidden(&mut self, now: Instant) {
        self.hidden.retain(|(until, _)| now < *until);
    }

    /// Closes all of it.
    pub(super) fn close_hidden(&mut self) {
        Listening::close_all(self.hidden.drain(..).map(|(_, listening)| listening), CLOSING);
    }
}

fn is_overlap(address: &ListenAddress, other: SocketAddr) -> bool {
    matches!(address, ListenAddress::Ip(address) if overlap(*address, other))
}

/// New sockets on their way to be served.
pub(super) struct Sockets {
    /// Those that stand beside others and do not listen yet.
    beside: Vec<Option<Bound>>,
    pub watched: Vec<Option<Watched>>,
}

impl Sockets {
    /// Has those watched that listen already.
    ///
    /// # Errors
    /// When one cannot be watched.
    pub fn new(bound: Vec<Option<Bound>>, workers: &Workers) -> Result<Sockets, StartError> {
        let watched = bound.iter().map(|_| None).collect();
        let mut sockets = Sockets { beside: bound, watched };
        sockets.watch(workers, Bound::listens)?;
        Ok(sockets)
    }

    /// Listens on the others too. That is the last thing that can fail: what they are given until they are served would be
    /// lost if anything failed after it.
    ///
    /// # Errors
    /// When one cannot be listened on or watched.
    pub fn listen(&mut self, workers: &Workers) -> Result<(), StartError> {
        self.watch(workers, |_| true)
    }

    fn watch(&mut self, workers: &Workers, which: impl Fn(&Bound) -> bool) -> Result<(), StartError> {
        for (from, to) in self.beside.iter_mut().zip(&mut self.watched) {
            if let Some(bound) = from.take_if(|bound| which(bound)) {
                let address = bound.address.clone();
                let bound = bound.listen().map_err(|error| unbound("a pool", address, error))?;
                *to = Some(workers.watch(bound)?);
            }
        }
        Ok(())
    }
}
