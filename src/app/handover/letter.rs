//! What two processes tell each other when one takes the other's place: lines of JSON.
//!
//! They may be of different versions: what one does not know is passed over, and what it misses is empty.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, Take};

/// All that a process has to say before it serves, and far more.
const MOST_BYTES: u64 = 1 << 20;

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
    /// It will end: it was stopped. Without this it has died.
    Parting,
    /// Another process has taken its place, speaks from now on, and is to be told what is left.
    FollowedBy {
        pid: u32,
    },
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
    /// Their connections are passed behind the sockets.
    pub formers: Vec<PassedFormer>,
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

/// A process whose place was taken before, and that still drains.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::app) struct PassedFormer {
    pub pid: u32,
    /// As [`FromOld::Open`].
    pub sessions: usize,
    pub cut_in_ms: u64,
}

/// What an operator has said of a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::app) struct OperatedCluster {
    pub name: Option<String>,
    /// By which it is known, see [`plan`](crate::app).
    pub nodes: Vec<String>,
    /// Members that an operator has taken out, and how, those who are away too.
    pub operators: Vec<(String, String)>,
}

/// One line.
pub(super) fn line(letter: &impl Serialize) -> String {
    // Cannot fail: these are plain structures with texts as keys.
    serde_json::to_string(letter).unwrap_or_default() + "\n"
}

/// What a line says.
///
/// # Errors
/// `InvalidData`: it was cut off, or cannot be understood. Never the end of the stream, which is told by what follows.
pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> io::Result<T> {
    let length = line.len();
    let problem = match line.ends_with(b"\n") {
        true => match serde_json::from_slice(line) {
            Ok(letter) => return Ok(letter),
            Err(problem) => format!("{length} bytes are no letter: {problem}"),
        },
        false => format!("a letter was cut off after {length} bytes"),
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// The other side's letters, as they come.
#[derive(Debug)]
pub(super) struct Letters<R> {
    stream: BufReader<Take<R>>,
    /// What has come of the next one.
    begun: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Letters<R> {
    pub fn new(stream: R) -> Letters<R> {
        Letters { stream: BufReader::new(stream.take(MOST_BYTES)), begun: Vec::new() }
    }

    /// Waits for the next; `None`: there are no more. Dropped while it waits, nothing is lost.
    ///
    /// # Errors
    /// Those of the system, or it cannot be understood; there may be more then.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.stream.read_until(b'\n', &mut self.begun).await?;
        let line = std::mem::take(&mut self.begun);
        // The limit is for one that never ends.
        self.stream.get_mut().set_limit(MOST_BYTES);
        match line.is_empty() {
            true => Ok(None),
            false => parse(&line).map(Some),
        }
    }

    /// Waits until nobody has the other end any more.
    pub async fn closed(&mut self) {
        let (stream, mut passed_over) = (self.stream.get_mut().get_mut(), [0; 512]);
        while stream.read(&mut passed_over).await.is_ok_and(|length| length > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that another process has begun to read among them: its rest may be the end of a line only.
    #[tokio::test]
    async fn what_is_no_letter_is_told_apart_from_the_end_and_does_not_hide_what_follows() {
        let endless = "[".repeat(MOST_BYTES as usize + 10);
        for (bytes, expected) in [
            ("\n\"taken\"\n", &["1 bytes are no letter", "taken", "end"][..]),
            ("{\"begun\":{\"pid\":\n\"taken\"\n", &["17 bytes are no letter", "taken", "end"]),
            ("_ms\":5}}\n\"taken\"\n", &["9 bytes are no letter", "taken", "end"]),
            ("\"taken\"\n\"tak", &["taken", "a letter was cut off after 4 bytes", "end"]),
            (
                &endless,
                &["a letter was cut off after 1048576 bytes", "a letter was cut off after 10 bytes", "end"],
            ),
        ] {
            let mut letters = Letters::new(bytes.as_bytes());
            for expected in expected {
                let said = match letters.next::<FromNew>().await {
                    Ok(Some(FromNew::Taken)) => "taken".to_owned(),
                    Ok(Some(other)) => format!("{other:?}"),
                    Ok(None) => "end".to_owned(),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                        error.to_string()
                    }
                };
                assert!(said.starts_with(expected), "{said:?}, not {expected:?}");
            }
        }
    }
}
