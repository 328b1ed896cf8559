//! pilotfish is told to stop.

use std::io::ErrorKind;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::balancer::{Balancer, Wishes};
use crate::cluster::Cluster;
use crate::session::Session;
use crate::wait::{seconds, until_true};

fn wait_refused(balancer: &Balancer) {
    for address in [balancer.primary(), balancer.replicas()] {
        until_true("new clients are refused", seconds(5), || {
            TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
    }
}

#[test]
fn sigterm_lets_sessions_finish_and_refuses_new_ones() {
    let mut balancer = Balancer::start(Cluster::healthy());
    let writer = Session::open(balancer.primary()).expect("a session");
    let reader = Session::open(balancer.replicas()).expect("a session");
    writer.value("BEGIN");
    std::thread::scope(|scope| {
        let asleep = scope.spawn(|| writer.value("SELECT 'slept' FROM pg_sleep(1)"));
        balancer.signal(Signal::TERM);
        wait_refused(&balancer);
        assert_eq!(balancer.status()["stopping"], true);
        assert_eq!(balancer.page("/readyz").expect("an answer").0, 503);
        assert_eq!(asleep.join().expect("no panic"), "slept");
    });
    writer.value("COMMIT");
    reader.close();
    assert_eq!(writer.value("SELECT 'still there'"), "still there");
    writer.close();
    assert_eq!(balancer.ended().code(), Some(0));
    assert!(balancer.log().contains(r#""cut":0"#), "{}", balancer.log());
}

#[test]
fn a_session_that_outstays_the_drain_is_cut() {
    let mut balancer =
        Balancer::with(Cluster::healthy(), Wishes { drain_timeout: "1s", ..Wishes::default() });
    let session = Session::open(balancer.primary()).expect("a session");
    balancer.signal(Signal::TERM);
    wait_refused(&balancer);
    assert_eq!(session.value("SELECT 'still there'"), "still there");
    assert_eq!(balancer.ended().code(), Some(0));
    session.rows("SELECT 1").expect_err("a session that was cut");
    assert!(balancer.log().contains(r#""cut":1"#), "{}", balancer.log());
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut balancer = Balancer::start(Cluster::healthy());
    let session = Session::open(balancer.primary()).expect("a session");
    balancer.signal(Signal::INT);
    wait_refused(&balancer);
    balancer.signal(Signal::INT);
    assert_eq!(balancer.ended().code(), Some(0));
    session.rows("SELECT 1").expect_err("a session that was cut");
}
