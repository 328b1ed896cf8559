//! One event loop's worth of connections: slots with numbers, and the events that name them.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token, event::Source};

/// Events taken from the kernel in one call.
const EVENTS: usize = 512;

#[derive(Debug)]
pub struct Hub<T> {
    poll: Poll,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Hub<T> {
    pub fn new() -> io::Result<Hub<T>> {
        Ok(Hub { poll: Poll::new()?, slots: Vec::new(), free: Vec::new() })
    }

    /// Watches `source`, which `make` then puts into the slot.
    pub fn add<S: Source>(
        &mut self,
        mut source: S,
        interest: Interest,
        make: impl FnOnce(S) -> T,
    ) -> io::Result<usize> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.poll.registry().register(&mut source, Token(slot), interest)?;
        self.slots[slot] = Some(make(source));
        Ok(slot)
    }

    pub fn at(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Takes it out; what is dropped is closed, and the kernel forgets it.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let taken = self.slots.get_mut(slot)?.take();
        if taken.is_some() {
            self.free.push(slot);
        }
        taken
    }

    pub fn events() -> Events {
        Events::with_capacity(EVENTS)
    }

    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }
}

pub fn slot_of(event: &Event) -> usize {
    event.token().0
}

/// `None`: not now.
pub fn unless_blocked<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
