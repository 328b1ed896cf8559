//! The process whose place this one takes, as this one sees it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use super::super::plan::{Known, Plan, addresses};
use super::super::{StartError, transport};
use super::inherited::Inherited;
use super::letter::{Estate, FromNew, FromOld, OperatedCluster, line};
use super::settled::{Settled, settled};
use crate::admin::Sources;
use crate::admin::pools::routable;
use crate::admin::upgrade::{PastUpgrades, Upgrade};
use crate::config::Config;
use crate::routing::ClusterId;
use crate::topology::Operator;

/// The estate comes with the start, and the last word a moment after `taken`.
const LETTER_WITHIN: Duration = Duration::from_secs(5);
/// All members that took sessions before are waited for this long; then those of them that do are enough.
const WHOLE_WITHIN: Duration = Duration::from_secs(3);
/// How much of its time a new process keeps for all else than waiting for Patroni's answers.
const SHARE_OF_REST: u32 = 5;
/// Between two looks at the clusters.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(in crate::app) struct Predecessor {
    letters: BufReader<UnixStream>,
    estate: Estate,
    met: Instant,
}

/// Tells the process before this one why this one cannot start.
#[derive(Debug)]
pub struct Herald(UnixStream);

impl Herald {
    pub fn failed(&mut self, reason: &str) {
        // Its own end is told by the end of the connection.
        let _ = self.0.write_all(line(&FromNew::Failed { reason: reason.to_owned() }).as_bytes());
    }
}

impl Predecessor {
    /// Also gives the sockets that it passes.
    ///
    /// # Errors
    /// A sentence.
    pub fn meet() -> Result<(Predecessor, Inherited), String> {
        let (passed, stream) = Inherited::from_predecessor();
        let stream =
            stream.ok_or("no process before this one speaks; PILOTFISH_UPGRADE is not for people")?;
        let lost = |error: io::Error| format!("the process before this one is not heard of: {error}");
        stream.set_read_timeout(Some(LETTER_WITHIN)).map_err(lost)?;
        let letters = BufReader::new(stream);
        let mut predecessor = Predecessor { letters, estate: Estate::default(), met: Instant::now() };
        predecessor.tell(&FromNew::Begun { pid: std::process::id() }).map_err(lost)?;
        match predecessor.hear().map_err(lost)? {
            FromOld::Estate(estate) => predecessor.estate = estate,
            other => return Err(format!("the process before this one said {other:?} first")),
        }
        let inherited = Inherited::told(passed, &predecessor.estate.sockets);
        Ok((predecessor, inherited))
    }

    pub fn herald(&self) -> Option<Herald> {
        self.letters.get_ref().try_clone().ok().map(Herald)
    }

    pub fn pid(&self) -> u32 {
        self.estate.pid
    }

    /// What has come of upgrades, with this one.
    pub fn past(&self) -> PastUpgrades {
        let (done, failed) = (self.estate.done + 1, self.estate.failed);
        PastUpgrades { done, failed, last_at: Some(SystemTime::now()), problem: None }
    }

