//! What the benchmarks put on either side of a relay: clients, a backend, and Patroni nodes that need no PostgreSQL.
//!
//! One program, so that every measurement speaks the same few bytes (see [`stub`]). Each part is one thread with one
//! event loop and does nothing that a relay does not do as well: the relay is to be the limit, not the load.

mod dial;
mod hub;
mod idle;
mod patroni;
mod ping;
mod pull;
mod stub;
mod tally;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;

/// Load for the benchmarks; results are told as one line of JSON each.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The backend: echoes, pours or swallows, as the first byte of a connection says. Runs until it is ended.
    Stub { listen: Vec<SocketAddr> },
    /// Messages there and back, one at a time on each connection.
    Ping {
        address: SocketAddr,
        #[arg(long, default_value_t = 64)]
        connections: usize,
        #[arg(long, default_value_t = 64)]
        bytes: usize,
        /// One message each so many microseconds in place of as many as go; for one connection.
        #[arg(long)]
        pace_us: Option<u64>,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Bulk data, poured by the backend in writes of one size.
    Pull {
        address: SocketAddr,
        #[arg(long, default_value_t = 4)]
        streams: usize,
        #[arg(long, default_value_t = 8192)]
        chunk: u32,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// New connections: connect, one message there and back, close.
    Dial {
        address: SocketAddr,
        #[arg(long, default_value_t = 32)]
        clients: usize,
        #[arg(long, value_enum, default_value_t = dial::Close::Fin)]
        close: dial::Close,
        /// The first of the source addresses, which are taken in turn.
        #[arg(long)]
        from: IpAddr,
        /// Stop after so many in place of after some time.
        #[arg(long)]
        count: Option<u64>,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Sessions that have said one thing and then say nothing, until standard input ends.
    Idle {
        address: SocketAddr,
        #[arg(long)]
        sessions: usize,
    },
    /// Patroni nodes, each on an address of its own. Runs until it is ended.
    Patroni(patroni::Options),
}

fn main() -> ExitCode {
    let told = match Arguments::parse().part {
        Part::Stub { listen } => stub::run(&listen),
        Part::Ping { address, bytes, pace_us: Some(pace), seconds, .. } => {
            ping::paced(address, bytes, Duration::from_micros(pace), Duration::from_secs_f64(seconds))
        }
        Part::Ping { address, connections, bytes, pace_us: None, seconds } => {
            ping::run(address, connections, bytes, Duration::from_secs_f64(seconds))
        }
        Part::Pull { address, streams, chunk, seconds } => {
            pull::run(address, streams, chunk, Duration::from_secs_f64(seconds))
        }
        Part::Dial { address, clients, close, from, count, seconds } => {
            let patience = Duration::from_secs_f64(seconds);
            dial::run(&dial::Options { address, clients, close, from, count, patience })
        }
        Part::Idle { address, sessions } => idle::run(address, sessions),
        Part::Patroni(options) => patroni::run(options),
    };
    match told {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
