//! Which replicas a pool takes, and which it likes better: Patroni's tags and PostgreSQL's synchronous replication, as they
//! change.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::json;

use crate::balancer::{Balancer, Wishes};
use crate::cluster::Cluster;
use crate::session::Session;
use crate::tags::Tags;
use crate::wait::{seconds, until};

const BY_TAGS: &str = "[{listen: 'HOST:5001', weight_tag: weight, fallback: none}, \
    {name: near, listen: 'HOST:5002', zone: a, max_sessions_per_member: 2, fallback: none}]";

/// As many new sessions at a pool, all open at one time.
fn sessions(at: SocketAddr, count: usize) -> Vec<Session> {
    (0..count).map(|_| Session::open(at).expect("a session")).collect()
}

/// Whom they are on.
fn spread(cluster: &Cluster, sessions: &[Session]) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for session in sessions {
        *spread.entry(cluster.member_at(&session.server()).to_owned()).or_default() += 1;
    }
    spread
}

#[test]
fn weights_and_zones_come_from_tags_and_change_with_them() {
    let cluster = Cluster::healthy();
    let [near, far] = &cluster.others(&[&cluster.leader()])[..] else { panic!("two replicas") };
    let tags_of_near = Tags::set(cluster, near, json!({"zone": "a", "weight": 200}));
    let tags_of_far = Tags::set(cluster, far, json!({"zone": "b", "weight": 50}));
    let balancer = Balancer::with(cluster, Wishes { replicas: Some(BY_TAGS), ..Wishes::default() });
    let wait_weights = |expected: &[(&str, u64)]| {
        until("the pool has these weights", seconds(30), || {
            let members = balancer.pool("replicas")["members"].take();
            let weight = |name: &str| {
                let mut all = members.as_array().into_iter().flatten();
                all.find(|member| member["name"] == name).and_then(|member| member["weight"].as_u64())
            };
            let fits = expected.iter().all(|&(name, wanted)| weight(name) == Some(wanted));
            if fits { Ok(()) } else { Err(members.clone()) }
        });
    };
    let both =
        |of_near: usize, of_far: usize| BTreeMap::from([(near.clone(), of_near), (far.clone(), of_far)]);

    wait_weights(&[(near, 200), (far, 50)]);
    let weighed = sessions(balancer.replicas(), 10);
    assert_eq!(spread(cluster, &weighed), both(8, 2));
    drop(weighed);
    // The near one first, and when it is full the other.
    let two = sessions(balancer.at(5002), 2);
    assert_eq!(spread(cluster, &two), BTreeMap::from([(near.clone(), 2)]));
    let two_more = sessions(balancer.at(5002), 2);
    assert_eq!(spread(cluster, &two_more), BTreeMap::from([(far.clone(), 2)]));
    drop((two, two_more));

    tags_of_near.change(json!({"zone": "a", "weight": 100}));
    tags_of_far.change(json!({"zone": "b", "weight": 100}));
    wait_weights(&[(near, 100), (far, 100)]);
    assert_eq!(spread(cluster, &sessions(balancer.replicas(), 10)), both(5, 5));
    tags_of_far.change(json!({"zone": "b", "weight": 0}));
    balancer.wait_routes("replicas", &[near]);
    let others = Session::open(balancer.replicas()).expect("a session");
    // The near one is gone: not one session may be lost that it has.
    tags_of_near.change(json!({"zone": "a", "noloadbalance": true}));
    balancer.wait_routes("near", &[far]);
    balancer.wait_routes("replicas", &[]);
    assert_eq!(spread(cluster, &sessions(balancer.at(5002), 2)), BTreeMap::from([(far.clone(), 2)]));
    assert_eq!(cluster.member_at(&others.server()), near);
    tags_of_near.change(json!({"zone": "b"}));
    tags_of_far.change(json!({"zone": "a"}));
    wait_weights(&[(near, 100), (far, 100)]);
    until("the zones have changed sides", seconds(30), || {
        let on = spread(cluster, &sessions(balancer.at(5002), 1));
        if on == BTreeMap::from([(far.clone(), 1)]) { Ok(()) } else { Err(on) }
    });
}

/// Synchronous replication, for as long as this lives.
struct Synchronous(&'static Cluster);

impl Synchronous {
    fn mode(cluster: &'static Cluster) -> Synchronous {
        cluster.tool(&["config", "synchronous_mode=true"]);
        Synchronous(cluster)
    }
}

impl Drop for Synchronous {
    fn drop(&mut self) {
        self.0.tool(&["config", "synchronous_mode=null"]);
    }
}

#[test]
fn a_pool_of_synchronous_replicas_follows_whom_the_leader_waits_for() {
    const BY_SYNC: &str = "[{listen: 'HOST:5001'}, \
        {name: synchronous, listen: 'HOST:5002', require: {sync: sync}, fallback: none}, \
        {name: asynchronous, listen: 'HOST:5003', require: {sync: async}, fallback: none}]";
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(cluster, Wishes { replicas: Some(BY_SYNC), ..Wishes::default() });
    let both: Vec<String> = balancer.readers();
    balancer.wait_routes("asynchronous", &[&both[0], &both[1]]);
    balancer.wait_routes("synchronous", &[]);

    let _mode = Synchronous::mode(cluster);
    let (chosen, other) = until("one is chosen", seconds(40), || {
        match (&balancer.routable("synchronous")[..], &balancer.routable("asynchronous")[..]) {
            ([chosen], [other]) if chosen != other => Ok((chosen.clone(), other.clone())),
            (synchronous, asynchronous) => Err((synchronous.to_vec(), asynchronous.to_vec())),
        }
    });
    let on = |port: u16| {
        cluster.member_at(&Session::open(balancer.at(port)).expect("a session").server()).to_owned()
    };
    assert_eq!((on(5002), on(5003)), (chosen.clone(), other.clone()));

    let _tags = Tags::set(cluster, &chosen, json!({"nosync": true}));
    balancer.wait_routes("synchronous", &[&other]);
    balancer.wait_routes("asynchronous", &[&chosen]);
    assert_eq!((on(5002), on(5003)), (other, chosen));
    assert_eq!(balancer.readers(), both);
}
