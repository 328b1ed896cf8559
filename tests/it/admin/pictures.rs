//! History and its pictures, for numbers made by hand.

use std::time::{Duration, Instant};

use pilotfish::admin::flow::{Flow, flow};
use pilotfish::admin::history::{ClusterSample, History, MemberSample, PoolSample};
use pilotfish::admin::ring::{COARSE, FINE, FOLDED, Fold, Series};
use pilotfish::admin::spark::{SMALL, Spark, WIDE, spark};
use pilotfish::admin::view::{ClusterView, MemberView, PoolMemberView, PoolView};
use pilotfish::routing::ClusterId;
use pilotfish::stats::MemberCounts;

#[test]
fn a_series_keeps_the_newest_in_full_and_folds_the_rest() {
    for (fold, last) in [(Fold::Greatest, 5999.0), (Fold::Mean, 5992.0), (Fold::Sum, 89_880.0)] {
        let mut series = Series::new(fold);
        for value in 0..6000 {
            series.push(f64::from(value));
        }
        let (fine, coarse): (Vec<f64>, Vec<f64>) = (series.fine().collect(), series.coarse().collect());
        assert_eq!((fine.len(), fine[0], fine[FINE - 1]), (FINE, 5700.0, 5999.0));
        assert_eq!((coarse.len(), coarse[COARSE - 1]), (COARSE, last), "{fold:?}");
        assert_eq!((series.ago(0), series.ago(60), series.ago(FINE)), (Some(5999.0), Some(5939.0), None));
    }
}

#[test]
fn what_is_not_known_is_not_folded_into_what_is() {
    let mut series = Series::new(Fold::Mean);
    let known = |step: usize| if step.is_multiple_of(3) { 6.0 } else { f64::NAN };
    (0..FOLDED).map(known).for_each(|value| series.push(value));
    (0..FOLDED).for_each(|_| series.push(f64::NAN));
    let coarse: Vec<f64> = series.coarse().collect();
    assert!(coarse[0] == 6.0 && coarse[1].is_nan(), "{coarse:?}");
}

#[test]
fn a_spark_is_right_aligned_scaled_to_its_peak_and_open_where_nothing_is_known() {
    assert_eq!(spark(std::iter::empty(), FINE, WIDE, Fold::Greatest), Spark::default());
    assert_eq!(spark([f64::NAN; 20].into_iter(), FINE, WIDE, Fold::Greatest), Spark::default());
    let flat = spark([0.0; FINE].into_iter(), FINE, WIDE, Fold::Greatest);
    assert!(
        flat.path.starts_with("M-1 40V39h1l2 0 2 0") && flat.path.ends_with(" 2 0h1V40"),
        "{}",
        flat.path
    );
    assert_eq!(flat.path.matches("2 0").count(), WIDE.points - 1);
    // Twenty values are two points, at the right.
    let short = [[1.0; 10], [2.0; 10]].concat();
    let short = spark(short.into_iter(), FINE, WIDE, Fold::Greatest);
    assert_eq!((short.peak, &*short.path), (2.0, "M55 40V20h1l2-19h1V40"));
    let small = spark([0.0; FINE].into_iter(), FINE, SMALL, Fold::Greatest);
    assert!(
        small.path.starts_with("M-1 20V19h1l3 0 3 0") && small.path.ends_with(" 3 0h1V20"),
        "{}",
        small.path
    );
    let gap = [[1.0; 10], [f64::NAN; 10], [1.0; 10]].concat();
    assert_eq!(spark(gap.into_iter(), FINE, WIDE, Fold::Greatest).path, "M53 40V1h1h1V40M57 40V1h1h1V40");
}

