//! Who may come in: the login of HTTP requests.
//!
//! Basic with a name and a password, Bearer with a token. Nobody configured means nobody has to log in, and everybody
//! is a viewer. Secrets that are kept as hashes are slow to check on purpose; what has passed once is remembered as
//! a digest until the users change, so that a scraper does not pay each time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::sync::Semaphore;

use super::caller::Role;
use super::hosts::Hosts;
use super::refusal::Refusal;
use super::secret::{Fingerprint, Stored, fingerprint};
use super::server::MAX_CONNECTIONS;
use super::stream::MOST_STREAMS;
use super::throttle::Throttle;

/// Slow checks at one time: each keeps a core busy for tens of milliseconds, and a host may have two, and takes up to some
/// megabytes.
const SLOW_CHECKS: usize = 1;
/// Logins by slow secrets that are looked at or wait for it. They keep their places at the door meanwhile, and with those the
/// streams do, but others find some of them all the same.
const MOST_IN_LINE: usize = 48;
const _: () = assert!(MOST_IN_LINE + MOST_STREAMS < MAX_CONNECTIONS);
/// Logins remembered; a user has one password and one token, and few of them are wrong for long.
const MOST_REMEMBERED: usize = 256;

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub role: Role,
    pub password: Option<Stored>,
    pub token: Option<Stored>,
}

/// Everybody who may log in.
#[derive(Debug)]
pub struct Users {
    accounts: Vec<Account>,
    /// Digests of logins by slow secrets that were right, and whose they were.
    remembered: Mutex<HashMap<Fingerprint, usize>>,
    /// Makes the digests worthless to whoever reads the memory of another process.
    salt: Fingerprint,
}

/// What is given in an `Authorization` header.
enum Login {
    Basic { name: String, password: String },
    Bearer { token: String },
}

/// All that stands before the admin side; parts of it change with a reload.
#[derive(Debug)]
pub struct Gate {
    users: RwLock<Arc<Users>>,
    hosts: RwLock<Arc<Hosts>>,
    throttle: Mutex<Throttle>,
    slow: Arc<Semaphore>,
    line: Semaphore,
    failures: AtomicU64,
    throttled: AtomicU64,
}

impl Users {
    pub fn new(accounts: Vec<Account>) -> Users {
        use std::hash::{BuildHasher, RandomState};
        let random = || RandomState::new().hash_one(0u8).to_be_bytes();
        let salt = fingerprint(&[&random(), &random(), &random(), &random()]);
        Users { accounts, remembered: Mutex::default(), salt }
    }

    pub fn are_nobody(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether these and the others are the same people with the same secrets.
    pub fn are_same_as(&self, others: &Users) -> bool {
        self.accounts == others.accounts
    }

    /// The account for a login; slow when the secrets are kept as hashes.
    fn find(&self, login: &Login) -> Option<usize> {
        let mut accounts = self.accounts.iter().enumerate();
        match login {
            Login::Basic { name, password } => {
                let stored = |account: &Account| account.password.clone();
                match accounts.find(|(_, account)| account.name == *name && account.password.is_some()) {
                    Some((index, account)) => stored(account)?.matches(password).then_some(index),
                    None => {
                        // About as slow as for a name that exists, so that time does not tell which do. Where some
                        // passwords are plain and some are hashed, it tells no more than which are which.
                        let decoy = self.accounts.iter().find_map(stored);
                        decoy.map(|decoy| decoy.matches(password));
                        None
                    }
                }
            }
            Login::Bearer { token } => {
                let right = |stored: &Option<Stored>| stored.as_ref().is_some_and(|s| s.matches(token));
                // All of them each time, so that time does not tell which was nearly right.
                let right: Vec<usize> =
                    accounts.filter(|(_, account)| right(&account.token)).map(|(index, _)| index).collect();
                right.first().copied()
            }
        }
    }

    fn is_slow(&self, login: &Login) -> bool {
        let slow = |stored: &Option<Stored>| stored.as_ref().is_some_and(Stored::is_slow);
        match login {
            Login::Basic { .. } => self.accounts.iter().any(|account| slow(&account.password)),
            Login::Bearer { .. } => self.accounts.iter().any(|account| slow(&account.token)),
        }
    }

    fn digest(&self, login: &Login) -> Fingerprint {
        match login {
            Login::Basic { name, password } => {
                fingerprint(&[&self.salt, b"basic", name.as_bytes(), password.as_bytes()])
            }
            Login::Bearer { token } => fingerprint(&[&self.salt, b"bearer", token.as_bytes()]),
        }
    }

    fn recall(&self, digest: &Fingerprint) -> Option<usize> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn remember(&self, digest: Fingerprint, account: usize) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(digest, account);
    }
}

