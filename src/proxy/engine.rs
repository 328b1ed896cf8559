//! Who waits for the sockets of all sessions of a worker.
//!
//! This is the boundary behind which another engine, such as one on io_uring, would fit: [`Engine::adopt`] and
//! [`Engine::connect`] make a [`Stream`] of an accepted socket and of a dialled one, which is read and written while a
//! session is opened. [`Engine::relay`] takes two of these and a meter, and gives back a future of the session's end.
//! Dropping what was dialled or is relayed resets it; a client's connection that is not relayed yet is closed in order.
//! Sessions, holding and counters know nothing else of it.
//!
//! This engine has one epoll of its own for each worker ([`epoll`](super::epoll)), and tokio watches only that one. A
//! relay is then an entry in a list, not a task that is woken for each message; and it is decided here who comes first:
//! relays with news, before those that are in the middle of a long transfer.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::connect::TcpOptions;
pub(super) use super::epoll::has_news;
use super::epoll::{Listed, Recipient, Watch};
use super::relay::{Meter, Relay, Tools, Turn};
use super::socket::News;
use super::splice::MOST_PIPES;
use super::stream::Stream;
use super::{Keepalive, Protocol, connect};
use crate::stats::{End, Side};

/// Descriptors of one worker beside its sessions' sockets: tokio's epoll, which is there twice, event and wake-up, our
/// epoll, and both ends of the pipes.
pub const DESCRIPTORS_PER_WORKER: u64 = 8 + 2 * MOST_PIPES as u64;

/// The longest that a backend has to close by itself, and that a session goes without keepalive. It also spares dials a
/// call to the kernel: setting a timer takes one when no other is due before it, and this one is.
const TICK: Duration = Duration::from_secs(1);

/// Sessions that get keepalive in one round, at four calls each: everyone else on this worker waits for it.
const SETTLE_AT_ONCE: usize = 32;

/// How long bulk that has gathered waits at most to be collected.
pub const COLLECT_EVERY: Duration = Duration::from_millis(1);

/// All connections of one worker's sessions.
#[derive(Debug)]
pub struct Engine<M> {
    watch: Arc<Watch>,
    /// Only ever locked on the worker's own thread.
    state: Mutex<State<M>>,
    /// A new relay has more to do than its first turn allowed, or has begun to gather.
    has_more: Notify,
}

#[derive(Debug)]
struct State<M> {
    seats: Vec<Seat<M>>,
    free: Vec<usize>,
    /// Relays with more to do than their last turn allowed.
    busy: VecDeque<usize>,
    /// Relays with news, while these are handed out.
    awake: Vec<usize>,
    /// Relays whose backend is about to close by itself.
    parting: Vec<usize>,
    /// Relays without their keepalive, the oldest first; some have ended meanwhile.
    unsettled: VecDeque<usize>,
    /// So many of these have lived for long enough.
    due: usize,
    /// Relays with a bulk transfer that gathers.
    gathering: Vec<usize>,
    tools: Tools,
}

/// A relay's place in the list. Its number is what the watch knows it by.
#[derive(Debug)]
enum Seat<M> {
    Free,
    Taken(Taken<M>),
    Over(End),
}

#[derive(Debug)]
struct Taken<M> {
    relay: Relay<M>,
    /// After the sockets: see [`Listed`].
    _listed: [Listed; 2],
    queued: bool,
    gathering: bool,
    /// What it gets once it has lived for a moment.
    keepalive: Option<Box<Keepalive>>,
    waker: Option<Waker>,
}

/// A session that is being relayed; resolves to its end. Dropped before, it resets both connections.
#[derive(Debug)]
pub struct Relaying<'a, M: Meter> {
    engine: &'a Engine<M>,
    seat: Option<usize>,
}

impl<M: Meter> Engine<M> {
    /// # Errors
    /// When the process or the system has no more descriptors.
    pub fn new() -> io::Result<Engine<M>> {
        Engine::with(Tools::default())
    }

