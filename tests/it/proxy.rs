//! The data plane on real loopback sockets: the workers, listeners and sessions of the product between clients and
//! members that the test plays itself.
//!
//! [`bench`] sets up the workers and publishes tables, [`member`] is a server that does what the test says, [`peer`]
//! is either end of a connection, [`packets`] are the few words of PostgreSQL's protocol, [`pattern`] is a stream
//! that tells a missing byte from a moved one, [`engine`] is the engine of a worker without the worker, and [`alone`]
//! gives a test a process of its own. [`kernel`] is what the kernel shows of a connection.

mod access;
pub mod alone;
mod bench;
mod cancel;
mod change;
mod dial;
mod ends;
mod engine;
mod flood;
mod greeting;
mod hold;
mod idle;
mod kernel;
mod member;
mod options;
mod packets;
pub mod panics;
mod pattern;
mod peer;
mod pick;
mod pressure;
mod proxy_protocol;
mod queue;
mod refused;
mod relay;
mod reply;
mod shortage;
mod siege;
mod splice;
mod stop;

use std::time::Duration;

/// No single wait takes longer on the most crowded machine.
const DEADLINE: Duration = Duration::from_secs(15);

/// More than all the kernel's buffers on the way through pilotfish can take, when they have grown as far as they may.
const ALL_BUFFERS: usize = 100_000_000;

/// What `future` comes to, which must be soon.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited for {DEADLINE:?} in vain: {what}"),
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, poll).await;
}
