//! The rules once more, in other words: what may be decided, told from the answers alone.
//!
//! From what each node said last, who was the tenant, and the newest timeline that a writer has had, it says who must
//! have the seat now. Beside that it checks what must hold whatever the rules say.

use std::time::Duration;

use pilotfish::topology::cluster::FAST_FOR;
use pilotfish::topology::{Cluster, Condition, Decision, Fate, Operator, Report, Settings};

use super::outcome;
use super::script::{Placed, Step};
use super::witness::{
    Node, Witness, claims, is_away, is_paused_primary, is_promoting, leads_standby, reads, serves_writers,
    streams,
};

pub struct Oracle {
    settings: Settings,
    witness: Witness,
    settled: bool,
    newest: u32,
    tenant: Option<Tenant>,
    doubted_since: Option<Duration>,
    before: Option<Decision>,
}

/// The node that holds the seat, and whether new writers may go there.
#[derive(Clone)]
struct Tenant {
    place: usize,
    timeline: u32,
    used: bool,
}

impl Tenant {
    fn unused(self) -> Tenant {
        Tenant { used: false, ..self }
    }
}

type Judgement = Result<(), String>;

fn require(holds: bool, complaint: impl FnOnce() -> String) -> Judgement {
    if holds { Ok(()) } else { Err(complaint()) }
}

impl Oracle {
    pub fn new(settings: Settings, members: &[Placed]) -> Oracle {
        let mut witness = Witness::default();
        witness.settle_members(members);
        Oracle {
            settings,
            witness,
            settled: false,
            newest: 0,
            tenant: None,
            doubted_since: None,
            before: None,
        }
    }

    pub fn name_at(&self, place: usize) -> Option<&'static str> {
        self.witness.at(place).map(|node| node.name)
    }

    pub fn note(&mut self, now: Duration, step: &Step) {
        self.witness.note(now, step);
        match step {
            Step::Grace(grace) => self.settings.leader_grace = *grace,
            Step::Reset => (self.newest, self.tenant) = (0, None),
            _ => {}
        }
        self.tenant.take_if(|tenant| self.witness.at(tenant.place).is_none());
    }

    /// Is this what had to be decided?
    pub fn judge(&mut self, now: Duration, step: &Step, cluster: &Cluster, decision: &Decision) -> Judgement {
        self.identity(cluster.identity())?;
        let knows_writer = self.witness.identity.is_some() && self.claimants().next().is_some();
        self.settled |= self.witness.all_asked() || knows_writer;
        self.time_alone(now, step, decision)?;
        self.safety(now, decision)?;
        self.tenant = self.rightful(now);
        self.seat(decision)?;
        self.condition(decision)?;
        self.readers(decision)?;
        self.fallback(decision)?;
        self.verdicts(decision)?;
        self.before = Some(decision.clone());
        Ok(())
    }

    /// The identity is what most nodes said last, and then it stays.
    fn identity(&mut self, identity: Option<&str>) -> Judgement {
        let known = self.witness.identity.as_deref();
        require(known.is_none() || known == identity, || format!("identity {known:?} became {identity:?}"))?;
        if known.is_none() && identity.is_some() {
            let words = self.witness.nodes.iter().filter_map(|node| node.word.as_ref());
            let stated: Vec<&str> = words.filter_map(|word| word.system_identifier.as_deref()).collect();
            let votes = |id: &str| stated.iter().filter(|stated| **stated == id).count();
            let most = votes(identity.unwrap_or_default());
            let rival = stated.iter().find(|rival| Some(**rival) != identity && votes(rival) >= most);
            require(rival.is_none(), || format!("identity {identity:?} elected against {rival:?}"))?;
        }
        self.witness.identify(identity);
        Ok(())
    }

    fn claimants(&self) -> impl Iterator<Item = usize> {
        self.witness.answers().filter(|(_, report)| claims(report)).map(|(place, _)| place)
    }

    fn had_seat(&self, place: usize) -> bool {
        self.tenant.as_ref().is_some_and(|tenant| tenant.place == place)
    }

    /// What a node says about its timeline; the tenant is believed to be where it was while it cannot tell.
    fn timeline(&self, place: usize) -> u32 {
        let said = self.witness.at(place).and_then(Node::said).and_then(|report| report.timeline);
        let was = self.tenant.as_ref().filter(|tenant| tenant.place == place).map(|tenant| tenant.timeline);
        said.or(was).unwrap_or(0)
    }

    /// Nodes of different clusters answer, and nothing tells which are ours.
    fn no_identity(&self) -> bool {
        let states = |node: &Node| node.said().is_some_and(|report| report.system_identifier.is_some());
        self.witness.identity.is_none() && self.witness.nodes.iter().any(states)
    }

    fn others(&self, place: usize) -> impl Iterator<Item = &Report> {
        self.witness.answers().filter(move |&(other, _)| other != place).map(|(_, report)| report)
    }

    /// A replica is fed by somebody on a newer timeline.
    fn followed_elsewhere(&self, place: usize) -> bool {
        let timeline = self.timeline(place);
        self.others(place).any(|report| streams(report) && report.timeline.is_some_and(|t| t > timeline))
    }
}

