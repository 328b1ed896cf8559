//! The one writer: every event of the control plane passes here, one after the other.
//!
//! Events change what is known of a cluster ([`Steward`]); the pure core decides anew; and if sessions would notice
//! the difference, the next table is published. Nothing else in the process changes a route.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::agenda::Agenda;
use super::names::Names;
use super::patroni::{ClusterAnswer, Patroni};
use super::picture::Pictures;
use super::steward::{Steward, StewardOptions};
use crate::proxy::Trouble;
use crate::routing::{PoolRules, Publisher, Table};
use crate::topology::{Knock, Observation, Operator};

/// Everything that control reacts to.
#[derive(Debug)]
pub enum Event {
    /// A check came to its end.
    Observed { cluster: usize, api: String, observation: Observation, took: Duration },
    /// `/cluster`, for which the node at `api` was `asked` then, was answered.
    Discovered { cluster: usize, api: String, answer: ClusterAnswer, asked: Instant },
    /// The cluster's `ttl`, from `/config`.
    Ttl { cluster: usize, ttl: Duration },
    /// No node told the members.
    Undiscovered { cluster: usize, problem: String },
    /// A member's host name was looked up.
    Resolved { cluster: usize, host: String, addresses: Result<Vec<std::net::IpAddr>, String> },
    /// Something went wrong on a member's data port.
    Trouble(Trouble),
    /// A port of a member that some pool has for itself was asked.
    Knocked { cluster: usize, member: String, port: u16, knock: Knock },
    /// An operator gives a member another weight, in one pool or in all; `None` takes it back. Answered with whether there
    /// is such a member and such a pool.
    Weigh {
        cluster: usize,
        pool: Option<String>,
        member: String,
        weight: Option<u16>,
        answer: oneshot::Sender<bool>,
    },
    /// Somebody wants to know whether control turns, and whether all nodes are being asked.
    Pulse { answer: oneshot::Sender<bool> },
    /// An operator wants something of a member, and waits for the answer.
    Operate { cluster: usize, member: String, wish: Operator, answer: oneshot::Sender<Option<Operated>> },
}

/// What has come of an operator's wish; it is in the published table by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operated {
    pub before: Operator,
    /// The member has the writer's seat: its new writers wait from now on, or do no more.
    pub is_writer: bool,
}

/// Events that may wait. Pollers wait for room; troubles are dropped instead, since the next one says the same.
const QUEUE: usize = 4096;

/// How control watches one cluster, and how the routes of its pools are made.
#[derive(Debug)]
pub struct ClusterOptions {
    pub steward: StewardOptions,
    pub patroni: Patroni,
    pub pools: Vec<PoolRules>,
}

#[derive(Debug)]
pub struct Controller {
    stewards: Vec<Steward>,
    publisher: Publisher,
    events: mpsc::Receiver<Event>,
    pictures: Pictures,
    agenda: Agenda,
    started: Instant,
}

/// Sends troubles from the data plane without ever waiting.
#[derive(Debug, Clone)]
pub struct Inbox(mpsc::Sender<Event>);

impl Inbox {
    pub fn trouble(&self, trouble: Trouble) {
        // Full: the queue holds thousands of events, among them surely one that says the same.
        let _ = self.0.try_send(Event::Trouble(trouble));
    }

    /// Sets what an operator wants of a member. `None`: the cluster has no member of that name, or the process ends.
    pub async fn operate(&self, cluster: usize, member: String, wish: Operator) -> Option<Operated> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Event::Operate { cluster, member, wish, answer }).await.ok()?;
        answered.await.ok()?
    }

    /// Gives a member another weight from now on, in one pool or in all of its cluster; `None` takes it back. `false`: there
    /// is no such member or pool, or the process ends.
    pub async fn weigh(
        &self,
        cluster: usize,
        pool: Option<String>,
        member: String,
        weight: Option<u16>,
    ) -> bool {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(Event::Weigh { cluster, pool, member, weight, answer }).await;
        sent.is_ok() && answered.await.unwrap_or_default()
    }
}

impl Inbox {
    /// Whether control works: it comes to this event, in its turn, and no poller has ended by itself. Waits for as long as
    /// control does not come to it.
    pub async fn turns(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(Event::Pulse { answer }).await.is_ok() && answered.await.unwrap_or_default()
    }
}

/// The queue between everything that happens and the controller.
pub fn inbox() -> (Inbox, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Inbox(sender), receiver)
}

/// The table before the first decision: it leads nowhere, so that early clients wait.
pub fn first_table(clusters: usize) -> Table {
    Table { epoch: 0, clusters: std::iter::repeat_with(Arc::default).take(clusters).collect() }
}

