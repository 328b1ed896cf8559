//! What happened when the writer was lost, kept for the people who ask the next morning.
//!
//! An incident begins with the first sign that something is wrong with the writer and ends when the first session runs
//! on a writer again, the same or another, or when a writer to whom nobody came is lost again. Signs before the loss count if they came shortly before. Fed by the
//! steward with what was seen and decided; knows no clock and no sockets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::stats::{End, PoolStats};
use crate::topology::{Condition, Decision};

/// How many incidents are remembered for a cluster.
pub const KEPT: usize = 100;
/// A sign this long before the loss of the writer belongs to it; an older one was something else.
const FORESHADOW: Duration = Duration::from_secs(10);
/// Steps of one incident; a node that flaps for an hour must not fill the memory.
const MAX_STEPS: usize = 64;
/// A writer without a client for so long ends the incident all the same.
const NOBODY_CAME: Duration = Duration::from_secs(30);

/// A writer that was there for so long, refused nobody and is lost before anybody came is another loss, not the same.
const BACK_FOR: Duration = Duration::from_secs(1);

/// One loss of the writer, from its first sign to the first session afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Counts the cluster's incidents from 1.
    pub number: u64,
    pub steps: Vec<Step>,
    /// Who took writes before and afterwards.
    pub writer_before: Option<String>,
    pub writer_after: Option<String>,
    /// From the first sign to the first session on a writer; `None` while it lasts.
    pub lasted: Option<Duration>,
    /// Since when no node has been routed for writes, or the one that is has taken no session, if that is so now.
    writer_lost_at: Option<Duration>,
    /// How long no node was routed for writes before that.
    without_writer: Duration,
    pub clients: Clients,
}

/// Something that was seen or decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Monotonic time since the controller started.
    pub at: Duration,
    pub wall: SystemTime,
    pub what: String,
}

/// All incidents since the start taken together, the open one included; no part of it ever shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub incidents: u64,
    /// How long no node was routed for writes.
    pub without_writer: Duration,
    pub clients: Clients,
}

/// What became of the primary pool's clients during an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clients {
    /// Waited or still wait, whether they then went on, left or failed.
    pub held: u64,
    pub longest_hold: Duration,
    /// Open sessions that were cut.
    pub cut: u64,
    /// Open sessions that the server or the network ended.
    pub broken: u64,
    /// Told that there is no writer.
    pub failed: u64,
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Duration,
    pub wall: SystemTime,
}

/// The cluster's record.
#[derive(Debug, Default)]
pub struct Chronicle {
    past: VecDeque<Arc<Incident>>,
    open: Option<Open>,
    foreshadows: VecDeque<Step>,
    count: u64,
    /// Of the incidents that are over, forgotten ones included.
    over: Totals,
    /// The pool's counts at the last decision.
    counted: Clients,
    settled_writer: Option<String>,
}

#[derive(Debug)]
struct Open {
    incident: Incident,
    /// The pool's counts when it began.
    counts_before: Clients,
    /// The last decision that is among the steps.
    said: String,
    writer_back_at: Option<Duration>,
}

impl Incident {
    /// How long no node was routed for writes or took the sessions that were sent there, so far or in all.
    pub fn without_writer(&self, now: Duration) -> Duration {
        self.without_writer + self.writer_lost_at.map_or(Duration::ZERO, |lost| now.saturating_sub(lost))
    }
}

impl Chronicle {
    /// Something was seen that may belong to an incident, now or soon.
    pub fn note(&mut self, moment: Moment, what: impl Into<String>) {
        let step = Step { at: moment.at, wall: moment.wall, what: what.into() };
        match &mut self.open {
            Some(open) => open.add(step),
            None => {
                self.foreshadows.retain(|step| step.at + FORESHADOW > moment.at);
                if self.foreshadows.len() < MAX_STEPS / 2 {
                    self.foreshadows.push_back(step);
                }
            }
        }
    }

    /// A decision was made; `counts` are the pool's totals so far.
    /// `refused_since` is when dials of the writer began to fail, as they still do. An incident that is over since the writer
    /// that had come is lost again.
    pub fn decided(
        &mut self,
        moment: Moment,
        decision: &Decision,
        counts: Clients,
        refused_since: Option<Duration>,
    ) -> Option<Arc<Incident>> {
        // Sessions break some milliseconds before any check says why: those since the last decision belong to it too.
        let before = std::mem::replace(&mut self.counted, counts);
        let writer = decision.writer.as_ref();
        if self.settled_writer.is_none() {
            self.settled_writer = writer.cloned();
            return None;
        }
        let back = self.open.as_ref().and_then(|open| open.lost_again(moment, decision));
        let over = back.and_then(|back| self.close(moment, back, false));
        let settled = writer == self.settled_writer.as_ref() && decision.condition != Condition::Unreachable;
        if self.open.is_none() && !settled {
            self.begin(moment, before);
        }
        if let Some(open) = &mut self.open {
            open.follow(moment, decision, refused_since);
        }
        over
    }

    /// Looks whether the incident is over. `first_session` is when the first session ran on the writer that came.
    pub fn conclude(
        &mut self,
        moment: Moment,
        counts: Clients,
        first_session: Option<Duration>,
    ) -> Option<Arc<Incident>> {
        let open = self.open.as_mut()?;
        open.incident.clients = counts.since(&open.counts_before);
        let back = open.writer_back_at?;
        let came = first_session.filter(|&at| at >= back);
        let nobody = moment.at >= back + NOBODY_CAME;
        if came.is_none() && !nobody {
            return None;
        }
        self.close(moment, came.unwrap_or(back), came.is_some())
    }

