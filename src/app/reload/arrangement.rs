//! Who is served from now on and who leaves: laid out first, and in effect when control has taken it over.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::StartError;
use super::super::plan::Plan;
use super::super::served::{Served, ServedPool};
use super::Running;
use crate::config::Config;
use crate::control::{Inbox, Patroni, Reconfiguration};
use crate::proxy::listener::Bound;
use crate::proxy::share::addresses;
use crate::routing::ClusterId;

#[derive(Debug, Default)]
pub(super) struct Arrangement {
    clusters: Vec<Served>,
    leaving: Vec<Served>,
    next_id: u32,
    pub changes: Reconfiguration,
}

impl Running {
    /// Nothing has changed yet.
    pub(super) fn arrange(&self, config: &Config, plan: &Plan, patronis: Vec<Patroni>) -> Arrangement {
        let (workers, patience) = (self.context.workers, config.drain_timeout);
        let former = self.served().cloned();
        let mut former: HashMap<ClusterId, Served> = former.map(|served| (served.id, served)).collect();
        let mut next = Arrangement { next_id: self.next_id, ..Arrangement::default() };
        for ((cluster, id), patroni) in config.clusters.iter().zip(&plan.clusters).zip(patronis) {
            let id = id.unwrap_or_else(|| {
                next.next_id += 1;
                ClusterId(next.next_id - 1)
            });
            next.changes.shown.push(id);
            let served = match former.remove(&id) {
                Some(before) if before.is(cluster, &patroni) => before,
                before => {
                    let served = Served::new(id, cluster, patroni, workers, before, patience);
                    next.changes.serve.push((id, served.options()));
                    served
                }
            };
            next.clusters.push(served);
        }
        next.leaving = former.into_values().map(|served| served.leave(patience)).collect();
        next
    }

    /// Has control take it over, and does what else can fail; then it counts. Blocks.
    ///
    /// # Errors
    /// Control has not, or `last` fails, and all is as it was.
    pub(super) fn settle(
        &mut self,
        next: Arrangement,
        inbox: &Inbox,
        last: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let Arrangement { clusters, leaving, next_id, changes } = next;
        let back = self.way_back(&changes);
        // Those that went by half are not given twice either.
        self.next_id = next_id;
        let taken_over = inbox.reconfigure(changes).then_some(()).ok_or(StartError::NotTakenOver);
        if let Err(error) = taken_over.and_then(|()| last()) {
            // Of what control has changed nothing may be left.
            if !inbox.reconfigure(back) {
                tracing::error!("control could not go back: it has a fault, or the process ends");
            }
            return Err(error);
        }
        for served in self.clusters.iter().filter(|served| leaving.iter().any(|gone| gone.id == served.id)) {
            tracing::info!(cluster = served.config.name, id = served.id.0, "a cluster is served no more");
        }
        for pool in clusters.iter().flat_map(|served| &served.pools) {
            let is_former = |former: &&ServedPool| Arc::ptr_eq(&former.rules.stats, &pool.rules.stats);
            let former = self.served().flat_map(Served::all_pools).find(is_former);
            // A limit that an operator has set meanwhile stays where the configuration says what it said.
            if let Some(former) = former
                && former.pool.options.limits != pool.pool.options.limits
            {
                pool.pool.options.limits.apply(&pool.rules.stats);
            }
        }
        (self.clusters, self.leaving) = (clusters, leaving);
        Ok(())
    }

    /// Where clients come from then on.
    pub(super) fn listening(&self, plan: &Plan, new: &[Option<Bound>]) -> Vec<SocketAddr> {
        let kept = plan.sockets.iter().flatten().flat_map(|place| self.sockets[*place].1.share.addresses());
        kept.chain(new.iter().flatten().flat_map(|bound| addresses(&bound.socket))).collect()
    }

    /// What makes of control what it was.
    fn way_back(&self, changes: &Reconfiguration) -> Reconfiguration {
        let shown = self.clusters.iter().map(|served| served.id).collect();
        let listening = self.sockets.iter().flat_map(|(_, listening)| listening.share.addresses());
        let listening = Some(listening.collect());
        let mut back = Reconfiguration { shown, listening, ..Reconfiguration::default() };
        for (id, _) in &changes.serve {
            match self.served().find(|served| served.id == *id) {
                Some(before) => back.serve.push((*id, before.options())),
                None => back.forget.push(*id),
            }
        }
        back
    }
}
