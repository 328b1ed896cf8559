//! The care of one cluster: its pollers, its members' addresses, and what it was decided last.
//!
//! The shell around [`topology::Cluster`](crate::topology::Cluster): it feeds the core, keeps the right nodes asked at
//! the right pace, turns decisions into routes, and says in the log what changed and why. All durations named `now`
//! and `at` are the monotonic time since the controller started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::addresses::AddressBook;
use super::controller::{ClusterOptions, Operated};
use super::discovery::Discovery;
use super::inbox::Inbox;
use super::journal;
use super::names::Names;
use super::own::OwnListeners;
use super::patroni::{ClusterAnswer, Patroni};
use super::picture::{Check, Checks, ClusterPicture, MemberPicture};
use super::poller::Poller;
use super::ports::Ports;
use super::record::Record;
use super::seeds::Seeds;
use super::vacancies::Vacancies;
use crate::proxy::{Trouble, TroubleKind};
use crate::routing::{ClusterId, PoolRules, Routes};
use crate::stats::PoolStats;
use crate::topology::cluster::Tracked;
use crate::topology::health::Thresholds;
use crate::topology::roster::{self, Seed};
use crate::topology::{
    Class, Cluster, Condition, Decision, Hearsay, Knock, Observation, Operator, ReaderRules, Settings,
};

mod asking;
mod own;
mod renewal;
mod standing_in;
mod weighing;

use renewal::{of_writers, provisional_name};
pub(super) use weighing::Strangers;

/// `/cluster` is asked this many times less often than `/leader`: members seldom come and go.
const DISCOVERY_EVERY: u32 = 10;
/// Patroni's default `ttl`, for as long as the cluster has not told its own.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// How one cluster is watched.
#[derive(Debug, Clone)]
pub struct StewardOptions {
    /// `None`: Patroni's scope.
    pub name: Option<String>,
    pub seeds: Vec<Seed>,
    pub interval: Duration,
    pub fast_interval: Duration,
    /// `None`: the cluster's `ttl`.
    pub leader_grace: Option<Duration>,
    /// For one check of a port that a pool has for itself.
    pub connect_timeout: Duration,
    pub thresholds: Thresholds,
    /// One for each pool of readers.
    pub readers: Vec<ReaderRules>,
}

#[derive(Debug)]
pub(super) struct Steward {
    id: ClusterId,
    /// What the durations named `now` and `at` count from.
    started: Instant,
    name: Arc<str>,
    options: StewardOptions,
    core: Cluster,
    seeds: Seeds,
    discovered: bool,
    discovery_tried: bool,
    discovery_problem: Option<String>,
    /// The cluster's own, once it has told it.
    ttl: Option<Duration>,
    /// The cluster's name in Patroni's words, and whether it is certain that its own nodes told it.
    scope: Option<String>,
    scope_is_certain: bool,
    /// A node may tell the members but has not been heard yet.
    members_pending: bool,
    addresses: AddressBook,
    own: OwnListeners,
    /// Members that would be dialled there, as it was last told, and where.
    comes_back: BTreeSet<(Arc<str>, SocketAddr)>,
    checks: BTreeMap<String, Checks>,
    pollers: HashMap<String, Poller>,
    ports: Ports,
    discovery: Discovery,
    decision: Option<Decision>,
    routes: Arc<Routes>,
    pools: Vec<PoolRules>,
    /// By pool: what `weights` names and is no member.
    strangers: Strangers,
    /// What the log has said of pools that nobody takes sessions of.
    vacancies: Vacancies,
    /// The counters of the pool that follows the writer.
    of_writers: Arc<PoolStats>,
    record: Record,
    patroni: Patroni,
    names: Names,
    inbox: Inbox,
}

