//! The one writer: every event of the control plane passes here, one after the other.
//!
//! Events change what is known of a cluster ([`Steward`]); the pure core decides anew; and if sessions would notice
//! the difference, the next table is published. Nothing else in the process changes a route.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::agenda::Agenda;
use super::inbox::Inbox;
use super::names::Names;
use super::own::OwnListeners;
use super::patroni::{ClusterAnswer, Patroni, fault};
use super::picture::Pictures;
use super::steward::{Steward, StewardOptions};
use crate::proxy::Trouble;
use crate::routing::heartbeat::BEAT;
use crate::routing::{ClusterId, PoolRules, Publisher, Routes, Table};
use crate::stats::{APART, Panics, Part};
use crate::topology::{Knock, Observation, Operator};

/// Everything that control reacts to.
#[derive(Debug)]
pub enum Event {
    /// A check that began then came to its end.
    Observed { cluster: ClusterId, api: String, observation: Observation, asked: Instant, took: Duration },
    /// `/cluster`, for which the node at `api` was `asked` then, was answered.
    Discovered { cluster: ClusterId, api: String, answer: ClusterAnswer, asked: Instant },
    /// The cluster's `ttl`, from `/config`.
    Ttl { cluster: ClusterId, ttl: Duration },
    /// No node told the members.
    Undiscovered { cluster: ClusterId, problem: String },
    /// A member's host name was looked up.
    Resolved { cluster: ClusterId, host: String, addresses: Result<Vec<std::net::IpAddr>, String> },
    /// Something went wrong on a member's data port.
    Trouble(Trouble),
    /// A port of a member that some pool has for itself was asked.
    Knocked { cluster: ClusterId, member: String, port: u16, knock: Knock },
    /// An operator gives a member another weight, in one pool or in all; `None` takes it back. Answered with whether there
    /// is such a member and such a pool.
    Weigh {
        cluster: ClusterId,
        pool: Option<String>,
        member: String,
        weight: Option<u16>,
        answer: oneshot::Sender<bool>,
    },
    /// Somebody wants to know whether control turns.
    Pulse { answer: oneshot::Sender<()> },
    /// An operator wants something of a member, and waits for the answer.
    Operate { cluster: ClusterId, member: String, wish: Operator, answer: oneshot::Sender<Option<Operated>> },
    /// The configuration has changed. Answered when it counts.
    Reconfigure { changes: Reconfiguration, answer: oneshot::Sender<()> },
}

/// Which clusters come, change and go: in one step, with one table.
#[derive(Debug, Default)]
pub struct Reconfiguration {
    /// New ones, and known ones that are to be served otherwise.
    pub serve: Vec<(ClusterId, ClusterOptions)>,
    /// What operators have said of members before this process was, by name.
    pub wishes: Vec<(ClusterId, Vec<(String, Operator)>)>,
    /// Nobody has a session there any more.
    pub forget: Vec<ClusterId>,
    /// All that are shown from now on, in their order.
    pub shown: Vec<ClusterId>,
    /// Where this process listens for sessions from now on; `None`: where it did before.
    pub listening: Option<Vec<SocketAddr>>,
}

/// What has come of an operator's wish; it is in the published table by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operated {
    pub before: Operator,
    /// The member has the writer's seat: its new writers wait from now on, or do no more.
    pub is_writer: bool,
}

/// The first checks of one cluster begin this long after those of the one before: thousands at once would be late, and
/// the memory that they take would not be given back.
const FIRST_CHECKS_APART: Duration = Duration::from_millis(1);

/// How control watches one cluster, and how the routes of its pools are made.
#[derive(Debug)]
pub struct ClusterOptions {
    pub steward: StewardOptions,
    pub patroni: Patroni,
    pub pools: Vec<PoolRules>,
}

#[derive(Debug)]
pub struct Controller {
    stewards: BTreeMap<ClusterId, Steward>,
    publisher: Publisher,
    inbox: Inbox,
    names: Names,
    own: OwnListeners,
    events: mpsc::Receiver<Event>,
    pictures: Pictures,
    agenda: Agenda,
    started: Instant,
    /// The whole process stood still until then, if it ever did: see [`routing::heartbeat`](crate::routing::heartbeat).
    awake_since: Instant,
}

