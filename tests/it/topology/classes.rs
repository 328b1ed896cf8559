//! One answer, one class.

use pilotfish::topology::{Class, Condition, Report, Role};

/// Status, role and state as Patroni writes them, and the class that follows.
const CLASSES: &[(u16, &str, &str, Class)] = &[
    (200, "primary", "running", Class::Writer),
    (200, "master", "running", Class::Writer),
    // The status is right and the server is not there: a postmaster that crashed under a living Patroni.
    (200, "primary", "unknown", Class::Leaving),
    (200, "primary", "crashed", Class::Leaving),
    (200, "primary", "starting", Class::Leaving),
    (200, "primary", "start failed", Class::Leaving),
    (200, "primary", "stopping", Class::Leaving),
    (200, "primary", "restarting", Class::Leaving),
    (200, "master", "stopping", Class::Leaving),
    (200, "primary", "stopped", Class::Leaving),
    (200, "primary", "a word of tomorrow", Class::Leaving),
    (200, "primary", "Running", Class::Leaving),
    (200, "primary", "", Class::Leaving),
    (200, "replica", "running", Class::Promoting),
    (200, "replica", "starting", Class::Promoting),
    (200, "standby_leader", "running", Class::StandbyLeader),
    (200, "standby_leader", "starting", Class::Leaving),
    (200, "demoted", "running", Class::Down),
    (200, "demoted", "stopped", Class::Leaving),
    (200, "", "running", Class::Down),
    (200, "sovereign", "running", Class::Down),
    (200, "PRIMARY", "running", Class::Down),
    (503, "replica", "running", Class::Reader),
    (503, "replica", "starting", Class::Down),
    (503, "replica", "creating replica", Class::Down),
    (503, "replica", "in archive recovery", Class::Down),
    (503, "replica", "", Class::Down),
    (503, "primary", "running", Class::Orphan),
    (503, "master", "running", Class::Orphan),
    (503, "primary", "stopping", Class::Orphan),
    (503, "primary", "unknown", Class::Orphan),
    (503, "standby_leader", "running", Class::Down),
    (503, "demoted", "stopped", Class::Down),
    (503, "demoted", "running", Class::Down),
    (503, "uninitialized", "stopped", Class::Down),
    (503, "uninitialized", "initializing new cluster", Class::Down),
    (503, "sovereign", "running", Class::Down),
    (503, "", "running", Class::Down),
    (503, "", "", Class::Down),
];

fn answer(status: u16, role: &str, state: &str) -> Report {
    Report { status, role: Role::parse(role), state: state.into(), ..Report::default() }
}

/// Patroni says `starting` for up to a second longer than it is true. A timeline beside it comes from PostgreSQL, which
/// has then also said that it is not in recovery.
#[test]
fn a_server_that_tells_its_timeline_has_started() {
    for (status, role, state, class) in [
        (200, "primary", "starting", Class::Writer),
        (200, "master", "starting", Class::Writer),
        (200, "replica", "starting", Class::Promoting),
        (200, "standby_leader", "starting", Class::Leaving),
        (503, "primary", "starting", Class::Orphan),
        // On its way down: it still answers, and will not for long.
        (200, "primary", "restarting", Class::Leaving),
        (200, "primary", "stopping", Class::Leaving),
    ] {
        let report = Report { timeline: Some(1), ..answer(status, role, state) };
        assert_eq!(report.class(), class, "{status} {role:?} {state:?}");
    }
}

#[test]
fn every_answer_has_its_class() {
    for &(status, role, state, class) in CLASSES {
        assert_eq!(answer(status, role, state).class(), class, "{status} {role:?} {state:?}");
    }
}

#[test]
fn noloadbalance_keeps_readers_away_and_changes_nothing_else() {
    for &(status, role, state, class) in CLASSES {
        let tagged = Report { noloadbalance: true, ..answer(status, role, state) };
        let expected = if class == Class::Reader { Class::Standby } else { class };
        assert_eq!(tagged.class(), expected, "{status} {role:?} {state:?}");
    }
}

/// Marks of trouble that are shown to people; none makes a node more or less than its status, role and state do. The
/// one exception has a test of its own.
#[test]
fn nothing_else_in_an_answer_changes_its_class() {
    for &(status, role, state, class) in CLASSES {
        let marked = Report {
            timeline: (state != "starting").then_some(7),
            wal_position: Some(0),
            replication_state: Some("in archive recovery".into()),
            pause: true,
            cluster_unlocked: true,
            failsafe: true,
            pending_restart: true,
            tags: vec![("nofailover".into(), "true".into())],
            ..answer(status, role, state)
        };
        assert_eq!(marked.class(), class, "{status} {role:?} {state:?}");
    }
}

/// Only the lock's holder may ever take writers, whatever else it says.
#[test]
fn without_the_lock_nobody_claims_it() {
    for &(status, role, state, class) in CLASSES {
        let claims = status == 200 && class != Class::Down;
        assert_eq!(class.claims_lock(), claims, "{status} {role:?} {state:?}");
    }
}

#[test]
fn an_unknown_role_is_shown_as_it_is() {
    for (word, shown) in [("demoted", "demoted"), ("sovereign", "sovereign"), ("master", "primary"), ("", "")]
    {
        assert_eq!(Role::parse(word).as_str(), shown);
    }
}

/// These words are in metrics, in the API and in other people's dashboards.
#[test]
fn the_words_stay() {
    let classes = Class::ALL.map(Class::as_str).join(" ");
    assert_eq!(
        classes,
        "unknown writer promoting leaving standby_leader reader standby orphan down silent foreign"
    );
    let conditions = Condition::ALL.map(Condition::as_str).join(" ");
    assert_eq!(conditions, "ok no_writer promoting leaving conflict unreachable starting");
}