impl Steward {
    /// The first checks begin after `first_after`.
    pub fn start(
        id: ClusterId,
        started: tokio::time::Instant,
        first_after: Duration,
        options: ClusterOptions,
        names: Names,
        own: OwnListeners,
        inbox: Inbox,
    ) -> Steward {
        let ClusterOptions { steward: options, patroni, pools } = options;
        let leader_grace = options.leader_grace.unwrap_or(DEFAULT_TTL);
        let settings =
            Settings { thresholds: options.thresholds, leader_grace, pools: options.readers.clone() };
        let seeds = options.seeds.clone();
        let every = options.interval * DISCOVERY_EVERY;
        let discovery = Discovery::start(id, every, patroni.clone(), names.clone(), inbox.clone());
        let mut steward = Steward {
            id,
            started: started.into_std(),
            name: Arc::from(options.name.clone().unwrap_or_else(|| provisional_name(id))),
            core: Cluster::new(settings, roster::provisional(&seeds)),
            seeds: Seeds::new(seeds),
            discovered: false,
            discovery_tried: false,
            discovery_problem: None,
            ttl: None,
            scope: None,
            scope_is_certain: false,
            members_pending: false,
            addresses: AddressBook::default(),
            own,
            comes_back: BTreeSet::new(),
            checks: BTreeMap::new(),
            pollers: HashMap::new(),
            ports: Ports::new(
                id,
                [options.interval, options.fast_interval, options.connect_timeout],
                options.thresholds,
            ),
            discovery,
            decision: None,
            routes: Arc::default(),
            of_writers: of_writers(&pools),
            pools,
            strangers: Strangers::default(),
            vacancies: Vacancies::default(),
            record: Record::default(),
            patroni,
            names,
            inbox,
            options,
        };
        steward.follow_members(first_after);
        steward
    }

    pub fn observed(&mut self, now: Duration, api: &str, observation: Observation, took: Duration) {
        if let Observation::Answered(report) = &observation {
            self.learn_seed(now, api, report.name.as_deref());
            self.dismiss_stand_in(now, api, report);
        }
        let Some(name) = self.member_at(api) else { return };
        let observation = roster::attribute(&name, api, observation);
        let (status, silence) = match &observation {
            Observation::Answered(report) => (Some(report.status), None),
            Observation::Silent(silence) => (None, Some(silence.clone())),
        };
        let checks = self.checks.entry(api.to_owned()).or_default();
        journal::login(&self.name, &name, checks.last.as_ref(), silence.as_ref());
        checks.add(Check { at: now, took, status, silence });
        let before = self.core.member(&name).map(|tracked| tracked.class);
        self.core.observe(now, &name, observation);
        self.learn_scope();
        self.note_class_change(now, &name, before);
        if !self.discovered {
            self.aim_discovery();
            self.discovery.poke();
        }
    }

    pub fn ttl_is(&mut self, ttl: Duration) {
        self.ttl = Some(ttl);
        if self.options.leader_grace.is_none() {
            self.core.set_leader_grace(ttl);
        }
    }

    /// A check that began then has been answered: sessions that waited for it may go on.
    pub fn end_caution(&self, api: &str, asked: Instant) {
        let Some(name) = self.member_at(api) else { return };
        for rules in &self.pools {
            rules.stats.member(&name).caution.answered(asked);
        }
    }

    pub fn discovered(&mut self, now: Duration, api: &str, answer: ClusterAnswer, asked_at: Duration) {
        let teller = self.member_at(api).and_then(|name| self.core.member(&name));
        if teller.is_some_and(|tracked| tracked.class == Class::Foreign) {
            return;
        }
        if let Some(leader) = answer.leader {
            self.core.hear_of_leader(Hearsay { leader, asked_at });
        }
        // Who has never answered is quiet for as long as it has been known to be.
        let heard = |tracked: &Tracked| tracked.health.answered_at().unwrap_or(tracked.class_since);
        let quiet = |tracked: &Tracked| now.saturating_sub(heard(tracked));
        let previous = self.core.tracked().filter(|tracked| !is_dismissed(tracked));
        let previous = previous.map(|tracked| (tracked.member.clone(), quiet(tracked))).collect();
        let named: Vec<String> = answer.members.iter().map(|member| member.name.clone()).collect();
        let members = roster::settle(answer.members, self.seeds.all(), previous);
        if !self.discovered || !members.iter().eq(self.core.tracked().map(|tracked| &tracked.member)) {
            journal::members(&self.name, &members);
        }
        self.core.replace_members(now, members);
        self.core.set_listed(|member| named.contains(&member.name));
        (self.discovered, self.discovery_tried) = (true, true);
        self.discovery_problem = None;
        self.follow_members(Duration::ZERO);
    }

