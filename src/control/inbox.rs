//! The queue between everything that happens and the controller.

use tokio::sync::{mpsc, oneshot};

use super::controller::{Event, Operated, Reconfiguration};
use crate::proxy::Trouble;
use crate::routing::ClusterId;
use crate::stats::Panics;
use crate::topology::Operator;

/// Events that may wait. Pollers wait for room; troubles are dropped instead, since the next one says the same.
const QUEUE: usize = 4096;

/// Where everything is told. Panics of the whole process are counted with it.
#[derive(Debug, Clone)]
pub struct Inbox {
    pub(super) events: mpsc::Sender<Event>,
    pub panics: Panics,
}

/// Control has panicked midway, or the process ends: whether it was done is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

impl Inbox {
    /// From the data plane, without ever waiting.
    pub fn trouble(&self, trouble: Trouble) {
        // Full: the queue holds thousands of events, among them surely one that says the same.
        let _ = self.events.try_send(Event::Trouble(trouble));
    }

    /// Sets what an operator wants of a member. `None`: the cluster has no member of that name.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn operate(
        &self,
        cluster: ClusterId,
        member: String,
        wish: Operator,
    ) -> Result<Option<Operated>, Unanswered> {
        self.ask(|answer| Event::Operate { cluster, member, wish, answer }).await
    }

    /// Gives a member another weight from now on, in one pool or in all of its cluster; `None` takes it back. `false`: there
    /// is no such member or pool.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn weigh(
        &self,
        cluster: ClusterId,
        pool: Option<String>,
        member: String,
        weight: Option<u16>,
    ) -> Result<bool, Unanswered> {
        self.ask(|answer| Event::Weigh { cluster, pool, member, weight, answer }).await
    }

    /// Changes which clusters are served, and waits until it counts: its table is out then. Blocks; not for async code.
    /// `false`: it panicked midway, or the process ends.
    pub fn reconfigure(&self, changes: Reconfiguration) -> bool {
        let (answer, answered) = oneshot::channel();
        self.events.blocking_send(Event::Reconfigure { changes, answer }).is_ok()
            && answered.blocking_recv().is_ok()
    }

    /// The same without waiting for it; `false`: there is no room for it just now.
    pub fn try_reconfigure(&self, changes: Reconfiguration) -> bool {
        let (answer, _) = oneshot::channel();
        self.events.try_send(Event::Reconfigure { changes, answer }).is_ok()
    }

    /// Whether control works: it comes to this event, in its turn. Waits for as long as control does not come to it.
    pub async fn turns(&self) -> bool {
        self.ask(|answer| Event::Pulse { answer }).await.is_ok()
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.events.send(event(answer)).await.map_err(|_| Unanswered)?;
        answered.await.map_err(|_| Unanswered)
    }
}

/// The queue between everything that happens and the controller.
pub fn inbox() -> (Inbox, mpsc::Receiver<Event>) {
    let (events, receiver) = mpsc::channel(QUEUE);
    (Inbox { events, panics: Panics::default() }, receiver)
}
