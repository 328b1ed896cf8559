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

impl Inbox {
    /// From the data plane, without ever waiting.
    pub fn trouble(&self, trouble: Trouble) {
        // Full: the queue holds thousands of events, among them surely one that says the same.
        let _ = self.events.try_send(Event::Trouble(trouble));
    }

    /// Sets what an operator wants of a member. `None`: the cluster has no member of that name, or the process ends.
    pub async fn operate(&self, cluster: ClusterId, member: String, wish: Operator) -> Option<Operated> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Operate { cluster, member, wish, answer }).await.ok()?;
        answered.await.ok()?
    }

    /// Gives a member another weight from now on, in one pool or in all of its cluster; `None` takes it back. `false`: there
    /// is no such member or pool, or the process ends.
    pub async fn weigh(
        &self,
        cluster: ClusterId,
        pool: Option<String>,
        member: String,
        weight: Option<u16>,
    ) -> bool {
        let (answer, answered) = oneshot::channel();
        let sent = self.events.send(Event::Weigh { cluster, pool, member, weight, answer }).await;
        sent.is_ok() && answered.await.unwrap_or_default()
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
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Pulse { answer }).await.is_ok() && answered.await.is_ok()
    }
}

/// The queue between everything that happens and the controller.
pub fn inbox() -> (Inbox, mpsc::Receiver<Event>) {
    let (events, receiver) = mpsc::channel(QUEUE);
    (Inbox { events, panics: Panics::default() }, receiver)
}
