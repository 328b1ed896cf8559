//! Sessions that are open and say nothing: what a relay's memory is measured with.

use std::io::{self, Read};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::ping::enter;
use super::stub::ECHO;

/// Tells when all are open, and holds them until standard input ends.
pub fn run(address: SocketAddr, sessions: usize) -> io::Result<Value> {
    let open = (0..sessions).map(|_| enter(address, &[ECHO; 64])).collect::<io::Result<Vec<_>>>()?;
    println!("{}", json!({ "open": open.len() }));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(Value::Null)
}
