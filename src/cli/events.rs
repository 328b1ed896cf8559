//! `pilotfish events`: each loss of the writer, step by step, and on request as it happens.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::answers::{Incident, Step};
use super::arguments::Form;
use super::client::{Client, read};
use super::output::{harmless, print, print_json};
use crate::admin::figures::utc;

/// Between two looks with `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub fn events(client: &Client, cluster: Option<String>, follow: bool) -> Result<(), Failure> {
    let incidents = ask(client, cluster.as_deref())?;
    if !follow && client.form == Form::Json {
        return print_json(&Value::Array(incidents.into_iter().map(|(row, _)| row).collect()));
    }
    if !follow {
        if incidents.is_empty() {
            return print("no writer was lost since the start\n");
        }
        let text = incidents.iter().rev().map(|(_, incident)| whole(incident));
        return print(&text.collect::<Vec<_>>().join("\n"));
    }
    let mut told = Told::default();
    told.tell(client, incidents)?;
    loop {
        std::thread::sleep(LOOK_EVERY);
        told.tell(client, ask(client, cluster.as_deref())?)?;
    }
}

/// Newest first within each cluster, as they are answered and as they are read.
fn ask(client: &Client, cluster: Option<&str>) -> Result<Vec<(Value, Incident)>, Failure> {
    let rows: Vec<Value> = client.read("/api/v1/events")?;
    let mut incidents = Vec::new();
    for row in rows {
        let incident: Incident = read(row.clone())?;
        if cluster.is_none_or(|cluster| incident.cluster == cluster) {
            incidents.push((row, incident));
        }
    }
    Ok(incidents)
}

/// What has been shown already: of each incident how many steps, and whether its end.
#[derive(Default)]
struct Told {
    incidents: HashMap<Identity, (usize, bool)>,
}

/// Its cluster, its number, and when it began: after an upgrade another process answers, which counts from 1 again.
type Identity = (String, u64, u64);

impl Told {
    fn tell(&mut self, client: &Client, incidents: Vec<(Value, Incident)>) -> Result<(), Failure> {
        for (row, incident) in incidents.into_iter().rev() {
            let key = (incident.cluster.clone(), incident.number, began(&incident));
            let (steps, ended) = self.incidents.get(&key).copied().unwrap_or((0, false));
            let now = (incident.steps.len(), !incident.ongoing);
            if (steps, ended) == now {
                continue;
            }
            self.incidents.insert(key, now);
            if client.form == Form::Json {
                print_json(&row)?;
                continue;
            }
            let mut text = if steps == 0 { headline(&incident) } else { String::new() };
            incident.steps.iter().skip(steps).for_each(|step| text += &line(step));
            if now.1 && !ended {
                text += &outcome(&incident);
            }
            print(&text)?;
        }
        Ok(())
    }
}

fn whole(incident: &Incident) -> String {
    let steps: String = incident.steps.iter().map(line).collect();
    headline(incident) + &steps + &outcome(incident)
}

fn headline(incident: &Incident) -> String {
    let Incident { cluster, number, writer_before, .. } = incident;
    let before = writer_before.as_deref().unwrap_or("nobody");
    let at = utc(began(incident));
    harmless(&format!("{at}  {cluster} #{number}: {before} was the writer")) + "\n"
}

/// In Unix time, in milliseconds. Its first step is never taken from it.
fn began(incident: &Incident) -> u64 {
    incident.steps.first().map_or(0, |step| step.at_unix_ms)
}

fn line(step: &Step) -> String {
    harmless(&format!("  +{:>6} ms  {}", step.after_ms, step.what)) + "\n"
}

fn outcome(incident: &Incident) -> String {
    let Incident { held, longest_hold_ms, cut, broken, failed, without_writer_ms, .. } = incident;
    let after = match (&incident.writer_after, incident.ongoing) {
        (None, true) => "still without a writer".to_owned(),
        (Some(writer), true) => format!("{writer} is the writer, and no session has come yet"),
        (Some(writer), _) => format!("{writer} is the writer"),
        (None, _) => "over".to_owned(),
    };
    let lasted = incident.lasted_ms.map_or(String::new(), |ms| format!(", first session after {ms} ms"));
    let words = format!(
        "  = {after}{lasted}, {without_writer_ms} ms without one; {held} held (longest {longest_hold_ms} ms), \
         {cut} cut, {broken} ended by the server, {failed} failed"
    );
    harmless(&words) + "\n"
}
