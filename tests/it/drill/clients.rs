//! The clients of the primary pool: they look for the writer with the real hold, and stay until they are cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pilotfish::proxy::Pool;
use pilotfish::proxy::hold::{Board, Hold, Round, Seeker};
use pilotfish::proxy::queue::{Claim, Turn};
use pilotfish::proxy::sessions::{Session, Shard};
use pilotfish::routing::pick::{Draw, pick};
use pilotfish::routing::{PoolRoutes, Routes};
use pilotfish::stats::{End, Phase};
use tokio::time::{Instant, sleep, sleep_until};

use super::ledger::Ledger;
use super::world::{Dial, Ms, NODES, World};
use super::{CONNECT_TIMEOUT, HOLD, QUEUE_TIMEOUT, Rule};
use crate::topology::dice::Dice;

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
/// The grain of the clock, several times.
const GRAIN: Ms = 5;
/// How long a dial is under way before anything comes of it.
const WAYS: [Ms; 6] = [0, 1, 1, 2, 5, LONGEST_WAY];
const LONGEST_WAY: Ms = 30;
/// A client whose dial failed tries again after 50 ms; somewhat later where many wait.
const RETRIES_WITHIN: Ms = 80;

/// What the clients share.
pub struct Town {
    pub board: Board,
    pub pool: Arc<Pool>,
    pub shard: Arc<Shard>,
    pub started: Instant,
    state: Mutex<State>,
    removed: Option<Rule>,
}

pub struct State {
    pub world: World,
    pub ledger: Ledger,
    pub dice: Dice,
    /// Dials that failed since control last asked.
    pub troubles: Vec<usize>,
    waiting: Vec<Waiting>,
    /// The last client that had room for the first time.
    last_turn: u64,
    /// Since when the writer has had room although clients wait for it.
    ignored_since: Option<Ms>,
}

impl State {
    /// Whoever comes first has room first. After a dial that failed, a client begins anew.
    fn takes_turn(&mut self, now: Ms, client: u64) {
        if client < self.last_turn {
            let last = self.last_turn;
            self.ledger.complain(now, format!("client {client} had room only after client {last}"));
        }
        self.last_turn = client;
    }
}

/// A client between two rounds.
struct Waiting {
    client: u64,
    since: Ms,
    dial_failed: bool,
}

impl Town {
    pub fn new(board: Board, pool: Arc<Pool>, world: World, dice: Dice, removed: Option<Rule>) -> Town {
        let ledger = Ledger::default();
        let state = State {
            world,
            ledger,
            dice,
            troubles: Vec::new(),
            waiting: Vec::new(),
            last_turn: 0,
            ignored_since: None,
        };
        let state = Mutex::new(state);
        Town { board, pool, shard: Arc::default(), started: Instant::now(), state, removed }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic before")
    }

    pub fn now(&self) -> Ms {
        self.started.elapsed().as_millis() as Ms
    }

    /// Every client that waits has a reason to, by the table in force since `since`.
    pub fn check_wake_ups(&self, since: Ms) {
        let now = self.now();
        let routes = self.board.routes(&self.pool);
        let has_writer = routes.pools.iter().any(|pool| !pool.candidates.is_empty());
        let mut state = self.state();
        let forgotten = state.waiting.iter().find(|waiting| match waiting.dial_failed {
            true => now > waiting.since + RETRIES_WITHIN,
            false => has_writer && now > waiting.since.max(since) + GRAIN,
        });
        let forgotten = forgotten.map(|waiting| waiting.client);
        if let Some(client) = forgotten {
            state.ledger.complain(now, format!("client {client} was not woken"));
        }
    }

    /// No member has more than it may, and nobody waits while the writer has room.
    pub fn check_queue(&self, limit: Option<usize>) {
        let (now, stats) = (self.now(), &self.pool.stats);
        let routes = self.board.routes(&self.pool);
        let writer =
            routes.pools.first().and_then(|pool| Some(&pool.backends[pool.candidates.first()?.backend]));
        let ignored = stats.queue.waiting() > 0 && writer.is_some_and(|writer| writer.stats.has_room());
        let mut state = self.state();
        let since = *state.ignored_since.get_or_insert(now);
        if !ignored {
            state.ignored_since = None;
        } else if now > since + 2 * GRAIN {
            state.ledger.complain(now, "the writer has room, and nobody is called".to_owned());
        }
        let full = stats
            .members()
            .into_iter()
            .find(|(_, counts)| limit.is_some_and(|limit| counts.active > limit as u64));
        if let Some((name, counts)) = full {
            state.ledger.complain(now, format!("{} sessions on {name}", counts.active));
        }
    }

    /// The nodes that have writers' sessions.
    pub fn seats(&self) -> Vec<usize> {
        let rows = self.shard.rows(usize::MAX).into_iter().filter(|row| row.phase == Phase::Relaying);
        rows.filter_map(|row| NODES.iter().position(|node| row.member.as_deref() == Some(node))).collect()
    }
}

