//! Host names to addresses, with a memory.
//!
//! A name server that fails or hangs must not take away nodes that worked a moment ago: the last good answer is kept
//! and used. The system's resolver blocks a thread for as long as it likes, so one lookup runs for each name at a
//! time, and whoever asks waits for it only so long.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long an answer is used before the name is looked up again: failovers of the name itself are rare, and the
/// system's resolver does not tell the record's own lifetime.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// How long a caller waits for the first lookup of a name.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long it waits when there is a last good answer to fall back on: checks must not slow down with a name server.
const REFRESH_PATIENCE: Duration = Duration::from_millis(50);

/// Cheap to clone; clones share the memory.
#[derive(Debug, Clone, Default)]
pub struct Names {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    looked_up_at: Option<Instant>,
    /// A lookup under way: it sends its outcome once.
    under_way: Option<watch::Receiver<Option<Result<(), String>>>>,
}

impl Names {
    /// The addresses of a host, which may be an address already.
    ///
    /// # Errors
    /// When the name has never resolved and does not now; the text names it.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let Some(mut under_way) = self.start(host) else { return Ok(self.known(host)) };
        let patience = if self.known(host).is_empty() { PATIENCE } else { REFRESH_PATIENCE };
        let outcome = tokio::time::timeout(patience, under_way.wait_for(Option::is_some)).await;
        let problem = match outcome {
            Ok(Ok(result)) => result.clone().and_then(Result::err),
            // Nobody else would say that it is over, and the next one would wait for it too.
            Ok(Err(_)) => self.finish(host, Err(io::Error::other("the lookup broke off"))).err(),
            Err(_) => Some("the name server does not answer".to_owned()),
        };
        let known = self.known(host);
        match problem {
            Some(problem) if known.is_empty() => Err(io::Error::other(format!("{host}: {problem}"))),
            _ => Ok(known),
        }
    }

    fn known(&self, host: &str) -> Vec<IpAddr> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(host).map(|entry| entry.addresses.clone()).unwrap_or_default()
    }

    /// Joins the lookup under way or starts one; `None` when what is known is fresh.
    fn start(&self, host: &str) -> Option<watch::Receiver<Option<Result<(), String>>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(host.to_owned()).or_default();
        if entry.looked_up_at.is_some_and(|at| at.elapsed() < FRESH_FOR) && !entry.addresses.is_empty() {
            return None;
        }
        if let Some(under_way) = &entry.under_way {
            return Some(under_way.clone());
        }
        let (sender, receiver) = watch::channel(None);
        entry.under_way = Some(receiver.clone());
        let (names, host) = (self.clone(), host.to_owned());
        tokio::spawn(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found = found.map(|addresses| addresses.map(|address| address.ip()).collect());
            sender.send_replace(Some(names.finish(&host, found)));
        });
        Some(receiver)
    }

    fn finish(&self, host: &str, found: io::Result<Vec<IpAddr>>) -> Result<(), String> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(host.to_owned()).or_default();
        entry.under_way = None;
        let addresses = found.map_err(|error| error.to_string())?;
        entry.looked_up_at = Some(Instant::now());
        // Order matters to nobody but would make equal answers look different.
        entry.addresses = addresses;
        entry.addresses.sort_unstable();
        entry.addresses.dedup();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_lookup_and_names_keep_their_last_good_answer() {
        let names = Names::default();
        assert_eq!(names.lookup("10.1.2.3").await.ok(), Some(vec![IpAddr::from([10, 1, 2, 3])]));
        let local = names.lookup("localhost").await.expect("localhost resolves");
        assert!(local.iter().all(IpAddr::is_loopback));
        let failed = names.finish("localhost", Err(io::Error::other("server failure")));
        assert!(failed.is_err());
        assert_eq!(names.known("localhost"), local);
    }

    #[tokio::test]
    async fn a_name_server_that_hangs_does_not_hold_up_a_name_that_is_known() {
        let names = Names::default();
        let known = vec![IpAddr::from([10, 1, 2, 3])];
        let (_never, under_way) = watch::channel(None);
        let entry = Entry { addresses: known.clone(), looked_up_at: None, under_way: Some(under_way) };
        names.entries.lock().unwrap().insert("db".to_owned(), entry);
        let answer = tokio::time::timeout(PATIENCE / 2, names.lookup("db")).await;
        assert_eq!(answer.expect("soon").ok(), Some(known));
    }

    #[tokio::test]
    async fn a_lookup_that_broke_off_is_not_waited_for_again() {
        let names = Names::default();
        let (_, under_way) = watch::channel(None);
        let entry = Entry { under_way: Some(under_way), ..Entry::default() };
        names.entries.lock().unwrap().insert("localhost".to_owned(), entry);
        assert!(names.lookup("localhost").await.is_err());
        assert!(names.lookup("localhost").await.is_ok());
    }

    #[tokio::test]
    async fn a_name_that_never_resolved_is_named_in_the_error() {
        let error = Names::default().lookup("no-such-host.invalid").await.expect_err("invalid");
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }
}
