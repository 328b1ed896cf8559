//! Who belongs to the cluster, and where is each asked?
//!
//! The configured endpoints are only seeds: the members come from Patroni's `/cluster`. A seed that turned out to be
//! a member's REST API goes on being asked under the name the operator wrote, which may be the one that its
//! certificate names or that a firewall lets through. Until the first `/cluster` answer each seed stands for itself.

use std::time::Duration;

use super::member::Member;
use super::observation::{Observation, Report, Silence, SilenceKind};

/// PostgreSQL's own default, assumed for a seed while `/cluster` has not said better.
const POSTGRESQL_PORT: u16 = 5432;

/// A member that `/cluster` no longer names is remembered for so long after its last answer. Patroni strikes a node
/// off when its key in the DCS runs out, which is just when an operator wants to see that it is gone.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);

/// More are not remembered: each of them is asked.
const MOST: usize = 64;

/// A configured endpoint, and the member that answered there if it has said its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Base URL, such as `https://10.0.0.1:8008`.
    pub api: String,
    pub host: String,
    pub port: u16,
    pub answered_as: Option<String>,
}

/// The stand-ins for the seeds before the first `/cluster` answer.
pub fn provisional(seeds: &[Seed]) -> Vec<Member> {
    let member = |seed: &Seed| {
        let (host, api) = (seed.host.clone(), seed.api.clone());
        let name = seed.answered_as.clone().unwrap_or_else(|| authority(&seed.api).to_owned());
        Member { name, host, port: POSTGRESQL_PORT, api }
    };
    unique(seeds.iter().map(member).collect())
}

/// Made up for a seed by [`provisional`]: nobody has said its name yet.
pub fn is_stand_in(member: &Member) -> bool {
    member.name == authority(&member.api)
}

/// Whether the member listed as `name` may call itself `stated`. A stand-in may be anybody.
fn goes_by(name: &str, api: &str, stated: &str) -> bool {
    name == stated || name == authority(api) || name == apart(stated, api)
}

/// A report counts for the member that made it. Where another one answers, an address is wrong or shared, and this
/// member has not been heard.
pub fn attribute(name: &str, api: &str, observation: Observation) -> Observation {
    let Observation::Answered(Report { name: Some(stated), .. }) = &observation else { return observation };
    if goes_by(name, api, stated) {
        return observation;
    }
    let detail = format!("{stated} answers at the address of {name}");
    Observation::Silent(Silence { kind: SilenceKind::NotPatroni, detail })
}

/// The members of a `/cluster` answer, each asked at its seed where one is known, and those of `previous` that it
/// does not name but that have answered less than [`FORGET_AFTER`] ago (the duration beside each).
pub fn settle(discovered: Vec<Member>, seeds: &[Seed], previous: Vec<(Member, Duration)>) -> Vec<Member> {
    let at_its_seed = |member: Member| {
        let seed = seeds.iter().find(|seed| seed.answered_as.as_deref() == Some(&member.name));
        let api = seed.map_or(member.api, |seed| seed.api.clone());
        Member { api, ..member }
    };
    let mut members: Vec<Member> = discovered.into_iter().map(at_its_seed).collect();
    for (member, quiet) in previous {
        let replaced = members.iter().any(|named| named.api == member.api);
        let moved = members.iter().any(|named| named.name == member.name) && quiet > Duration::ZERO;
        if !replaced && !moved && quiet < FORGET_AFTER && members.len() < MOST {
            members.push(member);
        }
    }
    unique(members)
}

/// A name twice (an endpoint of another cluster, say) is told apart by its address; sorted by name.
fn unique(mut members: Vec<Member>) -> Vec<Member> {
    for index in 1..members.len() {
        let (before, rest) = members.split_at_mut(index);
        if before.iter().any(|earlier| earlier.name == rest[0].name) {
            rest[0].name = apart(&rest[0].name, &rest[0].api);
        }
    }
    members.sort();
    members.dedup_by(|later, first| later.name == first.name);
    members
}

/// A name that another member has too.
fn apart(name: &str, api: &str) -> String {
    format!("{name} ({})", authority(api))
}

fn authority(api: &str) -> &str {
    api.split_once("://").map_or(api, |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(host: &str, answered_as: Option<&str>) -> Seed {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let api = format!("https://{bracketed}:8008");
        Seed { api, host: host.into(), port: 8008, answered_as: answered_as.map(String::from) }
    }

    fn member(name: &str, host: &str) -> Member {
        Member { name: name.into(), host: host.into(), port: 5433, api: format!("https://{host}:8008") }
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.name.as_str()).collect()
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_seed_stands_for_itself_until_the_cluster_is_known() {
        let members = provisional(&[seed("fd00::1", None), seed("db2", Some("patroni2"))]);
        assert_eq!(names(&members), ["[fd00::1]:8008", "patroni2"]);
        assert_eq!((members[0].host.as_str(), members[0].port), ("fd00::1", 5432));
    }

    #[test]
    fn members_are_asked_where_the_operator_said_when_that_is_known() {
        let seeds = [seed("db1.example", Some("patroni1")), seed("other", None)];
        let members =
            settle(vec![member("patroni2", "10.0.0.2"), member("patroni1", "10.0.0.1")], &seeds, vec![]);
        assert_eq!(members[0].api, "https://db1.example:8008");
        assert_eq!((members[0].host.as_str(), members[0].port), ("10.0.0.1", 5433));
        assert_eq!(members[1].api, "https://10.0.0.2:8008");
    }

    #[test]
    fn who_is_struck_off_is_remembered_for_a_while() {
        let minute = Duration::from_secs(60);
        let discovered = vec![member("a", "10.0.0.1"), member("b", "10.0.0.9")];
        let previous = vec![
            (member("10.0.0.1:8008", "10.0.0.1"), NOW),
            (member("b", "10.0.0.2"), minute),
            (member("c", "10.0.0.3"), minute),
            (member("d", "10.0.0.4"), FORGET_AFTER),
        ];
        let members = settle(discovered, &[], previous);
        assert_eq!(names(&members), ["a", "b", "c"]);
        assert_eq!(members[1].host, "10.0.0.9", "b was rebuilt elsewhere");
    }

    #[test]
    fn a_name_twice_is_told_apart_by_its_address() {
        let seeds = [seed("10.0.0.1", Some("a")), seed("10.0.0.2", Some("a"))];
        assert_eq!(names(&provisional(&seeds)), ["a", "a (10.0.0.2:8008)"]);
        let previous = vec![(member("a", "10.0.0.2"), NOW)];
        let members = settle(vec![member("a", "10.0.0.1")], &[], previous);
        assert_eq!(names(&members), ["a", "a (10.0.0.2:8008)"]);
    }
}
