//! Where log lines go and what they look like.
//!
//! Standard error, as text on a terminal and as JSON otherwise. A thread of its own writes them: a reader that stalls
//! costs lines, never a session.

use std::fmt;
use std::io::{IsTerminal, stderr};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use super::faults;
use crate::app::TCPLOG;
use crate::config::{Log, LogFormat, LogLevel};

/// Lines that wait for a slow reader; more are dropped.
const BUFFERED_LINES: usize = 50_000;

/// Starts logging; what is buffered is written when the guard goes.
pub fn init(log: &Log) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(BUFFERED_LINES).finish(stderr());
    let is_terminal = stderr().is_terminal();
    let json = matches!(log.format, LogFormat::Json) || log.format == LogFormat::Auto && !is_terminal;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_target(false);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(is_terminal).boxed()
    };
    let haproxys = (log.format == LogFormat::Tcplog).then(|| {
        tracing_subscriber::fmt::layer().with_writer(writer).event_format(Bare).with_filter(only_ends(log))
    });
    tracing_subscriber::registry().with(lines.with_filter(all_but_ends(log))).with(haproxys).init();
    faults::log_panics();
    guard
}

/// Where session ends are logged, in words.
const ENDS: &str = "pilotfish::proxy::sessions";

/// Libraries speak up only when something is wrong; what this one has to say, control says in fewer words.
fn all_but_ends(log: &Log) -> Targets {
    let level = level(log.level);
    let ends = if log.format == LogFormat::Tcplog { level.min(LevelFilter::ERROR) } else { level };
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_target("pilotfish", level)
        .with_target(ENDS, ends)
        .with_target(TCPLOG, LevelFilter::OFF)
}

fn only_ends(log: &Log) -> Targets {
    Targets::new().with_target(TCPLOG, level(log.level))
}

/// The message and nothing before it: a syslog or journal puts its own prefix there, as before HAProxy's lines.
struct Bare;

impl<S, N> FormatEvent<S, N> for Bare
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}
