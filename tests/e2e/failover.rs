//! The leader goes away, and comes back.

use std::time::Instant;

use crate::application::{Account, Application, make_table};
use crate::balancer::{Balancer, Wishes};
use crate::cluster::Cluster;
use crate::program::Program;
use crate::session::Session;
use crate::wait::{seconds, tell, until, until_true};

/// Applications at work, and the pilotfish they go through.
struct Scene {
    cluster: &'static Cluster,
    balancer: Balancer,
    writers: [Application; 2],
    reader: Application,
}

impl Scene {
    fn begin() -> Scene {
        let cluster = Cluster::healthy();
        let balancer = Balancer::start(cluster);
        make_table(balancer.primary());
        let writers = [(); 2].map(|()| Application::writer(balancer.primary()));
        let reader = Application::reader(balancer.replicas());
        Scene { cluster, balancer, writers, reader }
    }

    /// Waits for another leader than `old`.
    fn wait_led_anew(&self, old: &str) -> String {
        until("another leads", seconds(60), || match self.balancer.writer() {
            Some(writer) if writer != old => Ok(writer),
            _ => Err(self.balancer.view()),
        })
    }

    fn wait_all_work(&self) {
        self.writers.iter().for_each(|writer| writer.wait_on("writers go on"));
        self.reader.wait_on("readers go on");
    }

    /// Stops the leader gracefully; the name of the new one.
    fn stop_leader(&self, event: &str) -> String {
        let old = self.cluster.leader();
        let begun = Instant::now();
        let new = std::thread::scope(|scope| {
            let stop = scope.spawn(|| self.cluster.tool(&["stop", &old]));
            let is_in = || self.balancer.routable("primary").contains(&old);
            until_true("the old leader is out of the primary pool", seconds(10), || !is_in());
            let out = begun.elapsed();
            let new = self.wait_led_anew(&old);
            tell(event, &[("old leader out after", out), ("new one in after", begun.elapsed())]);
            stop.join().expect("a stop");
            new
        });
        self.wait_all_work();
        self.tell_gaps(event, begun);
        new
    }

    fn tell_gaps(&self, event: &str, since: Instant) {
        let [first, second] = &self.writers;
        let gap = |application: &Application| application.account().longest_gap(since);
        let writers = gap(first).max(gap(second));
        tell(event, &[("longest gap of writers", writers), ("of readers", gap(&self.reader))]);
    }
}

/// The members whose answers an application had, in order.
fn members<'a>(cluster: &'a Cluster, account: &Account) -> Vec<&'a str> {
    account.servers().into_iter().map(|server| cluster.member_at(server)).collect()
}

#[test]
fn leaders_that_stop_cost_a_session_each_and_no_connect_fails() {
    let scene = Scene::begin();
    let cluster = scene.cluster;
    let strict =
        Balancer::with(cluster, Wishes { octet: 6, hold: "1s", fallback: "none", ..Wishes::default() });
    let first = cluster.leader();

    let second = scene.stop_leader("leader stopped");
    let [third] = &cluster.others(&[&first, &second])[..] else { panic!("one more") };
    cluster.wait_streaming(&second, third);
    assert_eq!(scene.stop_leader("next leader stopped"), *third);

    one_node_serves_all(&scene, &strict, third);
    cluster.tool(&["start", &first, &second]);
    for balancer in [&scene.balancer, &strict] {
        until("the old leaders are readers", seconds(30), || {
            let readers = balancer.readers();
            if readers == cluster.others(&[third]) { Ok(()) } else { Err(balancer.view()) }
        });
        assert!(!balancer.routable("replicas").contains(third), "the leader is spared again");
    }

    let Scene { balancer, writers, reader, .. } = scene;
    for account in writers.map(|writer| writer.finish_writer(balancer.primary())) {
        assert_eq!(account.failed_connects, [], "connects wait");
        assert_eq!((account.broken.len(), account.connects), (2, 3), "{:?}", account.broken);
        assert_eq!(members(cluster, &account), [&first, &second, third]);
    }
    let reader = reader.finish();
    assert_eq!(reader.failed_connects, []);
    assert!(reader.broken.len() <= 1, "only the leader's own sessions break: {:?}", reader.broken);
    assert_eq!(balancer.view()["failovers"], 2);
}

