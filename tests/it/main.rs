//! The integration tests that need no cluster: pure rules, real sockets on loopback, fake Patroni nodes.

mod config;
mod proxy;
mod tidy;
mod topology;
