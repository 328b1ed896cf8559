//! How much of a pool's sessions each member is to get, compared with the others.
//!
//! Who says so, the last one first: an operator at run time, the configuration by name, a Patroni tag of the member.
//! (Source for the range: HAProxy's `weight`, 0 to 256, where 0 takes no new sessions.)

use std::collections::BTreeMap;

/// What a member has that nobody says anything of.
pub const DEFAULT_WEIGHT: u16 = 100;
pub const MAX_WEIGHT: u16 = 256;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Weights {
    /// By member, from the configuration.
    pub named: BTreeMap<String, u16>,
    /// The tag that holds a member's weight.
    pub tag: Option<String>,
    /// By member, from an operator.
    operator: BTreeMap<String, u16>,
}

impl Weights {
    pub fn new(named: BTreeMap<String, u16>, tag: Option<String>) -> Weights {
        Weights { named, tag, operator: BTreeMap::new() }
    }

    /// These, with what operators wanted of members `before`: of those of which the configuration says what it said.
    pub fn after(self, before: &Weights) -> Weights {
        let says_the_same = |member: &str| match (self.named.get(member), before.named.get(member)) {
            (None, None) => self.tag == before.tag,
            (now, then) => now == then,
        };
        let stays = before.operator.iter().filter(|(member, _)| says_the_same(member));
        let operator = stays.map(|(member, weight)| (member.clone(), *weight)).collect();
        Weights { operator, ..self }
    }

    /// What an operator wants of a member from now on; `None` is what it had without one.
    pub fn set(&mut self, member: &str, weight: Option<u16>) {
        match weight {
            Some(weight) => drop(self.operator.insert(member.to_owned(), weight.min(MAX_WEIGHT))),
            None => drop(self.operator.remove(member)),
        }
    }

    /// A tag that is no number from 0 to 256 says nothing.
    pub fn of(&self, member: &str, tags: &[(String, String)]) -> u16 {
        let said = self.operator.get(member).or_else(|| self.named.get(member)).copied();
        said.or_else(|| self.tagged(tags)).unwrap_or(DEFAULT_WEIGHT)
    }

    /// The weight by the configuration and the tags alone.
    pub fn without_operator(&self, member: &str, tags: &[(String, String)]) -> u16 {
        self.named.get(member).copied().or_else(|| self.tagged(tags)).unwrap_or(DEFAULT_WEIGHT)
    }

    fn tagged(&self, tags: &[(String, String)]) -> Option<u16> {
        let wanted = self.tag.as_ref()?;
        let (_, value) = tags.iter().find(|(tag, _)| tag == wanted)?;
        value.trim().parse().ok().filter(|weight| *weight <= MAX_WEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_wins_over_the_configuration_and_that_over_a_tag() {
        let tags = |value: &str| vec![("weight".to_owned(), value.to_owned())];
        let named = BTreeMap::from([("a".to_owned(), 50)]);
        let mut weights = Weights::new(named, Some("weight".to_owned()));
        for (member, value, weight) in [
            ("a", "7", 50),
            ("b", "7", 7),
            ("b", "0", 0),
            ("b", "257", 100),
            ("b", "-1", 100),
            ("b", "heavy", 100),
        ] {
            assert_eq!(weights.of(member, &tags(value)), weight, "{member} tagged {value}");
        }
        assert_eq!(weights.of("b", &[]), 100);
        weights.set("a", Some(3));
        weights.set("b", Some(300));
        assert_eq!((weights.of("a", &tags("7")), weights.of("b", &tags("7"))), (3, 256));
        assert_eq!(weights.without_operator("a", &tags("7")), 50);
        weights.set("a", None);
        assert_eq!(weights.of("a", &tags("7")), 50);
    }

    #[test]
    fn what_an_operator_wants_of_a_member_ends_when_the_configuration_says_something_else_of_it() {
        let configured = |named: Option<u16>, tag: Option<&str>| {
            let named = named.map(|weight| ("a".to_owned(), weight));
            Weights::new(named.into_iter().collect(), tag.map(str::to_owned))
        };
        let tags = [("weight".to_owned(), "7".to_owned())];
        for (before, after, weight) in [
            ((Some(1), None), (Some(1), None), 77),
            ((Some(1), None), (Some(2), None), 2),
            ((Some(1), None), (None, None), 100),
            ((None, None), (Some(2), None), 2),
            // What it had already, but it is said now.
            ((None, None), (Some(100), None), 100),
            ((None, None), (None, None), 77),
            ((None, Some("weight")), (None, Some("weight")), 77),
            ((None, None), (None, Some("weight")), 7),
            ((None, Some("weight")), (None, None), 100),
            // No tag counts for a member that is named.
            ((Some(1), None), (Some(1), Some("weight")), 77),
            ((Some(1), None), (None, Some("weight")), 7),
        ] {
            let mut first = configured(before.0, before.1);
            first.set("a", Some(77));
            let then = configured(after.0, after.1).after(&first);
            assert_eq!(then.of("a", &tags), weight, "{before:?}, then {after:?}");
            // Of another one nothing else is said.
            first.set("b", Some(33));
            let other = configured(after.0, before.1).after(&first);
            assert_eq!(other.of("b", &tags), 33, "{before:?}, then {after:?}");
        }
    }
}
