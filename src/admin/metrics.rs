//! `/metrics` in Prometheus' text format, made from the counters at each scrape.
//!
//! Base units; labels are `cluster`, `pool`, `member` and closed sets of words, never a client. The only file that
//! names prometheus.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::usage::Usage;
use super::view::{self, ClusterView, PoolView, StatusView};
use super::{PoolSource, Sources, haproxy};
use crate::control::ClusterPicture;
use crate::routing::Kind;
use crate::stats::{End, Part, Snapshot};
use crate::topology::{Class, Condition, Operator};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition text of this moment, with HAProxy's names beside our own if `as_haproxy`.
///
/// # Errors
/// When the encoder refuses a name or value.
pub fn encode(sources: &Sources, as_haproxy: bool) -> Result<String, prometheus::Error> {
    let status = view::status(sources);
    let mut page = Page::default();
    process(&mut page, &status);
    resources(&mut page, sources);
    reloads(&mut page, sources);
    upgrades(&mut page, sources);
    entrance(&mut page, sources);
    for cluster in &status.clusters {
        describe_cluster(&mut page, cluster);
        for pool in &cluster.pools {
            describe_pool(&mut page, cluster, pool);
        }
    }
    for picture in sources.pictures.all() {
        describe_checks(&mut page, &picture);
    }
    for source in &sources.served.load().pools {
        let cluster = status.clusters.iter().find(|cluster| cluster.id == source.pool.options.cluster);
        cluster.into_iter().for_each(|cluster| describe_durations(&mut page, cluster, source));
    }
    if as_haproxy {
        describe_as_haproxy(&mut page, &status, sources);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What Prometheus' own clients tell of a process, by their names. What the system does not tell is left out.
fn resources(page: &mut Page, sources: &Sources) {
    let usage = Usage::read();
    let gauges: [(&str, &str, Option<f64>); 4] = [
        ("process_open_fds", "Open file descriptors.", usage.open_files.map(|files| files as f64)),
        ("process_max_fds", "File descriptors that may be open.", usage.max_files.map(|files| files as f64)),
        ("process_resident_memory_bytes", "Memory in use.", usage.resident_bytes.map(|bytes| bytes as f64)),
        ("process_start_time_seconds", "Unix time of the start.", unix_s(sources.started_at)),
    ];
    for (name, help, value) in gauges {
        value.into_iter().for_each(|value| page.gauge(name, help, &[], value));
    }
    if let Some(seconds) = usage.cpu_seconds {
        page.counter("process_cpu_seconds_total", "Processor time, of user and system.", &[], seconds);
    }
}

fn reloads(page: &mut Page, sources: &Sources) {
    let reloads = sources.reload.past();
    let help = "Reloads of the configuration; a rejected one has changed nothing.";
    for (result, count) in [("applied", reloads.applied), ("rejected", reloads.rejected)] {
        page.counter("pilotfish_reloads_total", help, &[("result", result)], count as f64);
    }
    let help = "0 when the last reload was rejected; 1 without any.";
    page.gauge("pilotfish_last_reload_successful", help, &[], flag(!reloads.last_was_rejected));
    if let Some(at) = unix_s(reloads.last_at.unwrap_or(sources.started_at)) {
        let help = "Unix time of the last reload, or of the start.";
        page.gauge("pilotfish_last_reload_seconds", help, &[], at);
    }
}

fn upgrades(page: &mut Page, sources: &Sources) {
    let past = sources.upgrade.past();
    let help = "Upgrades of the program; after a failed one the former process has gone on.";
    for (result, count) in [("done", past.done), ("failed", past.failed)] {
        page.counter("pilotfish_upgrades_total", help, &[("result", result)], count as f64);
    }
    let help = "0 when the last upgrade failed; 1 without any.";
    page.gauge("pilotfish_last_upgrade_successful", help, &[], flag(past.problem.is_none()));
    let draining: usize = sources.upgrade.draining().iter().map(|draining| draining.sessions).sum();
    let help = "Open sessions of the processes before this one, which drain after an upgrade.";
    page.gauge("pilotfish_draining_sessions", help, &[], draining as f64);
}

/// `None` before 1970.
fn unix_s(time: SystemTime) -> Option<f64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// Who was not let in, and until when the certificate holds.
fn entrance(page: &mut Page, sources: &Sources) {
    let (wrong, throttled) = sources.gate.failures();
    let help = "Logins that were refused: wrong, or not looked at since there were too many.";
    for (reason, count) in [("wrong", wrong), ("throttled", throttled)] {
        page.counter("pilotfish_admin_login_failures_total", help, &[("reason", reason)], count as f64);
    }
    if let Some(certificates) = &sources.served.load().certificates {
        page.gauge(
            "pilotfish_certificate_not_after_seconds",
            "Unix time at which the certificate of the admin side ends.",
            &[],
            certificates.not_after() as f64,
        );
    }
}

fn process(page: &mut Page, status: &StatusView) {
    page.gauge(
        "pilotfish_build_info",
        "Always 1; the version is the label.",
        &[("version", status.version)],
        1.0,
    );
    page.gauge("pilotfish_uptime_seconds", "Since the start of the process.", &[], status.uptime_s);
    page.gauge(
        "pilotfish_ready",
        "1 when every cluster has been decided at least once.",
        &[],
        flag(status.ready),
    );
    for part in Part::ALL {
        let help = "Faults of pilotfish itself, by the part that one was caught in; it goes on.";
        let labels = &[("part", part.as_str())];
        page.counter("pilotfish_panics_total", help, labels, status.panics.of(part) as f64);
    }
    page.gauge(
        "pilotfish_max_sessions",
        "Sessions that may be open at once.",
        &[],
        status.max_sessions as f64,
    );
}

fn describe_cluster(page: &mut Page, cluster: &ClusterView) {
    let labels = &[("cluster", cluster.name.as_str())][..];
    page.gauge("pilotfish_table_epoch", "Counts the cluster's routing tables.", labels, cluster.epoch as f64);
    page.counter(
        "pilotfish_failovers_total",
        "How often a writer was followed by another.",
        labels,
        cluster.failovers as f64,
    );
    let help = "1 while the certificates or the password in the files for Patroni cannot be used, and older ones are.";
    let is_stale = cluster.credentials_problem.is_some();
    page.gauge("pilotfish_patroni_credentials_stale", help, labels, flag(is_stale));
    let claiming = cluster.members.iter().filter(|member| member.class == Class::Writer.as_str()).count();
    page.gauge("pilotfish_writers_claiming", "Members that claim to be the writer.", labels, claiming as f64);
    for condition in Condition::ALL.map(Condition::as_str) {
        let labels = &[("cluster", cluster.name.as_str()), ("condition", condition)];
        let help = "1 for the condition that the cluster is in.";
        page.gauge("pilotfish_condition", help, labels, flag(condition == cluster.condition));
    }
    describe_incidents(page, cluster);
    describe_members(page, cluster);
}

fn describe_members(page: &mut Page, cluster: &ClusterView) {
    for member in &cluster.members {
        let labels = &[("cluster", cluster.name.as_str()), ("member", member.name.as_str())][..];
        let is_writer = cluster.writer.as_ref() == Some(&member.name);
        page.gauge("pilotfish_writer", "1 for the member that takes new writers.", labels, flag(is_writer));
        if let Some(lag) = member.lag_bytes {
            page.gauge("pilotfish_member_lag_bytes", "WAL behind the leader.", labels, lag as f64);
        }
        if let Some(timeline) = member.timeline {
            page.gauge("pilotfish_member_timeline", "As the member last said.", labels, f64::from(timeline));
        }
        if let Some(check) = &member.last_check {
            page.gauge("pilotfish_check_age_seconds", "Since the last check.", labels, check.ago_s);
        }
        for class in Class::ALL.map(Class::as_str) {
            let labels = &[labels, &[("class", class)]].concat();
            let help = "1 for the class that the member is in.";
            page.gauge("pilotfish_member_class", help, labels, flag(class == member.class));
        }
        for state in Operator::ALL.map(Operator::as_str) {
            let labels = &[labels, &[("state", state)]].concat();
            let help = "1 for the state that an operator has set.";
            page.gauge("pilotfish_member_admin", help, labels, flag(state == member.admin));
        }
    }
}

fn describe_incidents(page: &mut Page, cluster: &ClusterView) {
    let labels = [("cluster", cluster.name.as_str())];
    let totals = &cluster.incident_totals;
    let open = cluster.incidents.first().is_some_and(|incident| incident.ongoing);
    let help = "Losses of the writer, each from its first sign to the first session afterwards.";
    page.counter("pilotfish_incidents_total", help, &labels, totals.incidents as f64);
    page.gauge("pilotfish_incident_open", "1 while a loss of the writer lasts.", &labels, flag(open));
    let help = "How long no member was routed for writes, since the first writer was found.";
    page.counter("pilotfish_without_writer_seconds_total", help, &labels, totals.without_writer_s);
    let help = "Clients of the primary pool that a loss of the writer touched, by what became of them.";
    for (outcome, count) in
        [("held", totals.held), ("cut", totals.cut), ("broken", totals.broken), ("failed", totals.failed)]
    {
        let labels = &[&labels[..], &[("outcome", outcome)]].concat();
        page.counter("pilotfish_incident_clients_total", help, labels, count as f64);
    }
}

fn describe_pool(page: &mut Page, cluster: &ClusterView, pool: &PoolView) {
    let of_pool = [("cluster", cluster.name.as_str()), ("pool", pool.name.as_str())];
    page.gauge(
        "pilotfish_clients",
        "Connected clients, held ones among them.",
        &of_pool,
        pool.clients as f64,
    );
    page.gauge("pilotfish_held", "Clients that wait for a member.", &of_pool, pool.held as f64);
    let queued = pool.queued as f64;
    page.gauge(
        "pilotfish_queued",
        "Clients that wait for room, since all members are full.",
        &of_pool,
        queued,
    );
    for (limit, value) in [
        ("max_sessions", pool.limits.max_sessions),
        ("max_sessions_per_member", pool.limits.max_sessions_per_member),
        ("max_sessions_per_client", pool.limits.max_sessions_per_client),
        ("max_queued", pool.limits.max_queued),
    ] {
        if let Some(value) = value {
            let labels = &[&of_pool[..], &[("limit", limit)]].concat();
            page.gauge("pilotfish_limit", "The limits that are set, by their keys.", labels, value as f64);
        }
    }
    let routable = pool.routable.len() as f64;
    page.gauge("pilotfish_routable_members", "Members that take new sessions.", &of_pool, routable);
    if pool.kind == Kind::Replicas.as_str() {
        let help = "1 while the leader stands in for readers; pools of replicas only.";
        page.gauge("pilotfish_fallback_in_use", help, &of_pool, flag(pool.fallback_in_use));
    }
    for end in End::ALL.map(End::as_str) {
        let count = pool.ends.iter().find(|counted| counted.cause == end).map_or(0, |counted| counted.count);
        let labels = &[&of_pool[..], &[("cause", end)]].concat();
        page.counter("pilotfish_session_ends_total", "Ended sessions by cause.", labels, count as f64);
    }
    for member in &pool.members {
        let labels = &[&of_pool[..], &[("member", member.name.as_str())]].concat();
        page.gauge("pilotfish_sessions_active", "Sessions on the member.", labels, member.sessions as f64);
        let weight = f64::from(member.weight.unwrap_or(0));
        page.gauge("pilotfish_member_weight", "Its share of new sessions; 0 for none.", labels, weight);
        let total = member.sessions_total as f64;
        page.counter("pilotfish_sessions_total", "Sessions that the member has taken.", labels, total);
        let failed = member.failed_dials as f64;
        page.counter("pilotfish_failed_dials_total", "Dials of the member that failed.", labels, failed);
        for (direction, bytes) in [("in", member.bytes_in), ("out", member.bytes_out)] {
            let labels = &[&labels[..], &[("direction", direction)]].concat();
            let help = "Relayed bytes: in is from clients to the member.";
            page.counter("pilotfish_bytes_total", help, labels, bytes as f64);
        }
    }
}

fn describe_checks(page: &mut Page, cluster: &ClusterPicture) {
    let help = "How long checks of the member took, those without an answer too.";
    for member in &cluster.members {
        let labels = [("cluster", &*cluster.name), ("member", member.member.name.as_str())];
        page.histogram("pilotfish_check_duration_seconds", help, &labels, &member.checks.seconds.snapshot());
    }
}

fn describe_durations(page: &mut Page, cluster: &ClusterView, source: &PoolSource) {
    let labels = [("cluster", cluster.name.as_str()), ("pool", &*source.pool.options.name)];
    let stats = &source.pool.stats;
    let help = "How long clients waited for a member.";
    page.histogram("pilotfish_hold_seconds", help, &labels, &stats.hold_seconds.snapshot());
    let help = "How long clients waited for room on a member.";
    page.histogram("pilotfish_queue_seconds", help, &labels, &stats.queue.seconds.snapshot());
    let help = "How long dials of members took, failed ones too.";
    page.histogram("pilotfish_connect_seconds", help, &labels, &stats.connect_seconds.snapshot());
}

fn describe_as_haproxy(page: &mut Page, status: &StatusView, sources: &Sources) {
    let rows = haproxy::rows_of(sources, status);
    let figures = haproxy::show::figures_of(sources, status, &rows);
    let process = haproxy::metrics::of_process(&figures);
    for series in process.iter().chain(&haproxy::metrics::series(&rows)) {
        let haproxy::metrics::Series { name, help, counter, labels, value } = series;
        match counter {
            true => page.counter(name, help, labels, *value),
            false => page.gauge(name, help, labels, *value),
        }
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// Metric families in the order of their first mention.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.family(name, help, MetricType::GAUGE).mut_metric().push(metric);
    }

    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.family(name, help, MetricType::COUNTER).mut_metric().push(metric);
    }

    fn histogram(&mut self, name: &str, help: &str, labels: &[(&str, &str)], snapshot: &Snapshot) {
        let bucket = |&(bound, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_sample_count(snapshot.count);
        histogram.set_sample_sum(snapshot.sum_seconds);
        histogram.set_bucket(snapshot.cumulative.iter().map(bucket).collect());
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM).mut_metric().push(metric);
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> &mut MetricFamily {
        let known = self.families.iter().position(|family| family.name() == name);
        let index = known.unwrap_or_else(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            self.families.push(family);
            self.families.len() - 1
        });
        &mut self.families[index]
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
