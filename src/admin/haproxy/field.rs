//! The columns of HAProxy's statistics: their order, their names, and what kind of figure each of them is.
//!
//! The order is HAProxy's and scripts count on it, so columns that pilotfish has no figure for are here too and stay
//! empty. (Source: `show stat typed` of HAProxy 2.6, whose columns all later versions begin with.)

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Str,
    U32,
    S32,
    U64,
}

/// What a column is, whatever stands in it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Three letters for origin, nature and scope, as in `show stat typed`.
    pub tags: &'static str,
}

/// The list from which both the fields and their columns are made.
macro_rules! columns {
    ($($field:ident $name:literal $kind:ident $tags:literal;)*) => {
        /// A column, by its place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field { $($field),* }

        pub const COLUMNS: &[Column] = &[$(Column { name: $name, kind: Kind::$kind, tags: $tags }),*];

        impl Field {
            pub const ALL: &[Field] = &[$(Field::$field),*];
        }
    };
}

columns! {
    Pxname "pxname" Str "KNS";
    Svname "svname" Str "KNS";
    Qcur "qcur" U32 "MGP";
    Qmax "qmax" U32 "MMP";
    Scur "scur" U32 "MGP";
    Smax "smax" U32 "MMP";
    Slim "slim" U32 "CLP";
    Stot "stot" U64 "MCP";
    Bin "bin" U64 "MCP";
    Bout "bout" U64 "MCP";
    Dreq "dreq" U64 "MCP";
    Dresp "dresp" U64 "MCP";
    Ereq "ereq" U64 "MCP";
    Econ "econ" U64 "MCP";
    Eresp "eresp" U64 "MCP";
    Wretr "wretr" U64 "MCP";
    Wredis "wredis" U64 "MCP";
    Status "status" Str "SGP";
    Weight "weight" U32 "MaP";
    Act "act" U32 "MGP";
    Bck "bck" U32 "MGP";
    Chkfail "chkfail" U64 "MCP";
    Chkdown "chkdown" U64 "MCP";
    Lastchg "lastchg" U32 "MAP";
    Downtime "downtime" U32 "MCP";
    Qlimit "qlimit" U32 "CLS";
    Pid "pid" U32 "KGP";
    Iid "iid" U32 "KGS";
    Sid "sid" U32 "KGS";
    Throttle "throttle" U32 "MaP";
    Lbtot "lbtot" U64 "MCP";
    Tracked "tracked" Str "CNS";
    Type "type" U32 "CGS";
    Rate "rate" U32 "MRP";
    RateLim "rate_lim" U32 "CLP";
    RateMax "rate_max" U32 "MGP";
    CheckStatus "check_status" Str "MOP";
    CheckCode "check_code" U32 "MOP";
    CheckDuration "check_duration" U64 "MDP";
    Hrsp1xx "hrsp_1xx" U64 "MCP";
    Hrsp2xx "hrsp_2xx" U64 "MCP";
    Hrsp3xx "hrsp_3xx" U64 "MCP";
    Hrsp4xx "hrsp_4xx" U64 "MCP";
    Hrsp5xx "hrsp_5xx" U64 "MCP";
    HrspOther "hrsp_other" U64 "MCP";
    Hanafail "hanafail" U64 "MCP";
    ReqRate "req_rate" U32 "MRP";
    ReqRateMax "req_rate_max" U32 "MMP";
    ReqTot "req_tot" U64 "MCP";
    CliAbrt "cli_abrt" U64 "MCP";
    SrvAbrt "srv_abrt" U64 "MCP";
    CompIn "comp_in" U64 "MCP";
    CompOut "comp_out" U64 "MCP";
    CompByp "comp_byp" U64 "MCP";
    CompRsp "comp_rsp" U64 "MCP";
    Lastsess "lastsess" S32 "MAP";
    LastChk "last_chk" Str "MOP";
    LastAgt "last_agt" Str "MOP";
    Qtime "qtime" U32 "MaP";
    Ctime "ctime" U32 "MaP";
    Rtime "rtime" U32 "MaP";
    Ttime "ttime" U32 "MaP";
    AgentStatus "agent_status" Str "MOP";
    AgentCode "agent_code" U32 "MOP";
    AgentDuration "agent_duration" U64 "MDP";
    CheckDesc "check_desc" Str "MOP";
    AgentDesc "agent_desc" Str "MOP";
    CheckRise "check_rise" U32 "CGS";
    CheckFall "check_fall" U32 "CGS";
    CheckHealth "check_health" U32 "CGS";
    AgentRise "agent_rise" U32 "CGS";
    AgentFall "agent_fall" U32 "CGS";
    AgentHealth "agent_health" U32 "CGS";
    Addr "addr" Str "CGS";
    Cookie "cookie" Str "CNS";
    Mode "mode" Str "CGS";
    Algo "algo" Str "CGS";
    ConnRate "conn_rate" U32 "MRP";
    ConnRateMax "conn_rate_max" U32 "MMP";
    ConnTot "conn_tot" U64 "MCP";
    Intercepted "intercepted" U64 "MCP";
    Dcon "dcon" U64 "MCP";
    Dses "dses" U64 "MCP";
    Wrew "wrew" U64 "MCP";
    Connect "connect" U64 "MCP";
    Reuse "reuse" U64 "MCP";
    CacheLookups "cache_lookups" U64 "MCP";
    CacheHits "cache_hits" U64 "MCP";
    SrvIcur "srv_icur" U32 "MGP";
    SrcIlim "src_ilim" U32 "CLP";
    QtimeMax "qtime_max" U32 "MMP";
    CtimeMax "ctime_max" U32 "MMP";
    RtimeMax "rtime_max" U32 "MMP";
    TtimeMax "ttime_max" U32 "MMP";
    Eint "eint" U64 "MCP";
    IdleConnCur "idle_conn_cur" U32 "MGP";
    SafeConnCur "safe_conn_cur" U32 "MGP";
    UsedConnCur "used_conn_cur" U32 "MGP";
    NeedConnEst "need_conn_est" U32 "MGP";
    Uweight "uweight" U32 "MaP";
    AggServerStatus "agg_server_status" U32 "MGP";
    AggServerCheckStatus "agg_server_check_status" U32 "MGP";
    AggCheckStatus "agg_check_status" U32 "MGP";
}