/// The numbers of the clusters that a process begins with.
pub fn first_ids(clusters: usize) -> impl Iterator<Item = ClusterId> {
    (0..).map(ClusterId).take(clusters)
}

/// The table before the first decision: it leads nowhere, so that early clients wait.
pub fn first_table(clusters: usize) -> Table {
    Table::new(0, first_ids(clusters).map(|id| (id, Arc::default())))
}

impl Controller {
    /// Must be called within the control runtime: the pollers start at once. The clusters get the [`first_ids`].
    pub fn start(
        clusters: Vec<ClusterOptions>,
        names: &Names,
        publisher: Publisher,
        inbox: &Inbox,
        events: mpsc::Receiver<Event>,
    ) -> Controller {
        let started = Instant::now();
        let mut controller = Controller {
            stewards: BTreeMap::new(),
            publisher,
            inbox: inbox.clone(),
            names: names.clone(),
            own: OwnListeners::default(),
            events,
            pictures: Pictures::new(started.into_std(), []),
            agenda: Agenda::default(),
            started,
            awake_since: started,
        };
        let shown: Vec<ClusterId> = first_ids(clusters.len()).collect();
        controller.serve(Duration::ZERO, shown.iter().copied().zip(clusters));
        controller.show(Duration::ZERO, &shown);
        controller
    }

    pub fn pictures(&self) -> Pictures {
        self.pictures.clone()
    }