#[test]
fn a_full_history_of_ten_clusters_is_drawn_cheaply() {
    // Four of each of two pools, two of each of five members, ten times.
    const PICTURES: usize = 10 * (2 * 4 + 5 * 2);
    let mut series = Series::new(Fold::Greatest);
    (0..FINE).for_each(|step| series.push((step * 7919 % 1000) as f64));
    let draw = || {
        let begun = Instant::now();
        let bytes: usize = (0..PICTURES)
            .map(|_| spark(series.fine(), FINE, WIDE, Fold::Greatest))
            .map(|picture| picture.path.len())
            .sum();
        (begun.elapsed(), bytes)
    };
    let (fastest, bytes) = (0..10).map(|_| draw()).min().expect("ten rounds");
    println!("{PICTURES} pictures: {fastest:?}, {bytes} bytes");
    // Far below the aim of 5 ms for the whole page in a release build; tests are not optimised.
    assert!(fastest < Duration::from_millis(60), "{fastest:?}");
    assert!(bytes / PICTURES < 200, "{bytes} bytes");
}

fn sample(total: u64, bytes: u64, lag: Option<u64>, since: u64) -> ClusterSample {
    let counts = MemberCounts { active: 2, total, bytes_in: bytes, bytes_out: 2 * bytes, failed_dials: 0 };
    let member = MemberSample {
        name: "a".to_owned(),
        lag_bytes: lag,
        class_since: Duration::from_secs(since),
        check: Some(Duration::from_millis(8)),
        outdated_sessions: Some(1),
    };
    let pool =
        |name: &str| PoolSample { name: name.to_owned(), held: 3, members: vec![("a".to_owned(), counts)] };
    ClusterSample {
        pools: vec![pool("primary"), pool("replicas")],
        members: vec![member],
        ..ClusterSample::default()
    }
}

#[test]
fn rates_come_from_two_samples_and_the_time_between_them() {
    let mut history = History::default();
    history.take(Duration::from_secs(1), &[sample(100, 1_000_000, None, 5)]);
    history.take(Duration::from_secs(2), &[sample(110, 1_004_000, Some(7), 5)]);
    let cluster = history.cluster(ClusterId::default()).expect("a cluster");
    let pool = &cluster.pools[0];
    let started: Vec<f64> = pool.started_per_s.fine().collect();
    assert!(started[0].is_nan() && started[1] == 5.0, "no spike out of what was before: {started:?}");
    let out: Vec<f64> = pool.bytes_out_per_s.fine().collect();
    assert_eq!((out[1], pool.held.ago(0)), (4000.0, Some(3.0)));
    assert!(pool.rates.bytes_in_per_s > 0.0 && pool.links["a"].bytes_per_s() > 0.0);
    let member = &cluster.members["a"];
    assert_eq!(
        (member.sessions.ago(0), member.bytes_per_s.ago(0)),
        (Some(4.0), Some(12_000.0)),
        "both pools"
    );
    assert!(member.lag_bytes.ago(1).is_some_and(f64::is_nan) && member.lag_bytes.ago(0) == Some(7.0));
    assert_eq!((member.flips_lately(), member.outdated_sessions, member.check_ms), (0, 1, Some(8.0)));
}

#[test]
fn a_change_of_class_is_counted_and_who_left_is_forgotten() {
    let mut history = History::default();
    for since in [1, 1, 9, 9, 12] {
        history.take(Duration::from_secs(1), &[sample(0, 0, None, since)]);
    }
    assert_eq!(history.cluster(ClusterId::default()).expect("a cluster").members["a"].flips_lately(), 2);
    history.take(Duration::from_secs(1), &[ClusterSample::default()]);
    assert!(history.cluster(ClusterId::default()).expect("a cluster").members.is_empty());
}

