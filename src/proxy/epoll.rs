//! What the kernel tells of the sockets of one worker.
//!
//! One epoll of the worker's own, in which a socket is once, from its accept or dial to its close. While a session is
//! opened, its task waits here for one socket at a time ([`stream`](super::stream)); once it is relayed, the
//! [`engine`](super::engine) is told instead. tokio watches only the epoll itself. So opening a session costs two
//! registrations, and its task is woken only by what it did not know.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::socket::News;
use crate::stats::Side;

/// News taken from the kernel at once; what is left over comes with the next call.
const MOST_NEWS: usize = 256;

/// The sockets of one worker. What is asked of it is asked on the worker's own thread.
#[derive(Debug)]
pub struct Watch {
    epoll: Arc<OwnedFd>,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    free: Vec<usize>,
}

/// What is known of a socket, and who is to be told. Its number is what the kernel knows it by.
#[derive(Debug)]
struct Entry {
    known: News,
    audience: Audience,
}

#[derive(Debug, Default)]
enum Audience {
    #[default]
    Nobody,
    Task(Waker),
    Relay(Recipient),
}

/// A side of a session that is relayed: the session's number there.
pub type Recipient = (u32, Side);

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Bytes, or the end of the stream.
    Read,
    /// Room, or the end of a dial.
    Write,
    /// That the connection is broken off.
    Break,
}

/// A socket's place in the list. It goes with the socket.
#[derive(Debug)]
pub struct Listed {
    watch: Arc<Watch>,
    number: usize,
}

impl Watch {
    /// # Errors
    /// When the process or the system has no more descriptors.
    pub fn new() -> io::Result<Watch> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        Ok(Watch { epoll, list: Mutex::default() })
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a socket that does not block, and is not listening. A dial must be under way already.
    ///
    /// # Errors
    /// When the system lets it watch no more.
    pub fn add(self: &Arc<Self>, socket: impl AsFd) -> io::Result<Listed> {
        // That there is room is assumed until it turns out otherwise.
        let known = News { writable: true, ..News::default() };
        let entry = Entry { known, audience: Audience::Nobody };
        let number = {
            let List { entries, free } = &mut *self.list();
            let number = free.pop().unwrap_or(entries.len());
            match entries.get_mut(number) {
                Some(place) => *place = entry,
                None => entries.push(entry),
            }
            number
        };
        let listed = Listed { watch: Arc::clone(self), number };
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&*self.epoll, socket, epoll::EventData::new_u64(number as u64), flags)?;
        Ok(listed)
    }

    /// Takes what the kernel has to tell: wakes the tasks that wait for it, and hands on what concerns the relays. Says
    /// whether there may be more.
    ///
    /// # Errors
    /// Those of the system.
    pub fn take_news(&self, mut hand_on: impl FnMut(Recipient, News)) -> io::Result<bool> {
        let mut room = [const { MaybeUninit::uninit() }; MOST_NEWS];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let told = match epoll::wait(&*self.epoll, &mut room[..], Some(&at_once)) {
            Ok((told, _)) => told,
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut list = self.list();
        for event in &*told {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(entry) = list.entries.get_mut(number) else { continue };
            let news = read(event.flags);
            match &entry.audience {
                Audience::Relay(recipient) => hand_on(*recipient, news),
                Audience::Nobody => entry.known = entry.known.and(news),
                Audience::Task(waker) => {
                    let known = entry.known.and(news);
                    if std::mem::replace(&mut entry.known, known) != known {
                        waker.wake_by_ref();
                    }
                }
            }
        }
        Ok(told.len() == MOST_NEWS)
    }

    /// The epoll as tokio's runtime watches it: readable while there is something to tell. To be called within it.
    ///
    /// # Errors
    /// When the system lets it watch no more.
    pub fn watched(&self) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        watched(Arc::clone(&self.epoll))
    }
}

impl Listed {
    /// Whether what is wished for may be there; if not, the task is woken when it is. Only the last that has asked of
    /// a socket is.
    pub fn may(&self, wish: Wish, cx: &Context<'_>) -> bool {
        let _before;
        let mut list = self.watch.list();
        let Entry { known, audience } = &mut list.entries[self.number];
        let granted = match wish {
            Wish::Read => known.readable || known.finished,
            Wish::Write => known.writable,
            Wish::Break => known.broken,
        };
        let is_known = matches!(audience, Audience::Task(waker) if waker.will_wake(cx.waker()));
        if !granted && !is_known {
            _before = std::mem::replace(audience, Audience::Task(cx.waker().clone()));
        }
        granted
    }