impl Controller {
    /// Must be called within the control runtime: the pollers start at once.
    pub fn start(
        clusters: Vec<ClusterOptions>,
        names: &Names,
        publisher: Publisher,
        inbox: &Inbox,
        events: mpsc::Receiver<Event>,
    ) -> Controller {
        let started = Instant::now();
        let start = |(index, options): (usize, ClusterOptions)| {
            let ClusterOptions { steward, patroni, pools } = options;
            Steward::start(index, started, steward, pools, patroni, names.clone(), inbox.0.clone())
        };
        let stewards: Vec<Steward> = clusters.into_iter().enumerate().map(start).collect();
        let blank = stewards.iter().map(|steward| steward.picture(Duration::ZERO));
        let pictures = Pictures::new(started.into_std(), blank);
        Controller { stewards, publisher, events, pictures, agenda: Agenda::default(), started }
    }

    pub fn pictures(&self) -> Pictures {
        self.pictures.clone()
    }

    /// Runs until it is dropped: the process ends before its events do.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = until(self.started, self.agenda.next()) => {
                    for cluster in self.agenda.due(self.started.elapsed()) {
                        self.decide(cluster);
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.started.elapsed();
        let cluster = match event {
            Event::Observed { cluster, api, observation, took } => {
                let scope = self.stewards[cluster].scope().map(str::to_owned);
                let answered = matches!(observation, Observation::Answered(_));
                self.stewards[cluster].observed(now, &api, observation, took);
                if self.stewards[cluster].scope() != scope.as_deref() {
                    self.settle_names();
                }
                self.decide(cluster);
                if answered {
                    // Only now: what it said is in the table.
                    self.stewards[cluster].end_caution(&api, took);
                }
                return;
            }
            Event::Discovered { cluster, api, answer, asked } => {
                let asked_at = asked.saturating_duration_since(self.started);
                self.stewards[cluster].discovered(now, &api, answer, asked_at);
                cluster
            }
            Event::Ttl { cluster, ttl } => {
                self.stewards[cluster].ttl_is(ttl);
                cluster
            }
            Event::Undiscovered { cluster, problem } => {
                self.stewards[cluster].undiscovered(problem);
                cluster
            }
            Event::Resolved { cluster, host, addresses } => {
                self.stewards[cluster].resolved(host, addresses);
                cluster
            }
            Event::Trouble(trouble) => {
                // Held clients dial thousands of times a second; most of these failures tell nothing new.
                if !self.stewards[trouble.cluster].troubled(now, &trouble) {
                    return;
                }
                trouble.cluster
            }
            Event::Knocked { cluster, member, port, knock } => {
                self.stewards[cluster].knocked(&member, port, knock);
                cluster
            }
            Event::Pulse { answer } => {
                // Whoever does not wait any more has drawn its conclusion.
                let _ = answer.send(self.stewards.iter().all(Steward::is_asking));
                return;
            }
            Event::Weigh { cluster, pool, member, weight, answer } => {
                let known = self.stewards[cluster].weigh(pool.as_deref(), &member, weight);
                self.decide(cluster);
                // Whoever does not wait for the answer any more sees it in the picture.
                let _ = answer.send(known);
                return;
            }
            Event::Operate { cluster, member, wish, answer } => {
                let operated = self.stewards[cluster].operate(&member, wish);
                self.decide(cluster);
                // Whoever does not wait for the answer any more sees it in the picture.
                let _ = answer.send(operated);
                return;
            }
        };
        self.decide(cluster);
    }

    /// A cluster without a name in the configuration is called by its scope. Of several with one scope all but the
    /// first get a number, since names tell them apart in tables and metrics.
    fn settle_names(&mut self) {
        let own_names = self.stewards.iter().filter(|steward| steward.scope().is_none());
        let mut names: HashSet<String> = own_names.map(|steward| steward.name().to_string()).collect();
        for cluster in 0..self.stewards.len() {
            let Some(scope) = self.stewards[cluster].scope().map(str::to_owned) else { continue };
            let taken = !names.insert(scope.clone());
            let name = if taken { format!("{scope}-{}", cluster + 1) } else { scope };
            if **self.stewards[cluster].name() != *name {
                if taken {
                    tracing::warn!(
                        cluster = name,
                        "several clusters have this scope; give each a name in the configuration"
                    );
                }
                self.stewards[cluster].rename(&name);
                self.decide(cluster);
            }
        }
    }

    /// Decides anew; publishes when sessions would notice.
    fn decide(&mut self, cluster: usize) {
        let now = self.started.elapsed();
        let steward = &mut self.stewards[cluster];
        if let Some(routes) = steward.decide(now) {
            let mut table = Table::clone(&self.publisher.load());
            table.epoch += 1;
            table.clusters[cluster] = routes;
            self.publisher.publish(table);
        }
        self.agenda.set(cluster, steward.decide_again_at());
        self.pictures.replace(cluster, steward.picture(now));
    }
}

async fn until(started: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep_until(started + due).await,
        None => std::future::pending().await,
    }
}
