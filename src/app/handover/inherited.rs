//! Listening sockets that this process was given: by the service manager, or by the process whose place it takes.
//!
//! Each is known by its address. One that the configuration names is taken instead of being bound; the others are closed. The
//! only file that names listenfd.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{AddressFamily, SocketType};

use super::letter::PassedSocket;
use crate::config::overlap;
use crate::proxy::listener::ListenAddress;
use crate::proxy::share::Stays;
use crate::proxy::socket_file::SocketFile;

/// What nobody has asked for yet.
#[derive(Debug, Default)]
pub(in crate::app) struct Inherited {
    sockets: Vec<Socket>,
    /// What was passed and cannot be listened on, in words.
    useless: Vec<String>,
}

/// A socket that listens already.
#[derive(Debug)]
pub(in crate::app) struct Socket {
    pub socket: OwnedFd,
    /// As the configuration has it: with port 0, if that is what it says.
    address: ListenAddress,
    /// The file of a unix socket becomes ours when this says so.
    pub file: Option<Stays>,
}

impl Inherited {
    /// What the service manager passes: nothing, if there is none.
    pub fn from_manager() -> Inherited {
        let mut inherited = Inherited::default();
        let mut passed = ListenFd::from_env();
        for place in 0..passed.len() {
            inherited.add(&mut passed, place, None);
        }
        inherited
    }

    /// Descriptors from the process before this one, and the last of them, over which it speaks.
    pub fn from_predecessor() -> (ListenFd, Option<UnixStream>) {
        let mut passed = ListenFd::from_env();
        let last = passed.len().saturating_sub(1);
        let stream = connection(&mut passed, last);
        (passed, stream)
    }

    /// The sockets among these, as they are told. Their files are the other process's while `stay` is set.
    pub fn told(passed: &mut ListenFd, told: &[PassedSocket], stay: &Stays) -> Inherited {
        let mut inherited = Inherited::default();
        for (place, told) in told.iter().enumerate() {
            inherited.add(passed, place, Some((told, stay)));
        }
        inherited
    }

    fn add(&mut self, passed: &mut ListenFd, place: usize, told: Option<(&PassedSocket, &Stays)>) {
        match listening(passed, place) {
            Ok((socket, bound)) => {
                let address = told.and_then(|(told, _)| parse(&told.address)).unwrap_or(bound);
                let file = told.filter(|(told, _)| told.has_file).map(|(_, stay)| stay.clone());
                self.sockets.push(Socket { socket, address, file });
            }
            Err(problem) => self.useless.push(format!("number {place}: {problem}")),
        }
    }

    /// The socket for this address.
    pub fn take(&mut self, address: &ListenAddress) -> Option<Socket> {
        let place = self.sockets.iter().position(|socket| socket.address == *address)?;
        let socket = self.sockets.remove(place);
        // Nobody comes in through a file that somebody has removed.
        let is_lost = matches!(address, ListenAddress::Unix(path) if !path.exists());
        (!is_lost).then_some(socket)
    }

    /// What nobody has asked for and is in the way of this address.
    pub fn in_the_way(&self, address: &ListenAddress) -> Option<&ListenAddress> {
        let ListenAddress::Ip(wanted) = address else { return None };
        let is_in_the_way =
            |other: &&ListenAddress| matches!(other, ListenAddress::Ip(other) if overlap(*other, *wanted));
        self.sockets.iter().map(|socket| &socket.address).find(is_in_the_way)
    }

    /// Closes what the configuration does not name. To be called when the process before this one has let go of it.
    pub fn let_go(self) {
        for problem in self.useless {
            tracing::warn!(problem, "a socket that was passed cannot be used");
        }
        for Socket { socket, address, file } in self.sockets {
            tracing::warn!(listen = %address, "a socket that was passed is closed: no listener has this address");
            if let (ListenAddress::Unix(path), Some(_)) = (&address, &file) {
                // Removes the file, which is ours.
                drop(SocketFile::adopt(socket.into(), path, file));
            }
        }
    }
}

/// What another process speaks over, if that is what was passed there.
pub(super) fn connection(passed: &mut ListenFd, place: usize) -> Option<UnixStream> {
    let (family, kind) = (i32::from(AddressFamily::UNIX.as_raw()), SocketType::STREAM.as_raw());
    let stream = passed.take_custom(place, family, i32::try_from(kind).unwrap_or_default(), "stream");
    stream.ok().flatten()
}

/// # Errors
/// In words, what it is instead.
fn listening(passed: &mut ListenFd, place: usize) -> Result<(OwnedFd, ListenAddress), String> {
    let words = |error: &dyn fmt::Display| error.to_string();
    let (socket, address): (OwnedFd, _) = match passed.take_tcp_listener(place) {
        Ok(Some(listener)) => {
            let address = listener.local_addr().map_err(|error| words(&error))?;
            (listener.into(), ListenAddress::Ip(address))
        }
        _ => {
            let taken = passed.take_unix_listener(place);
            let listener = taken.map_err(|error| words(&error))?.ok_or("it is not there")?;
            let address = listener.local_addr().map_err(|error| words(&error))?;
            let path = address.as_pathname().ok_or("a unix socket without a path")?.to_owned();
            (listener.into(), ListenAddress::Unix(path))
        }
    };
    match socket_acceptconn(socket.as_fd()) {
        Ok(true) => Ok((socket, address)),
        _ => Err(format!("{address} does not listen; is it Accept=yes?")),
    }
}

/// As [`ListenAddress`] is written.
fn parse(text: &str) -> Option<ListenAddress> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(ListenAddress::Unix(path.into())),
        None => text.parse().ok().map(ListenAddress::Ip),
    }
}
