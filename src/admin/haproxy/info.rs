//! `show info`: the process, under HAProxy's names.
//!
//! `Version` is the version of HAProxy whose formats these are, with pilotfish's behind it: clients choose by it what
//! they may ask for. (Source: `show info typed` of HAProxy 2.6.)

use super::field::Kind;
use super::row::Value;

/// HAProxy's version in front, since clients compare it.
pub const VERSION: &str = concat!("2.6.0-pilotfish-", env!("CARGO_PKG_VERSION"));

/// One figure: its place among HAProxy's, its name, what it is, and its value.
#[derive(Debug, Clone)]
pub struct Figure {
    pub place: usize,
    pub name: &'static str,
    pub tags: &'static str,
    pub kind: Kind,
    pub value: Value,
}

/// What the figures are made from.
#[derive(Debug, Clone, Default)]
pub struct Process {
    pub id: u32,
    pub workers: usize,
    pub uptime_s: u64,
    pub started_unix_s: u64,
    pub open_files: u64,
    pub max_sessions: usize,
    pub sessions: usize,
    /// Connections that clients have made, ever.
    pub connections: u64,
    pub connections_per_s: u64,
    pub most_connections_per_s: u64,
    pub bytes_out: u64,
    pub bytes_out_per_s: u64,
    pub listeners: usize,
    pub host: String,
    pub stopping: bool,
}

/// All figures, in HAProxy's order.
pub fn figures(process: &Process) -> Vec<Figure> {
    let text = |place, name, tags, text: &str| Figure {
        place,
        name,
        tags,
        kind: Kind::Str,
        value: Value::Text(text.to_owned()),
    };
    let number = |place, name, tags, number: u64| Figure {
        place,
        name,
        tags,
        kind: Kind::U32,
        value: Value::Number(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    let wide = |place, name, tags, value| Figure { kind: Kind::U64, ..number(place, name, tags, value) };
    let sessions = process.sessions as u64;
    let seconds = process.uptime_s;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let uptime = format!("{days}d {hours}h{minutes:02}m{:02}s", seconds % 60);
    vec![
        text(0, "Name", "POS", "pilotfish"),
        text(1, "Version", "POS", VERSION),
        text(2, "Release_date", "POS", "-"),
        number(3, "Nbthread", "CGS", process.workers as u64),
        number(4, "Nbproc", "CGS", 1),
        number(5, "Process_num", "KGP", 1),
        number(6, "Pid", "SGP", u64::from(process.id)),
        text(7, "Uptime", "MDP", &uptime),
        number(8, "Uptime_sec", "MDP", seconds),
        number(13, "Ulimit-n", "CLP", process.open_files),
        number(14, "Maxsock", "CLP", process.open_files),
        number(15, "Maxconn", "CLP", process.max_sessions as u64),
        number(16, "Hard_maxconn", "CLP", process.max_sessions as u64),
        number(17, "CurrConns", "MGP", sessions),
        number(18, "CumConns", "MCP", process.connections),
        // TLS goes through untouched.
        number(21, "CurrSslConns", "MGP", 0),
        number(22, "CumSslConns", "MCP", 0),
        // As HAProxy without splicing: its pipes are not counted here.
        number(23, "Maxpipes", "CLP", 0),
        number(24, "PipesUsed", "MGP", 0),
        number(25, "PipesFree", "MGP", 0),
        number(26, "ConnRate", "MRP", process.connections_per_s),
        // 0 is no limit.
        number(27, "ConnRateLimit", "CLP", 0),
        number(28, "MaxConnRate", "MMP", process.most_connections_per_s),
        number(29, "SessRate", "MRP", process.connections_per_s),
        number(30, "SessRateLimit", "CLP", 0),
        number(31, "MaxSessRate", "MRP", process.most_connections_per_s),
        // A session is a task; which of them are about to run is not known.
        number(47, "Tasks", "MGP", sessions),
        number(48, "Run_queue", "MGP", 0),
        text(50, "node", "COS", &process.host),
        number(52, "Stopping", "MGP", u64::from(process.stopping)),
        number(53, "Jobs", "MGP", sessions + process.listeners as u64),
        number(54, "Unstoppable Jobs", "MGP", 0),
        number(55, "Listeners", "MGP", process.listeners as u64),
        number(56, "ActivePeers", "MGP", 0),
        number(57, "ConnectedPeers", "MGP", 0),
        wide(61, "TotalBytesOut", "MGP", process.bytes_out),
        wide(63, "BytesOutRate", "MRP", process.bytes_out_per_s),
        text(66, "Build info", "POS", concat!("pilotfish ", env!("CARGO_PKG_VERSION"))),
        number(70, "Start_time_sec", "MDP", process.started_unix_s),
    ]
}

/// One figure a line.
pub fn draw(figures: &[Figure]) -> String {
    let line = |figure: &Figure| format!("{}: {}\n", figure.name, super::typed::shown(&figure.value));
    figures.iter().map(line).collect()
}

/// One figure a line, with its place and what it is.
pub fn draw_typed(figures: &[Figure]) -> String {
    let line = |figure: &Figure| {
        let Figure { place, name, tags, kind, value } = figure;
        format!("{place}.{name}.1:{tags}:{}:{}\n", kind.as_str(), super::typed::shown(value))
    };
    figures.iter().map(line).collect()
}
