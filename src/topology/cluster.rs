//! One cluster as pilotfish knows it: the memory that decisions are made from.
//!
//! Observations go in, a [`Decision`] comes out, recomputed whole each time from the last observation of each
//! member, the operators' wishes and three things that outlive an observation: the cluster's identity, its newest
//! timeline, and who had the writer's seat last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decide::{self, Decision};
use super::health::{Health, Thresholds};
use super::identity;
use super::member::{Member, Operator};
use super::observation::{Class, Observation, Report};
use super::readers::{self, ReaderRules, Standing};
pub use super::tracked::Tracked;

/// How long the nodes are asked at the fast interval after the last new sign of trouble: longer than Patroni's
/// default `ttl` and the election after it, so that a failover is seen to its end; bounded, because each check costs
/// Patroni a query and a node may stay away for good.
pub const FAST_FOR: Duration = Duration::from_secs(120);

/// What a cluster's rules need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub thresholds: Thresholds,
    /// How long a silent incumbent is used while no other node leads.
    pub leader_grace: Duration,
    /// One for each pool of readers.
    pub pools: Vec<ReaderRules>,
}

/// Who had the writer's seat last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    pub name: String,
    pub timeline: Option<u32>,
    pub since: Duration,
}

/// Whom the DCS holds for the leader, as a node read it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearsay {
    pub leader: String,
    /// When the node was asked: whatever was known before may be older than this.
    pub asked_at: Duration,
}

#[derive(Debug, Clone)]
pub struct Cluster {
    settings: Settings,
    members: BTreeMap<String, Tracked>,
    identity: Option<String>,
    settled: bool,
    newest_timeline: u32,
    tenure: Option<Tenure>,
    leader_position: Option<u64>,
    hearsay: Option<Hearsay>,
    doubted_since: Option<Duration>,
    /// Until when no member of this cluster answered at all.
    blind_until: Duration,
    signs: BTreeSet<Sign>,
    last_sign_at: Option<Duration>,
    /// What operators want, by name: a member that is away for a while is not back in service unasked. Whoever is named
    /// was a member when it was asked for, and may have left; only what is not [`Operator::Ready`] is here.
    wishes: BTreeMap<String, Operator>,
}

