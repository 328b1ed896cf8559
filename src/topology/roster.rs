//! Who belongs to the cluster, and where is each asked?
//!
//! The configured endpoints are only seeds: the members come from Patroni's `/cluster`. A seed that turned out to be
//! a member's REST API goes on being asked under the name the operator wrote, which may be the one that its
//! certificate names or that a firewall lets through. Until the first `/cluster` answer each seed stands for itself.

use super::member::Member;

/// PostgreSQL's own default, assumed for a seed while `/cluster` has not said better.
const POSTGRESQL_PORT: u16 = 5432;

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
    let member = |seed: &Seed| Member {
        name: seed.answered_as.clone().unwrap_or_else(|| bracketed(&seed.host, seed.port)),
        host: seed.host.clone(),
        port: POSTGRESQL_PORT,
        api: seed.api.clone(),
    };
    let mut members: Vec<Member> = seeds.iter().map(member).collect();
    members.sort();
    members.dedup_by(|later, first| later.name == first.name);
    members
}

/// The members of a `/cluster` answer, each asked at its seed where one is known, sorted by name.
pub fn settle(discovered: Vec<Member>, seeds: &[Seed]) -> Vec<Member> {
    let mut members: Vec<Member> = discovered
        .into_iter()
        .map(|member| {
            let seed = seeds.iter().find(|seed| seed.answered_as.as_deref() == Some(&member.name));
            let api = seed.map_or(member.api, |seed| seed.api.clone());
            Member { api, ..member }
        })
        .collect();
    members.sort();
    members.dedup_by(|later, first| later.name == first.name);
    members
}

fn bracketed(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(host: &str, answered_as: Option<&str>) -> Seed {
        let api = format!("https://{}", bracketed(host, 8008));
        Seed { api, host: host.into(), port: 8008, answered_as: answered_as.map(String::from) }
    }

    fn discovered(name: &str, host: &str) -> Member {
        Member { name: name.into(), host: host.into(), port: 5433, api: format!("https://{host}:8008") }
    }

    #[test]
    fn a_seed_stands_for_itself_until_the_cluster_is_known() {
        let members = provisional(&[seed("fd00::1", None), seed("db2", Some("patroni2"))]);
        assert_eq!(members[0].name, "[fd00::1]:8008");
        assert_eq!((members[0].host.as_str(), members[0].port), ("fd00::1", 5432));
        assert_eq!(members[1].name, "patroni2");
    }

    #[test]
    fn members_are_asked_where_the_operator_said_when_that_is_known() {
        let seeds = [seed("db1.example", Some("patroni1")), seed("other", None)];
        let members = settle(vec![discovered("patroni2", "10.0.0.2"), discovered("patroni1", "10.0.0.1")], &seeds);
        assert_eq!(members[0].api, "https://db1.example:8008");
        assert_eq!((members[0].host.as_str(), members[0].port), ("10.0.0.1", 5433));
        assert_eq!(members[1].api, "https://10.0.0.2:8008");
    }

    #[test]
    fn a_name_told_twice_is_one_member() {
        let members = settle(vec![discovered("a", "10.0.0.2"), discovered("a", "10.0.0.1")], &[]);
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].host, "10.0.0.1");
    }
}
