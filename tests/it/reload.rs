//! What a reload changes, and what it leaves alone.

mod doors;
mod kinds;
mod live;
mod stress;
pub mod widths;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pilotfish::admin::actions::{NotReloaded, Rejected, Reload, Reloaded};
use pilotfish::config::{Config, Problems};
use serde_json::Value;

use crate::control::cluster::FakeCluster;
use crate::control::served::{Served, config};

/// A process with a configuration that can be changed.
pub struct Live {
    pub served: Served,
    pub reload: Reload,
    source: Arc<Mutex<Result<Config, Problems>>>,
}

impl Live {
    pub async fn start(config: Config) -> Live {
        let live = Live::begin(config);
        live.served.until_condition("ok").await;
        live
    }

    /// Without a wait for a writer.
    pub fn begin(config: Config) -> Live {
        let source = Arc::new(Mutex::new(Ok(config.clone())));
        let read = Arc::clone(&source);
        let read = Box::new(move || read.lock().expect("no panic").clone());
        let (served, reload) = Served::start_with(config, Some(read));
        Live { served, reload, source }
    }

    /// Serves these clusters, each with pools of its own.
    pub async fn clusters(clusters: &[&FakeCluster]) -> (Live, Config) {
        let mut config = config(clusters);
        for (cluster, fake) in config.clusters.iter_mut().zip(clusters) {
            cluster.name = Some(fake.scope.clone());
        }
        (Live::start(config.clone()).await, config)
    }

    pub async fn change(&self, config: &Config) -> Result<Reloaded, Rejected> {
        self.read(Ok(config.clone())).await
    }

    pub async fn read(&self, read: Result<Config, Problems>) -> Result<Reloaded, Rejected> {
        *self.source.lock().expect("no panic") = read;
        let reload = self.reload.clone();
        let reloaded = tokio::task::spawn_blocking(move || reload.run("test", "-")).await.expect("no panic");
        reloaded.map_err(|not_reloaded| match not_reloaded {
            NotReloaded::Rejected(rejected) => rejected,
            NotReloaded::Busy(why) => panic!("busy: {why}"),
        })
    }

    pub async fn status(&self) -> Value {
        self.served.until("a status", |_| true).await
    }

    /// Where a pool of a cluster listens now.
    pub async fn pool(&self, cluster: &str, pool: &str) -> SocketAddr {
        let status = self.status().await;
        let named = |list: &Value, name: &str| {
            list.as_array().and_then(|list| list.iter().find(|item| item["name"] == name).cloned())
        };
        let pool = named(&named(&status["clusters"], cluster).expect("the cluster")["pools"], pool);
        let listen = pool.expect("the pool")["listen"][0].as_str().expect("an address").to_owned();
        listen.parse().expect("an IP address")
    }
}
