//! When which cluster is to be decided anew although nothing has happened to it.
//!
//! Asked after every event; with a thousand clusters a look at each of them would cost more than the event.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::routing::ClusterId;

/// At most one moment for each cluster, as monotonic time since the controller started.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    moments: BTreeSet<(Duration, ClusterId)>,
    of: HashMap<ClusterId, Duration>,
}

impl Agenda {
    /// The cluster's next moment, in place of the one that it had.
    pub(super) fn set(&mut self, cluster: ClusterId, at: Option<Duration>) {
        if let Some(former) = self.of.remove(&cluster) {
            self.moments.remove(&(former, cluster));
        }
        if let Some(at) = at {
            self.of.insert(cluster, at);
            self.moments.insert((at, cluster));
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.moments.first().map(|(at, _)| *at)
    }

    /// Whose moment has come. They stay due until they get another one.
    pub(super) fn due(&self, now: Duration) -> Vec<ClusterId> {
        self.moments.iter().take_while(|(at, _)| *at <= now).map(|(_, cluster)| *cluster).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_one_moment_and_the_earliest_comes_first() {
        let second = Duration::from_secs;
        let mut agenda = Agenda::default();
        assert_eq!(agenda.next(), None);
        agenda.set(ClusterId(7), Some(second(3)));
        agenda.set(ClusterId(8), Some(second(2)));
        agenda.set(ClusterId(9), Some(second(2)));
        assert_eq!(
            (agenda.next(), agenda.due(second(2))),
            (Some(second(2)), vec![ClusterId(8), ClusterId(9)])
        );
        agenda.set(ClusterId(8), Some(second(5)));
        agenda.set(ClusterId(9), None);
        assert_eq!((agenda.next(), agenda.due(second(4))), (Some(second(3)), vec![ClusterId(7)]));
        assert_eq!(agenda.due(second(5)), [ClusterId(7), ClusterId(8)]);
    }
}
