//! An application as they are: a statement every few milliseconds, and a new session when one breaks.
//!
//! It keeps account of all that happened to it, so that a test can say afterwards what its users noticed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::session::{Session, Trouble};
use crate::wait::{seconds, until_true};

const PACE: Duration = Duration::from_millis(20);
const WRITE: &str = "INSERT INTO written VALUES ({id}, {n}) RETURNING host(inet_server_addr())";
const READ: &str = "SELECT host(inet_server_addr())";

/// No two applications write the same rows.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What happened to an application.
#[derive(Debug, Default, Clone)]
pub struct Account {
    pub connects: usize,
    pub failed_connects: Vec<Trouble>,
    /// Statements that failed; each cost a session.
    pub broken: Vec<Trouble>,
    pub answers: Vec<Answer>,
}

/// A statement that was acknowledged.
#[derive(Debug, Clone)]
pub struct Answer {
    pub number: u64,
    pub server: String,
    pub at: Instant,
}

impl Account {
    /// The servers in the order of their answers, each turn once.
    pub fn servers(&self) -> Vec<&str> {
        let mut servers: Vec<&str> = self.answers.iter().map(|answer| &*answer.server).collect();
        servers.dedup();
        servers
    }

    /// The longest time without an answer that did not end before `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let pairs = self.answers.windows(2).filter(|pair| pair[1].at > since);
        pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }
}

/// A running application; it ends with this value.
#[derive(Debug)]
pub struct Application {
    id: u64,
    account: Arc<Mutex<Account>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    /// Inserts a row with each statement. The table is there already: see [`make_table`].
    pub fn writer(address: SocketAddr) -> Application {
        Application::start(address, WRITE, false)
    }

    pub fn reader(address: SocketAddr) -> Application {
        Application::start(address, READ, false)
    }

    /// Opens a session for each statement.
    pub fn visitor(address: SocketAddr) -> Application {
        Application::start(address, READ, true)
    }

    fn start(address: SocketAddr, sql: &'static str, leaves: bool) -> Application {
        let account = Arc::new(Mutex::new(Account::default()));
        let (stop, stopped) = channel();
        let id = NEXT_ID.fetch_add(1, Relaxed);
        let work = Work {
            address,
            sql: sql.replace("{id}", &id.to_string()),
            leaves,
            account: Arc::clone(&account),
        };
        let thread = std::thread::spawn(move || work.run(&stopped));
        let application = Application { id, account, stop: Some(stop), thread: Some(thread) };
        application.wait_on("the application works");
        application
    }

    fn locked(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("an application that has not panicked")
    }

    pub fn account(&self) -> Account {
        self.locked().clone()
    }

    /// Waits for an answer to a statement that is asked from now on.
    #[track_caller]
    pub fn wait_on(&self, what: &str) {
        let answers = self.locked().answers.len();
        until_true(what, seconds(90), || self.locked().answers.len() > answers + 1);
    }

    /// Ends it, and tells what happened to it.
    pub fn finish(mut self) -> Account {
        self.end().expect("no panic");
        self.account()
    }

    /// Ends a writer. Nothing that was acknowledged to it may be missing.
    pub fn finish_writer(mut self, address: SocketAddr) -> Account {
        self.end().expect("no panic");
        let account = self.account();
        let session = Session::open(address).expect("a session to look at what was written");
        let rows = session.rows(&format!("SELECT n FROM written WHERE writer = {}", self.id)).expect("rows");
        let there: BTreeSet<u64> = rows.iter().flatten().filter_map(|n| n.parse().ok()).collect();
        let missing: Vec<u64> =
            account.answers.iter().map(|answer| answer.number).filter(|n| !there.contains(n)).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
        session.close();
        account
    }

    fn end(&mut self) -> std::thread::Result<()> {
        self.stop = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Makes the table that writers write to, empty.
pub fn make_table(address: SocketAddr) {
    let session = Session::open(address).expect("a session to make the table");
    session.value(
        "DROP TABLE IF EXISTS written; CREATE TABLE written (writer int, n int, PRIMARY KEY (writer, n))",
    );
    session.close();
}

struct Work {
    address: SocketAddr,
    sql: String,
    /// Says goodbye after each statement.
    leaves: bool,
    account: Arc<Mutex<Account>>,
}

impl Work {
    fn run(&self, stopped: &Receiver<()>) {
        let (mut session, mut number) = (None, 0);
        while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
            number += 1;
            session = session.or_else(|| self.connect()).and_then(|session| self.ask(session, number));
        }
    }

    fn note(&self, note: impl FnOnce(&mut Account)) {
        note(&mut self.account.lock().expect("a test that has not panicked"));
    }

    fn connect(&self) -> Option<Session> {
        let opened = Session::open(self.address);
        self.note(|account| match &opened {
            Ok(_) => account.connects += 1,
            Err(trouble) => account.failed_connects.push(trouble.clone()),
        });
        opened.ok()
    }

    /// The session if it goes on.
    fn ask(&self, session: Session, number: u64) -> Option<Session> {
        let asked = session.rows(&self.sql.replace("{n}", &number.to_string()));
        let works = asked.is_ok();
        self.note(|account| match asked {
            Ok(rows) => {
                let server = rows.into_iter().flatten().next().unwrap_or_default();
                account.answers.push(Answer { number, server, at: Instant::now() });
            }
            Err(trouble) => account.broken.push(trouble),
        });
        if works && self.leaves {
            session.close();
            return None;
        }
        works.then_some(session)
    }
}
