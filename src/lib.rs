//! pilotfish: the TCP load balancer that follows your PostgreSQL leader.
//!
//! It asks every Patroni node what it is, decides in one pure function who may take writers and who readers, swaps one
//! immutable table, and relays bytes on one thread for each core. A client that comes while nobody may take it waits.
//!
//! # Map
//!
//! The crate is four rings; a module uses only what lies in its own ring or further in. `tests/it/tidy.rs` reads the
//! `use` lines and holds them to it.
//!
//! | ring | module | what it is |
//! |---|---|---|
//! | core | [`topology`] | who is what, who may take whom: pure, `std` only, `now` is an argument |
//! | seam | [`routing`] | the table, the pick, the swap: what control and data have in common |
//! | seam | [`stats`] | counters and the causes of ends |
//! | data | [`proxy`] | from `accept` to the last byte; knows no HTTP, no Patroni, no configuration |
//! | edge | [`control`] | pollers, discovery, and the one controller that publishes tables |
//! | edge | [`admin`] | the page, the API, the metrics, and an operator's actions |
//! | seam | [`file`] | a small file as a whole, and never a pipe |
//! | edge | [`config`] | YAML in, a valid [`config::Config`] or every problem at once out |
//! | edge | [`import`] | HAProxy's configuration in, pilotfish's and what became of each line out: pure |
//! | edge | [`app`] | the composition root: the only module that knows all others |
//! | edge | [`cli`] | arguments, signals, logs, exit codes, and the commands that ask a running pilotfish |
//!
//! # Invariants
//!
//! - At most one member of a cluster takes new writers, and it is one that said so itself; of two that do, the newer timeline
//!   counts, then the incumbent.
//! - Only [`control::Controller`] publishes a table; a table never changes; a session sees one whole table.
//! - Silence is a third answer: it is never read as "down" and never as "up".
//! - The data plane never waits for control, and control never touches a byte.
//! - Every session ends through [`proxy::sessions::Ending`], once, with one cause of [`stats::End`].
//! - Everything has a limit with a name and a reason: sessions, held clients, answers, headers, queues.
//!
//! ARCHITECTURE.md tells the same as two stories: the life of a session and the life of a failover.

#![deny(unsafe_code)]
#![warn(missing_debug_implementations, clippy::unwrap_used, clippy::dbg_macro, clippy::todo)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod file;
pub mod import;
pub mod proxy;
pub mod routing;
pub mod stats;
pub mod topology;