    /// Waits until every address leads somewhere that does so in the process before, and an operator's wishes are done here
    /// too. `clusters` are those of the configuration, in its order.
    ///
    /// # Errors
    /// When time is up: which pool leads nowhere.
    pub async fn settle(
        &self,
        config: &Config,
        clusters: &[ClusterId],
        sources: &Sources,
    ) -> Result<(), StartError> {
        let within = Duration::from_millis(self.estate.within_ms);
        let patience = within - within / SHARE_OF_REST;
        let operated = self.operated(config, clusters);
        loop {
            let mut is_operated = true;
            for (id, there) in &operated {
                is_operated &= operate(*id, there, sources).await;
            }
            let waited = self.met.elapsed();
            match self.compare(config, clusters, sources) {
                (Settled::Whole, _) if is_operated && sources.pictures.is_ready() => return Ok(()),
                (Settled::Whole | Settled::Enough, _) if waited >= WHOLE_WITHIN.min(patience) => {
                    return Ok(());
                }
                (Settled::Not, why) if waited >= patience => return Err(StartError::Predecessor(why)),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// The address that is worst off, and what is to be said of it.
    fn compare(&self, config: &Config, clusters: &[ClusterId], sources: &Sources) -> (Settled, String) {
        let mut worst = (Settled::Whole, String::new());
        for (place, pool, listen) in addresses(config) {
            let address = transport::address(&listen.address).to_string();
            let Some(there) = self.estate.sockets.iter().find(|there| there.address == address) else {
                continue;
            };
            let picture = clusters.get(place).and_then(|id| sources.pictures.one(*id));
            let (here, _) = routable(picture.as_ref().and_then(|picture| picture.routes.pool(pool)));
            match settled(&there.routable, &here) {
                Settled::Whole => {}
                Settled::Enough => worst.0 = Settled::Enough,
                Settled::Not => {
                    let members = there.routable.join(", ");
                    let why =
                        format!("pool {pool} on {address} leads nowhere in the new one, there to {members}");
                    return (Settled::Not, why);
                }
            }
        }
        worst
    }

    /// Clusters that the process before has too.
    fn operated(&self, config: &Config, clusters: &[ClusterId]) -> Vec<(ClusterId, &OperatedCluster)> {
        let known = self.estate.clusters.iter().zip(0..).map(|(there, number)| Known {
            id: ClusterId(number),
            name: there.name.clone(),
            nodes: there.nodes.iter().cloned().collect(),
        });
        let plan = Plan::new(&known.collect::<Vec<_>>(), &[], config);
        let there = |id: ClusterId| self.estate.clusters.get(id.0 as usize);
        let same = |(id, found): (&ClusterId, &Option<ClusterId>)| Some((*id, there((*found)?)?));
        clusters.iter().zip(&plan.clusters).filter_map(same).collect()
    }

    /// Ready to accept: waits for the word to do so.
    ///
    /// # Errors
    /// The other process goes on, or has ended.
    pub fn ask(&mut self) -> Result<(), StartError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let told = self.tell(&FromNew::Ready { version }).and_then(|()| self.hear());
        match told {
            Ok(FromOld::Take) => Ok(()),
            Ok(other) => Err(StartError::Predecessor(format!("the process before this one said {other:?}"))),
            Err(error) => {
                Err(StartError::Predecessor(format!("the process before this one is gone: {error}")))
            }
        }
    }

    /// This process accepts. Waits until the other one has told the service manager so, and follows it to its end.
    pub fn succeed(mut self, upgrade: &Upgrade) {
        let told = self.tell(&FromNew::Taken).and_then(|()| self.hear());
        let Ok(FromOld::Open { sessions, cut_in_ms }) = told else {
            // It has ended, or it hangs: there is nothing left to wait for.
            return tracing::warn!(pid = self.pid(), ?told, "the process before this one had no last word");
        };
        tracing::info!(pid = self.pid(), sessions, "took the place of another process, which drains");
        let upgrade = upgrade.clone();
        let follow = move || {
            let mut left = Some((sessions, cut_in_ms));
            let _ = self.letters.get_ref().set_read_timeout(None);
            while let Some((sessions, cut_in_ms)) = left {
                upgrade.drains(Some((self.pid(), sessions, Duration::from_millis(cut_in_ms))));
                left = match self.hear() {
                    Ok(FromOld::Open { sessions, cut_in_ms }) => Some((sessions, cut_in_ms)),
                    _ => None,
                };
            }
            upgrade.drains(None);
            tracing::info!(pid = self.pid(), "the process before this one has ended");
        };
        if let Err(error) = std::thread::Builder::new().name("predecessor".to_owned()).spawn(follow) {
            tracing::warn!(%error, "what is left of the process before this one is not followed");
        }
    }

    fn tell(&mut self, letter: &FromNew) -> io::Result<()> {
        self.letters.get_mut().write_all(line(letter).as_bytes())
    }

    fn hear(&mut self) -> io::Result<FromOld> {
        let mut line = String::new();
        match self.letters.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}

/// Members that an operator has taken out stay out. Says whether all are known here that have to.
async fn operate(cluster: ClusterId, there: &OperatedCluster, sources: &Sources) -> bool {
    let Some(picture) = sources.pictures.one(cluster) else { return true };
    let mut is_done = true;
    for (member, wish) in &there.operators {
        let Some(wish) = Operator::ALL.into_iter().find(|known| known.as_str() == wish) else { continue };
        let known = picture.members.iter().find(|known| known.member.name == *member);
        is_done &= match known {
            Some(known) if known.operator == wish => true,
            Some(_) => sources.inbox.operate(cluster, member.clone(), wish).await.is_some(),
            None => false,
        };
    }
    is_done
}
