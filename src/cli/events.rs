//! `pilotfish events`: each loss of the writer, step by step, and on request as it happens.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::answers::{Incident, Step};
use super::arguments::Form;
use super::client::{Client, read};
use super::output::{harmless, print, print_json};

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
    incidents: HashMap<(String, u64), (usize, bool)>,
}

impl Told {
    fn tell(&mut self, client: &Client, incidents: Vec<(Value, Incident)>) -> Result<(), Failure> {
        for (row, incident) in incidents.into_iter().rev() {
            let key = (incident.cluster.clone(), incident.number);
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
    let Incident { cluster, number, writer_before, steps, .. } = incident;
    let before = writer_before.as_deref().unwrap_or("nobody");
    let at = steps.first().map_or(0, |step| step.at_unix_ms / 1000);
    harmless(&format!("{}  {cluster} #{number}: {before} was the writer", utc(at))) + "\n"
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

/// Unix time in seconds as a date and time of day.
fn utc(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Counted in years that begin in March, so that the leap day is the last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (day, month) =
        (day - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_795_437_839, "2026-11-23 12:43:59Z"),
            (4_107_542_399, "2100-02-28 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(unix), text);
        }
    }
}
