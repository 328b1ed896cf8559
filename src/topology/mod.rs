//! What is each node, and who may take which sessions?
//!
//! The intuition: every Patroni node *says* something about itself ([`observation`]), pilotfish remembers the
//! last thing that each said and how often in a row ([`health`]), and from that memory alone it decides who may
//! take writers ([`cluster`], [`decide`]) and readers ([`readers`]). Saying nothing is a third answer beside yes and no: silence is
//! never folded into "not the primary".
//!
//! This is the pure core: data in, data out. It knows nothing about sockets, HTTP, JSON, configuration files, logs
//! or clocks. `now` is always an argument: the monotonic time since the process started.

pub mod cluster;
pub mod decide;
pub mod health;
pub mod identity;
pub mod member;
pub mod observation;
pub mod port;
pub mod readers;
pub mod roster;
mod tracked;

pub use cluster::{Cluster, Hearsay, Settings};
pub use decide::{Alarm, Condition, Decision, Fate, Verdict};
pub use health::Health;
pub use member::{Member, Operator};
pub use observation::{Class, Observation, Report, Role, Silence, SilenceKind, SyncState};
pub use port::{Knock, PortHealth};
pub use readers::{ReaderCuts, ReaderPool, ReaderRules, ReaderVerdict, Require, Unfit};