/// A sign of trouble: which member, and what. The cluster's own have no member.
type Sign = (String, &'static str);

impl Cluster {
    pub fn new(settings: Settings, members: Vec<Member>) -> Cluster {
        let mut cluster = Cluster {
            settings,
            members: BTreeMap::new(),
            identity: None,
            settled: false,
            newest_timeline: 0,
            tenure: None,
            leader_position: None,
            hearsay: None,
            doubted_since: None,
            blind_until: Duration::ZERO,
            signs: BTreeSet::new(),
            last_sign_at: None,
            wishes: BTreeMap::new(),
        };
        cluster.replace_members(Duration::ZERO, members);
        cluster
    }

    /// Takes in one check of one member. An unknown name is ignored: it left while its check was under way.
    pub fn observe(&mut self, now: Duration, name: &str, observation: Observation) {
        let class = self.classify(&observation);
        let position = self.leader_position;
        if self.is_blind() {
            self.blind_until = now;
        }
        let Some(tracked) = self.members.get_mut(name) else { return };
        tracked.health.record(now, observation, class, position);
        tracked.judge(now, class, &self.settings);
        self.settle_identity(now);
    }

    /// pilotfish itself stood still until now. Whatever it was told before says nothing of what is, so that every member is
    /// as one that was not asked yet; who had the writer's seat, and who read, stays known. Another cluster stays another.
    pub fn stood_still(&mut self, now: Duration) {
        self.hearsay = None;
        for tracked in self.members.values_mut().filter(|tracked| tracked.class != Class::Foreign) {
            tracked.health.outdate();
            tracked.reclassify(now, Class::Unknown);
        }
    }

    /// Other rules from now on. What is known of the members stays, and is judged by them at once.
    pub fn set_rules(&mut self, now: Duration, thresholds: Thresholds, pools: Vec<ReaderRules>) {
        (self.settings.thresholds, self.settings.pools) = (thresholds, pools);
        let heard = |tracked: &Tracked| Some((tracked.member.name.clone(), tracked.health.last()?.clone()));
        let heard: Vec<_> = self.members.values().filter_map(heard).collect();
        for (name, observation) in heard {
            let class = self.classify(&observation);
            if let Some(tracked) = self.members.get_mut(&name) {
                let pools = &self.settings.pools;
                tracked.standings.retain(|pool, _| pools.iter().any(|rules| rules.pool == *pool));
                tracked.judge(now, class, &self.settings);
            }
        }
    }

    /// A node has told whom the DCS holds for the leader. An older hearsay does not replace a newer one.
    pub fn hear_of_leader(&mut self, hearsay: Hearsay) {
        if self.hearsay.as_ref().is_none_or(|known| known.asked_at <= hearsay.asked_at) {
            self.hearsay = Some(hearsay);
        }
    }

    /// A dial of this member failed: it is asked again at once, and takes no readers until it answers.
    pub fn suspect(&mut self, name: &str) {
        if let Some(tracked) = self.members.get_mut(name) {
            tracked.health.suspect();
        }
    }

    /// What an operator wants of a member from now on, or of one that is away: what was wanted before, or `None` for a name
    /// that is unknown at present. It holds until it is changed, however often the member leaves and comes back.
    pub fn set_operator(&mut self, name: &str, operator: Operator) -> Option<Operator> {
        match operator {
            Operator::Ready => drop(self.wishes.remove(name)),
            Operator::Drain | Operator::Maint => drop(self.wishes.insert(name.to_owned(), operator)),
        }
        let tracked = self.members.get_mut(name)?;
        Some(std::mem::replace(&mut tracked.operator, operator))
    }

    /// What operators want of members and of former ones, by name; who is not here is to be [`Operator::Ready`].
    pub fn wishes(&self) -> &BTreeMap<String, Operator> {
        &self.wishes
    }

    pub fn set_leader_grace(&mut self, grace: Duration) {
        self.settings.leader_grace = grace;
    }

    /// The list of members as Patroni now tells it. Those that stay, by name or by REST address, keep their record.
    pub fn replace_members(&mut self, now: Duration, members: Vec<Member>) {
        let mut old = std::mem::take(&mut self.members);
        let (known, newcomers): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|m| old.contains_key(&m.name));
        // By name first: who comes to the former address of one that only moved must not inherit from it.
        for member in known {
            if let Some(tracked) = old.remove(&member.name) {
                self.track(Tracked { member, ..tracked });
            }
        }
        for member in newcomers {
            let former = old.values().find(|m| m.member.api == member.api).map(|m| m.member.name.clone());
            let Some(tracked) = former.and_then(|name| old.remove(&name)) else {
                self.track(Tracked::new(member, now));
                continue;
            };
            if let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.name == tracked.member.name) {
                tenure.name.clone_from(&member.name);
            }
            if let Some(wish) = self.wishes.remove(&tracked.member.name) {
                self.wishes.entry(member.name.clone()).or_insert(wish);
            }
            self.track(Tracked { member, ..tracked });
        }
        if self.incumbent().is_none() {
            self.tenure = None;
        }
        self.settle_identity(now);
    }

    fn track(&mut self, mut tracked: Tracked) {
        tracked.operator = self.wishes.get(&tracked.member.name).copied().unwrap_or_default();
        self.members.insert(tracked.member.name.clone(), tracked);
    }

    /// Forgets the newest timeline and the identity, for an operator who restored the cluster from a backup. What
    /// silent nodes once said is part of that history.
    pub fn reset_history(&mut self, now: Duration) {
        self.newest_timeline = 0;
        self.identity = None;
        self.tenure = None;
        self.hearsay = None;
        for tracked in self.members.values_mut() {
            match tracked.health.report().map(Report::class) {
                Some(class) if tracked.class == Class::Foreign => tracked.reclassify(now, class),
                Some(_) => {}
                None => {
                    tracked.health = Health::default();
                    tracked.standings.clear();
                }
            }
        }
        self.settle_identity(now);
    }

    /// Which of the members the cluster itself named last; the others are only remembered.
    pub fn set_listed(&mut self, listed: impl Fn(&Member) -> bool) {
        for tracked in self.members.values_mut() {
            tracked.listed = listed(&tracked.member);
        }
    }

    /// Decides from all that is known. Asked twice at one moment, the answer is the same.
    pub fn decide(&mut self, now: Duration) -> Decision {
        let seat = decide::seat(self, now);
        self.doubted_since = seat.doubted.then(|| self.doubted_since.unwrap_or(now));
        match seat.proved {
            Some((name, timeline)) => self.take_seat(now, name, timeline),
            None if seat.tenant.is_none() => self.tenure = None,
            None => {}
        }
        let fast_until = self.watch_signs(now, seat.writer.is_some());
        let wish = seat.writer.as_ref().map(|name| self.members[name].operator).unwrap_or_default();
        let reason = match &seat.writer {
            Some(name) if wish != Operator::Ready => {
                format!("{name} is the writer, but an operator set it to {wish}: new writers wait")
            }
            _ => seat.reason,
        };
        let writer = seat.writer.filter(|_| wish == Operator::Ready);
        let fallback = decide::fallback(self, writer.as_ref());
        let pools = self.settings.pools.iter();
        let pools: Vec<_> = pools.map(|rules| readers::decide(self, rules, fallback.as_ref())).collect();
        let readers: BTreeSet<&String> = pools.iter().flat_map(|pool| &pool.readers).collect();
        Decision {
            condition: seat.condition,
            reason,
            verdicts: decide::verdicts(self, seat.tenant.as_ref()),
            alarms: decide::alarms(self),
            tenant: seat.tenant,
            timeline: (self.newest_timeline > 0).then_some(self.newest_timeline),
            writer,
            fallback,
            readers: readers.into_iter().cloned().collect(),
            pools,
            fast_until,
            decide_again_at: seat.decide_again_at,
        }
    }

    fn take_seat(&mut self, now: Duration, name: String, timeline: Option<u32>) {
        let position = self.members[&name].health.report().and_then(|report| report.wal_position);
        self.leader_position = position.or(self.leader_position);
        self.newest_timeline = self.newest_timeline.max(timeline.unwrap_or(0));
        match &mut self.tenure {
            Some(tenure) if tenure.name == name => tenure.timeline = timeline.or(tenure.timeline),
            _ => self.tenure = Some(Tenure { name, timeline, since: now }),
        }
    }

    fn classify(&self, observation: &Observation) -> Class {
        let Observation::Answered(report) = observation else { return Class::Silent };
        match (&self.identity, &report.system_identifier) {
            (Some(ours), Some(theirs)) if ours != theirs => Class::Foreign,
            _ => report.class(),
        }
    }

    /// Once the identity is known, the nodes heard before are judged by it too.
    fn settle_identity(&mut self, now: Duration) {
        let heard = |m: &&Tracked| m.health.last().is_some();
        let complete = self.members.values().filter(heard).count() == self.members.len();
        if self.identity.is_none() {
            let reports = self.members.values().filter_map(|m| m.health.last_report());
            let stated = reports.filter_map(|report| report.system_identifier.as_deref());
            self.identity = identity::elect(stated, self.members.len(), complete);
            if let Some(ours) = &self.identity {
                for tracked in self.members.values_mut() {
                    let theirs = tracked.health.last_report().and_then(|r| r.system_identifier.as_ref());
                    if theirs.is_none_or(|theirs| theirs == ours) {
                        continue;
                    }
                    tracked.standings.values_mut().for_each(Standing::put_out);
                    if !matches!(tracked.class, Class::Silent | Class::Unknown) {
                        tracked.reclassify(now, Class::Foreign);
                    }
                }
            }
        }
        let writer_known = self.identity.is_some() && self.of_class(Class::Writer).next().is_some();
        self.settled |= complete || writer_known;
    }

    /// Fast polling lasts [`FAST_FOR`] from the last *new* sign of trouble; an old one does not prolong it.
    fn watch_signs(&mut self, now: Duration, has_writer: bool) -> Option<Duration> {
        let mut signs: BTreeSet<Sign> = BTreeSet::new();
        if !has_writer {
            signs.insert((String::new(), "no writer"));
        }
        for tracked in self.members.values().filter(|m| m.operator != Operator::Maint) {
            let report = tracked.health.report();
            let trouble = match tracked.class {
                Class::Silent | Class::Promoting | Class::Leaving | Class::Unknown => tracked.class.as_str(),
                _ if tracked.health.is_suspect() => "suspect",
                _ if report.is_some_and(|r| r.cluster_unlocked) => "cluster unlocked",
                _ => continue,
            };
            signs.insert((tracked.member.name.clone(), trouble));
        }
        if signs.difference(&self.signs).next().is_some() {
            self.last_sign_at = Some(now);
        }
        if signs.is_empty() {
            self.last_sign_at = None;
        }
        self.signs = signs;
        self.last_sign_at.map(|at| at + FAST_FOR).filter(|&until| now < until)
    }
}

