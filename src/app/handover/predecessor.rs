//! The process whose place this one takes, as this one sees it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::super::plan::{Known, Plan, addresses};
use super::super::{StartError, transport};
use super::former::{self, Formers};
use super::inherited::{Inherited, connection};
use super::letter::{self, Estate, FromNew, FromOld, OperatedCluster, PassedFormer, line};
use super::settled::{Settled, settled};
use crate::admin::Sources;
use crate::admin::pools::routable;
use crate::admin::upgrade::PastUpgrades;
use crate::config::Config;
use crate::proxy::share::Stays;
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
    /// Those whose places were taken before, and their connections.
    formers: Vec<(PassedFormer, UnixStream)>,
    met: Instant,
    /// Of all unix sockets that it passed: the files are its own.
    files: Stays,
    word: Word,
    herald: Herald,
}

/// Whether this process takes the other's place: decided once, by whoever comes first.
#[derive(Debug, Clone, Default)]
pub(in crate::app) struct Word(Arc<OnceLock<bool>>);

impl Word {
    /// This process is not to take the place any more; `false`: it does.
    pub fn withdraw(&self) -> bool {
        !*self.0.get_or_init(|| false)
    }

    fn give(&self) -> bool {
        *self.0.get_or_init(|| true)
    }
}

/// Tells the process before this one when this one cannot start.
#[derive(Debug, Clone)]
pub struct Herald(Arc<Mutex<Option<UnixStream>>>);

impl Herald {
    /// And why. Once this process has taken the other's place it has nothing to say any more.
    pub fn failed(&self, reason: &str) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.iter_mut().for_each(|stream| {
            former::tell(stream, &FromNew::Failed { reason: reason.to_owned() });
        });
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Predecessor {
    /// Also gives the sockets that it passes.
    ///
    /// # Errors
    /// A sentence.
    pub fn meet() -> Result<(Predecessor, Inherited), String> {
        let (mut passed, stream) = Inherited::from_predecessor();
        let stream =
            stream.ok_or("no process before this one speaks; PILOTFISH_UPGRADE is not for people")?;
        let lost = |error: io::Error| format!("the process before this one is not heard of: {error}");
        stream.set_read_timeout(Some(LETTER_WITHIN)).map_err(lost)?;
        let herald = Herald(Arc::new(Mutex::new(Some(stream.try_clone().map_err(lost)?))));
        let letters = BufReader::new(stream);
        let (estate, files, word) = (Estate::default(), Stays::default(), Word::default());
        files.set(true);
        let (formers, met) = (Vec::new(), Instant::now());
        let mut predecessor = Predecessor { letters, estate, formers, met, files, word, herald };
        predecessor.tell(&FromNew::Begun { pid: std::process::id() }).map_err(lost)?;
        match predecessor.hear().map_err(lost)? {
            FromOld::Estate(estate) => predecessor.estate = estate,
            other => return Err(format!("the process before this one said {other:?} first")),
        }
        let Estate { sockets, formers, .. } = &predecessor.estate;
        let inherited = Inherited::told(&mut passed, sockets, &predecessor.files);
        let formers = formers.iter().cloned().zip(sockets.len()..);
        let formers = formers.filter_map(|(former, place)| Some((former, connection(&mut passed, place)?)));
        predecessor.formers = formers.collect();
        Ok((predecessor, inherited))
    }

    pub fn herald(&self) -> Herald {
        self.herald.clone()
    }

    pub fn word(&self) -> Word {
        self.word.clone()
    }

    pub fn pid(&self) -> u32 {
        self.estate.pid
    }

    /// What has come of upgrades, with this one.
    pub fn past(&self) -> PastUpgrades {
        let (done, failed) = (self.estate.done + 1, self.estate.failed);
        PastUpgrades { done, failed, last_at: Some(SystemTime::now()), problem: None }
    }

    /// Waits until every address leads somewhere that does so in the process before. `clusters` are those of the configuration, in its order.
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
        loop {
            let waited = self.met.elapsed();
            match self.compare(config, clusters, sources) {
                (Settled::Whole, _) if sources.pictures.is_ready() => return Ok(()),
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

    /// What operators have said of the members of clusters that the process before has too. `clusters` as for `settle`.
    pub fn wishes(
        &self,
        config: &Config,
        clusters: &[ClusterId],
    ) -> Vec<(ClusterId, Vec<(String, Operator)>)> {
        let known = self.estate.clusters.iter().zip(0..).map(|(there, number)| Known {
            id: ClusterId(number),
            name: there.name.clone(),
            nodes: there.nodes.iter().cloned().collect(),
        });
        let plan = Plan::new(&known.collect::<Vec<_>>(), &[], config);
        let there = |id: ClusterId| self.estate.clusters.get(id.0 as usize);
        // A wish of another version is passed over.
        let wish = |text: &str| Operator::ALL.into_iter().find(|known| known.as_str() == text);
        let wishes = |there: &OperatedCluster| {
            let known =
                there.operators.iter().filter_map(|(member, text)| Some((member.clone(), wish(text)?)));
            known.collect()
        };
        let same = |(id, found): (&ClusterId, &Option<ClusterId>)| Some((*id, wishes(there((*found)?)?)));
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
            Ok(FromOld::Take) if self.word.give() => Ok(()),
            Ok(FromOld::Take) => Err(StartError::Predecessor("this one is stopped".to_owned())),
            Ok(other) => Err(StartError::Predecessor(format!("the process before this one said {other:?}"))),
            Err(error) => {
                Err(StartError::Predecessor(format!("the process before this one is gone: {error}")))
            }
        }
    }

    /// This process accepts. Waits until the other one has told the service manager so, and follows it to its end, as those
    /// before it.
    pub fn succeed(mut self, formers: &Formers) {
        // Before it is said: the other one leaves them from then on.
        self.files.set(false);
        let told = self.tell(&FromNew::Taken).and_then(|()| self.hear());
        self.herald.close();
        for (former, mut stream) in std::mem::take(&mut self.formers) {
            former::tell(&mut stream, &FromNew::FollowedBy { pid: std::process::id() });
            formers.follow(former, stream);
        }
        let pid = self.pid();
        let (sessions, cut_in_ms) = match told {
            Ok(FromOld::Open { sessions, cut_in_ms }) => {
                tracing::info!(pid, sessions, "took the place of another process, which drains");
                (sessions, cut_in_ms)
            }
            // It has ended, or it is slow: its connection, which stays open here, tells which.
            _ => {
                tracing::warn!(pid, ?told, "the process before this one had no last word");
                (0, 0)
            }
        };
        formers.follow(PassedFormer { pid, sessions, cut_in_ms }, self.letters.into_inner());
    }

    fn tell(&mut self, letter: &FromNew) -> io::Result<()> {
        self.letters.get_mut().write_all(line(letter).as_bytes())
    }

    fn hear(&mut self) -> io::Result<FromOld> {
        let mut line = Vec::new();
        match self.letters.read_until(b'\n', &mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => letter::parse(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_decides_whether_the_place_is_taken() {
        let word = Word::default();
        assert!(word.give() && !word.clone().withdraw() && word.give());
        let word = Word::default();
        assert!(word.clone().withdraw() && !word.give() && word.withdraw());
    }
}
