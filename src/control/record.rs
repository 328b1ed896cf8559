//! Who was the writer since when, how often that changed, and each loss of it.
//!
//! Fed with every decision of one cluster, and with what was seen in between; counts what became of the primary pool's
//! clients meanwhile. The incidents themselves are the [`Chronicle`]'s.

use std::sync::Arc;
use std::time::Duration;

use super::incident::{Chronicle, Clients, Incident, Moment, Totals};
use crate::stats::PoolStats;
use crate::topology::Decision;

#[derive(Debug, Default)]
pub(super) struct Record {
    chronicle: Chronicle,
    last_writer: Option<String>,
    writer_since: Option<Duration>,
    failovers: u64,
    /// Who was routed for writes by the last decision.
    routed: Option<String>,
    /// When the first session of a new writer began to be waited for.
    awaited_since: Duration,
}

impl Record {
    /// Something was seen that may belong to a loss of the writer, now or soon.
    pub fn note(&mut self, now: Duration, what: String) {
        self.chronicle.note(Moment::now(now), what);
    }

    /// Another member is the writer than the last one that was.
    pub fn is_news(&self, decision: &Decision) -> bool {
        decision.writer.is_some() && decision.writer != self.last_writer
    }

    /// Takes in a decision; an incident that ends by it.
    pub fn decided(
        &mut self,
        now: Duration,
        decision: &Decision,
        primary: &PoolStats,
    ) -> Option<Arc<Incident>> {
        if self.is_news(decision) {
            self.failovers += u64::from(self.last_writer.is_some());
            self.writer_since = Some(now);
            self.last_writer.clone_from(&decision.writer);
        }
        if decision.writer.is_some() && decision.writer != self.routed {
            primary.first_session.arm();
            self.awaited_since = now;
        }
        self.routed.clone_from(&decision.writer);
        let was_open = self.chronicle.is_open();
        let refused = decision.writer.as_ref().and_then(|writer| primary.refused_since(writer));
        let refused_since = refused.map(|since| now.saturating_sub(since.elapsed()));
        let counts = Clients::so_far(primary);
        let over = self.chronicle.decided(Moment::now(now), decision, counts, refused_since);
        if self.chronicle.is_open() && (!was_open || over.is_some()) {
            primary.reset_longest_hold();
        }
        let first_session = primary.first_session.stopped_after().map(|after| self.awaited_since + after);
        over.or_else(|| self.chronicle.conclude(Moment::now(now), Clients::so_far(primary), first_session))
    }

    pub fn last_writer(&self) -> Option<&str> {
        self.last_writer.as_deref()
    }

    /// Since when the writer has been the writer.
    pub fn writer_since(&self) -> Option<Duration> {
        self.writer_since
    }

    /// How often a writer was followed by another.
    pub fn failovers(&self) -> u64 {
        self.failovers
    }

    /// Newest first, an open one included.
    pub fn incidents(&self) -> Vec<Arc<Incident>> {
        self.chronicle.incidents()
    }

    pub fn totals(&self, now: Duration) -> Totals {
        self.chronicle.totals(now)
    }
}