    /// It was not there after all.
    pub fn may_not(&self, wish: Wish) {
        let mut list = self.watch.list();
        let known = &mut list.entries[self.number].known;
        match wish {
            Wish::Read => (known.readable, known.finished) = (false, false),
            Wish::Write => known.writable = false,
            // For good.
            Wish::Break => {}
        }
    }

    /// From now on the news are a relay's. What is known already is told here.
    pub fn hand_over(&self, recipient: Recipient) -> News {
        // Dropped after the lock, as everywhere here: who knows what goes with it.
        let _before;
        let mut list = self.watch.list();
        let Entry { known, audience } = &mut list.entries[self.number];
        _before = std::mem::replace(audience, Audience::Relay(recipient));
        *known
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let _before;
        let mut list = self.watch.list();
        _before = std::mem::take(&mut list.entries[self.number].audience);
        list.free.push(self.number);
    }
}

fn read(flags: epoll::EventFlags) -> News {
    let gone = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
    let finished = flags.intersects(epoll::EventFlags::RDHUP | gone);
    News {
        readable: flags.intersects(epoll::EventFlags::IN) || finished,
        writable: flags.intersects(epoll::EventFlags::OUT | gone),
        finished,
        broken: flags.intersects(epoll::EventFlags::ERR),
    }
}

#[expect(deprecated, reason = "new() trusts the type to keep its descriptor open, which an owned one does")]
fn watched(epoll: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::new(epoll)
}

/// Whether there is something to read, or somebody to accept, at this moment.
///
/// # Errors
/// Those of the system.
pub(super) fn has_news(socket: impl AsFd) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&at_once))? > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    #[derive(Default)]
    struct Alarm(AtomicUsize);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A socket that is watched, and the other end.
    fn watched_pair(watch: &Arc<Watch>) -> (TcpStream, Listed, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let listed = watch.add(&socket).unwrap();
        (socket, listed, peer)
    }

    /// Waits until there is something to tell, and takes it.
    fn take(watch: &Watch) {
        let patience = Timespec { tv_sec: 15, tv_nsec: 0 };
        let mut epoll = [PollFd::new(&*watch.epoll, PollFlags::IN)];
        assert_eq!(poll(&mut epoll, Some(&patience)).unwrap(), 1, "news");
        watch.take_news(|_, _| {}).unwrap();
    }

    #[test]
    fn a_task_is_woken_only_by_what_it_did_not_know() {
        let (watch, alarm) = (Arc::new(Watch::new().unwrap()), Arc::new(Alarm::default()));
        let waker = Waker::from(Arc::clone(&alarm));
        let cx = Context::from_waker(&waker);
        let woken = || alarm.0.load(Relaxed);
        let (_socket, listed, mut peer) = watched_pair(&watch);
        assert!(!listed.may(Wish::Read, &cx));
        take(&watch);
        assert_eq!(woken(), 0, "that there is room was assumed");
        peer.write_all(b"a").unwrap();
        take(&watch);
        assert_eq!((woken(), listed.may(Wish::Read, &cx)), (1, true));
        assert!(!listed.may(Wish::Break, &cx));
        peer.write_all(b"b").unwrap();
        take(&watch);
        assert_eq!(woken(), 1, "that there are bytes was known");
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        take(&watch);
        assert_eq!((woken(), listed.may(Wish::Break, &cx)), (2, true));
    }

    #[test]
    fn a_number_that_is_used_again_does_not_hear_what_was_told_of_the_one_before() {
        let watch = Arc::new(Watch::new().unwrap());
        let (first, listed, mut peer) = watched_pair(&watch);
        let number = listed.number;
        take(&watch);
        peer.write_all(b"known").unwrap();
        take(&watch);
        peer.write_all(b"not taken yet").unwrap();
        drop((first, listed));
        let (_second, listed, _peer) = watched_pair(&watch);
        assert_eq!(listed.number, number);
        take(&watch);
        assert!(!listed.may(Wish::Read, &Context::from_waker(Waker::noop())));
    }
}
