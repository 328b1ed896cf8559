//! Where sessions go: one immutable table, one swap, one writer.
//!
//! Control builds a [`Table`] and publishes it through the [`Cell`]; data workers load it, [`pick`] a backend and
//! never look back. Knows nothing about sockets, Patroni's answers or configuration.

pub mod cell;
pub mod pick;
pub mod pool;
pub mod table;

pub use cell::{Cell, Follower, Publisher};
pub use pick::Balance;
pub use pool::{Backend, Candidate, Kind, PoolRoutes, PoolRules};
pub use table::{Routes, Table};