/// With one node left, readers fall back to it, unless they must not.
fn one_node_serves_all(scene: &Scene, strict: &Balancer, node: &str) {
    let replicas = scene.balancer.pool("replicas");
    assert_eq!((&replicas["routable"], &replicas["fallback_in_use"]), (&vec![node].into(), &true.into()));
    assert_eq!(scene.balancer.routable("primary"), [node]);
    let session = Session::open(scene.balancer.replicas()).expect("a session on the one node left");
    assert_eq!(scene.cluster.member_at(&session.server()), node);
    session.close();

    let begun = Instant::now();
    let trouble = Session::open(strict.replicas()).expect_err("no reader is left");
    assert!(begun.elapsed() >= seconds(1), "it waited for one first");
    assert_eq!(trouble.sqlstate.as_deref(), Some("57P03"));
    let words =
        Program::psql(scene.cluster, strict.replicas(), "prefer").arguments(["-c", "SELECT 1"]).fails();
    for told in [&trouble.message, &words] {
        assert!(told.contains("pilotfish: no reader for cluster \"e2e\" within 1 s: "), "{told}");
    }
    Session::open(strict.primary()).expect("writers are served").close();
}

#[test]
fn a_frozen_leader_is_replaced_and_never_written_to_again() {
    let scene = Scene::begin();
    let cluster = scene.cluster;
    let visitor = Application::visitor(scene.balancer.primary());
    let old = cluster.leader();

    let begun = Instant::now();
    cluster.tool(&["freeze", &old]);
    let new = scene.wait_led_anew(&old);
    tell("leader frozen (ttl 20 s)", &[("new one in after", begun.elapsed())]);
    scene.wait_all_work();
    visitor.wait_on("newcomers are served");
    scene.tell_gaps("leader frozen (ttl 20 s)", begun);

    let begun = Instant::now();
    cluster.tool(&["thaw", &old]);
    until("the thawed one is a reader", seconds(60), || {
        if scene.balancer.readers().contains(&old) { Ok(()) } else { Err(scene.balancer.view()) }
    });
    tell("old leader thawed", &[("a reader after", begun.elapsed())]);
    scene.wait_all_work();
    visitor.wait_on("newcomers are served");

    let newcomers = visitor.finish();
    assert_eq!(newcomers.failed_connects, [], "connects wait");
    assert!(newcomers.broken.len() <= 1, "{:?}", newcomers.broken);
    assert_eq!(members(cluster, &newcomers), [&old, &new]);
    let Scene { balancer: _balancer, writers, reader, .. } = scene;
    // What the frozen one acknowledged last may not have reached a replica: replication is asynchronous.
    for account in writers.map(Application::finish) {
        assert_eq!(account.failed_connects, [], "connects wait");
        assert_eq!((account.broken.len(), account.connects), (1, 2), "{:?}", account.broken);
        assert_eq!(members(cluster, &account), [&old, &new]);
    }
    let reader = reader.finish();
    assert_eq!((reader.failed_connects, reader.broken), (vec![], vec![]));
}

#[test]
fn a_server_that_crashes_and_is_restarted_in_place_is_waited_for() {
    let scene = Scene::begin();
    let cluster = scene.cluster;
    let visitor = Application::visitor(scene.balancer.primary());
    let leader = cluster.leader();

    let begun = Instant::now();
    cluster.tool(&["kill-postmaster", &leader]);
    scene.wait_all_work();
    visitor.wait_on("newcomers are served");
    scene.tell_gaps("postmaster killed", begun);

    let newcomers = visitor.finish();
    assert_eq!(newcomers.failed_connects, [], "connects wait");
    let Scene { balancer, writers, .. } = scene;
    for account in writers.map(|writer| writer.finish_writer(balancer.primary())) {
        assert_eq!(account.failed_connects, [], "connects wait");
        assert_eq!((account.broken.len(), account.connects), (1, 2), "{:?}", account.broken);
    }
    assert_eq!(balancer.view()["incident_totals"]["incidents"], 1);
    assert_eq!(balancer.view()["incident_totals"]["failed"], 0);
}