/// Two pools and three members; the numbers are sessions and bytes per second of each link.
fn traffic(primary: &[(u64, f64)], replicas: &[(u64, f64)]) -> ClusterView {
    let members = ["a", "b", "c"].map(|name| MemberView { name: name.to_owned(), ..MemberView::default() });
    let pool = |name: &str, kind, links: &[(u64, f64)], routable: &[&str]| PoolView {
        name: name.to_owned(),
        kind,
        routable: routable.iter().map(ToString::to_string).collect(),
        clients: 3,
        members: links
            .iter()
            .zip(["a", "b", "c"])
            .map(|(&(sessions, bytes_in_per_s), name)| PoolMemberView {
                name: name.to_owned(),
                sessions,
                bytes_in_per_s,
                ..PoolMemberView::default()
            })
            .collect(),
        ..PoolView::default()
    };
    ClusterView {
        members: members.to_vec(),
        pools: vec![
            pool("primary", "primary", primary, &["a"]),
            pool("replicas", "replicas", replicas, &["b", "c"]),
        ],
        ..ClusterView::default()
    }
}

/// How wide each ribbon to a member is at its left end, by its ends.
fn widths(flow: &Flow) -> Vec<(String, f64)> {
    let width = |path: &str| {
        let end = path.rsplit_once("0 ").and_then(|(_, y)| y.trim_end_matches('Z').parse::<f64>().ok());
        let begin = path.strip_prefix("M0 ").and_then(|rest| rest.split_once('C')?.0.parse::<f64>().ok());
        ((end.expect("a number") - begin.expect("a number")) * 10.0).round() / 10.0
    };
    let ribbons = flow.to_members.iter().filter(|ribbon| !ribbon.is_empty);
    ribbons.map(|ribbon| (format!("{}-{}", ribbon.from, ribbon.to), width(&ribbon.path))).collect()
}

#[test]
fn a_ribbon_is_as_wide_as_its_share() {
    let wide = |flow: &Flow| widths(flow);
    let by_bytes = flow(&traffic(&[(1, 30_000.0)], &[(0, 0.0), (5, 5000.0), (5, 5000.0)]));
    assert_eq!(by_bytes.measure, "bytes");
    let expected = [("primary-a", 30.0), ("replicas-b", 5.0), ("replicas-c", 5.0)];
    assert_eq!(wide(&by_bytes), expected.map(|(name, width)| (name.to_owned(), width)));
    let by_sessions = flow(&traffic(&[(6, 100.0)], &[(0, 0.0), (1, 0.0), (1, 0.0)]));
    assert_eq!((by_sessions.measure, by_sessions.clients, by_sessions.height), ("sessions", 6, 192));
    let expected = [("primary-a", 30.0), ("replicas-b", 5.0), ("replicas-c", 5.0)];
    assert_eq!(wide(&by_sessions), expected.map(|(name, width)| (name.to_owned(), width)));
    let idle_session = flow(&traffic(&[(1, 90_000.0)], &[(0, 0.0), (1, 0.0)]));
    let thin = wide(&idle_session)[1].1;
    assert!((1.4..1.7).contains(&thin), "few is not nothing: {thin}");
}

#[test]
fn all_reads_on_the_leader_are_seen_and_told() {
    let flow = flow(&traffic(&[(1, 0.0)], &[(9, 0.0)]));
    assert_eq!(widths(&flow), [("primary-a".to_owned(), 4.0), ("replicas-a".to_owned(), 36.0)]);
    assert_eq!(flow.told, "primary to a: 1 sessions, 0 B a second; replicas to a: 9 sessions, 0 B a second.");
    let empty: Vec<&str> =
        flow.to_members.iter().filter(|ribbon| ribbon.is_empty).map(|ribbon| &*ribbon.to).collect();
    assert_eq!(empty, ["b", "c"], "where reads could go");
}

#[test]
fn nothing_at_all_is_drawn_without_a_number_that_is_none() {
    for cluster in [ClusterView::default(), traffic(&[], &[]), traffic(&[(0, 0.0)], &[(0, 0.0)])] {
        let flow = flow(&cluster);
        let paths = flow.to_pools.iter().chain(&flow.to_members);
        assert!(paths.clone().all(|ribbon| ribbon.is_empty && !ribbon.path.contains("NaN")), "{flow:?}");
        assert_eq!(flow.told, "Nothing flows.");
    }
}