/// What the rules in [`decide`] look at.
impl Cluster {
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn tracked(&self) -> impl Iterator<Item = &Tracked> {
        self.members.values()
    }

    pub fn member(&self, name: &str) -> Option<&Tracked> {
        self.members.get(name)
    }

    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    pub(super) fn of_class(&self, class: Class) -> impl Iterator<Item = &Tracked> {
        self.tracked().filter(move |m| m.class == class)
    }

    /// Enough has been heard: every member was asked once, or one has proved to be the writer.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Members state identifiers, and no cluster could be made out of them.
    pub(super) fn lacks_identity(&self) -> bool {
        let stated = |m: &Tracked| m.health.report().is_some_and(|r| r.system_identifier.is_some());
        self.settled && self.identity.is_none() && self.tracked().any(stated)
    }

    pub fn incumbent(&self) -> Option<(&Tenure, &Tracked)> {
        let tenure = self.tenure.as_ref()?;
        Some((tenure, self.members.get(&tenure.name)?))
    }

    pub fn is_incumbent(&self, name: &str) -> bool {
        self.tenure.as_ref().is_some_and(|tenure| tenure.name == name)
    }

    /// The timeline that a claim counts with. An incumbent that cannot tell it just now keeps the one it had.
    pub(super) fn timeline_of(&self, tracked: &Tracked) -> u32 {
        let stated = tracked.health.report().and_then(|report| report.timeline);
        let tenure = self.tenure.as_ref().filter(|tenure| tenure.name == tracked.member.name);
        stated.or_else(|| tenure.and_then(|tenure| tenure.timeline)).unwrap_or(0)
    }

    /// A claim counts only with the cluster's identity known and on a timeline not older than any seen.
    pub(super) fn is_verified(&self, tracked: &Tracked) -> bool {
        !self.lacks_identity() && self.timeline_of(tracked) >= self.newest_timeline
    }

    /// Its timeline is known, and older than one that the cluster has already had.
    pub(super) fn is_outdated(&self, tracked: &Tracked) -> bool {
        let timeline = self.timeline_of(tracked);
        0 < timeline && timeline < self.newest_timeline
    }

    /// No member answers. That is no news of any of them: it may well be this side that is cut off.
    pub(super) fn is_blind(&self) -> bool {
        self.tracked().all(|m| matches!(m.class, Class::Silent | Class::Unknown | Class::Foreign))
    }

    pub(super) fn blind_until(&self) -> Duration {
        self.blind_until
    }

    pub(super) fn hearsay(&self) -> Option<&Hearsay> {
        self.hearsay.as_ref()
    }

    pub(super) fn doubted_since(&self) -> Option<Duration> {
        self.doubted_since
    }
}
