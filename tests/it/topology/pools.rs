//! Several pools of readers over the same members: each asks for something else, and remembers for itself.

use std::time::Duration;

use pilotfish::topology::health::Thresholds;
use pilotfish::topology::{
    Class, Cluster, Fate, Observation, ReaderCuts, ReaderRules, Report, Require, Role, Settings, SilenceKind,
    SyncState, Unfit,
};

use super::{member, silent};

const LEADER_POSITION: u64 = 1000;
const NAMES: [&str; 3] = ["a", "b", "c"];

fn cluster(pools: Vec<ReaderRules>) -> Cluster {
    let thresholds = Thresholds { fall: 3, rise: 2 };
    let settings = Settings { thresholds, leader_grace: Duration::from_secs(30), pools };
    Cluster::new(settings, NAMES.map(|name| member(name, name)).to_vec())
}

fn pool(name: &str) -> ReaderRules {
    ReaderRules { pool: name.to_owned(), fallback: true, ..ReaderRules::default() }
}

fn tags(tags: &[(&str, &str)]) -> Require {
    let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
    Require { tags, ..Require::default() }
}

/// `W` writes, `T` leads a standby cluster, `D` is stopped, `~` says nothing; `R` is a replica. Then marks: `-80` bytes
/// behind, `s` or `q` for its sync state, `r` tagged `reporting: true`.
fn said(cell: &str) -> Observation {
    let (status, role, state) = match cell.as_bytes()[0] {
        b'~' => return silent(SilenceKind::Timeout),
        b'W' => (200, Role::Primary, "running"),
        b'T' => (200, Role::StandbyLeader, "running"),
        b'R' => (503, Role::Replica, "running"),
        _ => (503, Role::Replica, "stopped"),
    };
    let (marks, lag) = cell.split_once('-').unwrap_or((cell, "0"));
    let sync = match marks {
        marks if marks.contains('s') => SyncState::Sync,
        marks if marks.contains('q') => SyncState::Quorum,
        _ => SyncState::Async,
    };
    let reporting = marks.contains('r').then(|| ("reporting".to_owned(), "true".to_owned()));
    Observation::Answered(Report {
        status,
        role,
        state: state.into(),
        timeline: Some(1),
        wal_position: Some(LEADER_POSITION - lag.parse::<u64>().expect("bytes behind")),
        sync,
        tags: reporting.into_iter().collect(),
        ..Report::default()
    })
}

/// One row after the other: what each node says, and `POOL=READERS` for each pool; a fallback stands in brackets.
fn check(pools: Vec<ReaderRules>, rows: &[(&str, &str)]) {
    let mut cluster = cluster(pools);
    for (second, (says, expected)) in (0..).zip(rows) {
        let now = Duration::from_secs(second);
        for (name, cell) in NAMES.iter().zip(says.split_whitespace()) {
            cluster.observe(now, name, said(cell));
        }
        let decision = cluster.decide(now);
        let of = |pool: &pilotfish::topology::ReaderPool| match (&pool.readers[..], &pool.fallback) {
            ([], Some(fallback)) => format!("{}=({fallback})", pool.pool),
            (readers, _) => format!("{}={}", pool.pool, readers.join(",")),
        };
        let decided: Vec<String> = decision.pools.iter().map(of).collect();
        assert_eq!(decided.join(" "), *expected, "row {second}: {says}");
    }
}

#[test]
fn too_far_behind_for_one_pool_a_replica_may_serve_another() {
    let fresh = ReaderRules { max_lag: Some(100), ..pool("fresh") };
    let old = ReaderRules { max_lag: Some(500), fallback: false, ..pool("old") };
    check(
        vec![fresh, old],
        &[
            ("W R R", "fresh=b,c old=b,c"),
            ("W R R-101", "fresh=b old=b,c"),
            ("W R R-501", "fresh=b old=b"),
            // Back at three quarters of each limit, after two good checks.
            ("W R R-300", "fresh=b old=b"),
            ("W R R-300", "fresh=b old=b,c"),
            ("W D R-75", "fresh=(a) old=c"),
            ("W D R-75", "fresh=c old=c"),
            ("W D D", "fresh=(a) old="),
        ],
    );
}

