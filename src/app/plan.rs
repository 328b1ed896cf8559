//! What a new configuration keeps of what runs, and what it does not.
//!
//! A cluster is known by its nodes, not by its name: two configurations that name a common node mean the same cluster, even
//! under another name, and one that names none of the known nodes means another cluster, even under the same name. So a name
//! that is given to other nodes never takes sessions along. A socket is known by its address as it is written; one that nobody
//! can come to any more, since its file is gone, is not kept.
//!
//! Pure: what runs and what is wished go in, a [`Plan`] comes out.

use std::collections::HashSet;

use crate::config::{Cluster, Config, Listen, ListenAddress};
use crate::routing::ClusterId;

/// A cluster that is served, or was and still has sessions.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub id: ClusterId,
    pub name: Option<String>,
    /// Its configured endpoints and the REST addresses of its members.
    pub nodes: HashSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// For each cluster of the new configuration the one that it is already.
    pub clusters: Vec<Option<ClusterId>>,
    /// For each of its addresses, pool by pool, the place of the socket that listens there already.
    pub sockets: Vec<Option<usize>>,
}

impl Plan {
    /// `listening` has `None` for a socket that nobody can come to.
    pub fn new(known: &[Known], listening: &[Option<ListenAddress>], next: &Config) -> Plan {
        Plan { clusters: clusters(known, next), sockets: sockets(listening, next) }
    }
}

/// Every address of the configuration with its cluster's place and its pool's name.
pub(super) fn addresses(config: &Config) -> impl Iterator<Item = (usize, &str, &Listen)> {
    config.clusters.iter().enumerate().flat_map(|(place, cluster)| {
        pools(cluster).flat_map(move |(name, listen)| listen.iter().map(move |listen| (place, name, listen)))
    })
}

/// In the order in which they are built.
fn pools(cluster: &Cluster) -> impl Iterator<Item = (&str, &[Listen])> {
    let primary = cluster.primary.iter().map(|pool| (&*pool.name, &*pool.listen));
    primary.chain(cluster.replicas.iter().map(|pool| (&*pool.name, &*pool.listen)))
}

fn clusters(known: &[Known], next: &Config) -> Vec<Option<ClusterId>> {
    let mut found: Vec<Option<ClusterId>> = vec![None; next.clusters.len()];
    // Those that share a node and the name come first: nodes may have moved from one cluster to another.
    for by_name in [true, false] {
        for (place, cluster) in next.clusters.iter().enumerate() {
            if found[place].is_some() {
                continue;
            }
            let nodes: HashSet<String> = cluster.patroni.endpoints.iter().map(ToString::to_string).collect();
            let in_common = |known: &&Known| known.nodes.intersection(&nodes).count();
            let is_free = |known: &&Known| !found.contains(&Some(known.id));
            let fits = |known: &&Known| in_common(known) > 0 && (!by_name || known.name == cluster.name);
            let best = known.iter().filter(fits).filter(is_free).max_by_key(in_common);
            found[place] = best.map(|known| known.id);
        }
    }
    found
}

/// Each socket once: addresses with port 0 may be there several times.
fn sockets(listening: &[Option<ListenAddress>], next: &Config) -> Vec<Option<usize>> {
    let mut taken = HashSet::new();
    let place = |(_, _, listen): (usize, &str, &Listen)| {
        let places =
            listening.iter().enumerate().filter(|(_, address)| address.as_ref() == Some(&listen.address));
        places.map(|(place, _)| place).find(|place| taken.insert(*place))
    };
    addresses(next).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("test", text, &|_| None).expect("a configuration")
    }

    fn known(id: u32, name: &str, nodes: &[&str]) -> Known {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Known {
            id: ClusterId(id),
            name,
            nodes: nodes.iter().map(|node| format!("http://{node}:8008")).collect(),
        }
    }

    #[test]
    fn a_cluster_is_known_by_its_nodes() {
        let running =
            [known(3, "sales", &["a", "b"]), known(5, "", &["c", "d"]), known(6, "old", &["a9", "e"])];
        for (clusters, expected) in [
            // As they were, in any order.
            ("[{name: sales, patroni: [a, b]}, {patroni: [c, d]}]", "3 5"),
            ("[{patroni: [c, d]}, {name: sales, patroni: [a, b]}]", "5 3"),
            // A new name, a lost node, a new one.
            ("[{name: shop, patroni: [b, x]}, {name: stock, patroni: [d]}]", "3 5"),
            // The name of other nodes is another cluster.
            ("[{name: sales, patroni: [x, y]}]", "-"),
            // Names that have changed places.
            ("[{name: old, patroni: [a, b]}, {name: sales, patroni: [e, a9]}]", "3 6"),
            // One node went from one cluster to another: the rest of the names decides.
            ("[{name: old, patroni: [e, a]}, {name: sales, patroni: [a9, b]}]", "6 3"),
            // Nobody is two.
            ("[{name: x, patroni: [a]}, {name: y, patroni: [b]}]", "3 -"),
            ("[{name: new, patroni: [n]}]", "-"),
        ] {
            let mut listed = String::new();
            for (port, part) in (6001..).zip(clusters.split_inclusive('}')) {
                let pools = format!(", replicas: off, primary: {{listen: \"127.0.0.1:{port}\"}}}}");
                listed.push_str(&part.replace('}', &pools));
            }
            let next = config(&format!("clusters: {listed}"));
            let found = Plan::new(&running, &[], &next).clusters;
            let found: Vec<String> =
                found.iter().map(|id| id.map_or("-".to_owned(), |id| id.0.to_string())).collect();
            assert_eq!(found.join(" "), expected, "{clusters}");
        }
    }

    #[test]
    fn a_socket_is_known_by_its_address_whichever_pool_it_is_for() {
        let address = |text: &str| match text.strip_prefix("unix:") {
            Some(path) => ListenAddress::Unix(path.into()),
            None => ListenAddress::Ip(text.parse().expect("an address")),
        };
        let running = ["10.0.0.1:1", "10.0.0.1:2", "unix:/a", "10.0.0.1:0", "10.0.0.1:0"];
        let mut running = running.map(|text| Some(address(text)));
        let next = config(
            "clusters: [{patroni: a, primary: {listen: ['10.0.0.1:2', '10.0.0.1:3', '10.0.0.1:0']}, \
             replicas: {listen: ['unix:/a', '10.0.0.2:1']}}]",
        );
        let plan = Plan::new(&[], &running, &next);
        assert_eq!(plan.sockets, [Some(1), None, Some(3), Some(2), None]);
        let pools: Vec<(usize, &str)> = addresses(&next).map(|(place, pool, _)| (place, pool)).collect();
        // Its file is gone.
        running[2] = None;
        assert_eq!(Plan::new(&[], &running, &next).sockets, [Some(1), None, Some(3), None, None]);
        assert_eq!(pools, [(0, "primary"), (0, "primary"), (0, "primary"), (0, "replicas"), (0, "replicas")]);
    }
}
