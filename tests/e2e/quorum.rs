//! etcd loses its quorum: nobody may lead, and nobody does until it is back.

use std::time::Instant;

use crate::application::{Application, make_table};
use crate::balancer::{Balancer, Wishes};
use crate::cluster::Cluster;
use crate::program::Program;
use crate::wait::{seconds, tell, until, until_true};

const NO_WRITER: &str = "pilotfish: no writer for cluster \"e2e\" within 3 s: no node holds the leader lock";

#[test]
fn without_a_quorum_readers_go_on_and_writers_come_back_by_themselves() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(cluster, Wishes { hold: "3s", ..Wishes::default() });
    make_table(balancer.primary());
    let writer = Application::writer(balancer.primary());
    let reader = Application::reader(balancer.replicas());

    let begun = Instant::now();
    cluster.tool(&["etcd-stop", "1", "2"]);
    until_true("there is no writer", seconds(60), || balancer.condition() == "no_writer");
    tell("quorum lost", &[("no writer after", begun.elapsed())]);
    until("every node is a replica", seconds(60), || {
        let members = cluster.list();
        if members.iter().all(|member| member["role"] == "replica") { Ok(()) } else { Err(members) }
    });
    assert_eq!((balancer.writer(), balancer.routable("primary")), (None, vec![]));
    until("the former leader reads too", seconds(30), || {
        let readers = balancer.readers();
        if readers == cluster.names() { Ok(()) } else { Err(readers) }
    });
    until("the headline names the cause", seconds(30), || {
        let headline = balancer.view()["headline"].clone();
        let what = headline["what"].as_str().unwrap_or_default();
        if what.ends_with("etcd can be read but not written, and has probably lost its quorum.") {
            return Ok(());
        }
        Err(headline)
    });
    what_psql_says(cluster, &balancer);
    until_true("writers are told why", seconds(30), || {
        let failed = writer.account().failed_connects;
        failed.last().is_some_and(|trouble| trouble.message == NO_WRITER)
    });
    reader.wait_on("readers go on");

    let back = Instant::now();
    cluster.tool(&["etcd-start", "1", "2"]);
    writer.wait_on("writers go on");
    tell("quorum back", &[("writers go on after", back.elapsed())]);

    let account = writer.finish_writer(balancer.primary());
    assert_eq!(account.broken.len(), 1, "{:?}", account.broken);
    for trouble in &account.failed_connects {
        assert_eq!(trouble.sqlstate.as_deref(), Some("57P03"), "{trouble:?}");
        assert!(
            trouble.message.starts_with("pilotfish: no writer for cluster \"e2e\" within 3 s: "),
            "{trouble:?}"
        );
    }
    let reads = reader.finish();
    assert_eq!((&*reads.failed_connects, &*reads.broken), (&[][..], &[][..]));
    tell("quorum lost and back", &[("longest gap of readers", reads.longest_gap(begun))]);
}

/// When `hold` is over. A client that insists on TLS hears that there is none: without proof of who speaks, libpq
/// shows it no more than that.
fn what_psql_says(cluster: &Cluster, balancer: &Balancer) {
    let address = balancer.primary();
    let failed = format!("psql: error: connection to server at \"{}\", port 5000 failed: ", address.ip());
    let said = std::thread::scope(|scope| {
        let say = |mode| move || Program::psql(cluster, address, mode).arguments(["-c", "SELECT 1"]).fails();
        let sayings = ["disable", "prefer", "require"].map(|mode| scope.spawn(say(mode)));
        sayings.map(|said| said.join().expect("words"))
    });
    let reason = format!("{failed}FATAL:  {NO_WRITER}");
    let no_tls = format!("{failed}server does not support SSL, but SSL was required");
    assert_eq!(said, [reason.clone(), reason, no_tls]);
}
