//! What the page says of a cluster, for clusters made by hand.

use pilotfish::admin::findings::{Level, MOST, findings};
use pilotfish::admin::headline::headline;
use pilotfish::admin::view::{CheckView, ClusterView, MemberView, PoolMemberView, PoolView, VacancyView};
use pilotfish::routing::{Cause, Vacancy};
use pilotfish::topology::{Alarm, SilenceKind};

/// A leader, two replicas, and sessions on both ports.
fn healthy() -> ClusterView {
    let member = |name: &str, class, takes| MemberView {
        name: name.to_owned(),
        api: format!("http://{name}:8008"),
        class,
        takes,
        plainly: if class == "writer" { "Leader" } else { "Replica" }.to_owned(),
        role: Some(if class == "writer" { "primary" } else { "replica" }.to_owned()),
        state: Some("running".to_owned()),
        admin: "ready",
        lag_bytes: (class == "reader").then_some(0),
        lag_bytes_1m_ago: (class == "reader").then_some(0),
        dcs_seen_ago_s: Some(4),
        check_ms_mean: Some(3.0),
        last_check: Some(CheckView {
            ago_s: 0.4,
            duration_ms: 3.0,
            status: Some(200),
            ..CheckView::default()
        }),
        ..MemberView::default()
    };
    let on = |name: &str, sessions| PoolMemberView {
        name: name.to_owned(),
        sessions,
        ..PoolMemberView::default()
    };
    let pool = |name: &str, port: u16, routable: &[&str], members: Vec<PoolMemberView>| PoolView {
        name: name.to_owned(),
        kind: if name == "primary" { "primary" } else { "replicas" },
        listen: vec![format!("0.0.0.0:{port}")],
        routable: routable.iter().map(ToString::to_string).collect(),
        sessions: members.iter().map(|member| member.sessions).sum(),
        sessions_5m: 20.0,
        members,
        ..PoolView::default()
    };
    ClusterView {
        name: "demo".to_owned(),
        condition: "ok",
        reason: "a holds the leader lock and takes writes".to_owned(),
        writer: Some("a".to_owned()),
        last_writer: Some("a".to_owned()),
        readers: vec!["b".to_owned(), "c".to_owned()],
        members: vec![
            member("a", "writer", "writes"),
            member("b", "reader", "reads"),
            member("c", "reader", "reads"),
        ],
        pools: vec![
            pool("primary", 5000, &["a"], vec![on("a", 10)]),
            pool("replicas", 5001, &["b", "c"], vec![on("b", 5), on("c", 5)]),
        ],
        ..ClusterView::default()
    }
}

/// Nobody leads.
fn leaderless() -> ClusterView {
    let mut cluster = healthy();
    (cluster.condition, cluster.writer) = ("no_writer", None);
    cluster.reason = "no node holds the leader lock".to_owned();
    (cluster.members[0].class, cluster.members[0].takes) = ("down", "nothing");
    cluster.members[0].state = Some("stopped".to_owned());
    cluster
}

/// One way in which a cluster is not as it should be, and what is to be said.
type Case = (&'static str, fn(&mut ClusterView), &'static str);

#[test]
fn the_headline_says_what_is_wrong_and_what_to_do() {
    let cases: [Case; 9] = [
        (
            "quorum lost",
            |c| c.members[1].dcs_seen_ago_s = Some(42),
            "No node holds the leader lock and b has not seen the DCS for 42 s: etcd has probably lost its quorum.",
        ),
        ("an election", |_| {}, "No node holds the leader lock; b and c can be elected."),
        (
            "maintenance",
            |c| c.members[1].pause = true,
            "No node holds the leader lock, and the cluster is in maintenance mode: Patroni promotes nobody.",
        ),
        (
            "nothing runs",
            |c| c.members.iter_mut().for_each(|m| m.state = Some("stopped".to_owned())),
            "No node holds the leader lock, and PostgreSQL runs on none of those that answer.",
        ),
        (
            "nobody may",
            |c| c.members[1..].iter_mut().for_each(|m| m.tags = vec![("nofailover".into(), "true".into())]),
            "No node holds the leader lock, and every running one is tagged nofailover.",
        ),
        (
            "a promotion",
            |c| {
                (c.condition, c.reason) =
                    ("promoting", "b holds the leader lock and is being promoted".into())
            },
            "b holds the leader lock and is being promoted.",
        ),
        (
            "no network",
            |c| {
                c.condition = "unreachable";
                c.members.iter_mut().for_each(|m| m.class = "silent");
            },
            "No node's Patroni answers.",
        ),
        (
            "a conflict",
            |c| {
                (c.condition, c.reason) =
                    ("conflict", "a and b claim the leader lock on the same timeline".into())
            },
            "a and b claim the leader lock on the same timeline.",
        ),
        (
            "taken out of service",
            |c| (c.condition, c.reason) = ("ok", "a is the writer, but an operator set it to drain".into()),
            "a is the writer, but an operator set it to drain.",
        ),
    ];
    for (what, change, said) in cases {
        let mut cluster = leaderless();
        change(&mut cluster);
        let headline = headline(&cluster);
        assert_eq!((headline.what.as_str(), headline.level), (said, Level::Critical), "{what}");
        assert!(headline.remedy.len() > 20, "{what}: what to do");
    }
    let fine = headline(&healthy());
    assert_eq!((fine.level, &*fine.what, &*fine.remedy), (Level::Ok, "a takes writes.", ""));
}

