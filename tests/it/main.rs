//! The integration tests that need no cluster: pure rules, real sockets on loopback, fake Patroni nodes.

mod admin;
mod config;
mod control;
mod drill;
mod hostile;
mod import;
mod log;
mod monitoring;
mod process;
mod proxy;
mod reliability;
mod reload;
mod routing;
mod tidy;
mod topology;
