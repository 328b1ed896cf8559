//! Where log lines go and what they look like.
//!
//! Standard error, as text on a terminal and as JSON otherwise. A thread of its own writes them: a reader that stalls
//! costs lines, never a session.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that wait for a slow reader; more are dropped.
const BUFFERED_LINES: usize = 50_000;

/// Starts logging; what is buffered is written when the guard goes.
pub fn init(log: &Log) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(BUFFERED_LINES).finish(stderr());
    let json = match log.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        lines.with_ansi(stderr().is_terminal()).boxed()
    };
    // Libraries speak up only when something is wrong; what this one has to say, control says in fewer words.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("rustls_platform_verifier", LevelFilter::OFF)
        .with_target("pilotfish", level(log.level));
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    guard
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}
