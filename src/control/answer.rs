//! Patroni's answers: the shapes of the JSON, in the words of the core.
//!
//! Nothing is believed about their size or content: what is no word is left out, what is no answer is said to be none.
//! (Source: patroni/api.py, Patroni 3.0 to 4.1.)

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::topology::{Member, Report, Role, SyncState};

/// More members than any real cluster has; each costs a connection a second.
const MAX_MEMBERS: usize = 64;
/// What a `ttl` may be: Patroni allows 20 s and more, and nobody waits a day for a leader.
const TTL_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Names and hosts go into tables, logs and metrics.
const MAX_NAME_BYTES: usize = 255;

/// `/cluster` in the words of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterAnswer {
    pub members: Vec<Member>,
    /// Name of the member that the DCS holds for the leader.
    pub leader: Option<String>,
}

/// Reads the answer to a health check.
///
/// # Errors
/// Says in words why this is not an answer of Patroni.
pub fn report(status: u16, body: &[u8]) -> Result<Report, String> {
    if status != 200 && status != 503 {
        return Err(format!("answered with status {status}, which Patroni does not use here"));
    }
    let body: ReportBody = serde_json::from_slice(body).map_err(|error| not_json("the answer", &error))?;
    let role = body.role.unwrap_or_default();
    if !is_presentable(&body.state) || !(role.is_empty() || is_presentable(&role)) {
        return Err("the answer is not Patroni's: its state or role is not a word".to_owned());
    }
    let xlog = body.xlog.unwrap_or_default();
    let patroni = body.patroni.unwrap_or_default();
    let tags = body.tags.unwrap_or_default();
    Ok(Report {
        status,
        role: Role::parse(&role),
        state: body.state,
        timeline: body.timeline.filter(|&timeline| timeline > 0),
        system_identifier: body.database_system_identifier.filter(|text| is_presentable(text)),
        wal_position: xlog.location.or(xlog.replayed_location),
        replication_state: body.replication_state.filter(|text| is_presentable(text)),
        sync: match (body.sync_standby, body.quorum_standby) {
            (true, _) => SyncState::Sync,
            (false, true) => SyncState::Quorum,
            (false, false) => SyncState::Async,
        },
        pause: body.pause,
        cluster_unlocked: body.cluster_unlocked,
        failsafe: body.failsafe_mode_is_active,
        dcs_last_seen: body.dcs_last_seen,
        noloadbalance: tags.get("noloadbalance").is_some_and(is_true),
        tags: tags.into_iter().map(|(name, value)| (name, plain(value))).filter(is_presentable_tag).collect(),
        pending_restart: body.pending_restart,
        patroni_version: patroni.version.filter(|text| is_presentable(text)),
        scope: patroni.scope.filter(|scope| is_presentable(scope)),
        name: patroni.name.filter(|name| is_presentable(name)),
    })
}

/// Reads `/cluster`. Members that cannot be dialled (still without a connection URL) are left out.
pub fn cluster(body: &[u8]) -> Result<ClusterAnswer, String> {
    let body: ClusterBody = serde_json::from_slice(body).map_err(|error| not_json("/cluster", &error))?;
    if body.members.len() > MAX_MEMBERS {
        return Err(format!(
            "/cluster names {} members; at most {MAX_MEMBERS} are taken",
            body.members.len()
        ));
    }
    let leads =
        |member: &MemberBody| matches!(member.role.as_deref(), Some("leader" | "standby_leader" | "master"));
    let leader = body.members.iter().find(|member| leads(member)).map(|member| member.name.clone());
    let leader = leader.filter(|name| is_presentable(name));
    let members: Vec<Member> = body.members.into_iter().filter_map(MemberBody::into_member).collect();
    if members.is_empty() {
        return Err("/cluster names no member that can be reached".to_owned());
    }
    Ok(ClusterAnswer { members, leader })
}

#[derive(Deserialize)]
struct ReportBody {
    state: String,
    role: Option<String>,
    timeline: Option<u32>,
    xlog: Option<XlogBody>,
    replication_state: Option<String>,
    #[serde(default)]
    sync_standby: bool,
    #[serde(default)]
    quorum_standby: bool,
    #[serde(default)]
    pause: bool,
    #[serde(default)]
    cluster_unlocked: bool,
    #[serde(default)]
    failsafe_mode_is_active: bool,
    #[serde(default)]
    pending_restart: bool,
    dcs_last_seen: Option<u64>,
    tags: Option<BTreeMap<String, Value>>,
    database_system_identifier: Option<String>,
    patroni: Option<PatroniBody>,
}

#[derive(Deserialize, Default)]
struct XlogBody {
    location: Option<u64>,
    replayed_location: Option<u64>,
}

