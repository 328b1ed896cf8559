//! pilotfish: the TCP load balancer that follows your PostgreSQL leader.

#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod proxy;
pub mod routing;
pub mod stats;
pub mod topology;
