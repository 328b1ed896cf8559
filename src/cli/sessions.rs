//! `pilotfish sessions`: who is connected to whom.

use serde_json::Value;

use super::Failure;
use super::answers::Session;
use super::arguments::{Filter, Form};
use super::client::{Client, read};
use super::output::{print, print_json};
use super::table::Table;
use crate::admin::figures::{ago, bytes};

pub fn sessions(client: &Client, filter: Filter) -> Result<(), Failure> {
    let answer = client.get("/api/v1/sessions")?;
    let rows: Vec<Value> = read(answer)?;
    let mut kept = Vec::new();
    for row in rows {
        let session: Session = read(row.clone())?;
        if filter.keeps(&session) {
            kept.push((row, session));
        }
    }
    kept.truncate(filter.limit.unwrap_or(usize::MAX));
    if client.form == Form::Json {
        return print_json(&Value::Array(kept.into_iter().map(|(row, _)| row).collect()));
    }
    let mut table = Table::new(&[
        ">ID",
        "CLIENT",
        "CLUSTER",
        "POOL",
        "MEMBER",
        ">PG CLIENT_PORT",
        "PHASE",
        ">AGE",
        ">IN",
        ">OUT",
    ]);
    for (_, session) in kept {
        table.row([
            session.id.to_string(),
            session.client,
            session.cluster,
            session.pool,
            session.member.unwrap_or_else(|| "-".to_owned()),
            session.backend_client_port.map_or("-".to_owned(), |port| port.to_string()),
            session.phase,
            ago(session.age_s),
            bytes(session.bytes_in),
            bytes(session.bytes_out),
        ]);
    }
    print(&(table.lines().join("\n") + "\n"))
}

impl Filter {
    fn keeps(&self, session: &Session) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.cluster, &session.cluster)
            && is(&self.pool, &session.pool)
            && is(&self.member, session.member.as_deref().unwrap_or(""))
            && is(&self.phase, &session.phase)
            && self.client.as_ref().is_none_or(|begin| session.client.starts_with(begin))
    }
}