#[derive(Deserialize, Default)]
struct PatroniBody {
    version: Option<String>,
    scope: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct ClusterBody {
    members: Vec<MemberBody>,
}

#[derive(Deserialize)]
struct MemberBody {
    name: String,
    role: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    api_url: Option<String>,
}

#[derive(Deserialize)]
struct ConfigBody {
    ttl: Option<u64>,
}

impl MemberBody {
    fn into_member(self) -> Option<Member> {
        let (host, port, api_url) = (self.host?, self.port?, self.api_url?);
        let (scheme, rest) = api_url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let presentable = [&self.name, &host, &api_url].into_iter().all(|text| is_presentable(text));
        let api = format!("{scheme}://{authority}");
        (presentable && matches!(scheme, "http" | "https")).then_some(Member {
            name: self.name,
            host,
            port,
            api,
        })
    }
}

/// Fit for a log line, a label and a table cell.
fn is_presentable(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}

fn is_presentable_tag((name, value): &(String, String)) -> bool {
    is_presentable(name) && (value.is_empty() || is_presentable(value))
}

/// What came is not what was expected; the parser's words may quote it at length.
fn not_json(what: &str, error: &serde_json::Error) -> String {
    let words: String =
        error.to_string().chars().filter(|c| !c.is_control()).take(MAX_NAME_BYTES / 2).collect();
    format!("{what} is not Patroni's JSON: {words}")
}

/// Patroni shows a tag as its YAML said it: `true` or `"true"`.
fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
/// `/config`: the cluster's `ttl`.
pub fn ttl(body: &[u8]) -> Option<Duration> {
    let config: ConfigBody = serde_json::from_slice(body).ok()?;
    config.ttl.filter(|ttl| TTL_SECONDS.contains(ttl)).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Class;

    #[test]
    fn a_real_answer_of_a_leader_and_of_a_replica() {
        let body = br#"{"state":"running","role":"master","server_version":150018,"xlog":{"location":67108864},
            "timeline":1,"dcs_last_seen":1795437839,"database_system_identifier":"771","tags":{"noloadbalance":true,"zone":"a"},
            "patroni":{"version":"4.1.5","scope":"demo","name":"patroni1"}}"#;
        let leader = report(200, body).expect("an answer");
        assert_eq!(
            (leader.class(), leader.timeline, leader.wal_position),
            (Class::Writer, Some(1), Some(67_108_864))
        );
        assert_eq!(leader.tags[1], ("zone".to_owned(), "a".to_owned()));
        assert_eq!(leader.name.as_deref(), Some("patroni1"));
        let body =
            br#"{"state":"running","role":"replica","xlog":{"received_location":9,"replayed_location":8,
            "replayed_timestamp":null,"paused":false},"timeline":0,"tags":{"noloadbalance":"True"}}"#;
        let replica = report(503, body).expect("an answer");
        assert_eq!(
            (replica.class(), replica.timeline, replica.wal_position),
            (Class::Standby, None, Some(8))
        );
    }

    #[test]
    fn what_is_not_patroni_is_said_so() {
        for (status, body, says) in [
            (301, "", "status 301"),
            (200, "<html>", "not Patroni's JSON"),
            (200, "{}", "missing field `state`"),
            (200, r#"{"state":"running","timeline":1e999999}"#, "not Patroni's JSON"),
            (200, r#"{"state":"running","role":"primary","xlog":{"loc"#, "not Patroni's JSON"),
        ] {
            let error = report(status, body.as_bytes()).expect_err(body);
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
        let deep = format!(r#"{{"state":"running","tags":{}"#, "[".repeat(100_000));
        assert!(report(200, deep.as_bytes()).is_err());
    }

    #[test]
    fn cluster_members_without_an_address_or_with_a_strange_name_are_left_out() {
        let body = br#"{"scope":"demo","members":[
            {"name":"a","role":"leader","host":"10.0.0.1","port":5432,"api_url":"https://10.0.0.1:8008/patroni"},
            {"name":"b","role":"replica","api_url":"http://10.0.0.2:8008/patroni"},
            {"name":"c\nd","role":"replica","host":"h","port":1,"api_url":"http://h:1/"},
            {"name":"e","role":"replica","host":"fd00::1","port":5433,"api_url":"http://[fd00::1]:8008/patroni"}]}"#;
        let answer = cluster(body).expect("an answer");
        let apis: Vec<&str> = answer.members.iter().map(|member| member.api.as_str()).collect();
        assert_eq!(apis, ["https://10.0.0.1:8008", "http://[fd00::1]:8008"]);
        assert_eq!(answer.leader.as_deref(), Some("a"));
        assert!(cluster(br#"{"members":[]}"#).is_err());
    }
}
