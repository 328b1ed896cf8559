//! Who waits for the sockets of all relays of a worker.
//!
//! This is the boundary behind which another engine, such as one on io_uring, would fit: [`Engine::relay`] takes two
//! connected sockets and a meter, and gives back a future of the session's end. Dropping the future cuts the session.
//! Sessions, holding and counters know nothing else of it.
//!
//! This engine has one epoll of its own for each worker, and tokio watches only that one. A relay is then an entry in
//! a list, not two registrations with two wakers and a task that is woken for each message; and it is decided here
//! who comes first: relays with news, before those that are in the middle of a long transfer.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::Protocol;
use super::relay::{Meter, Relay, Tools, Turn};
use super::socket::{News, Socket};
use super::splice::MOST_PIPES;
use crate::stats::{End, Side};

/// News taken from the kernel at once; what is left over comes with the next call.
const MOST_NEWS: usize = 256;
/// Descriptors of one worker beside its sessions' sockets: tokio's epoll, event and wake-up, ours twice, and both
/// ends of the pipes.
pub const DESCRIPTORS_PER_WORKER: u64 = 8 + 2 * MOST_PIPES as u64;

/// How long a backend has to close by itself at most. Being ticked also keeps the runtime's next wake-up near: a timer
/// that comes before it, as each dial sets one, costs a call to the kernel.
const TICK: Duration = Duration::from_secs(1);

/// How long bulk that has gathered waits at most to be collected.
pub const COLLECT_EVERY: Duration = Duration::from_millis(1);

/// All relays of one worker.
#[derive(Debug)]
pub struct Engine<M> {
    epoll: Arc<OwnedFd>,
    /// Only ever locked on the worker's own thread.
    state: Mutex<State<M>>,
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
    /// Relays with a bulk transfer that gathers.
    gathering: Vec<usize>,
    /// Whose turn it is.
    current: Option<usize>,
    tools: Tools,
}

/// A relay's place in the list. Its number is what the kernel knows it by.
#[derive(Debug)]
enum Seat<M> {
    Free,
    Taken { relay: Relay<M>, queued: bool, gathering: bool, waker: Option<Waker> },
    Over(End),
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
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let state = State {
            seats: Vec::new(),
            free: Vec::new(),
            busy: VecDeque::new(),
            awake: Vec::new(),
            parting: Vec::new(),
            gathering: Vec::new(),
            current: None,
            tools,
        };
        Ok(Engine { epoll, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes both sockets over. Must be called on the thread that [`Engine::run`] runs on.
    pub fn relay(
        &self,
        client: TcpStream,
        backend: TcpStream,
        protocol: Protocol,
        meter: M,
    ) -> Relaying<'_, M> {
        let seat = match self.adopt(client, backend, protocol, meter) {
            Ok(seat) => Some(seat),
            Err(error) => {
                tracing::error!(%error, "a session's sockets cannot be watched; it was reset");
                None
            }
        };
        Relaying { engine: self, seat }
    }

    fn adopt(
        &self,
        client: TcpStream,
        backend: TcpStream,
        protocol: Protocol,
        meter: M,
    ) -> io::Result<usize> {
        let client = Socket::new(client.into_std()?, Side::Client);
        let backend = Socket::new(backend.into_std()?, Side::Backend);
        let relay = Relay::new(client, backend, protocol == Protocol::Postgresql, meter);
        let mut state = self.state();
        let number = state.free.pop().unwrap_or(state.seats.len());
        let watched = relay.sockets().into_iter().try_for_each(|socket| {
            let flags = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            epoll::add(&*self.epoll, socket, address(number, socket.side), flags)
        });
        let taken = Seat::Taken { relay, queued: false, gathering: false, waker: None };
        match state.seats.get_mut(number) {
            Some(seat) => *seat = taken,
            None => state.seats.push(taken),
        }
        if let Err(error) = watched {
            state.leave(number);
            return Err(error.into());
        }
        Ok(number)
    }

    /// Serves the relays for ever. Run again after it has failed, it goes on where it was.
    ///
    /// # Errors
    /// When the kernel does not let it watch or ask: the relays stand still then.
    pub async fn run(&self) -> io::Result<()> {
        let ours = watch(Arc::clone(&self.epoll))?;
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
                _ = tick.tick() => self.state().part(),
                _ = collect.tick(), if self.state().gathers() => self.state().collect(),
                // Everything else on this worker comes before the next round.
                () = tokio::task::yield_now(), if goes_on => {}
            }
        }
    }

    /// Gives a turn to each relay with news, then to one that has more to do. Says whether there may be more.
    fn round(&self) -> io::Result<bool> {
        let mut state = self.state();
        let mut room = [const { MaybeUninit::uninit() }; MOST_NEWS];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let news = match epoll::wait(&*self.epoll, &mut room[..], Some(&at_once)) {
            Ok((news, _)) => news,
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        state.hand_out(news);
        let mut awake = std::mem::take(&mut state.awake);
        for number in awake.drain(..) {
            state.turn(number);
        }
        state.awake = awake;
        if let Some(number) = state.busy.pop_front() {
            state.turn(number);
        }
        Ok(!state.busy.is_empty() || news.len() == MOST_NEWS)
    }
}

