//! The names that dashboards and alerts for HAProxy use (Pigsty's, and the mixin of grafana/jsonnet-libs): each is told, or
//! is left out for a reason.

use std::collections::BTreeSet;
use std::time::Duration;

use pilotfish::admin::haproxy::memory::{Look, Memory, PoolLook};
use pilotfish::admin::haproxy::rows::{Facts, rows};
use pilotfish::admin::haproxy::{info, metrics};

use super::with_all_figures;

const USED: [(&str, &str); 4] = [
    (
        "process",
        "nbproc nbthread start_time_seconds current_connections current_connection_rate current_session_rate \
         max_connections idle_time_percent current_tasks current_run_queue jobs pool_allocated_bytes \
         connections_total requests_total",
    ),
    (
        "frontend",
        "status current_sessions max_sessions limit_sessions sessions_total bytes_in_total bytes_out_total \
         connections_total connections_rate_max max_session_rate limit_session_rate request_errors_total \
         requests_denied_total denied_connections_total denied_sessions_total",
    ),
    (
        "backend",
        "status active_servers backup_servers weight current_queue max_queue current_sessions max_sessions \
         limit_sessions sessions_total bytes_in_total bytes_out_total connection_errors_total \
         connection_attempts_total connection_reuses_total response_errors_total retry_warnings_total \
         redispatch_warnings_total check_up_down_total check_last_change_seconds downtime_seconds_total \
         loadbalanced_total client_aborts_total server_aborts_total last_session_seconds \
         queue_time_average_seconds connect_time_average_seconds response_time_average_seconds \
         total_time_average_seconds",
    ),
    (
        "server",
        "status check_status check_code check_duration_seconds check_failures_total check_up_down_total \
         check_last_change_seconds downtime_seconds_total weight active backup current_queue max_queue queue_limit \
         current_sessions max_sessions limit_sessions sessions_total bytes_in_total bytes_out_total \
         connection_errors_total response_errors_total retry_warnings_total redispatch_warnings_total \
         loadbalanced_total max_session_rate client_aborts_total server_aborts_total last_session_seconds \
         current_throttle queue_time_average_seconds connect_time_average_seconds response_time_average_seconds \
         total_time_average_seconds connection_attempts_total connection_reuses_total",
    ),
];

/// Of which there is no true figure: the objects, the name, and why.
const LEFT_OUT: [(&str, &str, &str); 14] = [
    ("process", "idle_time_percent", "workers sleep in the kernel; how long is not measured"),
    ("process", "pool_allocated_bytes", "there are no pools of memory"),
    ("process", "requests_total", "what sessions ask is not read"),
    ("backend", "limit_sessions", "a pool's limit is that of its front"),
    ("backend server", "response_errors_total", "what members say is not read"),
    ("backend server", "retry_warnings_total", "a failed dial is an error, whether another follows or not"),
    ("backend server", "redispatch_warnings_total", "the same"),
    ("backend server", "queue_time_average_seconds", "times are histograms, not moving averages"),
    ("backend server", "connect_time_average_seconds", "the same"),
    ("backend server", "response_time_average_seconds", "the same"),
    ("backend server", "total_time_average_seconds", "the same"),
    ("server", "current_queue max_queue", "the members of a pool share one queue"),
    ("server", "client_aborts_total", "ends are counted for the pool"),
    ("server", "server_aborts_total", "the same"),
];

fn named<'a>(lists: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<String> {
    let one = |(objects, names): (&'a str, &'a str)| {
        let of = move |object: &'a str| {
            names.split_whitespace().map(move |name| format!("haproxy_{object}_{name}"))
        };
        objects.split(' ').flat_map(of)
    };
    lists.into_iter().flat_map(one).collect()
}

#[test]
fn each_name_that_dashboards_use_is_told_or_left_out_for_a_reason() {
    let status = with_all_figures();
    let key = (Default::default(), "".into());
    let mut memory = Memory::default();
    let look = Look { up: true, total: 1, ..Look::default() };
    let looks = PoolLook { frontend: look, backend: look, servers: vec![("a".to_owned(), look)] };
    memory.take(Duration::ZERO, &[(key, looks)]);
    let algorithms = Default::default();
    let rows = rows(&status, &Facts { memory: &memory, now: Duration::ZERO, algorithms: &algorithms });
    let process = info::figures(&info::Process::default());
    let all: Vec<metrics::Series> =
        metrics::series(&rows).into_iter().chain(metrics::of_process(&process)).collect();
    let denied = all.iter().find(|series| series.name == "haproxy_frontend_denied_connections_total");
    assert_eq!(denied.map(|series| series.value), Some(5.0), "by allow, and by max_sessions_per_client");
    let told: BTreeSet<String> = all.into_iter().map(|series| series.name).collect();
    let (used, left_out) = (named(USED), named(LEFT_OUT.map(|(objects, names, _)| (objects, names))));
    let missing: BTreeSet<String> = used.difference(&told).cloned().collect();
    assert_eq!(missing, left_out);
}