#[test]
fn a_silent_node_that_was_heard_of_the_dcs_long_ago_is_no_witness() {
    let mut cluster = leaderless();
    cluster.members[1].class = "silent";
    cluster.members[1].dcs_seen_ago_s = Some(500);
    assert!(headline(&cluster).what.ends_with("can be elected."), "{:?}", headline(&cluster));
}

#[test]
fn a_lock_that_nobody_holds_and_nobody_sees_free_is_a_lost_quorum() {
    let said = |seconds: f64, change: fn(&mut ClusterView)| {
        let mut cluster = leaderless();
        cluster.members.iter_mut().for_each(|member| member.class_for_s = seconds);
        change(&mut cluster);
        headline(&cluster).what
    };
    let lost = "No node has held the leader lock for 40 s, yet none sees it free: \
                etcd can be read but not written, and has probably lost its quorum.";
    assert_eq!(said(40.0, |_| {}), lost);
    let election = "No node holds the leader lock; b and c can be elected.";
    assert_eq!(said(9.0, |_| {}), election, "an election takes a moment");
    assert_eq!(said(40.0, |c| c.members[2].cluster_unlocked = true), election, "it is free");
    assert_eq!(said(40.0, |c| c.members[2].class = "silent"), election, "the silent one may hold it");
}

#[test]
fn a_silent_writer_is_told_apart_from_a_dead_one() {
    let mut cluster = healthy();
    cluster.condition = "unreachable";
    cluster.members[0].class = "silent";
    cluster.members[0].class_for_s = 12.0;
    let error = Some("timeout: no answer within 2 s".to_owned());
    cluster.members[0].last_check = Some(CheckView { error, ..CheckView::default() });
    let hung = headline(&cluster);
    assert_eq!(hung.level, Level::Warning);
    assert_eq!(
        hung.what,
        "Patroni on a has not answered for 12 s (timeout: no answer within 2 s); no other node leads."
    );
    assert!(hung.remedy.starts_with("Its PostgreSQL may be healthy"), "{}", hung.remedy);
    cluster.pools[0].held = 3;
    let dead = headline(&cluster);
    assert_eq!(dead.level, Level::Critical);
    assert!(dead.remedy.starts_with("Its PostgreSQL takes no sessions either"), "{}", dead.remedy);
}

#[test]
fn a_leader_that_takes_no_sessions_is_not_said_to_take_writes() {
    let mut cluster = healthy();
    (cluster.pools[0].held, cluster.pools[0].oldest_wait_s) = (7, Some(0.3));
    assert_eq!(headline(&cluster).level, Level::Ok, "a moment is no trouble yet");
    cluster.pools[0].oldest_wait_s = Some(4.0);
    let headline = headline(&cluster);
    assert_eq!(headline.level, Level::Critical);
    assert_eq!(
        headline.what,
        "a leads, but its PostgreSQL takes no sessions: 7 held, the longest for 4.0 s."
    );
}

fn vacant(cause: Cause, reason: &str) -> Option<VacancyView> {
    Some(VacancyView::from(&Vacancy { cause, reason: reason.to_owned() }))
}

