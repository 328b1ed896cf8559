//! Who belongs to the cluster, asked of the cluster itself.
//!
//! At a slow interval, and whenever the picture changes, one node is asked for `/cluster`; if it does not know, the
//! next. Host names of members are resolved here too, so that the data plane never waits for a name server. A failed
//! round changes nothing: the last known good members stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::controller::Event;
use super::inbox::Inbox;
use super::names::Names;
use super::patroni::{Patroni, fault};
use crate::routing::ClusterId;
use crate::stats::Part;

/// Rounds follow each other no faster than this, however often the picture changes: `/cluster` reads the DCS.
const BREATH: Duration = Duration::from_millis(500);
/// The same for rounds that found nobody to ask: what they tell of names may be the very reason for the next.
const GLANCE: Duration = Duration::from_millis(50);

/// The running search; dropping it ends that.
#[derive(Debug)]
pub struct Discovery {
    targets: watch::Sender<Targets>,
    poke: Arc<Notify>,
    task: AbortHandle,
}

/// Whom to ask and what to resolve, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Base URLs of nodes that are worth asking.
    pub apis: Vec<String>,
    pub hosts: Vec<String>,
}

impl Discovery {
    pub fn start(
        cluster: ClusterId,
        interval: Duration,
        patroni: Patroni,
        names: Names,
        inbox: Inbox,
    ) -> Discovery {
        let (targets, receiver) = watch::channel(Targets::default());
        let poke = Arc::new(Notify::new());
        let round = Round { cluster, patroni, names, inbox, targets: receiver };
        let task = tokio::spawn(run(round, interval, Arc::clone(&poke)));
        Discovery { targets, poke, task: task.abort_handle() }
    }

    /// New targets are used by the next round, and new host names start one.
    pub fn set_targets(&self, targets: Targets) {
        let mut new_hosts = false;
        self.targets.send_if_modified(|current| {
            new_hosts = targets.hosts.iter().any(|host| !current.hosts.contains(host));
            let modified = *current != targets;
            *current = targets;
            modified
        });
        if new_hosts {
            self.poke();
        }
    }

    pub fn poke(&self) {
        self.poke.notify_one();
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nobody listens any more: the process is ending.
struct Unheard;

#[derive(Debug)]
struct Round {
    cluster: ClusterId,
    patroni: Patroni,
    names: Names,
    inbox: Inbox,
    targets: watch::Receiver<Targets>,
}

async fn run(round: Round, interval: Duration, poke: Arc<Notify>) {
    loop {
        // Nothing to ask before the first node has answered.
        tokio::select! {
            () = poke.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
        match round.inbox.panics.caught(Part::Poller, round.run()).await {
            Some(Ok(true)) => tokio::time::sleep(BREATH).await,
            Some(Ok(false)) => tokio::time::sleep(GLANCE).await,
            Some(Err(Unheard)) => return,
            None => {
                let (cluster, problem) = (round.cluster, fault().detail);
                if round.tell(Event::Undiscovered { cluster, problem }).await.is_err() {
                    return;
                }
                poke.notify_one();
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

impl Round {
    /// Says whether any node was asked.
    async fn run(&self) -> Result<bool, Unheard> {
        let Targets { apis, hosts } = self.targets.borrow().clone();
        let asked_any = self.ask_for_members(apis).await?;
        for host in hosts {
            let addresses = self.names.lookup(&host).await.map_err(|error| error.to_string());
            self.tell(Event::Resolved { cluster: self.cluster, host, addresses }).await?;
        }
        Ok(asked_any)
    }

    async fn ask_for_members(&self, apis: Vec<String>) -> Result<bool, Unheard> {
        let mut problem = None;
        for api in apis {
            let asked = Instant::now();
            match self.patroni.cluster(&api).await {
                Ok(answer) => {
                    let cluster = self.cluster;
                    self.tell(Event::Discovered { cluster, api: api.clone(), answer, asked }).await?;
                    if let Some(ttl) = self.patroni.ttl(&api).await {
                        self.tell(Event::Ttl { cluster, ttl }).await?;
                    }
                    return Ok(true);
                }
                Err(error) => problem = Some(format!("{api}: {error}")),
            }
        }
        let Some(problem) = problem else { return Ok(false) };
        self.tell(Event::Undiscovered { cluster: self.cluster, problem }).await?;
        Ok(true)
    }

    async fn tell(&self, event: Event) -> Result<(), Unheard> {
        self.inbox.events.send(event).await.map_err(|_| Unheard)
    }
}