impl Login {
    fn parse(header: &HeaderValue) -> Option<Login> {
        let (scheme, given) = header.to_str().ok()?.trim().split_once(' ')?;
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Login::Bearer { token: given.to_owned() });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(given).ok()?).ok()?;
        let (name, password) = text.split_once(':')?;
        Some(Login::Basic { name: name.to_owned(), password: password.to_owned() })
    }
}

impl Gate {
    pub fn new(users: Users, hosts: Hosts) -> Gate {
        Gate {
            users: RwLock::new(Arc::new(users)),
            hosts: RwLock::new(Arc::new(hosts)),
            throttle: Mutex::default(),
            slow: Arc::new(Semaphore::new(SLOW_CHECKS)),
            line: Semaphore::new(MOST_IN_LINE),
            failures: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.hosts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these; open connections have to prove themselves to them with their next request.
    pub fn replace(&self, users: Users, hosts: Hosts) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
    }

    /// Logins that were wrong, and those that were not looked at since there were too many.
    pub fn failures(&self) -> (u64, u64) {
        (self.failures.load(Relaxed), self.throttled.load(Relaxed))
    }

    /// Name and role of whoever asks from `address` with these headers.
    ///
    /// # Errors
    /// 401 without a login or with a wrong one, 429 after too many wrong ones, 503 while too many wait to be looked at.
    pub async fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<(Option<String>, Role), Refusal> {
        let users = self.users();
        if users.are_nobody() {
            return Ok((None, Role::Viewer));
        }
        let Some(given) = headers.get(AUTHORIZATION) else {
            return Err(unknown("log in with a name and a password (Basic) or a token (Bearer)"));
        };
        self.admits_guesses(address)?;
        let Some(login) = Login::parse(given) else {
            return Err(unknown("the header Authorization is neither Basic nor Bearer as they should be"));
        };
        let known = self.check(&users, login, address).await?;
        let account = known.and_then(|index| users.accounts.get(index));
        let account =
            account.ok_or_else(|| unknown("the name and the password, or the token, are not right"))?;
        Ok((Some(account.name.clone()), account.role))
    }

    async fn check(
        self: &Arc<Self>,
        users: &Arc<Users>,
        login: Login,
        address: IpAddr,
    ) -> Result<Option<usize>, Refusal> {
        if !users.is_slow(&login) {
            let known = users.find(&login);
            if known.is_none() {
                self.throttle().failed(Instant::now(), address);
                self.tell_wrong(users, &login, address);
            }
            return Ok(known);
        }
        let digest = users.digest(&login);
        if let Some(account) = users.recall(&digest) {
            return Ok(Some(account));
        }
        let ended = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the process ends");
        let _in_line = self.line.try_acquire().map_err(|_| self.crowded())?;
        let place = Arc::clone(&self.slow).acquire_owned().await.map_err(ended)?;
        // While this one waited, the same login may have been right, and others wrong. It counts as wrong from here on until it
        // turns out right: whoever hangs up has had the guess, and nothing below waits for anybody.
        if let Some(account) = users.recall(&digest) {
            return Ok(Some(account));
        }
        self.admits_guesses(address)?;
        self.throttle().failed(Instant::now(), address);
        let (gate, users) = (Arc::clone(self), Arc::clone(users));
        let check = move || {
            let _place = place;
            let Some(account) = users.find(&login) else {
                gate.tell_wrong(&users, &login, address);
                return None;
            };
            users.remember(digest, account);
            gate.throttle().was_right(Instant::now(), address);
            Some(account)
        };
        Ok(tokio::task::spawn_blocking(check).await.unwrap_or(None))
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits_guesses(&self, address: IpAddr) -> Result<(), Refusal> {
        let Some(wait) = self.throttle().wait(Instant::now(), address) else { return Ok(()) };
        self.throttled.fetch_add(1, Relaxed);
        Err(too_often(wait.as_secs() + 1))
    }

    fn crowded(&self) -> Refusal {
        self.throttled.fetch_add(1, Relaxed);
        let error = "too many logins wait to be checked; try again in a second";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).with(RETRY_AFTER, 1)
    }

    /// Counts and tells a wrong login. A name that nobody has may be a password in the wrong field: it is not told.
    fn tell_wrong(&self, users: &Users, login: &Login, address: IpAddr) {
        self.failures.fetch_add(1, Relaxed);
        let named = match login {
            Login::Basic { name, .. } => users.accounts.iter().find(|account| account.name == *name),
            Login::Bearer { .. } => None,
        };
        let user = named.map_or("unknown", |account| &account.name);
        tracing::warn!(user, remote = %address, "a login was wrong");
    }
}

fn unknown(why: &str) -> Refusal {
    let challenge = HeaderValue::from_static("Basic realm=\"pilotfish\", charset=\"UTF-8\"");
    Refusal::new(StatusCode::UNAUTHORIZED, why).with(WWW_AUTHENTICATE, challenge)
}

fn too_often(seconds: u64) -> Refusal {
    let error = format!("too many wrong logins from this address; try again in {seconds} s");
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, error).with(RETRY_AFTER, seconds)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// By argon2's reference library; the secret is `password`.
    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn given(password: &str) -> HeaderMap {
        let login = format!("Basic {}", BASE64_STANDARD.encode(format!("alice:{password}")));
        HeaderMap::from_iter([(AUTHORIZATION, login.parse().expect("a header"))])
    }

