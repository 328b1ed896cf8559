//! What two processes tell each other when one takes the other's place: lines of JSON.
//!
//! They may be of different versions: what one does not know is passed over, and what it misses is empty.

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromOld {
    Estate(Estate),
    /// Accept from now on.
    Take,
    /// The old one accepts no more; so many sessions are left, and what is open after so long is cut.
    Open {
        sessions: usize,
        cut_in_ms: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromNew {
    Begun {
        pid: u32,
    },
    Ready {
        version: String,
    },
    /// It accepts.
    Taken,
    Failed {
        reason: String,
    },
}

/// What the old process has and does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::app) struct Estate {
    pub pid: u32,
    /// When the new one is not ready by then, it is ended.
    pub within_ms: u64,
    /// Upgrades before this one that went well, and that did not.
    pub done: u64,
    pub failed: u64,
    /// In the order of their descriptors.
    pub sockets: Vec<PassedSocket>,
    pub clusters: Vec<OperatedCluster>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::app) struct PassedSocket {
    /// As the configuration has it.
    pub address: String,
    /// The file of a unix socket is to be removed by whoever has it last.
    pub has_file: bool,
    /// Members that take new sessions from there.
    pub routable: Vec<String>,
}

/// What an operator has said of a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::app) struct OperatedCluster {
    pub name: Option<String>,
    /// By which it is known, see [`plan`](crate::app).
    pub nodes: Vec<String>,
    /// Members that an operator has taken out, and how.
    pub operators: Vec<(String, String)>,
}

/// One line.
pub(super) fn line(letter: &impl Serialize) -> String {
    // Cannot fail: these are plain structures with texts as keys.
    serde_json::to_string(letter).unwrap_or_default() + "\n"
}