impl Field {
    pub fn column(self) -> &'static Column {
        &COLUMNS[self as usize]
    }

    /// Grows for as long as the process lives, unless an operator sets it to zero.
    pub fn is_counter(self) -> bool {
        nature(self.column().tags) == "Counter"
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Str => "str",
            Kind::U32 => "u32",
            Kind::S32 => "s32",
            Kind::U64 => "u64",
        }
    }
}

/// The first of the three letters in words.
pub fn origin(tags: &str) -> &'static str {
    match tags.as_bytes().first() {
        Some(b'M') => "Metric",
        Some(b'S') => "Status",
        Some(b'K') => "Key",
        Some(b'C') => "Config",
        Some(b'P') => "Product",
        _ => "Unknown",
    }
}

/// The second of the three letters in words.
pub fn nature(tags: &str) -> &'static str {
    match tags.as_bytes().get(1) {
        Some(b'G') => "Gauge",
        Some(b'L') => "Limit",
        Some(b'M') => "Max",
        Some(b'R') => "Rate",
        Some(b'C') => "Counter",
        Some(b'D') => "Duration",
        Some(b'A') => "Age",
        Some(b'N') => "Name",
        Some(b'O') => "Output",
        Some(b'a') => "Avg",
        _ => "Unknown",
    }
}

/// The third of the three letters in words.
pub fn scope(tags: &str) -> &'static str {
    match tags.as_bytes().get(2) {
        Some(b'P') => "Process",
        Some(b'S') => "Service",
        Some(b'Y') => "System",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_its_words() {
        for column in COLUMNS {
            let words = [origin(column.tags), nature(column.tags), scope(column.tags)];
            assert!(!words.contains(&"Unknown"), "{column:?}");
        }
        assert_eq!(Field::Uweight.column().name, "uweight");
        assert_eq!(Field::Uweight as usize, 99, "the place that HAProxy's documentation gives");
    }
}
