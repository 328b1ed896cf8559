//! Single sessions: the open ones, those that ended last, and how they are searched.

use std::net::SocketAddr;

use serde::Serialize;

use super::Sources;
use super::view::seconds;
use crate::proxy::{Ended, SessionRow};

#[derive(Debug, Clone, Serialize)]
pub struct SessionView {
    pub id: u64,
    pub cluster: String,
    pub pool: String,
    pub client: String,
    pub member: Option<String>,
    pub backend: Option<SocketAddr>,
    /// The port that the server sees: `pg_stat_activity.client_port`.
    pub backend_client_port: Option<u16>,
    pub phase: &'static str,
    pub age_s: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// A session that is over.
#[derive(Debug, Clone, Serialize)]
pub struct EndedView {
    pub id: u64,
    pub cluster: String,
    pub pool: String,
    pub client: String,
    pub member: Option<String>,
    /// The port that the server saw.
    pub backend_client_port: Option<u16>,
    pub cause: &'static str,
    /// Who ended it: `client`, `backend` or `pilotfish`.
    pub side: &'static str,
    pub phase: &'static str,
    pub ago_s: f64,
    pub age_s: f64,
    pub held_ms: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// The open sessions, oldest first; of very many not all.
pub fn sessions(sources: &Sources) -> Vec<SessionView> {
    let mut rows: Vec<SessionRow> = sources.workers.rows();
    rows.sort_by_key(|row| row.id);
    rows.into_iter().map(session).collect()
}

/// The sessions that ended last, newest first.
pub fn ends(sources: &Sources) -> Vec<EndedView> {
    sources.workers.recent_ends().into_iter().map(ended).collect()
}

fn session(row: SessionRow) -> SessionView {
    SessionView {
        id: row.id,
        cluster: row.cluster,
        pool: row.pool,
        client: row.client.to_string(),
        member: row.member,
        backend: row.backend_peer,
        backend_client_port: row.backend_local.map(|local| local.port()),
        phase: row.phase.as_str(),
        age_s: seconds(row.age),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
    }
}

fn ended(ended: Ended) -> EndedView {
    EndedView {
        id: ended.id,
        cluster: ended.cluster.to_string(),
        pool: ended.pool.options.name.to_string(),
        client: ended.client.to_string(),
        member: ended.member.map(|member| member.to_string()),
        backend_client_port: ended.backend_local.map(|local| local.port()),
        cause: ended.end.as_str(),
        side: ended.end.side().as_str(),
        phase: ended.phase.as_str(),
        ago_s: seconds(ended.at.elapsed()),
        age_s: seconds(ended.age),
        held_ms: u64::try_from(ended.held.as_millis()).unwrap_or(u64::MAX),
        bytes_in: ended.bytes_in,
        bytes_out: ended.bytes_out,
    }
}

/// A search: every word must be found in one of a session's columns, in any case.
#[derive(Debug, Clone, Default)]
pub struct Search(Vec<String>);

impl Search {
    pub fn new(query: &str) -> Search {
        Search(query.split_whitespace().map(str::to_lowercase).collect())
    }

    /// Whether the columns have all words.
    pub fn finds(&self, columns: &[&str]) -> bool {
        let holds = |word: &String| columns.iter().any(|column| column.to_lowercase().contains(&**word));
        self.0.iter().all(holds)
    }
}

impl SessionView {
    pub fn matches(&self, search: &Search) -> bool {
        let port = self.backend_client_port.map(|port| port.to_string()).unwrap_or_default();
        let (client, member) = (&*self.client, self.member.as_deref().unwrap_or(""));
        search.finds(&[&self.cluster, &self.pool, client, member, &port, self.phase])
    }
}

impl EndedView {
    pub fn matches(&self, search: &Search) -> bool {
        let port = self.backend_client_port.map(|port| port.to_string()).unwrap_or_default();
        let (client, member) = (&*self.client, self.member.as_deref().unwrap_or(""));
        search.finds(&[&self.cluster, &self.pool, client, member, &port, self.phase, self.cause, self.side])
    }
}