/// One client's life. It may lose patience.
pub async fn live(town: Arc<Town>, session: Arc<Session>, patience: Option<Ms>) -> End {
    let leaves_at = patience.map(|patience| Instant::now() + Duration::from_millis(patience));
    let mut seeker =
        Client { town: &town, session: &session, leaves_at, turn: Turn::default(), has_had_room: false };
    let (mut hold, began) = (None, town.now());
    let outcome = town.board.until_served(&town.pool, &mut hold, &mut seeker).await;
    seeker.judge(outcome.err(), hold, town.now() - began);
    match outcome {
        Ok(()) => std::future::pending().await,
        Err(end) => end,
    }
}

struct Client<'a> {
    town: &'a Town,
    session: &'a Session,
    leaves_at: Option<Instant>,
    turn: Turn,
    has_had_room: bool,
}

impl Client<'_> {
    /// Was it served, or sent away in time and for the reason that it was told?
    fn judge(&self, end: Option<End>, hold: Option<Hold>, waited: Ms) {
        let now = self.town.now();
        let mut state = self.town.state();
        state.waiting.retain(|waiting| waiting.client != self.session.id);
        state.ledger.held += u64::from(hold.is_some());
        // The dial before the hold begins, and one that is under way when its time is up, take their time beside it.
        let dial = CONNECT_TIMEOUT.as_millis() as Ms + LONGEST_WAY;
        let queue = QUEUE_TIMEOUT.as_millis() as Ms;
        // It may have waited for room before it was held, and after.
        let limit = HOLD.as_millis() as Ms + 2 * queue + 2 * dial + GRAIN;
        let fits = match end {
            _ if waited > limit => false,
            Some(End::HoldExpired) => waited >= HOLD.as_millis() as Ms,
            Some(End::ClientLeft) => self.leaves_at.is_some_and(|at| at <= Instant::now()),
            Some(End::QueueExpired) => waited >= queue,
            Some(End::HoldFull | End::QueueFull) | None => true,
            Some(_) => false,
        };
        if !fits {
            let end = end.map_or("served", End::as_str);
            state.ledger.complain(now, format!("client {}: {end} after {waited} ms", self.session.id));
        }
    }

    async fn dial(&self, i: usize) -> Dial {
        let pause = self.town.state().dice.pick(&WAYS);
        sleep(Duration::from_millis(pause)).await;
        let dial = self.town.state().world.dial(i);
        if dial == Dial::NoAnswer {
            sleep(CONNECT_TIMEOUT).await;
        }
        dial
    }
}

impl Seeker for Client<'_> {
    type Served = ();

    async fn round(&mut self, routes: &Routes, _hold: &mut Option<Hold>) -> Result<Round<()>, End> {
        let Town { board, pool, .. } = self.town;
        self.town.state().waiting.retain(|waiting| waiting.client != self.session.id);
        let waits = |dial_failed| {
            let waiting = Waiting { client: self.session.id, since: self.town.now(), dial_failed };
            self.town.state().waiting.push(waiting);
        };
        let mut turn = std::mem::take(&mut self.turn);
        let client = self.session.client().origin();
        let writer = |routes: &PoolRoutes| {
            pick(routes, pool.options.balance, Draw { tried: &[], turn: 0, random: 0, client })
        };
        let claim = board.claim(pool, routes, &mut turn, 0, &*self, writer).await;
        let (index, active) = match claim? {
            Claim::Taken(index, active) => (index, active),
            Claim::Nobody => {
                self.turn = turn;
                waits(false);
                return Ok(Round::Nobody);
            }
            Claim::Moved => {
                self.turn = turn;
                return Ok(Round::Moved);
            }
        };
        self.turn = turn;
        let backend = &routes.pools[0].backends[index];
        self.session.heads_for(Some((backend, active)));
        if pool.stats.has_queue() && !std::mem::replace(&mut self.has_had_room, true) {
            self.town.state().takes_turn(self.town.now(), self.session.id);
        }
        let i = NODES.iter().position(|node| *node == &*backend.name).expect("a node");
        if self.dial(i).await != Dial::Served {
            self.town.state().troubles.push(i);
            self.session.heads_for(None);
            if !board.allows(pool, backend) {
                return Ok(Round::Moved);
            }
            waits(true);
            return Ok(Round::Failed);
        }
        if self.town.removed != Some(Rule::SecondLook) && !board.allows(pool, backend) {
            self.session.heads_for(None);
            return Ok(Round::Moved);
        }
        self.session.relays(ANYWHERE, ANYWHERE);
        let now = self.town.now();
        self.town.state().ledger.hand_over(now, i);
        Ok(Round::Served(()))
    }

    async fn left(&self) {
        match self.leaves_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}