/// Who must have the seat.
impl Oracle {
    fn rightful(&mut self, now: Duration) -> Option<Tenant> {
        if !self.settled {
            return None;
        }
        let trusted = |&place: &usize| !self.no_identity() && self.timeline(place) >= self.newest;
        let verified: Vec<usize> = self.claimants().filter(trusted).collect();
        let Some(newest) = verified.iter().map(|&place| self.timeline(place)).max() else {
            self.doubted_since = None;
            return self.without_claim(now);
        };
        let best: Vec<usize> = verified.into_iter().filter(|&place| self.timeline(place) == newest).collect();
        let winner =
            if let [only] = best[..] { Some(only) } else { best.into_iter().find(|&p| self.had_seat(p)) };
        let doubted = winner.is_some_and(|p| self.others(p).any(is_promoting) || self.followed_elsewhere(p));
        self.doubted_since = doubted.then(|| self.doubted_since.unwrap_or(now));
        let waits = self.doubted_since.is_some_and(|since| now < since + self.settings.leader_grace);
        if waits {
            // Nobody new comes in on a doubted claim, and nothing that it says is believed yet.
            return self.tenant.clone().filter(|tenant| winner == Some(tenant.place)).map(Tenant::unused);
        }
        let place = winner?;
        self.newest = newest;
        Some(Tenant { place, timeline: newest, used: true })
    }

    /// The tenant, if its reign goes on without a claim that counts.
    fn without_claim(&mut self, now: Duration) -> Option<Tenant> {
        let tenant = self.tenant.clone()?;
        let holds_lock = |report: &Report| is_promoting(report) || is_away(report) || leads_standby(report);
        if self.others(tenant.place).any(holds_lock) {
            return None;
        }
        let followed = self.followed_elsewhere(tenant.place);
        let timeline = self.timeline(tenant.place);
        let node = self.witness.at(tenant.place)?;
        let Some(said) = node.said() else {
            let in_time = self.witness.meaningful_silence(now, node) < self.settings.leader_grace;
            let used = !followed && node.is_of_now && node.word.as_ref().is_some_and(serves_writers);
            return in_time.then_some(Tenant { used, ..tenant });
        };
        let ours = !self.witness.is_foreign(said);
        if ours && is_away(said) {
            return Some(tenant.unused());
        }
        let used =
            ours && is_paused_primary(said) && !followed && !self.no_identity() && timeline >= self.newest;
        self.newest = if used { timeline } else { self.newest };
        used.then_some(Tenant { timeline, used, ..tenant })
    }

    fn seat(&self, decision: &Decision) -> Judgement {
        let tenant = self.tenant.as_ref().and_then(|tenant| self.witness.at(tenant.place));
        let used = self.tenant.as_ref().is_some_and(|tenant| tenant.used);
        let writer = tenant.filter(|node| used && node.operator == Operator::Ready);
        let expected = (writer.map(|node| node.name), tenant.map(|node| node.name));
        let decided = (decision.writer.as_deref(), decision.tenant.as_deref());
        require(expected == decided, || format!("expected writer and tenant {expected:?}"))
    }
}

/// What must hold whatever the rules say.
impl Oracle {
    /// Before `decide_again_at` time changes nothing.
    fn time_alone(&self, now: Duration, step: &Step, decision: &Decision) -> Judgement {
        require(decision.decide_again_at.is_none_or(|at| at > now), || {
            "asks to be asked in the past".into()
        })?;
        let bound = now + FAST_FOR;
        require(decision.fast_until.is_none_or(|until| now < until && until <= bound), || {
            "asks for fast checks without end".into()
        })?;
        match &self.before {
            Some(before)
                if matches!(step, Step::Nothing) && before.decide_again_at.is_none_or(|at| now < at) =>
            {
                require(outcome(before) == outcome(decision), || {
                    format!("time alone ended {}", outcome(before))
                })
            }
            _ => Ok(()),
        }
    }

