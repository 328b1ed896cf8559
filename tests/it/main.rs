//! The integration tests that need no cluster: pure rules, real sockets on loopback, fake Patroni nodes.

mod config;
mod tidy;
mod topology;