#[test]
fn a_leader_that_no_session_gets_to_is_not_said_to_take_writes() {
    let dead = "a takes no connections at port 6432: connection refused";
    for (cause, reason, level, remedy) in [
        (Cause::Port, dead, Level::Critical, "Start what listens"),
        (Cause::OwnListener, "a is not dialled", Level::Critical, "Its connect_address is"),
        (Cause::Weight, "a has the weight 0", Level::Critical, "Give one of them a weight"),
        (Cause::Unknown, "a is being asked at port 6432", Level::Warning, "A matter of"),
    ] {
        let mut cluster = healthy();
        cluster.pools[0].vacancy = vacant(cause, reason);
        let headline = headline(&cluster);
        assert_eq!((headline.level, &*headline.title), (level, "a takes no sessions"));
        assert_eq!(headline.what, format!("a leads, but nobody takes the sessions of primary: {reason}."));
        assert!(headline.remedy.starts_with(remedy), "{}", headline.remedy);
    }
}

/// One thing that deserves a look: the code and level of the finding, and a piece of what it says.
type Seen = (&'static str, Level, &'static str, fn(&mut ClusterView));

const SEEN: [Seen; 23] = [
    ("two_writers", Level::Critical, "a, b all claim the leader lock.", |c| {
        c.alarmed = vec![Alarm::TwoWriters(vec!["a".into(), "b".into()])]
    }),
    ("orphan_primary", Level::Critical, "b is primary without the leader lock.", |c| {
        c.alarmed = vec![Alarm::OrphanPrimary("b".into())]
    }),
    ("foreign_member", Level::Critical, "b belongs to another cluster.", |c| {
        c.alarmed = vec![Alarm::ForeignMember("b".into())]
    }),
    ("old_timeline", Level::Critical, "A later timeline has been seen", |c| {
        c.alarmed = vec![Alarm::OldTimeline("b".into())]
    }),
    ("no_identity", Level::Critical, "The endpoints belong to different clusters.", |c| {
        c.alarmed = vec![Alarm::NoIdentity]
    }),
    ("reads_on_leader", Level::Warning, "b: replica, too far behind; c: no answer: unknown.", |c| {
        (c.pools[1].fallback_in_use, c.pools[1].routable) = (true, vec!["a".into()]);
        c.readers.clear();
        c.members[1].plainly = "Replica, too far behind".into();
        c.members[2].plainly = "No answer: unknown".into();
    }),
    (
        "no_readers",
        Level::Warning,
        "2 clients wait for a replica. b lies further behind than max_lag.",
        |c| {
            c.pools[1].vacancy = vacant(Cause::Unfit, "b lies further behind than max_lag");
            (c.pools[1].routable, c.pools[1].held) = (vec![], 2);
        },
    ),
    (
        "send_proxy",
        Level::Warning,
        "c does not seem to understand the PROXY protocol. Sessions of replicas",
        |c| {
            c.pools[1].members[1].misreads_proxy = true;
        },
    ),
    (
        "own_listener",
        Level::Critical,
        "c is not dialled: its address is this balancer's own. Its sessions",
        |c| {
            c.pools[1].members[1].own_listener = Some(([10, 0, 0, 9], 5000).into());
        },
    ),
    ("unknown_weights", Level::Warning, "name d, which is no member. The members are a, b and c.", |c| {
        c.pools[1].unknown_weights = vec!["d".into()];
    }),
    ("unknown_weights", Level::Warning, "name d and e, which are no members. The members are", |c| {
        c.pools[1].unknown_weights = vec!["d".into(), "e".into()];
    }),
    ("failsafe", Level::Warning, "a says so", |c| c.members[0].failsafe = true),
    ("paused", Level::Warning, "nobody is promoted", |c| c.members[0].pause = true),
    ("discovery", Level::Warning, "cannot be read", |c| c.discovery_problem = Some("every node: 502".into())),
    ("no_login", Level::Warning, "b: it refuses the login of patroni.auth (status 401).", |c| {
        let (error, silence) =
            ("login: it refuses the login of patroni.auth (status 401)", SilenceKind::Login);
        let check = CheckView { error: Some(error.into()), silence: Some(silence), ..CheckView::default() };
        c.members[1].last_check = Some(check);
    }),
    ("flapping", Level::Warning, "changed 6 times within five minutes", |c| c.members[2].flips_5m = 6),
    ("lag_grows", Level::Warning, "grew from 1.0 MiB to 64.0 MiB within a minute", |c| {
        (c.members[1].lag_bytes, c.members[1].lag_bytes_1m_ago) = (Some(64 << 20), Some(1 << 20));
    }),
    ("slow_checks", Level::Warning, "They take 812 ms of late.", |c| {
        c.members[1].check_ms_mean = Some(812.4)
    }),
    ("withdrawn", Level::Advice, "b takes no new sessions: it is set to drain.", |c| {
        c.members[1].admin = "drain"
    }),
    ("old_sessions", Level::Advice, "4 sessions on b are older than the last failover.", |c| {
        c.members[1].outdated_sessions = 4
    }),
    ("one_sided", Level::Advice, "10 of 10 sessions, while 1 more can take readers.", |c| {
        (c.pools[1].members[0].sessions, c.pools[1].members[1].sessions) = (10, 0);
    }),
    ("idle_replicas", Level::Advice, "All traffic uses the primary port while b and c are idle.", |c| {
        c.pools[1].members.clear();
        (c.pools[1].sessions, c.pools[1].sessions_5m) = (0, 0.0);
    }),
    ("only_balancer", Level::Advice, "knows of no second balancer", |_| {}),
];