    pub fn undiscovered(&mut self, problem: String) {
        if self.discovery_problem.is_none() {
            tracing::warn!(
                cluster = &*self.name,
                problem,
                "the members cannot be read; the last known ones stay"
            );
        }
        (self.discovery_tried, self.discovery_problem) = (true, Some(problem));
    }

    pub fn resolved(&mut self, host: String, addresses: Result<Vec<IpAddr>, String>) {
        if let Err(error) = self.addresses.learn(host, addresses) {
            tracing::warn!(cluster = &*self.name, error, "a member's host name does not resolve");
        }
        self.follow_ports();
    }

    pub fn knocked(&mut self, member: &str, port: u16, knock: Knock) {
        self.ports.knocked(&self.name, &self.pools, (member, port), knock);
    }

    /// Has a member asked at once; says whether anything is to be decided before it answers.
    pub fn troubled(&mut self, now: Duration, trouble: &Trouble) -> bool {
        let Trouble { member, kind, pool, .. } = trouble;
        let kind = *kind;
        let port = self.pools.iter().find(|rules| rules.name == *pool).and_then(|rules| rules.port);
        if let Some(port) = port {
            // It says nothing of the member's PostgreSQL, but a role may have moved.
            if let Some(poller) = self.core.member(member).and_then(|m| self.pollers.get(&m.member.api)) {
                poller.poke();
            }
            return self.ports.troubled(member, port, kind == TroubleKind::DialFailed);
        }
        let known = self.core.member(member).is_some_and(|tracked| tracked.health.is_suspect());
        let news = kind == TroubleKind::DialFailed && !known;
        if news {
            self.core.suspect(member);
            if self.core.is_incumbent(member) {
                self.record.note(now, format!("{member}: PostgreSQL does not take sessions"));
            }
        }
        if let Some(tracked) = self.core.member(member)
            && let Some(poller) = self.pollers.get(&tracked.member.api)
        {
            poller.poke();
        }
        news
    }

    pub fn operate(&mut self, member: &str, wish: Operator) -> Option<Operated> {
        let before = self.core.member(member)?.operator;
        self.core.set_operator(member, wish);
        Some(Operated { before, is_writer: self.core.is_incumbent(member) })
    }

    /// What an operator has said of a member, or of one that is away, before this process was.
    pub fn wish(&mut self, member: &str, wish: Operator) {
        self.core.set_operator(member, wish);
    }

    /// What Patroni calls the cluster, if that is to be its name.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref().filter(|_| self.options.name.is_none())
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn rename(&mut self, name: &str) {
        self.name = Arc::from(name);
    }

    pub fn decide_again_at(&self) -> Option<Duration> {
        // What comes of asking for the members decides it.
        if self.members_pending {
            return None;
        }
        let decision = self.decision.as_ref()?;
        [decision.decide_again_at, decision.fast_until].into_iter().flatten().min()
    }

    /// Where sessions are to go; `None` until it was decided. Others only if sessions would notice that they changed.
    pub fn routes(&self) -> Option<&Arc<Routes>> {
        Some(&self.routes).filter(|routes| routes.epoch > 0)
    }

