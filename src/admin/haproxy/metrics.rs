//! HAProxy's names of its figures for Prometheus, for dashboards and alerts that were made for it.
//!
//! A column becomes a metric of fronts (`haproxy_frontend_…`), backends (`haproxy_backend_…`) or servers
//! (`haproxy_server_…`); an empty one becomes none. Times are in seconds. A state is one series for each that there can
//! be, 0 or 1. (Source: addons/promex of HAProxy 2.6.)

use super::check::STATES;
use super::field::Field;
use super::info::Figure;
use super::row::{Object, Row, Value};

/// One series of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Series<'a> {
    pub name: String,
    pub help: &'static str,
    pub counter: bool,
    pub labels: Vec<(&'static str, &'a str)>,
    pub value: f64,
}

/// A column's name behind `haproxy_OBJECT_`, of which objects it is told (front, backend, server), and by what its values
/// are divided.
struct Metric {
    field: Field,
    name: &'static str,
    of: &'static str,
    divisor: f64,
    help: &'static str,
}

const fn metric(field: Field, name: &'static str, of: &'static str, help: &'static str) -> Metric {
    Metric { field, name, of, divisor: 1.0, help }
}

const METRICS: &[Metric] = &[
    metric(Field::Qcur, "current_queue", "bs", "Clients that wait."),
    metric(Field::Qmax, "max_queue", "bs", "The most clients that waited at one look."),
    metric(Field::Scur, "current_sessions", "fbs", "Open sessions."),
    metric(Field::Smax, "max_sessions", "fbs", "The most sessions that were open at one look."),
    metric(Field::Slim, "limit_sessions", "fbs", "Sessions that may be open."),
    metric(Field::Stot, "sessions_total", "fbs", "Sessions that have begun."),
    metric(Field::Bin, "bytes_in_total", "fbs", "Bytes from clients."),
    metric(Field::Bout, "bytes_out_total", "fbs", "Bytes to clients."),
    metric(
        Field::Ereq,
        "request_errors_total",
        "f",
        "Clients that did not say what they want, or not in PostgreSQL's protocol.",
    ),
    metric(Field::RateLim, "limit_session_rate", "f", "Always 0: no limit."),
    metric(
        Field::Dcon,
        "denied_connections_total",
        "f",
        "Clients that may not come in, or not with so many sessions.",
    ),
    metric(Field::Dses, "denied_sessions_total", "f", "Always 0: who is denied counts as a connection."),
    metric(Field::Dreq, "requests_denied_total", "f", "Always 0: who is denied counts as a connection."),
    metric(Field::Econ, "connection_errors_total", "bs", "Dials that failed."),
    metric(Field::Weight, "weight", "bs", "Weight in force."),
    metric(Field::Uweight, "uweight", "bs", "Weight as it is set."),
    metric(Field::Act, "active_servers", "b", "Members that take new sessions."),
    metric(Field::Bck, "backup_servers", "b", "Members that stand in for others."),
    metric(Field::Act, "active", "s", "1 unless the member stands in for others."),
    metric(Field::Bck, "backup", "s", "1 when the member stands in for others."),
    metric(Field::Chkfail, "check_failures_total", "s", "Checks without an answer."),
    metric(Field::Chkdown, "check_up_down_total", "bs", "How often it went down."),
    metric(Field::Lastchg, "check_last_change_seconds", "bs", "Since it last went up or down."),
    metric(Field::Downtime, "downtime_seconds_total", "bs", "How long it was down."),
    metric(Field::Throttle, "current_throttle", "s", "How much of a rising weight counts, in percent."),
    metric(Field::Qlimit, "queue_limit", "s", "Clients that may wait."),
    metric(Field::Lbtot, "loadbalanced_total", "bs", "Sessions that were placed."),
    metric(Field::RateMax, "max_session_rate", "fbs", "The most sessions that began in one second."),
    metric(Field::ConnRateMax, "connections_rate_max", "f", "The most connections in one second."),
    metric(Field::ConnTot, "connections_total", "f", "Connections that clients have made."),
    metric(Field::CheckCode, "check_code", "s", "Status of the last check."),
    Metric {
        field: Field::CheckDuration,
        name: "check_duration_seconds",
        of: "s",
        divisor: 1000.0,
        help: "How long the last check took.",
    },
    metric(Field::CliAbrt, "client_aborts_total", "bs", "Sessions that broke on the client's side."),
    metric(Field::SrvAbrt, "server_aborts_total", "bs", "Sessions that broke on the member's side."),
    metric(Field::Lastsess, "last_session_seconds", "bs", "Since the last session began."),
    metric(Field::Connect, "connection_attempts_total", "bs", "Dials."),
    metric(
        Field::Reuse,
        "connection_reuses_total",
        "bs",
        "Always 0: each session has a connection of its own.",
    ),
];

