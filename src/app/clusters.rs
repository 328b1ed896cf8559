//! One cluster's configuration in the terms of those who serve it: its pools for the data plane, its rules for control.

use std::sync::Arc;

use super::transport;
use crate::config::{self, Cluster};
use crate::control::{Credentials, Password, PatroniOptions, StewardOptions};
use crate::proxy::{PoolOptions, Protocol, SessionLimits};
use crate::routing::{Balance, ClusterId, Kind, PoolRules, Weights};
use crate::stats::PoolStats;
use crate::topology::health::Thresholds;
use crate::topology::roster::Seed;
use crate::topology::{ReaderCuts, ReaderRules, Require, SyncState};

/// A pool as it is configured, before anything of it is counted.
#[derive(Debug)]
pub(super) struct Blueprint {
    pub options: PoolOptions,
    pub rules: PoolRules,
    /// Of a pool of readers.
    pub readers: Option<ReaderRules>,
}

pub(super) fn pools(cluster: ClusterId, config: &Cluster, workers: usize) -> Vec<Blueprint> {
    let protocol = match config.protocol {
        config::Protocol::Postgresql => Protocol::Postgresql,
        config::Protocol::Tcp => Protocol::Tcp,
    };
    let rules = |name: &str, kind| PoolRules::new(name, kind, &Arc::new(PoolStats::new(workers)));
    // What all pools of the cluster have in common.
    let options = |name: &str, kind| PoolOptions {
        protocol,
        connect_timeout: config.connect_timeout,
        tcp: transport::tcp(&config.tcp),
        idle: transport::idle(&config.idle),
        ..PoolOptions::new(cluster, name, kind)
    };
    let mut pools = Vec::new();
    if let Some(pool) = &config.primary {
        let options = PoolOptions {
            hold: pool.hold,
            max_held: pool.max_held,
            limits: limits(&pool.limits),
            send_proxy: pool.send_proxy == config::SendProxy::V2,
            ..options(&pool.name, Kind::Primary)
        };
        let rules = PoolRules { port: pool.port, ..rules(&pool.name, Kind::Primary) };
        pools.push(Blueprint { options, rules, readers: None });
    }
    for pool in &config.replicas {
        let options = PoolOptions {
            balance: balance(pool.balance),
            hold: pool.hold,
            max_held: pool.max_held,
            limits: limits(&pool.limits),
            send_proxy: pool.send_proxy == config::SendProxy::V2,
            ..options(&pool.name, Kind::Replicas)
        };
        let rules = PoolRules {
            weights: Weights::new(pool.weights.iter().cloned().collect(), pool.weight_tag.clone()),
            zone: pool.zone.clone().map(|zone| (pool.zone_tag.clone(), zone)),
            slow_start: pool.slow_start,
            port: pool.port,
            ..rules(&pool.name, Kind::Replicas)
        };
        pools.push(Blueprint { options, rules, readers: Some(reader_rules(pool)) });
    }
    pools
}

fn limits(limits: &config::Limits) -> SessionLimits {
    SessionLimits {
        sessions: limits.max_sessions,
        per_member: limits.max_sessions_per_member,
        per_client: limits.max_sessions_per_client,
        queue_timeout: limits.queue_timeout,
        queued: limits.max_queued,
    }
}

fn balance(balance: config::Balance) -> Balance {
    match balance {
        config::Balance::LeastConnections => Balance::LeastConnections,
        config::Balance::RoundRobin => Balance::RoundRobin,
        config::Balance::Random2 => Balance::Random2,
        config::Balance::Source => Balance::Source,
        config::Balance::First => Balance::First,
    }
}

/// How control watches it.
pub(super) fn steward(cluster: &Cluster) -> StewardOptions {
    let config::Patroni { endpoints, interval, fast_interval, leader_grace, fall, rise, .. } =
        &cluster.patroni;
    let seed = |endpoint: &config::Endpoint| Seed {
        api: endpoint.to_string(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        answered_as: None,
    };
    let mut readers: Vec<ReaderRules> = cluster.replicas.iter().map(reader_rules).collect();
    if readers.is_empty() {
        // Nobody is sent there, but people see who could read.
        readers.push(ReaderRules::default());
    }
    StewardOptions {
        name: cluster.name.clone(),
        seeds: endpoints.iter().map(seed).collect(),
        interval: *interval,
        fast_interval: *fast_interval,
        leader_grace: *leader_grace,
        connect_timeout: cluster.connect_timeout,
        thresholds: Thresholds { fall: *fall, rise: *rise },
        readers,
    }
}

fn reader_rules(pool: &config::Replicas) -> ReaderRules {
    let config::OpenSessions { promoted, lagging, noloadbalance, drained, gone } = pool.open_sessions;
    let [promoted, lagging, noloadbalance, drained, gone] =
        [promoted, lagging, noloadbalance, drained, gone].map(|fate| fate == config::Fate::Cut);
    let sync = |state: &config::SyncState| match state {
        config::SyncState::Sync => SyncState::Sync,
        config::SyncState::Quorum => SyncState::Quorum,
        config::SyncState::Async => SyncState::Async,
    };
    ReaderRules {
        pool: pool.name.clone(),
        max_lag: pool.max_lag,
        require: Require {
            sync: pool.require.sync.iter().map(sync).collect(),
            tags: pool.require.tags.clone(),
        },
        include_primary: pool.include_primary,
        fallback: pool.fallback == config::Fallback::Primary,
        cuts: ReaderCuts { promoted, lagging, noloadbalance, drained, gone },
    }
}

/// How its nodes are asked, with a word of warning where that is not safe.
///
/// # Errors
/// A variable that is not set any more.
pub(super) fn patroni(patroni: &config::Patroni, cluster: &str) -> Result<PatroniOptions, String> {
    let tls = patroni.tls.clone().unwrap_or_default();
    let trust_everybody = tls.verify == config::Verify::None;
    if trust_everybody {
        tracing::warn!(
            cluster,
            "Patroni's certificates are not verified (tls.verify: none); anybody may pose as a node"
        );
    }
    let login_needs_tls = patroni.login_needs_tls();
    if patroni.auth.is_some() && !login_needs_tls {
        tracing::warn!(
            cluster,
            "the password for Patroni travels in clear text to nodes that ask for it; use https endpoints"
        );
    }
    let (username, password) = match &patroni.auth {
        None => (None, Password::None),
        Some(config::Auth { username, password }) => {
            let password = match password {
                config::Secret::File(path) => Password::File(path.clone()),
                known => Password::Known(known.reveal()?),
            };
            (Some(username.clone()), password)
        }
    };
    let config::Tls { ca, cert, key, server_name, .. } = tls;
    let credentials = Credentials { ca, cert, key, server_name, trust_everybody, username, password };
    Ok(PatroniOptions { timeout: patroni.timeout, credentials, login_needs_tls })
}
