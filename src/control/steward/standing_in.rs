//! Seeds that stand in for members: until `/cluster` has told these, and when one of them answers only afterwards.

use std::time::Duration;

use super::Steward;
use crate::control::seeds::Lesson;
use crate::topology::cluster::Tracked;
use crate::topology::{Report, roster};

impl Steward {
    /// A seed has said which member it is: it is asked under that name from now on.
    pub(super) fn learn_seed(&mut self, now: Duration, api: &str, name: Option<&str>) {
        match self.seeds.learn(api, name) {
            Lesson::Nothing => return,
            Lesson::Name => {}
            Lesson::Fickle => self.discovery.poke(),
        }
        if !self.discovered {
            self.core.replace_members(now, roster::provisional(self.seeds.all()));
            self.follow_members(Duration::ZERO);
        }
    }

    /// A seed that answers after the members are known is one of them, and must not be counted twice.
    pub(super) fn dismiss_stand_in(&mut self, now: Duration, api: &str, report: &Report) {
        let stands_in = |tracked: &Tracked| tracked.member.api == api && roster::is_stand_in(&tracked.member);
        let foreign = self.core.identity().zip(report.system_identifier.as_deref());
        let foreign = foreign.is_some_and(|(ours, theirs)| ours != theirs);
        if !self.discovered || foreign || !self.core.tracked().any(stands_in) {
            return;
        }
        let others = self.core.tracked().filter(|tracked| !stands_in(tracked));
        let others = others.map(|tracked| tracked.member.clone()).collect();
        self.core.replace_members(now, roster::settle(others, self.seeds.all(), Vec::new()));
        self.follow_members(Duration::ZERO);
        self.discovery.poke();
    }
}