    /// The same, with other than the usual ways to move bytes.
    ///
    /// # Errors
    /// As for [`Engine::new`].
    pub fn with(tools: Tools) -> io::Result<Engine<M>> {
        let state = State {
            seats: Vec::new(),
            free: Vec::new(),
            busy: VecDeque::new(),
            awake: Vec::new(),
            parting: Vec::new(),
            unsettled: VecDeque::new(),
            due: 0,
            gathering: Vec::new(),
            tools,
        };
        Ok(Engine { watch: Arc::new(Watch::new()?), state: Mutex::new(state), has_more: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an accepted connection over. It must not block.
    ///
    /// # Errors
    /// When the kernel watches no more.
    pub fn adopt(&self, socket: OwnedFd) -> io::Result<Stream> {
        Stream::new(&self.watch, socket.into())
    }

    /// Dials. Of the options, keepalive comes when the connection has been relayed for a moment.
    ///
    /// # Errors
    /// Those of the dial, and of the system.
    pub async fn connect(&self, address: SocketAddr, options: TcpOptions) -> io::Result<Stream> {
        let socket = connect::socket(address, options)?;
        Stream::connect(&self.watch, socket, address, options.keepalive).await
    }

    /// Moves bytes between the two until they end. Must be called on the thread that [`Engine::run`] runs on.
    pub fn relay(&self, client: Stream, backend: Stream, protocol: Protocol, meter: M) -> Relaying<'_, M> {
        let number = self.state().seat(client, backend, protocol, meter);
        let relaying = Relaying { engine: self, seat: Some(number) };
        // What has come already is told by nobody.
        if self.state().first_turn(number) {
            self.has_more.notify_one();
        }
        relaying
    }

    /// Serves the relays for ever. Run again after it has failed, it goes on where it was.
    ///
    /// # Errors
    /// When the kernel does not let it watch or ask: the sessions stand still then, those that are being opened among them.
    pub async fn run(&self) -> io::Result<()> {
        let ours = self.watch.watched()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut collect = tokio::time::interval(COLLECT_EVERY);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.state().recover();
        loop {
            let goes_on = self.round()?;
            tokio::select! {
                biased;
                ready = ours.readable(), if !goes_on => ready?.clear_ready(),
                _ = tick.tick() => {
                    let mut state = self.state();
                    state.part();
                    state.due = state.unsettled.len();
                }
                _ = collect.tick(), if self.state().gathers() => self.state().collect(),
                () = self.has_more.notified() => {}
                // Everything else on this worker comes before the next round.
                () = tokio::task::yield_now(), if goes_on => {}
            }
        }
    }

    /// Gives a turn to each relay with news, then to one that has more to do, and settles some. Says whether there may be
    /// more.
    fn round(&self) -> io::Result<bool> {
        let mut state = self.state();
        let more = self.watch.take_news(|(number, side), news| state.hear(number as usize, side, news))?;
        let mut awake = std::mem::take(&mut state.awake);
        for number in awake.drain(..) {
            state.turn(number);
        }
        state.awake = awake;
        if let Some(number) = state.busy.pop_front() {
            state.turn(number);
        }
        let unsettled = state.settle();
        Ok(!state.busy.is_empty() || more || unsettled)
    }
}

impl<M: Meter> State<M> {
    fn seat(&mut self, client: Stream, mut backend: Stream, protocol: Protocol, meter: M) -> usize {
        let number = self.free.pop().unwrap_or(self.seats.len());
        let keepalive = backend.keepalive();
        if keepalive.is_some() {
            self.unsettled.push_back(number);
        }
        let (client, of_client) = client.hand_over(recipient(number, Side::Client));
        let (backend, of_backend) = backend.hand_over(recipient(number, Side::Backend));
        let relay = Relay::new(client, backend, protocol == Protocol::Postgresql, meter);
        let listed = [of_client, of_backend];
        let taken = Taken { relay, _listed: listed, queued: false, gathering: false, keepalive, waker: None };
        match self.seats.get_mut(number) {
            Some(seat) => *seat = Seat::Taken(taken),
            None => self.seats.push(Seat::Taken(taken)),
        }
        number
    }

    /// Says whether the engine has to go on with something.
    fn first_turn(&mut self, number: usize) -> bool {
        let before = (self.busy.len(), self.gathering.len());
        self.turn(number);
        before != (self.busy.len(), self.gathering.len())
    }

    fn hear(&mut self, number: usize, side: Side, news: News) {
        let State { seats, awake, busy, .. } = self;
        let Some(Seat::Taken(Taken { relay, queued, .. })) = seats.get_mut(number) else { return };
        relay.hear(side, news);
        if !std::mem::replace(queued, true) {
            // Bulk is not in a hurry.
            if relay.gathers() { busy.push_back(number) } else { awake.push(number) }
        }
    }

    fn turn(&mut self, number: usize) {
        let State { seats, busy, parting, gathering, tools, .. } = self;
        let Some(Seat::Taken(taken)) = seats.get_mut(number) else { return };
        let Taken { relay, queued, gathering: is_listed, .. } = taken;
        // A panic ends the session that it comes from. What the others find in the tools is whole: nobody reads what is left in
        // the scratch buffer, and a pipe that was lent goes with its session.
        let turn = catch_unwind(AssertUnwindSafe(|| relay.turn(tools))).unwrap_or(Turn::Over(End::Panicked));
        if relay.gathers() && !std::mem::replace(is_listed, true) {
            gathering.push(number);
        }
        match turn {
            Turn::Waits => *queued = false,
            Turn::Parts => {
                *queued = false;
                parting.push(number);
            }
            Turn::GoesOn => {
                *queued = true;
                busy.push_back(number);
            }
            Turn::Over(end) => self.end(number, end),
        }
    }

    /// Waits no longer for backends that should have closed by now.
    fn part(&mut self) {
        for number in std::mem::take(&mut self.parting) {
            if let Some(Seat::Taken(Taken { relay, .. })) = self.seats.get_mut(number) {
                relay.part();
                self.turn(number);
            }
        }
    }

    /// What lives for longer than a moment is to be missed when it vanishes. For all others these calls would be the
    /// greater part of their options' cost. Says whether more are due.
    fn settle(&mut self) -> bool {
        let State { seats, unsettled, due, .. } = self;
        let now = SETTLE_AT_ONCE.min(*due);
        *due -= now;
        for number in unsettled.drain(..now) {
            // Whoever has the seat of one that has ended gets it a little early.
            if let Some(Seat::Taken(Taken { relay, keepalive, .. })) = seats.get_mut(number)
                && let Some(keepalive) = keepalive.take()
            {
                let [_, backend] = relay.sockets();
                // One that is gone already is noticed without.
                let _ = keepalive.apply(&SockRef::from(backend));
            }
        }
        *due > 0
    }

    fn gathers(&self) -> bool {
        !self.gathering.is_empty()
    }

    /// Gives a turn to each bulk transfer, whether or not enough has gathered to be told of.
    fn collect(&mut self) {
        for number in std::mem::take(&mut self.gathering) {
            if let Some(Seat::Taken(Taken { relay, gathering, queued, .. })) = self.seats.get_mut(number) {
                *gathering = false;
                relay.collect();
                if !std::mem::replace(queued, true) {
                    self.busy.push_back(number);
                }
            }
        }
    }

    fn end(&mut self, number: usize, end: End) {
        let seat = std::mem::replace(&mut self.seats[number], Seat::Over(end));
        if let Seat::Taken(Taken { waker: Some(waker), .. }) = seat {
            waker.wake();
        }
    }

    /// Picks up what a failure has left behind: every relay gets a turn, since news may be lost.
    fn recover(&mut self) {
        self.busy.clear();
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if let Seat::Taken(Taken { relay, queued, .. }) = seat {
                relay.hear(Side::Client, EVERYTHING);
                relay.hear(Side::Backend, EVERYTHING);
                *queued = true;
                self.busy.push_back(number);
            }
        }
    }

    /// Clears a seat. The sockets of a relay that still runs are reset.
    fn leave(&mut self, number: usize) {
        self.seats[number] = Seat::Free;
        self.free.push(number);
    }
}

impl<M: Meter> Future for Relaying<'_, M> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let Some(number) = self.seat else { return Poll::Ready(End::Internal) };
        let mut state = self.engine.state();
        match &mut state.seats[number] {
            Seat::Taken(taken) => {
                taken.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Seat::Over(end) => {
                let end = *end;
                state.leave(number);
                drop(state);
                self.seat = None;
                Poll::Ready(end)
            }
            Seat::Free => Poll::Ready(End::Internal),
        }
    }
}

impl<M: Meter> Drop for Relaying<'_, M> {
    fn drop(&mut self) {
        if let Some(number) = self.seat {
            self.engine.state().leave(number);
        }
    }
}

/// There are no more sessions than descriptors, and of these no more than fit.
fn recipient(number: usize, side: Side) -> Recipient {
    (u32::try_from(number).unwrap_or(u32::MAX), side)
}

/// What may be assumed of a socket of which nothing is known: it costs a call to find out.
const EVERYTHING: News = News { readable: true, writable: true, finished: false, broken: false };
