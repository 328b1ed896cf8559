//! The clients that people use, with and without TLS: it is PostgreSQL's own, from end to end.

use tokio_postgres::config::SslMode;

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::program::Program;
use crate::session::Session;
use crate::tls::Pinned;

const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn psql_in_every_sslmode() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    for address in [balancer.primary(), balancer.replicas()] {
        for (mode, encrypted) in [("disable", "f"), ("allow", "f"), ("prefer", "t"), ("require", "t")] {
            let psql = Program::psql(cluster, address, mode).arguments(["-c", IS_ENCRYPTED]);
            assert_eq!(psql.succeeds(), encrypted, "sslmode={mode} at {address}");
        }
        // The certificate is the server's, made for "localhost" among others.
        let psql = Program::psql(cluster, address, "verify-full").setting("PGHOST", "localhost");
        let psql = psql.setting("PGHOSTADDR", address.ip().to_string());
        let psql = psql.setting("PGSSLROOTCERT", cluster.directory().join("tls/server.crt"));
        assert_eq!(psql.arguments(["-c", IS_ENCRYPTED]).succeeds(), "t");
    }
}

#[test]
fn pgbench_with_lasting_sessions_and_with_one_for_each_transaction() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let (writes, reads) = (balancer.primary(), balancer.replicas());
    Program::new(cluster, "pgbench", writes, "require").arguments(["-i", "-q", "-s", "1"]).succeeds();
    cluster.wait_replicated(&cluster.leader(), &balancer.readers());
    for mode in ["disable", "require"] {
        let rounds: [(_, &[&str]); 4] =
            [(writes, &[]), (writes, &["-C"]), (reads, &["-S"]), (reads, &["-S", "-C"])];
        for (address, options) in rounds {
            let common = ["-n", "-c", "4", "-j", "2", "-t", "25"];
            let pgbench =
                Program::new(cluster, "pgbench", address, mode).arguments(common).arguments(options);
            let report = pgbench.succeeds();
            let all = "number of transactions actually processed: 100/100";
            assert!(report.contains(all), "sslmode={mode} {options:?} at {address}: {report}");
        }
    }
    Program::new(cluster, "pgbench", writes, "disable").arguments(["-i", "-q", "-I", "d"]).succeeds();
    // Both sides close at the end of a session, and either may be the first; no end is of pilotfish's making.
    for pool in ["primary", "replicas"] {
        let ends = balancer.pool(pool)["ends"].clone();
        let mut sides = ends.as_array().into_iter().flatten().map(|end| &end["side"]);
        assert!(sides.all(|side| side == "client" || side == "backend"), "pool {pool}: {ends}");
    }
}

#[test]
fn a_driver_that_is_not_libpq_with_and_without_tls() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let pinned = Pinned::to(&cluster.directory().join("tls/server.crt"));
    for address in [balancer.primary(), balancer.replicas()] {
        let modes = [(SslMode::Disable, "f"), (SslMode::Prefer, "t"), (SslMode::Require, "t")];
        for (mode, encrypted) in modes {
            let session = Session::open_tls(address, mode, pinned.clone()).expect("a session");
            assert_eq!(session.value(IS_ENCRYPTED), encrypted, "{mode:?} at {address}");
            // More than a TLS record and more than a socket buffer, to and fro.
            let long = "x".repeat(3_000_000);
            assert_eq!(session.value(&format!("SELECT '{long}'")).len(), long.len());
            session.close();
        }
    }
}