#[test]
fn lagging_is_what_a_member_is_when_it_is_so_for_every_pool() {
    let pools = [100, 500].map(|lag| ReaderRules { max_lag: Some(lag), ..pool(&format!("p{lag}")) });
    let mut cluster = cluster(pools.into());
    for (lag, class) in [("R-50", Class::Reader), ("R-200", Class::Reader), ("R-600", Class::Standby)] {
        for (name, cell) in [("a", "W"), ("c", "R")] {
            cluster.observe(Duration::ZERO, name, said(cell));
        }
        cluster.decide(Duration::ZERO);
        cluster.observe(Duration::ZERO, "b", said(lag));
        assert_eq!(cluster.member("b").map(|tracked| tracked.class), Some(class), "{lag}");
    }
}

#[test]
fn a_pool_may_require_tags() {
    let reporting = ReaderRules { require: tags(&[("reporting", "true")]), ..pool("reporting") };
    check(
        vec![pool("all"), reporting],
        &[
            ("W R Rr", "all=b,c reporting=c"),
            ("W R R", "all=b,c reporting=(a)"),
            ("W R Rr", "all=b,c reporting=(a)"),
            ("W R Rr", "all=b,c reporting=c"),
            ("W R ~", "all=b,c reporting=c"),
            ("W R ~", "all=b,c reporting=c"),
            ("W R ~", "all=b reporting=(a)"),
        ],
    );
}

#[test]
fn a_pool_may_require_a_sync_state() {
    let of = |name: &str, sync: &[SyncState]| {
        let require = Require { sync: sync.to_vec(), ..Require::default() };
        ReaderRules { require, ..pool(name) }
    };
    use SyncState::{Async, Quorum, Sync};
    let pools = vec![of("s", &[Sync]), of("q", &[Quorum]), of("a", &[Async]), of("sq", &[Sync, Quorum])];
    check(
        pools,
        &[
            ("W Rs Rq", "s=b q=c a=(a) sq=b,c"),
            ("W R Rs", "s=(a) q=(a) a=(a) sq=c"),
            ("W R Rs", "s=c q=(a) a=b sq=c"),
        ],
    );
}

#[test]
fn the_primary_may_be_one_of_the_readers() {
    let with = ReaderRules { include_primary: true, max_lag: Some(100), fallback: false, ..pool("with") };
    let tagged =
        ReaderRules { require: tags(&[("reporting", "true")]), pool: "tagged".into(), ..with.clone() };
    check(
        vec![with, tagged],
        &[
            ("W R Rr", "with=a,b,c tagged=c"),
            ("Wr R D", "with=a,b tagged=a"),
            ("T R D", "with=a,b tagged="),
            ("D R D", "with=b tagged="),
        ],
    );
}

#[test]
fn each_pool_says_why_and_what_becomes_of_open_sessions() {
    let cuts = ReaderCuts { lagging: true, ..ReaderCuts::default() };
    let fresh = ReaderRules { max_lag: Some(100), cuts, ..pool("fresh") };
    let reporting = ReaderRules { require: tags(&[("reporting", "true")]), ..pool("reporting") };
    let mut cluster = cluster(vec![fresh, reporting]);
    let mut now = Duration::ZERO;
    for cells in ["W R Rr", "W R-200 ~"] {
        now += Duration::from_secs(1);
        NAMES.iter().zip(cells.split(' ')).for_each(|(name, cell)| cluster.observe(now, name, said(cell)));
        cluster.decide(now);
    }
    cluster.suspect("c");
    let decision = cluster.decide(now);
    let verdict = |pool: &str, name: &str| {
        let verdict = decision.pool(pool).expect("a pool").verdicts[name];
        (verdict.unfit, verdict.fate)
    };
    assert_eq!(verdict("fresh", "b"), (Some(Unfit::Lagging), Fate::Withdrawn));
    assert_eq!(verdict("reporting", "b"), (Some(Unfit::Tags), Fate::Keep));
    assert_eq!(verdict("fresh", "c"), (Some(Unfit::Suspect), Fate::Keep));
    assert_eq!(verdict("fresh", "a"), (Some(Unfit::Class), Fate::Keep));
}

#[test]
fn a_return_has_its_time_and_a_first_coming_has_none() {
    let mut cluster = cluster(vec![pool("all")]);
    let mut back = Vec::new();
    for (second, cell) in (0..).zip(["R", "D", "R", "R", "R"]) {
        let now = Duration::from_secs(second);
        NAMES.iter().zip(["W", cell, "R"]).for_each(|(name, cell)| cluster.observe(now, name, said(cell)));
        back.push(cluster.decide(now).pools[0].verdicts["b"].back_since.map(|at| at.as_secs()));
    }
    assert_eq!(back, [None, None, None, Some(3), Some(3)]);
}
