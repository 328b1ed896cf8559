//! The control plane: what the nodes say goes in, tables come out.
//!
//! One [`Poller`](poller::Poller) asks each node, [`Discovery`](discovery::Discovery) who there is to ask; both send
//! [`Event`]s to the one [`Controller`], which keeps a [`steward`] for each cluster and is the only one to publish
//! a table. All of it runs on one thread; the data plane never waits for it.

mod addresses;
mod agenda;
mod answer;
pub mod controller;
pub mod credentials;
pub mod discovery;
pub mod inbox;
pub mod incident;
mod journal;
pub mod names;
mod own;
pub mod patroni;
pub mod picture;
pub mod poller;
mod ports;
mod record;
mod seeds;
pub mod steward;
mod vacancies;

pub use controller::{ClusterOptions, Controller, Event, Operated, Reconfiguration, first_ids, first_table};
pub use credentials::{Credentials, Password, tls_in_words};
pub use inbox::{Inbox, Unanswered, inbox};
pub use incident::Incident;
pub use names::Names;
pub use patroni::{Patroni, PatroniOptions};
pub use picture::{Check, Checks, ClusterPicture, MemberPicture, Pictures};
pub use steward::StewardOptions;