    fn gate(hash: &str) -> Arc<Gate> {
        let password = Some(Stored::new(hash).expect("a hash"));
        let alice = Account { name: "alice".to_owned(), role: Role::Operator, password, token: None };
        Arc::new(Gate::new(Users::new(vec![alice]), Hosts::new(std::iter::empty())))
    }

    #[tokio::test]
    async fn whoever_hangs_up_has_guessed_all_the_same() {
        let gate = gate(HASH);
        let address = IpAddr::from([192, 0, 2, 1]);
        let guess = given("guess");
        for wrong in 1..=10 {
            let mut asked = Box::pin(gate.admit(&guess, address));
            let mut context = Context::from_waker(Waker::noop());
            // Seldom ready: the hash has to be faster than this thread then.
            let _ = asked.as_mut().poll(&mut context);
            drop(asked);
            // The hash goes on, and keeps its place until it is done.
            while gate.slow.available_permits() < SLOW_CHECKS {
                tokio::task::yield_now().await;
            }
            assert_eq!(gate.failures(), (wrong, 0));
        }
        let refusal = gate.admit(&given("password"), address).await.expect_err("too many guesses");
        assert_eq!((refusal.status, gate.failures()), (StatusCode::TOO_MANY_REQUESTS, (10, 1)));
    }

    #[tokio::test]
    async fn only_so_many_wait_to_be_looked_at_and_the_others_are_told_so() {
        let gate = gate(&super::super::secret::hash("password").expect("a hash"));
        // None is looked at meanwhile.
        let busy = gate.slow.acquire_many(SLOW_CHECKS as u32).await.expect("free");
        let logins = given("password");
        let ask = |number: usize| Box::pin(gate.admit(&logins, [192, 0, 2, number as u8].into()));
        let mut asked: Vec<_> = (0..MOST_IN_LINE + 3).map(ask).collect();
        let mut refused = Vec::new();
        for (number, asked) in asked.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = asked.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                refused.push((number, outcome.expect_err("nobody was looked at").status));
            }
        }
        let expected = (MOST_IN_LINE..MOST_IN_LINE + 3).map(|n| (n, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(refused, expected.collect::<Vec<_>>());
        assert_eq!(gate.failures(), (0, 3));
        // Who hangs up is in nobody's way.
        drop(asked.split_off(1));
        drop(busy);
        let (first, another) = (asked.pop().expect("the first"), ask(100));
        let outcomes = tokio::join!(first, another);
        assert!(outcomes.0.is_ok() && outcomes.1.is_ok(), "{outcomes:?}");
        assert_eq!(gate.line.available_permits(), MOST_IN_LINE);
    }
}
