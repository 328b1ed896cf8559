//! `drain`, `maint`, `ready`, `close-sessions`, `reload` and `upgrade`: what an operator changes.

use std::time::Duration;

use serde_json::{Value, json};

use super::answers::Status;
use super::arguments::{Form, Target};
use super::client::Client;
use super::output::{harmless, print, print_json};
use super::{EXIT_FAILED, Failure};
use crate::admin::figures::ago;

pub fn set_state(client: &Client, target: Target, state: &str) -> Result<(), Failure> {
    let answer = client.post(&path(client, &target, "state")?, &json!({ "state": state }))?;
    if client.form == Form::Json {
        return print_json(&answer);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or("?").to_owned();
    let mut told = format!("{} of {} is set to {}", text("member"), text("cluster"), text("state"));
    if let Some(before) = answer["before"].as_str() {
        told += &format!(" (it was {before})");
    }
    if let Some(note) = answer["note"].as_str() {
        told += &format!("\nnote: {note}");
    }
    say(&told)
}

pub fn close_sessions(client: &Client, target: Target) -> Result<(), Failure> {
    let answer = client.post(&path(client, &target, "close-sessions")?, &json!({}))?;
    if client.form == Form::Json {
        return print_json(&answer);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or("?").to_owned();
    say(&format!("sessions closed on {} of {}: {}", text("member"), text("cluster"), answer["closed"]))
}

pub fn reload(client: &Client) -> Result<(), Failure> {
    let answer = client.post("/api/v1/reload", &json!({}))?;
    if client.form == Form::Json {
        return print_json(&answer);
    }
    let keys = |key: &str| {
        let keys: Vec<&str> =
            answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
    };
    say(&format!("applied: {}\nneeds a restart: {}", keys("applied"), keys("needs_restart")))
}

/// Longer than any `upgrade_timeout`.
const UPGRADE_WITHIN: Duration = Duration::from_secs(280);

pub fn upgrade(client: &Client) -> Result<(), Failure> {
    let answer = client.post_within(UPGRADE_WITHIN, "/api/v1/upgrade", &json!({}))?;
    if client.form == Form::Json {
        return print_json(&answer);
    }
    let version = answer["version"].as_str().unwrap_or("?");
    let (pid, before) = (&answer["pid"], &answer["before"]);
    let serves = format!("upgraded: process {pid} (pilotfish {version}) serves");
    let sessions = answer["sessions"].as_u64().unwrap_or_default();
    let most = ago(answer["drain_timeout_s"].as_f64().unwrap_or_default());
    say(&match sessions {
        0 => format!("{serves}, no sessions were left in process {before}"),
        _ => format!("{serves}, process {before} drains {sessions} sessions for at most {most}"),
    })
}

fn say(told: &str) -> Result<(), Failure> {
    let lines: Vec<String> = told.lines().map(harmless).collect();
    print(&(lines.join("\n") + "\n"))
}

/// The member's path; where no cluster is given, the only one that has such a member.
fn path(client: &Client, target: &Target, action: &str) -> Result<String, Failure> {
    let cluster = match &target.cluster {
        Some(cluster) => cluster.clone(),
        None => only_cluster_with(client, &target.member)?,
    };
    Ok(format!("/api/v1/clusters/{}/members/{}/{action}", encoded(&cluster), encoded(&target.member)))
}

fn only_cluster_with(client: &Client, member: &str) -> Result<String, Failure> {
    let status: Status = client.read("/api/v1/status")?;
    let has = |cluster: &&super::answers::Cluster| cluster.members.iter().any(|known| known.name == member);
    let having: Vec<&str> = status.clusters.iter().filter(has).map(|cluster| cluster.name.as_str()).collect();
    match having[..] {
        [only] => Ok(only.to_owned()),
        [] => {
            let members = status.clusters.iter().flat_map(|cluster| &cluster.members);
            let names: Vec<&str> = members.map(|member| member.name.as_str()).collect();
            let words = format!("no cluster has a member named {member:?}; there is {}", names.join(", "));
            Err(Failure::new(EXIT_FAILED, harmless(&words)))
        }
        _ => {
            let words = format!("{member:?} is in {}; say which with --cluster", having.join(" and in "));
            Err(Failure::new(EXIT_FAILED, harmless(&words)))
        }
    }
}

/// A name as a segment of a path: all but letters, digits and `-._~` as percent and two hex digits.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}
