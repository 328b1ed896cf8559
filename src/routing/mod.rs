//! Where sessions go: one immutable table, one swap, one writer.
//!
//! Control builds a [`Table`] and publishes it through the [`Cell`]; data workers load it, [`pick`] a backend and
//! never look back. Knows nothing about sockets, Patroni's answers or configuration.

pub mod cell;
pub mod heartbeat;
pub mod pick;
pub mod pool;
pub mod table;
pub mod vacancy;
pub mod weights;

pub use cell::{Cell, Follower, Publisher};
pub use pick::{Balance, Picked};
pub use pool::{Backend, Candidate, Kind, PoolRoutes, PoolRules, Site, Warming};
pub use table::{ClusterId, Routes, Table};
pub use vacancy::{Bar, Cause, Vacancy};
pub use weights::Weights;