#[test]
fn each_finding_has_evidence_and_a_remedy_and_is_not_made_of_nothing() {
    for (code, level, said, change) in SEEN {
        let mut cluster = healthy();
        change(&mut cluster);
        let found = findings(&cluster, 600.0);
        let codes: Vec<&str> = found.iter().map(|finding| finding.code).collect();
        let expected = if code == "only_balancer" { vec![code] } else { vec![code, "only_balancer"] };
        assert_eq!(codes, expected);
        let all = format!("{} {}", found[0].what, found[0].evidence);
        assert!(all.contains(said) && found[0].level == level, "{code}: {all}");
        assert!(found[0].remedy.len() > 20 && all.contains(". "), "{code}: {:?}", found[0]);
    }
}

#[test]
fn what_is_within_bounds_is_not_a_finding() {
    let quiet: [fn(&mut ClusterView); 8] = [
        |c| c.members[1].flips_5m = 5,
        |c| c.members[1].check_ms_mean = Some(499.0),
        |c| (c.members[1].lag_bytes, c.members[1].lag_bytes_1m_ago) = (Some(17 << 20), Some(1 << 20)),
        |c| c.members[1].lag_bytes_1m_ago = None,
        // Seven sessions say nothing; nor do ten on the only reader.
        |c| (c.pools[1].sessions, c.pools[1].members[0].sessions, c.pools[1].members[1].sessions) = (7, 7, 0),
        |c| (c.pools[1].routable, c.pools[1].members[0].sessions) = (vec!["b".into()], 10),
        // Nobody there at all is not the application's mistake.
        |c| c.pools.iter_mut().for_each(|pool| (pool.sessions, pool.sessions_5m) = (0, 0.0)),
        // The leader keeps what it had as a reader: that is as it was set.
        |c| c.members[0].outdated_sessions = 3,
    ];
    for (number, change) in quiet.into_iter().enumerate() {
        let mut cluster = healthy();
        change(&mut cluster);
        let found = findings(&cluster, 600.0);
        assert_eq!(found.len(), 1, "case {number}: {found:?}");
    }
}

#[test]
fn a_young_process_does_not_judge_the_traffic() {
    let mut cluster = healthy();
    cluster.pools[1].members.clear();
    (cluster.pools[1].sessions, cluster.pools[1].sessions_5m) = (0, 0.0);
    assert_eq!(findings(&cluster, 10.0).len(), 1);
    assert_eq!(findings(&cluster, 600.0)[0].code, "idle_replicas");
}

#[test]
fn no_more_than_a_handful_and_the_urgent_ones_first() {
    let mut cluster = healthy();
    for (code, _, _, change) in SEEN {
        // These two take the sessions away that others are about.
        if !matches!(code, "idle_replicas" | "withdrawn") {
            change(&mut cluster);
        }
    }
    cluster.alarmed = vec![Alarm::OrphanPrimary("b".into()), Alarm::ForeignMember("c".into())];
    let found = findings(&cluster, 600.0);
    assert_eq!(found.len(), MOST);
    let levels: Vec<Level> = found.iter().map(|finding| finding.level).collect();
    assert!(levels.is_sorted() && levels[..2] == [Level::Critical; 2], "{levels:?}");
}
