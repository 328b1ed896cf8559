//! What pilotfish says of the cluster is what the cluster says of itself, and where it leads is where it says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::balancer::{Balancer, text};
use crate::cluster::Cluster;
use crate::session::Session;
use crate::wait::{seconds, until, until_true};

const MIB: u64 = 1 << 20;
/// As the three measure at different moments, and `patronictl` counts whole MiB.
const TOLERANCE: u64 = MIB;

/// One member in the words of whoever describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Description {
    leads: bool,
    timeline: u64,
    lag_bytes: u64,
}

type Picture = BTreeMap<String, Description>;

fn by_pilotfish(balancer: &Balancer) -> Picture {
    let view = balancer.view();
    let member = |member: &Value| {
        let leads =
            view["writer"] == member["name"] && member["class"] == "writer" && member["role"] == "primary";
        let number = |key: &str| member[key].as_u64().unwrap_or(0);
        let description = Description { leads, timeline: number("timeline"), lag_bytes: number("lag_bytes") };
        (text(&member["name"]), description)
    };
    view["members"].as_array().expect("members").iter().map(member).collect()
}

fn by_patronictl(cluster: &Cluster) -> Picture {
    let list = cluster.patronictl_list();
    let member = |member: &Value| {
        let number = |key: &str| member[key].as_u64().unwrap_or(0);
        let (leads, timeline) = (member["Role"] == "Leader", number("TL"));
        (text(&member["Member"]), Description { leads, timeline, lag_bytes: number("Replay Lag") * MIB })
    };
    list.as_array().expect("members").iter().map(member).collect()
}

fn by_the_members(cluster: &Cluster) -> Picture {
    let member = |member: &Value| {
        let number = |key: &str| member[key].as_u64().unwrap_or(0);
        let (leads, timeline) = (member["role"] == "leader", number("timeline"));
        (text(&member["member"]), Description { leads, timeline, lag_bytes: number("lag_bytes") })
    };
    cluster.list().iter().map(member).collect()
}

fn agree(one: &Picture, other: &Picture) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, a), (same, b))| {
            let lags = a.lag_bytes.abs_diff(b.lag_bytes) <= TOLERANCE;
            name == same && (a.leads, a.timeline) == (b.leads, b.timeline) && lags
        })
}

/// Waits until all three agree, and on a lag within `lag` for `laggard`.
fn wait_agreed(cluster: &Cluster, balancer: &Balancer, laggard: &str, lag: std::ops::Range<u64>) -> Picture {
    until("pilotfish, patronictl and the members agree", seconds(25), || {
        let ours = by_pilotfish(balancer);
        let theirs = [by_patronictl(cluster), by_the_members(cluster)];
        let lags = ours.get(laggard).is_some_and(|member| lag.contains(&member.lag_bytes));
        if lags && theirs.iter().all(|picture| agree(&ours, picture)) {
            Ok(ours)
        } else {
            Err((ours, theirs))
        }
    })
}

#[test]
fn members_roles_timelines_and_lags_are_those_of_patroni() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let leader = cluster.leader();
    let [laggard, _] = &cluster.others(&[&leader])[..] else { panic!("two replicas") };

    let picture = wait_agreed(cluster, &balancer, laggard, 0..1);
    assert_eq!(picture.keys().collect::<Vec<_>>(), cluster.names());
    assert!(picture[&leader].leads && picture.values().filter(|member| member.leads).count() == 1);

    // A transaction on a replica stands in the way of a DROP that it has to replay: WAL piles up behind that.
    let on_leader = cluster.session_on(&leader);
    on_leader.value("CREATE TABLE IF NOT EXISTS lagging (t text)");
    cluster.wait_replicated(&leader, std::slice::from_ref(laggard));
    let in_the_way = cluster.session_on(laggard);
    in_the_way.rows("BEGIN; SELECT count(*) FROM lagging").expect("a transaction on the replica");
    on_leader.value("DROP TABLE lagging");
    on_leader
        .value("CREATE TABLE lagging AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 9000) i");
    wait_agreed(cluster, &balancer, laggard, 8 * MIB..64 * MIB);

    in_the_way.value("ROLLBACK");
    on_leader.value("DROP TABLE lagging");
    wait_agreed(cluster, &balancer, laggard, 0..1);
}

#[test]
fn one_port_leads_to_the_leader_and_the_other_to_every_replica() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let leader = cluster.leader();
    let replicas = cluster.others(&[&leader]);
    let open = |address| -> Vec<Session> {
        let session = |_| Session::open(address).expect("a session");
        (0..6).map(session).collect()
    };
    let members = |sessions: &[Session]| -> Vec<String> {
        let mut members: Vec<String> =
            sessions.iter().map(|session| cluster.member_at(&session.server()).to_owned()).collect();
        members.sort();
        members
    };

    let (writers, readers) = (open(balancer.primary()), open(balancer.replicas()));
    assert_eq!(members(&writers), vec![leader.clone(); 6]);
    let in_recovery = |session: &Session| session.value("SELECT pg_is_in_recovery()");
    assert!(writers.iter().all(|session| in_recovery(session) == "f"));
    assert!(readers.iter().all(|session| in_recovery(session) == "t"));
    let [first, second] = &replicas[..] else { panic!("two replicas") };
    // Evenly, as the one with the fewest connections takes the next.
    assert_eq!(members(&readers), [[&**first; 3], [&**second; 3]].concat());

    assert_eq!(balancer.routable("primary"), [leader]);
    assert_eq!(balancer.routable("replicas"), replicas);
    let sessions = |pool: &str| balancer.pool(pool)["sessions"].clone();
    assert_eq!((sessions("primary"), sessions("replicas")), (6.into(), 6.into()));
    writers.into_iter().chain(readers).for_each(Session::close);
    until_true("sessions that said goodbye are gone", seconds(5), || balancer.status()["sessions"] == 0);
    assert_eq!(balancer.ends("primary", "client_closed"), 6);
    assert_eq!(balancer.ends("replicas", "client_closed"), 6);
}
