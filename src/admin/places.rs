//! The places of one door, and who gives up theirs when all are taken.
//!
//! A connection is at work while a request of its client is answered. Before, between and after that it waits for its
//! client, which costs the client nothing: some hundred silent ones would keep everybody else out until they are given
//! up. So when a newcomer finds no place, one of those that wait is let go: of the source with the most of them, the one
//! that has waited longest. A crowd from one address costs that address its places, a crowd from everywhere costs
//! everybody the oldest ones, and who sends a request with the connection is served in both cases.
//!
//! To have the silent ones go sooner when places are short was the other way. With 128 places and a quarter of a second
//! for each, 4,000 in the backlog before a probe make it wait for eight seconds; this way it is a tenth of one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::caller::Peer;
use super::throttle;

/// What a client cannot have many of for nothing: an address (of IPv6 its network), or on this host a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Network(IpAddr),
    User(u32),
}

/// The places of one door.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
    /// Somebody has gone, or waits for its client now.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// By number; a number is not given twice.
    connections: HashMap<u64, Connection>,
    numbers: u64,
}

#[derive(Debug)]
struct Connection {
    source: Source,
    /// A number that grows with time: since when it waits for its client. `None`: it is at work.
    waits_since: Option<u64>,
    let_go: CancellationToken,
}

/// A connection's place, until this goes.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    let_go: CancellationToken,
}

impl Places {
    pub fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most, taken: Mutex::default(), changed: Notify::new() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for who has come, as soon as there is one: at once, when somebody who waits for a client has gone for it, or
    /// when somebody at work is done. For one caller at a time.
    pub async fn take(self: &Arc<Places>, peer: Peer) -> Place {
        let source = Source::of(peer);
        loop {
            let changed = self.changed.notified();
            {
                let mut taken = self.taken();
                if taken.connections.len() < self.most {
                    let (number, let_go) = taken.add(source);
                    return Place { places: Arc::clone(self), number, let_go };
                }
                // Gone when it has noticed, and with it its descriptor.
                if let Some(connection) = taken.victim() {
                    connection.let_go.cancel();
                }
            }
            changed.await;
        }
    }
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn add(&mut self, source: Source) -> (u64, CancellationToken) {
        let (number, let_go) = (self.next(), CancellationToken::new());
        let connection = Connection { source, waits_since: Some(number), let_go: let_go.clone() };
        self.connections.insert(number, connection);
        (number, let_go)
    }

    /// Whether it waits for its client, from now on.
    fn mark(&mut self, number: u64, waits: bool) {
        let now = self.next();
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.waits_since = waits.then_some(now);
        }
    }

    /// Of the source with the most that wait, the one that has waited longest.
    fn victim(&self) -> Option<&Connection> {
        let waiting = || self.connections.values().filter_map(|each| Some((each, each.waits_since?)));
        let mut of_source: HashMap<Source, usize> = HashMap::new();
        waiting().for_each(|(each, _)| *of_source.entry(each.source).or_default() += 1);
        let rank = |each: &Connection, since| (of_source[&each.source], std::cmp::Reverse(since));
        waiting().max_by_key(|&(each, since)| rank(each, since)).map(|(each, _)| each)
    }
}

impl Place {
    /// Ends when the place is needed for somebody else.
    pub fn let_go(&self) -> CancellationToken {
        self.let_go.clone()
    }

    /// Its client has asked something.
    pub fn works(self: &Arc<Place>) -> Work {
        self.places.taken().mark(self.number, false);
        Work(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().connections.remove(&self.number);
        self.places.changed.notify_one();
    }
}

/// A request under way, until its answer is there.
#[derive(Debug)]
pub struct Work(Arc<Place>);

impl Work {
    /// What is whole waits for its client from now on, who may not take it. A stream is work to its end; those have limits of
    /// their own (see [`super::stream`]).
    pub fn answer(self, body: Body) -> Body {
        match body.size_hint().exact() {
            Some(_) => body,
            None => Body::new(Stream { body, _work: self }),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.places.taken().mark(self.0.number, true);
        self.0.places.changed.notify_one();
    }
}

struct Stream {
    body: Body,
    _work: Work,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Source {
    fn of(peer: Peer) -> Source {
        match peer {
            Peer::Network { address, .. } => Source::Network(throttle::key(address.ip())),
            Peer::Socket { uid } => Source::User(uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8) -> Peer {
        Peer::Network { address: ([192, 0, 2, host], 1).into(), encrypted: false }
    }

    /// Who is let go of these, given in the order of their arrival as a host and whether it is at work.
    fn victim(connections: &[(u8, bool)]) -> Option<usize> {
        let mut taken = Taken::default();
        let add = |&(host, works): &(u8, bool)| {
            let (number, let_go) = taken.add(Source::of(peer(host)));
            taken.mark(number, !works);
            let_go
        };
        let tokens: Vec<_> = connections.iter().map(add).collect();
        taken.victim().into_iter().for_each(|connection| connection.let_go.cancel());
        tokens.iter().position(CancellationToken::is_cancelled)
    }

    #[test]
    fn the_oldest_of_the_largest_crowd_that_waits_goes() {
        const WAITS: bool = false;
        const WORKS: bool = true;
        for (connections, expected) in [
            (&[][..], None),
            (&[(1, WORKS), (1, WORKS)], None),
            (&[(1, WAITS), (2, WAITS)], Some(0)),
            (&[(1, WORKS), (2, WAITS)], Some(1)),
            (&[(1, WAITS), (2, WAITS), (2, WAITS)], Some(1)),
            (&[(1, WAITS), (2, WORKS), (2, WORKS), (2, WAITS), (3, WAITS)], Some(0)),
        ] {
            assert_eq!(victim(connections), expected, "{connections:?}");
        }
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_who_waits_and_never_of_who_works() {
        let places = Places::new(2);
        let (one, other) = (Arc::new(places.take(peer(1)).await), Arc::new(places.take(peer(2)).await));
        let work = one.works();
        let newcomer = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(peer(3)).await }
        });
        other.let_go().cancelled().await;
        assert!(!one.let_go().is_cancelled());
        let other_works = other.works();
        tokio::task::yield_now().await;
        assert!(!newcomer.is_finished(), "the place is not free before its owner has gone");
        // Once asked to go it goes, whatever it does by then.
        drop((other_works, other));
        let third = Arc::new(newcomer.await.unwrap());
        let _third_works = third.works();
        assert_eq!((places.taken().connections.len(), one.let_go().is_cancelled()), (2, false));
        drop(work);
        let _fourth = tokio::join!(places.take(peer(3)), async {
            one.let_go().cancelled().await;
            drop(one);
        });
    }

    /// An answer that may go on for ever.
    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_whole_is_no_work_for_as_long_as_nobody_takes_it() {
        let places = Places::new(1);
        let only = Arc::new(places.take(peer(1)).await);
        let waits = || places.taken().victim().is_some();
        let stream = only.works().answer(Body::new(Endless));
        assert!(!waits());
        drop(stream);
        assert!(waits());
        let _whole = only.works().answer(Body::from("the page"));
        assert!(waits());
    }

    #[tokio::test]
    async fn who_waits_for_a_place_hears_of_work_that_ends() {
        let places = Places::new(1);
        let only = Arc::new(places.take(peer(1)).await);
        let work = only.works();
        let _next = tokio::join!(places.take(peer(1)), async {
            tokio::task::yield_now().await;
            assert!(!only.let_go().is_cancelled());
            drop(work);
            only.let_go().cancelled().await;
            drop(only);
        });
    }
}
