//! The control plane without a data plane: what it was told goes in, tables and pictures come out.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use pilotfish::control::{
    ClusterOptions, ClusterPicture, Controller, Credentials, Inbox, MemberPicture, Names, Patroni,
    PatroniOptions, Pictures, StewardOptions, first_table, inbox,
};
use pilotfish::proxy::{Trouble, TroubleKind};
use pilotfish::routing::{Cell, ClusterId, Kind, PoolRules, Routes, cell};
use pilotfish::stats::PoolStats;
use pilotfish::topology::health::Thresholds;
use pilotfish::topology::roster::Seed;
use pilotfish::topology::{Member, ReaderRules};
use tokio::task::AbortHandle;

use super::within;

/// How a cluster is watched in tests: often, so that they are soon done, and with more patience than a noisy machine
/// needs to answer.
pub fn often(seeds: Vec<Seed>) -> Watch {
    Watch {
        timeout: Duration::from_secs(3),
        credentials: Credentials::default(),
        steward: StewardOptions {
            name: None,
            seeds,
            interval: Duration::from_millis(40),
            fast_interval: Duration::from_millis(10),
            leader_grace: Some(Duration::from_secs(30)),
            connect_timeout: Duration::from_secs(1),
            thresholds: Thresholds { fall: 3, rise: 2 },
            readers: vec![ReaderRules { pool: "replicas".into(), fallback: true, ..ReaderRules::default() }],
        },
    }
}

#[derive(Debug)]
pub struct Watch {
    pub timeout: Duration,
    pub credentials: Credentials,
    pub steward: StewardOptions,
}

impl Watch {
    pub fn options(self, names: &Names) -> ClusterOptions {
        let Watch { timeout, credentials, steward } = self;
        let patroni = PatroniOptions { timeout, credentials, ..PatroniOptions::default() };
        let patroni = Patroni::new(patroni, names.clone()).expect("no certificates to be wrong");
        let pool = |name, kind| PoolRules::new(name, kind, &Arc::new(PoolStats::new(1)));
        let pools = vec![pool("primary", Kind::Primary), pool("replicas", Kind::Replicas)];
        ClusterOptions { steward, patroni, pools }
    }
}

#[derive(Debug)]
pub struct Rig {
    pub inbox: Inbox,
    cell: Cell,
    pub pictures: Pictures,
    control: AbortHandle,
}

impl Rig {
    pub fn start(watches: Vec<Watch>) -> Rig {
        // Once in a process; whoever comes later finds it set.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (publisher, cell) = cell::cell(first_table(watches.len()));
        let (inbox, events) = inbox();
        let names = Names::default();
        let clusters = watches.into_iter().map(|watch| watch.options(&names)).collect();
        let controller = Controller::start(clusters, &names, publisher, &inbox, events);
        let pictures = controller.pictures();
        let control = tokio::spawn(controller.run()).abort_handle();
        Rig { inbox, cell, pictures, control }
    }

    /// One cluster, watched often.
    pub fn watch(seeds: Vec<Seed>) -> Rig {
        Rig::start(vec![often(seeds)])
    }

    pub fn picture(&self, cluster: usize) -> Arc<ClusterPicture> {
        Arc::clone(&self.pictures.all()[cluster])
    }

    /// Counts what control has reacted to.
    pub fn events(&self) -> u64 {
        *self.pictures.follow().borrow()
    }

    /// Told of every change of the pictures.
    pub fn follow(&self) -> tokio::sync::watch::Receiver<u64> {
        self.pictures.follow()
    }

    pub fn routes(&self, cluster: usize) -> Arc<Routes> {
        self.cell.load().cluster(ClusterId(cluster as u32)).map(Arc::clone).unwrap_or_default()
    }

    /// Waits for a picture of the first cluster that is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&ClusterPicture) -> bool) -> Arc<ClusterPicture> {
        self.until_of(0, what, wanted).await
    }

    pub async fn until_of(
        &self,
        cluster: usize,
        what: &str,
        wanted: impl Fn(&ClusterPicture) -> bool,
    ) -> Arc<ClusterPicture> {
        let mut changes = self.pictures.follow();
        let search = async {
            while !wanted(&self.picture(cluster)) {
                changes.changed().await.expect("control lives");
            }
        };
        let _told = TellOnPanic(self, cluster);
        within(what, search).await;
        self.picture(cluster)
    }

    /// Waits until the cluster has this writer and these readers.
    pub async fn settled(&self, writer: &str, readers: &[&str]) -> Arc<ClusterPicture> {
        let wanted = |picture: &ClusterPicture| {
            let decision = picture.decision.as_ref();
            decision.is_some_and(|d| d.writer.as_deref() == Some(writer) && d.readers == readers)
        };
        self.until(&format!("writer {writer}, readers {readers:?}"), wanted).await
    }

    pub async fn weigh(&self, pool: Option<&str>, member: &str, weight: Option<u16>) -> bool {
        let (pool, member) = (pool.map(str::to_owned), member.to_owned());
        self.inbox.weigh(ClusterId::default(), pool, member, weight).await.expect("an answer")
    }

    pub fn trouble(&self, member: &str, kind: TroubleKind) {
        self.inbox.trouble(Trouble {
            cluster: ClusterId::default(),
            pool: Arc::from("primary"),
            member: Arc::from(member),
            kind,
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.control.abort();
    }
}

/// Shows where things stand when a test has waited in vain.
struct TellOnPanic<'a>(&'a Rig, usize);

impl Drop for TellOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("cluster: {}", brief(&self.0.picture(self.1)));
        }
    }
}

fn brief(picture: &ClusterPicture) -> String {
    let member = |m: &MemberPicture| {
        let check = m.checks.last.as_ref().map(|check| (check.status, &check.silence));
        let Member { name, host, port, api } = &m.member;
        format!("\n  {name} {} {host}:{port} {api} {check:.300?}", m.class)
    };
    let members: String = picture.members.iter().map(member).collect();
    format!("{} {:?} {:?}{members}", picture.name, picture.decision, picture.discovery_problem)
}

pub fn class(picture: &ClusterPicture, member: &str) -> Option<&'static str> {
    picture.members.iter().find(|m| m.member.name == member).map(|m| m.class.as_str())
}

pub fn names(picture: &ClusterPicture) -> Vec<&str> {
    picture.members.iter().map(|m| m.member.name.as_str()).collect()
}

pub fn condition(picture: &ClusterPicture) -> Option<&'static str> {
    picture.decision.as_ref().map(|decision| decision.condition.as_str())
}

/// Hears nothing. While there is but one subscriber, tracing asks the thread that comes first to a line of the code whether
/// anybody wants it; one that captures nothing says no, for all threads.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish()));

/// What this thread logs while the guard lives, as lines of JSON.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Control runs on the thread of its test, so nothing of other tests is heard.
    pub fn capture() -> (Lines, tracing::subscriber::DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub fn containing(&self, words: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(words)).count()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
