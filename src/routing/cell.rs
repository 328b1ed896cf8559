//! The one place where the table is swapped.
//!
//! There is one [`Publisher`]; everybody else holds a [`Cell`], loads it without waiting, and may follow the changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::heartbeat::Heartbeat;
use super::table::Table;

/// Reads the current table; cheap to clone and to load.
#[derive(Debug, Clone)]
pub struct Cell {
    current: Arc<ArcSwap<Table>>,
    epochs: watch::Receiver<u64>,
    heartbeat: Arc<Heartbeat>,
}

/// Replaces the table. Not `Clone`: there is one writer.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Table>>,
    epochs: watch::Sender<u64>,
    heartbeat: Arc<Heartbeat>,
}

/// Waits for tables newer than the last one that it has seen.
#[derive(Debug)]
pub struct Follower {
    epochs: watch::Receiver<u64>,
}

/// A cell that holds `table`, and the right to replace it.
pub fn cell(table: Table) -> (Publisher, Cell) {
    let (sender, receiver) = watch::channel(table.epoch);
    let (current, heartbeat) = (Arc::new(ArcSwap::from_pointee(table)), Arc::<Heartbeat>::default());
    let publisher =
        Publisher { current: Arc::clone(&current), epochs: sender, heartbeat: Arc::clone(&heartbeat) };
    (publisher, Cell { current, epochs: receiver, heartbeat })
}

impl Publisher {
    /// Everyone who loads from now on gets `table`; followers are woken.
    pub fn publish(&self, table: Table) {
        let epoch = table.epoch;
        self.current.store(Arc::new(table));
        self.epochs.send_replace(epoch);
    }

    pub fn load(&self) -> Arc<Table> {
        self.current.load_full()
    }

    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }
}

impl Cell {
    /// Whoever publishes has not turned for so long that the table is not to be trusted. Looked at before the table is
    /// loaded: a table that is loaded afterwards is as new as that turn.
    pub fn is_unattended(&self) -> bool {
        self.heartbeat.stood_still().is_some()
    }

    pub fn load(&self) -> Arc<Table> {
        self.current.load_full()
    }

    pub fn follow(&self) -> Follower {
        Follower { epochs: self.epochs.clone() }
    }
}

impl Follower {
    /// Waits for the next table; `false` when the publisher is gone and none will come.
    pub async fn changed(&mut self) -> bool {
        self.epochs.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_sees_the_table_that_woke_it() {
        let (publisher, cell) = cell(Table::default());
        let mut follower = cell.follow();
        publisher.publish(Table::new(7, []));
        assert!(follower.changed().await);
        assert_eq!(cell.load().epoch, 7);
        drop(publisher);
        assert!(!follower.changed().await);
    }
}