    /// Runs until it is dropped: the process ends before its events do.
    ///
    /// A panic costs the event that it came from. What is known stays, the table too, and the next event decides anew from
    /// all of it.
    pub async fn run(mut self) {
        let panics = self.inbox.panics.clone();
        self.publisher.heartbeat().beat();
        loop {
            let at_latest = Instant::now() + BEAT;
            let due = self.agenda.next().map_or(at_latest, |due| at_latest.min(self.started + due));
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    None => return,
                    event => event,
                },
                () = sleep_until(due) => None,
            };
            self.turn(&panics);
            let Some(event) = event else {
                for cluster in self.agenda.due(self.started.elapsed()) {
                    panics.catch(Part::Control, || self.decide(&[cluster]));
                }
                continue;
            };
            let unheard = event.unheard();
            if panics.catch(Part::Control, || self.handle(event)).is_none()
                && let Some(unheard) = unheard
            {
                panics.catch(Part::Control, || self.handle(unheard));
            }
        }
    }

    /// Gives the sign by which workers see that the table is looked after. When the last one is too long ago, what is known
    /// may be as old, however the process came to stand still: everybody is asked anew, and until then new writers wait.
    fn turn(&mut self, panics: &Panics) {
        if let Some(gap) = self.publisher.heartbeat().stood_still() {
            tracing::warn!(
                seconds = gap.as_secs_f64(),
                "pilotfish itself stood still; new writers wait until the nodes have been asked again"
            );
            self.awake_since = Instant::now();
            let now = self.awake_since.duration_since(self.started);
            panics.catch(Part::Control, || {
                let mut first_after = Duration::ZERO;
                for steward in self.stewards.values_mut() {
                    steward.stood_still(now, first_after);
                    first_after += FIRST_CHECKS_APART;
                }
                let all: Vec<ClusterId> = self.stewards.keys().copied().collect();
                self.decide(&all);
            });
        }
        // Only now: whoever sees it finds the table by which writers wait.
        self.publisher.heartbeat().beat();
    }

    fn handle(&mut self, event: Event) {
        let now = self.started.elapsed();
        // Whoever does not wait for an answer any more sees it in the pictures.
        match event {
            Event::Reconfigure { changes, answer } => {
                self.reconfigure(now, changes);
                let _ = answer.send(());
            }
            Event::Pulse { answer } => drop(answer.send(())),
            Event::Weigh { cluster, pool, member, weight, answer } => {
                let steward = self.stewards.get_mut(&cluster);
                let known = steward.is_some_and(|steward| steward.weigh(pool.as_deref(), &member, weight));
                if known {
                    self.decide(&[cluster]);
                }
                let _ = answer.send(known);
            }
            Event::Operate { cluster, member, wish, answer } => {
                let steward = self.stewards.get_mut(&cluster);
                let operated = steward.and_then(|steward| steward.operate(&member, wish));
                if operated.is_some() {
                    self.decide(&[cluster]);
                }
                let _ = answer.send(operated);
            }
            event => self.learn(now, event),
        }
    }

    /// What a cluster tells of itself.
    fn learn(&mut self, now: Duration, event: Event) {
        if event.asked().is_some_and(|asked| asked < self.awake_since) {
            // It may be as old as what was forgotten then; everybody is asked anew.
            return;
        }
        let Some(cluster) = event.cluster() else { return };
        // One that has gone may still be told of.
        let Some(steward) = self.stewards.get_mut(&cluster) else { return };
        match event {
            Event::Observed { api, observation, asked, took, .. } => {
                let scope = steward.scope().map(str::to_owned);
                let answered = matches!(observation, Observation::Answered(_));
                steward.observed(now, &api, observation, took);
                if steward.scope() != scope.as_deref() {
                    self.settle_names();
                }
                self.decide(&[cluster]);
                if let Some(steward) = self.stewards.get_mut(&cluster).filter(|_| answered) {
                    // Only now: what it said is in the table.
                    steward.end_caution(&api, asked.into_std());
                }
                return;
            }
            Event::Discovered { api, answer, asked, .. } => {
                let asked_at = asked.saturating_duration_since(self.started);
                steward.discovered(now, &api, answer, asked_at);
            }
            Event::Ttl { ttl, .. } => steward.ttl_is(ttl),
            Event::Undiscovered { problem, .. } => steward.undiscovered(problem),
            Event::Resolved { host, addresses, .. } => steward.resolved(host, addresses),
            Event::Trouble(trouble) => {
                // Held clients dial thousands of times a second; most of these failures tell nothing new.
                if !steward.troubled(now, &trouble) {
                    return;
                }
            }
            Event::Knocked { member, port, knock, .. } => steward.knocked(&member, port, knock),
            Event::Weigh { .. } | Event::Operate { .. } | Event::Reconfigure { .. } | Event::Pulse { .. } => {
                return;
            }
        }
        self.decide(&[cluster]);
    }

    fn reconfigure(&mut self, now: Duration, changes: Reconfiguration) {
        let Reconfiguration { serve, wishes, forget, shown, listening } = changes;
        // Where sessions may be sent depends on it, in the others too.
        let others: Vec<ClusterId> = match listening {
            Some(listening) => {
                self.own.are(listening);
                self.stewards.keys().copied().collect()
            }
            None => Vec::new(),
        };
        let changed = serve.iter().map(|(id, _)| *id).chain(forget.iter().copied()).chain(others);
        let changed: BTreeSet<ClusterId> = changed.collect();
        for id in &forget {
            self.stewards.remove(id);
            self.agenda.set(*id, None);
        }
        self.serve(now, serve.into_iter());
        for (id, wishes) in wishes {
            let Some(steward) = self.stewards.get_mut(&id) else { continue };
            wishes.iter().for_each(|(member, wish)| steward.wish(member, *wish));
        }
        self.settle_names();
        self.decide(&changed.into_iter().collect::<Vec<_>>());
        self.show(now, &shown);
    }

    fn serve(&mut self, now: Duration, clusters: impl Iterator<Item = (ClusterId, ClusterOptions)>) {
        let mut first_after = Duration::ZERO;
        for (id, options) in clusters {
            if let Some(steward) = self.stewards.get_mut(&id) {
                steward.renew(now, options);
                continue;
            }
            let (names, own, inbox) = (self.names.clone(), self.own.clone(), self.inbox.clone());
            let steward = Steward::start(id, self.started, first_after, options, names, own, inbox);
            self.stewards.insert(id, steward);
            first_after += FIRST_CHECKS_APART;
        }
    }

    fn show(&mut self, now: Duration, shown: &[ClusterId]) {
        let stewards = shown.iter().filter_map(|id| self.stewards.get(id));
        self.pictures.show(stewards.map(|steward| steward.picture(now)));
    }

    /// A cluster without a name in the configuration is called by its scope. Of several with one scope all but the
    /// first get a number, since names tell them apart in tables and metrics.
    fn settle_names(&mut self) {
        let own_names = self.stewards.values().filter(|steward| steward.scope().is_none());
        let mut names: HashSet<String> = own_names.map(|steward| steward.name().to_string()).collect();
        let mut renamed = Vec::new();
        for (id, steward) in &mut self.stewards {
            let Some(scope) = steward.scope().map(str::to_owned) else { continue };
            let taken = !names.insert(scope.clone());
            let name = if taken { format!("{scope}-{}", id.0 + 1) } else { scope };
            if **steward.name() != *name {
                if taken {
                    tracing::warn!(
                        cluster = name,
                        "several clusters have this scope; give each a name in the configuration"
                    );
                }
                steward.rename(&name);
                renamed.push(*id);
            }
        }
        self.decide(&renamed);
    }

    /// Decides anew; publishes when sessions would notice: one table for all of it.
    fn decide(&mut self, clusters: &[ClusterId]) {
        let now = self.started.elapsed();
        let (published, mut table) = (self.publisher.load(), None);
        let mut edit = |change: &dyn Fn(&mut Table)| {
            change(table.get_or_insert_with(|| Table::clone(&published)));
        };
        for &cluster in clusters {
            let Some(steward) = self.stewards.get_mut(&cluster) else {
                edit(&|table| table.remove(cluster));
                continue;
            };
            // Should it panic, it is tried again, but not at once.
            self.agenda.set(cluster, Some(now + APART));
            steward.decide(now);
            // Compared with what is published, and not with what was decided before: that may have got lost in a panic.
            let is_published = |routes: &Arc<Routes>| {
                published.cluster(cluster).is_some_and(|known| Arc::ptr_eq(known, routes))
            };
            if let Some(routes) = steward.routes().filter(|routes| !is_published(routes)) {
                edit(&|table| table.set(cluster, Arc::clone(routes)));
            }
            self.agenda.set(cluster, steward.decide_again_at());
        }
        if let Some(mut table) = table {
            table.epoch += 1;
            self.publisher.publish(table);
        }
        // Last: a fault in what is only looked at keeps no session waiting.
        for steward in clusters.iter().filter_map(|cluster| self.stewards.get(cluster)) {
            self.pictures.replace(steward.picture(now));
        }
    }
}