/// A figure of `show info`, and its name behind `haproxy_process_`.
const PROCESS: &[(&str, &str, &str)] = &[
    ("Nbthread", "nbthread", "Workers."),
    ("Nbproc", "nbproc", "Processes: always 1."),
    ("Process_num", "relative_process_id", "Always 1."),
    ("Uptime_sec", "uptime_seconds", "Since the start of the process."),
    ("Ulimit-n", "max_fds", "File descriptors that may be open."),
    ("Maxsock", "max_sockets", "The same."),
    ("Maxconn", "max_connections", "Sessions that may be open at once."),
    ("Hard_maxconn", "hard_max_connections", "The same."),
    ("CurrConns", "current_connections", "Open sessions."),
    ("CumConns", "connections_total", "Connections that clients have made."),
    ("CurrSslConns", "current_ssl_connections", "Always 0: TLS goes through untouched."),
    ("CumSslConns", "ssl_connections_total", "Always 0: TLS goes through untouched."),
    ("ConnRate", "current_connection_rate", "Connections in the last second."),
    ("ConnRateLimit", "limit_connection_rate", "Always 0: no limit."),
    ("MaxConnRate", "max_connection_rate", "The most connections in one second."),
    ("SessRate", "current_session_rate", "Connections in the last second."),
    ("SessRateLimit", "limit_session_rate", "Always 0: no limit."),
    ("MaxSessRate", "max_session_rate", "The most connections in one second."),
    ("Tasks", "current_tasks", "Open sessions."),
    ("Run_queue", "current_run_queue", "Always 0: who has news is served in the same turn."),
    ("Stopping", "stopping", "1 once the process has been told to stop."),
    ("Jobs", "jobs", "Open sessions and listeners."),
    ("Unstoppable Jobs", "unstoppable_jobs", "Always 0."),
    ("Listeners", "listeners", "Addresses that clients may come to."),
    ("ActivePeers", "active_peers", "Always 0: there are none."),
    ("ConnectedPeers", "connected_peers", "Always 0: there are none."),
    ("TotalBytesOut", "bytes_out_total", "Bytes to clients."),
    ("BytesOutRate", "bytes_out_rate", "Bytes to clients in a second."),
    ("Start_time_sec", "start_time_seconds", "Unix time of the start."),
];

/// All series of the process.
pub fn of_process(figures: &[Figure]) -> Vec<Series<'_>> {
    let value =
        |wanted: &str| figures.iter().find(|figure| figure.name == wanted).map(|figure| &figure.value);
    let mut all = Vec::new();
    for &(figure, name, help) in PROCESS {
        if let Some(Value::Number(number)) = value(figure) {
            let (name, counter) = (format!("haproxy_process_{name}"), name.ends_with("_total"));
            all.push(Series { name, help, counter, labels: Vec::new(), value: *number as f64 });
        }
    }
    if let Some(Value::Text(version)) = value("Version") {
        let (name, labels) = ("haproxy_process_build_info".to_owned(), vec![("version", &**version)]);
        all.push(Series { name, help: "Always 1.", counter: false, labels, value: 1.0 });
    }
    all
}

/// States of a server that HAProxy tells, in its order.
const SERVER_STATES: [&str; 5] = ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];
/// States of a front or a backend.
const STATES_OF_ALL: [&str; 2] = ["DOWN", "UP"];

/// All series of these rows.
pub fn series(rows: &[Row]) -> Vec<Series<'_>> {
    rows.iter().flat_map(of_row).collect()
}

fn of_row(row: &Row) -> Vec<Series<'_>> {
    let (object, letter) = match row.object {
        Object::Frontend => ("frontend", 'f'),
        Object::Backend => ("backend", 'b'),
        Object::Server => ("server", 's'),
    };
    let mut labels = vec![("proxy", row.text_in(Field::Pxname))];
    if row.object == Object::Server {
        labels.push(("server", row.text_in(Field::Svname)));
    }
    let told = METRICS.iter().filter(|metric| metric.of.contains(letter));
    let told = told.filter_map(|metric| {
        // HAProxy says -1 for never, which is no age.
        let number = row.number_in(metric.field).filter(|number| *number >= 0)?;
        Some(Series {
            name: format!("haproxy_{object}_{}", metric.name),
            help: metric.help,
            counter: metric.name.ends_with("_total"),
            labels: labels.clone(),
            value: number as f64 / metric.divisor,
        })
    });
    let mut all: Vec<Series<'_>> = told.collect();
    let states: &[&str] = if row.object == Object::Server { &SERVER_STATES } else { &STATES_OF_ALL };
    let status = match row.text_in(Field::Status) {
        "OPEN" => "UP",
        "STOP" => "DOWN",
        status => status.split(' ').next().unwrap_or(status),
    };
    all.extend(states.iter().map(|state| one_of(object, "status", &labels, state, status)));
    if row.get(Field::CheckStatus).is_some() {
        let status = row.text_in(Field::CheckStatus);
        all.extend(STATES.iter().map(|state| one_of(object, "check_status", &labels, state, status)));
    }
    all
}

fn one_of<'a>(
    object: &str,
    name: &str,
    labels: &[(&'static str, &'a str)],
    state: &'static str,
    is: &str,
) -> Series<'a> {
    Series {
        name: format!("haproxy_{object}_{name}"),
        help: "1 for the state that it is in.",
        counter: false,
        labels: [labels, &[("state", state)]].concat(),
        value: f64::from(u8::from(state == is)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_series_for_each_and_what_is_not_known_is_none() {
        let mut row = Row::new(Object::Server);
        row.text(Field::Pxname, "primary");
        row.text(Field::Svname, "a");
        row.text(Field::Status, "UP 2/3");
        row.number(Field::CheckDuration, 250);
        row.number(Field::Lastsess, -1);
        let rows = [row];
        let all = series(&rows);
        let told: Vec<String> = all.iter().map(|s| format!("{} {}", s.name, s.value)).collect();
        assert!(told.contains(&"haproxy_server_check_duration_seconds 0.25".to_owned()), "{told:?}");
        let states: Vec<f64> =
            all.iter().filter(|s| s.name == "haproxy_server_status").map(|s| s.value).collect();
        assert_eq!(states, [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert!(
            !told.iter().any(|line| line.contains("last_session") || line.contains("check_status")),
            "{told:?}"
        );
    }
}
