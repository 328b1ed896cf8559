//! What goes wrong on a worker, from the inside.

use std::fs::File;
use std::net::Ipv4Addr;

use super::*;
use crate::proxy::listener::{ListenAddress, ListenOptions};
use crate::proxy::{PoolOptions, TcpOptions};
use crate::routing::{Kind, Table, cell::cell};

fn workers() -> Workers {
    let (_publisher, cell) = cell(Table::new(0, [(ClusterId::default(), Arc::default())]));
    let options = WorkersOptions { count: 1, max_sessions: 1, panics: Panics::default() };
    Workers::start(options, &cell, &TellTrouble(Arc::new(|_| {}))).unwrap()
}

fn pool() -> Arc<Pool> {
    let options = PoolOptions::new(ClusterId::default(), "a", Kind::Primary);
    Arc::new(Pool::new(options, Arc::new(PoolStats::new(1))))
}

fn bound() -> Bound {
    let address = ListenAddress::Ip((Ipv4Addr::LOCALHOST, 0).into());
    listener::bind(&ListenOptions { address, free_bind: false, mode: 0, tcp: TcpOptions::default() }).unwrap()
}

/// epoll takes none.
fn file() -> OwnedFd {
    File::open("/proc/self/exe").unwrap().into()
}

/// Here as one that was sent by another worker.
#[tokio::test]
async fn a_connection_that_cannot_be_watched_has_an_end_that_is_counted() {
    let (workers, pool) = (workers(), pool());
    let permit = Arc::clone(&workers.room.permits).try_acquire_owned().unwrap();
    let client = ClientAddress::Unix { uid: 0 };
    let accepted = Accepted { socket: file(), client, access: Arc::default(), pool: Arc::clone(&pool) };
    let Handle { inbox, load, debt, .. } = &workers.handles[0];
    load.fetch_add(1, Relaxed);
    let place = Place { permit: Some(permit), load: Arc::clone(load), debt: Arc::clone(debt) };
    inbox.send(Job::Serve(accepted, place)).unwrap();
    // Its place comes free in the end.
    let free = Arc::clone(&workers.room.permits).acquire_owned();
    let _permit = tokio::time::timeout(Duration::from_secs(15), free).await.expect("a place").unwrap();
    assert_eq!((pool.stats.ends(End::Internal), workers.open_sessions()), (1, 0));
    let ended = workers.recent_ends();
    assert_eq!((ended.len(), workers.handles[0].load.load(Relaxed)), (1, 0));
}

#[test]
fn a_socket_that_cannot_be_watched_is_told_before_it_is_served() {
    let mut broken = bound();
    broken.socket = Arc::new(file());
    workers().watch(broken).expect_err("epoll takes no file");
}

/// What the service manager's watchdog looks at.
#[tokio::test]
async fn a_worker_whose_listener_has_ended_by_itself_stands_still() {
    const SOON: Duration = Duration::from_secs(5);
    let (workers, pool) = (workers(), pool());
    assert_eq!(workers.standing_still(SOON).await, [0; 0]);
    let service = || Service { pool: Arc::clone(&pool), access: Arc::default() };
    let (permits, over) = (Arc::clone(&workers.room.permits), CancellationToken::new());
    over.cancel();
    let (broken, listener) = Listening::new(workers.watch(bound()).unwrap(), service(), permits, over);
    workers.handles[0].inbox.send(Job::Listen(listener)).unwrap();
    let found = async { while workers.standing_still(SOON).await != [0] {} };
    tokio::time::timeout(Duration::from_secs(15), found).await.expect("the worker of that listener");
    // One that was closed is no loss.
    broken.close(SOON);
    workers.listen(workers.watch(bound()).unwrap(), service()).close(SOON);
    assert_eq!(workers.standing_still(SOON).await, [0; 0]);
    // Nobody is to accept any more, and the threads have ended or will.
    workers.stop_accepting();
    assert_eq!(workers.standing_still(SOON).await, [0; 0]);
}
