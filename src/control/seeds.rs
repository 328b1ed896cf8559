//! The configured endpoints, and which member answers at each.

use std::collections::HashSet;

use crate::topology::roster::Seed;

/// The seeds of one cluster.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<Seed>,
    /// Have answered under several names: who is behind them changes, as behind a balancer, so they stand for nobody.
    fickle: HashSet<String>,
}

/// What an answer at a seed has taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lesson {
    Nothing,
    /// Which member it is.
    Name,
    /// That it is not always the same member.
    Fickle,
}

impl Seeds {
    pub(super) fn new(seeds: Vec<Seed>) -> Seeds {
        Seeds { seeds, fickle: HashSet::new() }
    }

    /// Others from now on; what was learned of those that stay is kept.
    pub(super) fn replace(&mut self, seeds: Vec<Seed>) {
        let before = std::mem::replace(&mut self.seeds, seeds);
        for seed in &mut self.seeds {
            let known = before.iter().find(|known| known.api == seed.api);
            seed.answered_as = known.and_then(|known| known.answered_as.clone());
        }
        self.fickle.retain(|api| self.seeds.iter().any(|seed| seed.api == *api));
    }

    pub(super) fn all(&self) -> &[Seed] {
        &self.seeds
    }

    /// The node at `api` has answered as `name`.
    pub(super) fn learn(&mut self, api: &str, name: Option<&str>) -> Lesson {
        let Some(seed) = self.seeds.iter_mut().find(|seed| seed.api == api) else { return Lesson::Nothing };
        if name.is_none() || seed.answered_as.as_deref() == name || self.fickle.contains(api) {
            return Lesson::Nothing;
        }
        if seed.answered_as.take().is_some() {
            self.fickle.insert(api.to_owned());
            return Lesson::Fickle;
        }
        seed.answered_as = name.map(str::to_owned);
        Lesson::Name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_member_or_nobody() {
        let api = "http://db:8008";
        let seed = Seed { api: api.into(), host: "db".into(), port: 8008, answered_as: None };
        let mut seeds = Seeds::new(vec![seed]);
        for (name, lesson, known) in [
            (None, Lesson::Nothing, None),
            (Some("a"), Lesson::Name, Some("a")),
            (Some("a"), Lesson::Nothing, Some("a")),
            (Some("b"), Lesson::Fickle, None),
            (Some("a"), Lesson::Nothing, None),
        ] {
            assert_eq!((seeds.learn(api, name), seeds.all()[0].answered_as.as_deref()), (lesson, known));
        }
        assert_eq!(seeds.learn("http://other:8008", Some("a")), Lesson::Nothing);
    }
}
