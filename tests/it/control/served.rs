//! All of pilotfish within a test: control on the test's own thread, workers and admin on theirs.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::admin::actions::Reload;
use pilotfish::app::{App, Source, StartError, Stopped};
use pilotfish::config::{Cluster, Config, Patroni};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cluster::FakeCluster;
use super::fake::own_address;
use super::{http, within};

#[derive(Debug)]
pub struct Served {
    pub admin: SocketAddr,
    pools: Vec<(String, Vec<SocketAddr>)>,
    /// How many signals to stop have come.
    signals: watch::Sender<usize>,
    outcome: JoinHandle<Result<Stopped, StartError>>,
}

/// Checks as often as can be, and ports of their own.
pub fn config(clusters: &[&FakeCluster]) -> Config {
    let cluster = |cluster: &&FakeCluster| {
        let mut config = Cluster::of(Patroni::of(cluster.endpoints()));
        config.patroni.interval = Duration::from_millis(50);
        config.patroni.fast_interval = Duration::from_millis(10);
        config.patroni.timeout = Duration::from_secs(3);
        let listen = || vec![SocketAddr::new(own_address(), 0).into()];
        config.primary.as_mut().expect("it is there").listen = listen();
        config.replicas[0].listen = listen();
        config
    };
    let mut config = Config::of(clusters.iter().map(cluster).collect());
    config.admin.listen = Some(SocketAddr::new(own_address(), 0));
    config.workers = Some(2);
    config.max_sessions = Some(200);
    config
}

impl Served {
    pub fn start(config: Config) -> Served {
        Served::start_with(config, None).0
    }

    /// With a source for reloads, and what does them.
    pub fn start_with(config: Config, source: Option<Source>) -> (Served, Reload) {
        let app = App::prepare(config, source).unwrap_or_else(|error| panic!("{error}"));
        let reload = app.reload();
        let admin = app.admin_address().expect("an admin page");
        let pools = app.pool_addresses();
        let (signals, received) = watch::channel(0);
        let signal = |number: usize| {
            let mut received = received.clone();
            async move { drop(received.wait_for(|count| *count >= number).await) }
        };
        let outcome = tokio::spawn(app.run(signal(1), signal(2)));
        (Served { admin, pools, signals, outcome }, reload)
    }

    /// Serves this cluster, and waits until it has a table.
    pub async fn cluster(cluster: &FakeCluster) -> Served {
        let served = Served::start(config(&[cluster]));
        served.until_condition("ok").await;
        served
    }

    /// Where the pool of that name listens.
    pub fn pool(&self, name: &str) -> SocketAddr {
        self.pools.iter().find(|(pool, _)| pool == name).expect("a pool of that name").1[0]
    }

    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        http::status_until(self.admin, what, wanted).await
    }

    pub async fn until_condition(&self, condition: &str) -> Value {
        self.until(condition, |status| status["clusters"][0]["condition"] == condition).await
    }

    /// Asks it to stop; a second time, at once.
    pub fn signal(&self) {
        self.signals.send_modify(|count| *count += 1);
    }

    pub async fn stopped(&mut self) -> Stopped {
        let outcome = within("the end of the process", &mut self.outcome).await;
        outcome.expect("no panic").unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.outcome.abort();
    }
}
