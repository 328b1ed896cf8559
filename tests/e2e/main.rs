//! End to end: the real binary in front of a real cluster, used by real clients, while things break.
//!
//! One cluster serves all tests, one after the other (`--test-threads=1`); each begins with a cluster in good health
//! and a pilotfish of its own. The cluster has its own name and addresses, so that a demo may run beside it.

mod application;
mod balancer;
mod browser;
mod child;
mod cluster;
mod program;
mod prometheus;
mod session;
mod tags;
mod tls;
mod wait;

mod agreement;
mod bulk;
mod cancel;
mod clients;
mod failover;
mod garbage;
mod haproxy;
mod monitoring;
mod moving;
mod page;
mod pools;
mod proxies;
mod quorum;
mod readers;
mod rest;
mod stop;
