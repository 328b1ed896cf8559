//! A real Prometheus with the shipped rules, while a leader stops and then everybody does; and the dashboard's questions.

use std::time::Instant;

use serde_json::Value;

use crate::application::{Application, make_table};
use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::prometheus::Prometheus;
use crate::wait::{seconds, tell, until, until_true};

const RULES: &str = include_str!("../../deploy/prometheus/pilotfish-rules.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/pilotfish.json");
const NO_WRITER: &str = "instance_cluster:pilotfish_no_writer:bool{cluster=\"e2e\"}";
/// As long as the rules have been evaluated once a second and found nothing.
const QUIET_EVALUATIONS: f64 = 15.0;

#[test]
fn alerts_rest_on_a_quiet_cluster_and_fire_while_nobody_can_lead() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let prometheus = Prometheus::watching(&balancer);
    make_table(balancer.primary());
    let (writer, reader) =
        (Application::writer(balancer.primary()), Application::visitor(balancer.replicas()));

    rules_have_values(&prometheus);
    let quiet = format!("count_over_time({NO_WRITER}[10m])");
    until_true("the rules were evaluated for a while", seconds(60), || {
        prometheus.number(&quiet).is_some_and(|count| count >= QUIET_EVALUATIONS)
    });
    assert_eq!(prometheus.query("count_over_time(ALERTS[10m])"), [], "an alert on a quiet cluster");

    let old = cluster.leader();
    cluster.tool(&["stop", &old]);
    writer.wait_on("writers go on");
    let new = balancer.writer().expect("a writer");
    assert_ne!(new, old);
    prometheus.wait_alert("PilotfishFailover", Some("firing"), seconds(30));
    let writers = prometheus.query("pilotfish_writer == 1");
    assert_eq!((writers.len(), &writers[0].0["member"]), (1, &Value::from(new.clone())));
    assert_eq!(prometheus.number("pilotfish_failovers_total"), Some(1.0));
    assert_eq!(
        prometheus.query("count_over_time(ALERTS{alertstate=\"firing\", severity=\"critical\"}[10m])"),
        []
    );
    the_dashboard_has_answers(&prometheus);

    let [last] = &cluster.others(&[&old, &new])[..] else { panic!("one more") };
    cluster.tool(&["stop", last]);
    let begun = Instant::now();
    cluster.tool(&["stop", &new]);
    prometheus.wait_alert("PilotfishNoWriter", Some("pending"), seconds(30));
    let pending = begun.elapsed();
    prometheus.wait_alert("PilotfishNoWriter", Some("firing"), seconds(60));
    prometheus.wait_alert("PilotfishClientsHeld", Some("firing"), seconds(60));
    tell("all nodes stopped", &[("no writer pending after", pending), ("firing after", begun.elapsed())]);
    assert_eq!(prometheus.number(NO_WRITER), Some(1.0));
    assert_eq!(prometheus.query("ALERTS{alertname=\"PilotfishMemberDown\"}").len(), 3);

    cluster.tool(&["up"]);
    prometheus.wait_alert("PilotfishNoWriter", None, seconds(60));
    until("every member is seen well again", seconds(60), || {
        match prometheus
            .query("ALERTS{alertname=~\"PilotfishMemberDown|PilotfishNoReaders|PilotfishClientsHeld\"}")
        {
            alerts if alerts.is_empty() => Ok(()),
            alerts => Err(alerts),
        }
    });
    assert_eq!(prometheus.number(NO_WRITER), Some(0.0));
    writer.finish();
    reader.finish();
}

/// Each name that is recorded has series after a while.
fn rules_have_values(prometheus: &Prometheus) {
    let records: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    assert!(records.len() >= 10);
    for record in records {
        until_true(record, seconds(30), || !prometheus.query(record).is_empty());
    }
    let rate = "sum(instance_cluster_pool:pilotfish_sessions:rate5m{pool=\"replicas\"})";
    until_true("sessions are counted", seconds(30), || {
        prometheus.number(rate).is_some_and(|rate| rate > 0.0)
    });
}

/// Whatever a panel asks for is there, but for what nobody has set up here.
fn the_dashboard_has_answers(prometheus: &Prometheus) {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut asked = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        let mut expression = target["expr"].as_str().expect("an expression").to_owned();
        for (variable, value) in [
            ("$instance", ".*"),
            ("$cluster", "e2e"),
            ("$pool", ".*"),
            ("$__rate_interval", "30s"),
            ("$__range", "10m"),
        ] {
            expression = expression.replace(variable, value);
        }
        let series = prometheus.query(&expression);
        let is_set_up = !expression.contains("certificate");
        assert_eq!(!series.is_empty(), is_set_up, "{expression}");
        asked += 1;
    }
    assert!(asked > 30);
}