impl<M: Meter> State<M> {
    fn hand_out(&mut self, news: &[epoll::Event]) {
        let State { seats, awake, busy, .. } = self;
        for event in news {
            let (number, side) = recipient(event.data);
            let Some(Seat::Taken { relay, queued, .. }) = seats.get_mut(number) else { continue };
            let (flags, finished) = (event.flags, epoll::EventFlags::RDHUP | broken());
            relay.hear(
                side,
                News {
                    readable: flags.intersects(epoll::EventFlags::IN | finished),
                    writable: flags.intersects(epoll::EventFlags::OUT | broken()),
                    finished: flags.intersects(finished),
                },
            );
            if !std::mem::replace(queued, true) {
                // Bulk is not in a hurry.
                if relay.gathers() { busy.push_back(number) } else { awake.push(number) }
            }
        }
    }

    fn turn(&mut self, number: usize) {
        let State { seats, busy, parting, gathering, tools, current, .. } = self;
        let Some(Seat::Taken { relay, queued, gathering: is_listed, .. }) = seats.get_mut(number) else {
            return;
        };
        *current = Some(number);
        let turn = relay.turn(tools);
        *current = None;
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
            if let Some(Seat::Taken { relay, .. }) = self.seats.get_mut(number) {
                relay.part();
                self.turn(number);
            }
        }
    }

    fn gathers(&self) -> bool {
        !self.gathering.is_empty()
    }

    /// Gives a turn to each bulk transfer, whether or not enough has gathered to be told of.
    fn collect(&mut self) {
        for number in std::mem::take(&mut self.gathering) {
            if let Some(Seat::Taken { relay, gathering, queued, .. }) = self.seats.get_mut(number) {
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
        if let Seat::Taken { waker: Some(waker), .. } = seat {
            waker.wake();
        }
    }

    /// Picks up what a fault has left behind: ends the relay that it came from, and gives every other a turn, since
    /// their news may be lost.
    fn recover(&mut self) {
        if let Some(number) = self.current.take() {
            self.end(number, End::Internal);
        }
        self.busy.clear();
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if let Seat::Taken { relay, queued, .. } = seat {
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
            Seat::Taken { waker, .. } => {
                *waker = Some(cx.waker().clone());
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

/// What may be assumed of a socket of which nothing is known: it costs a call to find out.
const EVERYTHING: News = News { readable: true, writable: true, finished: false };

/// What the kernel shall call a socket by.
fn address(number: usize, side: Side) -> epoll::EventData {
    epoll::EventData::new_u64((number as u64) << 1 | u64::from(side == Side::Backend))
}

fn recipient(data: epoll::EventData) -> (usize, Side) {
    let side = if data.u64() & 1 == 0 { Side::Client } else { Side::Backend };
    (usize::try_from(data.u64() >> 1).unwrap_or(usize::MAX), side)
}

fn broken() -> epoll::EventFlags {
    epoll::EventFlags::HUP | epoll::EventFlags::ERR
}

#[expect(deprecated, reason = "new() trusts the type to keep its descriptor open, which an owned one does")]
fn watch(epoll: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::new(epoll)
}