impl Event {
    /// What is to be made of it when it cannot be taken in: a check was made, and its answer is not known. Who was the writer
    /// by an older one would otherwise be it for ever.
    fn unheard(&self) -> Option<Event> {
        let Event::Observed { cluster, api, asked, took, .. } = self else { return None };
        let (observation, api) = (Observation::Silent(fault()), api.clone());
        Some(Event::Observed { cluster: *cluster, api, observation, asked: *asked, took: *took })
    }

    /// Of an answer: when it was asked for.
    fn asked(&self) -> Option<Instant> {
        match self {
            Event::Observed { asked, .. } | Event::Discovered { asked, .. } => Some(*asked),
            _ => None,
        }
    }

    /// Who tells it; nobody when an answer is waited for.
    fn cluster(&self) -> Option<ClusterId> {
        match self {
            Event::Observed { cluster, .. }
            | Event::Discovered { cluster, .. }
            | Event::Ttl { cluster, .. }
            | Event::Undiscovered { cluster, .. }
            | Event::Resolved { cluster, .. }
            | Event::Knocked { cluster, .. }
            | Event::Trouble(Trouble { cluster, .. }) => Some(*cluster),
            Event::Weigh { .. } | Event::Operate { .. } | Event::Reconfigure { .. } | Event::Pulse { .. } => {
                None
            }
        }
    }
}