    /// The incident ended at `at`: with a session that came then, or with a writer that nobody came to.
    fn close(&mut self, moment: Moment, at: Duration, came: bool) -> Option<Arc<Incident>> {
        let mut incident = self.open.take()?.incident;
        let began = incident.steps.first().map_or(at, |step| step.at);
        incident.lasted = Some(at.saturating_sub(began));
        // What was seen long after its end is the first of the next.
        let later = incident.steps.partition_point(|step| step.at < at + BACK_FOR);
        self.foreshadows.extend(incident.steps.drain(later..));
        if came {
            let wall = moment.wall - moment.at.saturating_sub(at);
            let what =
                format!("first session on {}", incident.writer_after.as_deref().unwrap_or("the writer"));
            incident.steps.push(Step { at, wall, what });
        }
        self.settled_writer.clone_from(&incident.writer_after);
        self.over = self.over.and(&incident, moment.at);
        let incident = Arc::new(incident);
        self.past.truncate(KEPT - 1);
        self.past.push_front(Arc::clone(&incident));
        Some(incident)
    }

    fn begin(&mut self, moment: Moment, counts: Clients) {
        self.count += 1;
        let foreshadows = std::mem::take(&mut self.foreshadows);
        let steps = foreshadows.into_iter().filter(|step| step.at + FORESHADOW > moment.at).collect();
        let incident = Incident {
            number: self.count,
            steps,
            writer_before: self.settled_writer.clone(),
            writer_after: None,
            lasted: None,
            writer_lost_at: None,
            without_writer: Duration::ZERO,
            clients: Clients::default(),
        };
        let open = Open { incident, counts_before: counts, said: String::new(), writer_back_at: None };
        self.open = Some(open);
    }

    /// Newest first, an open one included.
    pub fn incidents(&self) -> Vec<Arc<Incident>> {
        let open = self.open.iter().map(|open| Arc::new(open.incident.clone()));
        open.chain(self.past.iter().cloned()).collect()
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn totals(&self, now: Duration) -> Totals {
        self.open.as_ref().map_or(self.over, |open| self.over.and(&open.incident, now))
    }
}

impl Open {
    /// Past the limit only the newest step changes, so that the end is never missing.
    fn add(&mut self, step: Step) {
        self.incident.steps.truncate(MAX_STEPS - 1);
        self.incident.steps.push(step);
    }

    /// Since when the writer was back that is lost again, if that is a loss of its own.
    fn lost_again(&self, moment: Moment, decision: &Decision) -> Option<Duration> {
        let is_lost =
            decision.writer != self.incident.writer_after || decision.condition == Condition::Unreachable;
        let has_refused = self.incident.writer_lost_at.is_some();
        self.writer_back_at.filter(|&back| is_lost && !has_refused && moment.at >= back + BACK_FOR)
    }

    fn follow(&mut self, moment: Moment, decision: &Decision, refused_since: Option<Duration>) {
        let said = format!("{}: {}", decision.condition.as_str(), decision.reason);
        if self.said != said {
            self.said.clone_from(&said);
            self.add(Step { at: moment.at, wall: moment.wall, what: said });
        }
        let lost = decision.writer.as_ref().map_or(Some(moment.at), |_| refused_since);
        match lost {
            Some(at) => _ = self.incident.writer_lost_at.get_or_insert(at),
            None => {
                self.incident.without_writer = self.incident.without_writer(moment.at);
                self.incident.writer_lost_at = None;
            }
        }
        let serving = decision.writer.is_some() && decision.condition != Condition::Unreachable;
        match (&decision.writer, serving) {
            (Some(writer), true) if self.writer_back_at.is_none() => {
                self.writer_back_at = Some(moment.at);
                self.incident.writer_after = Some(writer.clone());
            }
            (Some(writer), true) => self.incident.writer_after = Some(writer.clone()),
            (_, false) | (None, _) => self.writer_back_at = None,
        }
    }
}

impl Totals {
    fn and(self, incident: &Incident, now: Duration) -> Totals {
        let (ours, its) = (self.clients, incident.clients);
        Totals {
            incidents: self.incidents + 1,
            without_writer: self.without_writer + incident.without_writer(now),
            clients: Clients {
                held: ours.held + its.held,
                longest_hold: ours.longest_hold.max(its.longest_hold),
                cut: ours.cut + its.cut,
                broken: ours.broken + its.broken,
                failed: ours.failed + its.failed,
            },
        }
    }
}

impl Moment {
    pub fn now(at: Duration) -> Moment {
        Moment { at, wall: SystemTime::now() }
    }
}

impl Clients {
    /// A pool's totals since the start.
    pub fn so_far(pool: &PoolStats) -> Clients {
        let ends = |causes: &[End]| causes.iter().map(|&end| pool.ends(end)).sum();
        Clients {
            held: pool.hold_seconds.snapshot().count + pool.held() as u64,
            longest_hold: pool.longest_hold(),
            cut: ends(&[End::RoleLost, End::MemberGone, End::Withdrawn]),
            broken: ends(&[End::BackendClosed, End::BackendReset, End::BackendTimeout]),
            failed: ends(&[End::HoldExpired, End::HoldFull, End::DrainExpired]),
        }
    }

    fn since(&self, before: &Clients) -> Clients {
        Clients {
            held: self.held.saturating_sub(before.held),
            longest_hold: self.longest_hold,
            cut: self.cut.saturating_sub(before.cut),
            broken: self.broken.saturating_sub(before.broken),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

#[cfg(test)]
mod tests;