    /// Decides anew.
    pub fn decide(&mut self, now: Duration) {
        let decision = self.core.decide(now);
        // A seed's port is a guess: nobody is sent there while a better answer may be on its way.
        self.members_pending = !self.discovery_tried && self.worth_asking().next().is_some();
        if self.members_pending || (self.decision.is_none() && decision.is_starting()) {
            self.aim_discovery();
            return;
        }
        journal::decided(&self.name, self.decision.as_ref(), &decision);
        if self.record.is_news(&decision) {
            self.discovery.poke();
        }
        if let Some(incident) = self.record.decided(now, &decision, &self.of_writers) {
            journal::writer_back(&self.name, &incident);
        }
        let pace =
            if decision.fast_until.is_some() { self.options.fast_interval } else { self.options.interval };
        for poller in self.pollers.values() {
            poller.set_interval(pace);
        }
        self.look_for_strangers();
        let site = |name: &str, rules: &PoolRules| self.site(name, rules);
        let (name, epoch) = (Arc::clone(&self.name), self.routes.epoch);
        let mut routes = Routes::new(name, epoch, &decision, &self.pools, self.started, site);
        self.aim_discovery();
        let contradicted = decision.condition == Condition::Conflict && decision.fast_until.is_some();
        if contradicted || decision.condition == Condition::Unreachable {
            // What the DCS says of the leader decides how long a silence or a contradiction may last.
            self.discovery.poke();
        }
        self.decision = Some(decision);
        if self.routes.epoch > 0 && routes == *self.routes {
            return;
        }
        journal::vacancies(&self.name, &self.vacancies.news(&routes));
        self.note_own(&routes);
        routes.epoch += 1;
        self.routes = Arc::new(routes);
    }

    pub fn picture(&self, now: Duration) -> ClusterPicture {
        let member = |tracked: &Tracked| MemberPicture {
            member: tracked.member.clone(),
            operator: tracked.operator,
            class: tracked.class,
            class_since: tracked.class_since,
            report: tracked.health.last_report().cloned(),
            lag_bytes: tracked.health.lag_bytes(),
            checks: self.checks.get(&tracked.member.api).cloned().unwrap_or_default(),
            addresses: self.addresses_of(&tracked.member.name),
        };
        ClusterPicture {
            id: self.id,
            wishes: self.core.wishes().clone(),
            name: Arc::clone(&self.name),
            epoch: self.routes.epoch,
            routes: Arc::clone(&self.routes),
            decision: self.decision.clone(),
            writer_since: self.record.writer_since(),
            last_writer: self.record.last_writer().map(str::to_owned),
            failovers: self.record.failovers(),
            incidents: self.record.incidents(),
            incident_totals: self.record.totals(now),
            members: self.core.tracked().map(member).collect(),
            discovery_problem: self.discovery_problem.clone(),
            strangers: self.strangers.clone(),
        }
    }
}

/// What the public part is made of.
impl Steward {
    fn member_at(&self, api: &str) -> Option<String> {
        self.core
            .tracked()
            .find(|tracked| tracked.member.api == api)
            .map(|tracked| tracked.member.name.clone())
    }

    /// The cluster is called what its nodes call it, and until it is certain which those are, what all of them say.
    fn learn_scope(&mut self) {
        if self.scope_is_certain {
            return;
        }
        let ours = self.core.tracked().filter(|tracked| tracked.class != Class::Foreign);
        let mut told = ours.filter_map(|tracked| tracked.health.report()?.scope.as_deref());
        let first = told.next();
        let Some(agreed) = first.filter(|first| told.all(|scope| scope == *first)).map(str::to_owned) else {
            return;
        };
        self.scope_is_certain = self.core.identity().is_some() || self.core.is_settled();
        self.scope = Some(agreed);
    }

    fn addresses_of(&self, name: &str) -> Arc<[SocketAddr]> {
        self.core
            .member(name)
            .map_or_else(|| Arc::from([]), |tracked| self.addresses.of(&tracked.member, None))
    }

    /// The flip, not the poll: one line when what a node is has changed.
    fn note_class_change(&mut self, now: Duration, name: &str, before: Option<Class>) {
        let Some(tracked) = self.core.member(name) else { return };
        if before == Some(tracked.class) {
            return;
        }
        if before.is_some_and(|before| before != Class::Unknown) {
            let state = tracked.health.report().map_or("silent", |report| &report.state);
            let what = format!("{name}: {} (PostgreSQL {state})", tracked.class);
            self.record.note(now, what);
        }
        journal::member_changed(&self.name, tracked, before);
    }
}

/// A stand-in for a seed whose node is among the members that `/cluster` tells.
fn is_dismissed(tracked: &Tracked) -> bool {
    let answered = tracked.health.last_report().is_some();
    roster::is_stand_in(&tracked.member) && answered && tracked.class != Class::Foreign
}