    /// Wherever the seat goes: to a member of ours that said yes, never back in time, never back by silence.
    fn safety(&self, now: Duration, decision: &Decision) -> Judgement {
        require(decision.writer.is_none() || decision.writer == decision.tenant, || {
            "writer, not tenant".into()
        })?;
        let Some(name) = &decision.tenant else { return Ok(()) };
        let node = self.witness.named(name).ok_or("the tenant is no member")?;
        let word = node.word.as_ref().ok_or("the tenant has never answered")?;
        require(!self.witness.is_foreign(word), || "the tenant belongs to another cluster".into())?;
        match node.said() {
            Some(said) => require(serves_writers(said) || is_away(said), || "the tenant denies it".into())?,
            None => {
                let in_time = self.witness.meaningful_silence(now, node) < self.settings.leader_grace;
                require(in_time, || "the tenant has been silent for too long".into())?;
            }
        }
        let fresh = node.said().is_some_and(claims);
        require(fresh || self.had_seat(node.place), || {
            "the seat went to a node that does not claim it".into()
        })?;
        if decision.writer.is_some() {
            require(node.operator == Operator::Ready, || "the writer is out of service".into())?;
            require(node.is_of_now, || "the writer has not spoken since the standstill".into())?;
            require(serves_writers(word), || "the writer's last word was no".into())?;
            let older = word.timeline.is_some_and(|timeline| timeline < self.newest);
            require(!older, || format!("timeline {:?} after {}", word.timeline, self.newest))?;
        }
        Ok(())
    }

    fn condition(&self, decision: &Decision) -> Judgement {
        let says = |what: fn(&Report) -> bool| self.witness.answers().any(|(_, report)| what(report));
        let used = self.tenant.as_ref().is_some_and(|tenant| tenant.used);
        let tenant = self.tenant.as_ref().and_then(|tenant| self.witness.at(tenant.place));
        let tenant_silent = tenant.is_some_and(|node| node.said().is_none());
        let is_starting = !self.settled || tenant.is_some_and(|node| node.last.is_none());
        let all_silent = self.witness.nodes.iter().all(|node| node.said().is_none());
        let fits = match decision.condition {
            Condition::Starting => is_starting,
            Condition::Ok => used && !tenant_silent,
            Condition::Unreachable => tenant_silent || (self.tenant.is_none() && all_silent),
            Condition::Promoting => !used && (says(is_promoting) || says(claims)),
            Condition::Leaving => !used && says(is_away),
            Condition::NoWriter => self.tenant.is_none() && !all_silent,
            Condition::Conflict => says(claims) || self.no_identity(),
        };
        require(fits && (decision.condition == Condition::Starting) == is_starting, || {
            "the condition does not fit".into()
        })
    }

    /// Readers are ready members of ours whose last word was good. Who says so often enough is in, and stays in for as
    /// long as a few silent checks.
    fn readers(&self, decision: &Decision) -> Judgement {
        let thresholds = self.settings.thresholds;
        for node in &self.witness.nodes {
            let reads_in = |decision: &Decision| decision.readers.iter().any(|name| name == node.name);
            let good = node.word.as_ref().is_some_and(|word| reads(word) && !self.witness.is_foreign(word));
            let wanted = node.operator == Operator::Ready && !node.suspect && good;
            let may = wanted && node.silences < thresholds.fall;
            let must = node.good_in_a_row >= thresholds.rise || self.before.as_ref().is_some_and(reads_in);
            let reader = reads_in(decision);
            require(may || !reader, || format!("{} must not read", node.name))?;
            require(reader || !may || !must, || format!("{} must read", node.name))?;
        }
        let members = decision.readers.iter().all(|name| self.witness.named(name).is_some());
        require(members && decision.readers.is_sorted(), || "readers that are no members".into())
    }

    /// Without readers the writer reads, or the leader of a standby cluster.
    fn fallback(&self, decision: &Decision) -> Judgement {
        let leads = |node: &Node| {
            let said = node.said().filter(|report| !self.witness.is_foreign(report));
            node.operator == Operator::Ready && said.is_some_and(leads_standby)
        };
        let fits = match (&decision.writer, &decision.fallback) {
            (Some(writer), fallback) => fallback.as_ref() == Some(writer),
            (None, Some(name)) => self.witness.named(name).is_some_and(leads),
            (None, None) => !self.witness.nodes.iter().any(leads),
        };
        require(fits, || format!("the fallback {:?}", decision.fallback))
    }

    /// One for each member; only the tenant keeps writers, and only another cluster's node loses its readers.
    fn verdicts(&self, decision: &Decision) -> Judgement {
        require(decision.verdicts.len() == self.witness.nodes.len(), || "not a verdict for each".into())?;
        require(decision.verdicts.is_sorted_by_key(|verdict| &verdict.name), || "unsorted verdicts".into())?;
        for verdict in &decision.verdicts {
            let node = self.witness.named(&verdict.name).ok_or("a verdict on a stranger")?;
            let kept = decision.tenant.as_ref() == Some(&verdict.name);
            require((verdict.writers == Fate::Keep) == kept, || format!("writers of {}", node.name))?;
            let foreign = node.said().is_some_and(|report| self.witness.is_foreign(report));
            let readers =
                decision.pools[0].verdicts.get(&verdict.name).ok_or("a member without a verdict")?;
            require((readers.fate == Fate::Gone) == foreign, || format!("readers of {}", node.name))?;
        }
        Ok(())
    }
}
