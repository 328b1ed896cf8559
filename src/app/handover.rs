//! Another process takes this one's place, and no client notices.
//!
//! The old process starts the program at its own path and passes all listening sockets, each with its queue of connections
//! in the kernel, and one end of a pair of sockets over which the two speak in lines of JSON ([`letter`]):
//!
//! ```text
//! old                                     new
//!  | -- estate: what it serves ------------> | reads its configuration, takes over the sockets,
//!  |                                         | asks Patroni until it knows what the old one knows
//!  | <------------------------------ ready - |
//!  | -- take ------------------------------> | accepts
//!  | <------------------------------ taken - |
//!  | tells systemd, accepts no more          |
//!  | -- open: sessions that are left ------> | tells systemd that it is ready
//! ```
//!
//! Until `taken` the old one goes on as if nothing were, and a new one that fails, hangs or ends changes nothing. For a moment
//! both accept from the same queues, so nobody is refused in between. Then the old one drains: its clients stay with it,
//! those who wait too, and it follows its clusters until the last has gone or `drain_timeout` is over.
//!
//! The service manager passes sockets by the same convention (sd_listen_fds(3)); [`inherited`] knows no difference but whose
//! the files of unix sockets are.

mod former;
mod group;
pub(super) mod inherited;
mod launch;
mod letter;
mod predecessor;
mod settled;
pub(super) mod successor;

pub(super) use self::former::Formers;
pub(super) use self::inherited::Inherited;
pub(super) use self::launch::Launch;
use self::launch::{LAUNCH, SERVE, STAGE};
pub(super) use self::letter::{Estate, OperatedCluster, PassedSocket};
pub use self::predecessor::Herald;
pub(super) use self::predecessor::Predecessor;

/// What a process is given to begin with beside its configuration.
#[derive(Debug, Default)]
pub struct Start {
    pub(super) inherited: Inherited,
    /// The process whose place is to be taken.
    pub(super) predecessor: Option<Predecessor>,
    /// How to start a successor.
    pub(super) launch: Option<Launch>,
}

impl Start {
    /// As the service manager or the process before this one started it. To be called once, before there are threads.
    ///
    /// # Errors
    /// A sentence: the process before this one is not heard of.
    pub fn from_environment() -> Result<Start, String> {
        let follows = std::env::var_os(STAGE).is_some_and(|stage| stage == SERVE);
        let launch = Some(Launch::of_this_process());
        if !follows {
            return Ok(Start { inherited: Inherited::from_manager(), predecessor: None, launch });
        }
        let (predecessor, inherited) = Predecessor::meet()?;
        Ok(Start { inherited, predecessor: Some(predecessor), launch })
    }

    /// Tells the process before this one, if there is one, when this one cannot start.
    pub fn herald(&self) -> Option<Herald> {
        self.predecessor.as_ref().map(Predecessor::herald)
    }
}

/// A process that is to take another's place starts itself once more and ends, so that the one that stays is nobody's child:
/// systemd or init is told when it ends, as of any other. `None`: this is another process.
///
/// # Errors
/// A sentence: it could not be started.
pub fn launch() -> Option<Result<(), String>> {
    if std::env::var_os(STAGE).is_none_or(|stage| stage != LAUNCH) {
        return None;
    }
    let launch = Launch::of_this_process();
    let started = launch.command(SERVE).spawn();
    Some(
        started
            .map(drop)
            .map_err(|error| format!("{} cannot be started: {error}", launch.program().display())),
    )
}
