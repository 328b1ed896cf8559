//! Is this process ready, and can a pool serve? Asked by health checks, which may be anybody: so members are not named.
//!
//! The process is ready from the first table to the beginning of a stop, whatever becomes of the clusters meanwhile: a
//! balancer that is taken away when the writer is lost holds nobody. Who wants to know of a pool says so.

use std::sync::atomic::Ordering::Relaxed;

use axum::http::StatusCode;

use super::Sources;
use super::figures;
use super::pools::{refused_for, vacancy};

/// Which pools are meant: those of this name, those of this cluster; empty for any.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub pool: String,
    pub cluster: String,
}

impl Wanted {
    /// The query of an address. A slip of the pen there would make a check that is always green, so it is refused.
    ///
    /// # Errors
    /// A parameter that is not known, or is there twice, or empty.
    pub fn parse(query: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        for (key, name) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*key {
                "pool" => &mut wanted.pool,
                "cluster" => &mut wanted.cluster,
                _ => {
                    return Err(format!(
                        "{key:?} is no parameter here: expected pool=NAME, cluster=NAME, or both"
                    ));
                }
            };
            if name.is_empty() {
                return Err(format!("{key}= names nothing; write {key}=NAME, or leave it out"));
            }
            if !place.is_empty() {
                return Err(format!("{key}= is there twice: one {key} at most can be asked for"));
            }
            *place = name.into_owned();
        }
        Ok(wanted)
    }
}

/// Ready from the first table to the beginning of a stop, and where pools are meant, as long as each of them has somebody
/// who takes its sessions, and a writer does take them: its dials do not fail.
pub fn readiness(sources: &Sources, wanted: &Wanted) -> (StatusCode, String) {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    let ready = (StatusCode::OK, "ready\n".to_owned());
    if sources.stopping.load(Relaxed) {
        return unready("stopping");
    }
    if wanted.pool.is_empty() && wanted.cluster.is_empty() {
        let is_ready = sources.pictures.is_ready();
        return if is_ready { ready } else { unready("not every cluster has been asked yet") };
    }
    let clusters = sources.pictures.all();
    let served = sources.served.load();
    let means = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
    let mut known = false;
    for cluster in clusters.iter().filter(|cluster| means(&wanted.cluster, &cluster.name)) {
        let of_cluster = served.pools.iter().map(|source| &source.pool);
        let of_cluster = of_cluster.filter(|pool| pool.options.cluster == cluster.id);
        for pool in of_cluster.filter(|pool| means(&wanted.pool, &pool.options.name)) {
            known = true;
            let (options, routes) = (&pool.options, cluster.routes.pool(&pool.options.name));
            if let Some((_, refused)) = refused_for(&pool.stats, routes) {
                let (pool, ago) = (&options.name, figures::ago(refused.as_secs_f64()));
                return unready(&format!(
                    "the writer has taken no session of {pool} of {} for {ago}",
                    cluster.name
                ));
            }
            if let Some(vacancy) = vacancy(routes) {
                let (pool, cause) = (&options.name, vacancy.cause.as_str());
                return unready(&format!("nobody takes the sessions of {pool} of {}: {cause}", cluster.name));
            }
        }
    }
    if known { ready } else { (StatusCode::NOT_FOUND, "there is no such pool\n".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn a_query_is_understood_whole_or_refused() {
        for (query, expected) in [
            ("", Ok(("", ""))),
            ("pool=primary", Ok(("primary", ""))),
            ("cluster=demo&pool=a%20b", Ok(("a b", "demo"))),
            ("pol=primary", Err("\"pol\" is no parameter here: expected pool=NAME, cluster=NAME, or both")),
            ("POOL=primary", Err("\"POOL\" is no parameter here: expected pool=NAME, cluster=NAME, or both")),
            ("pool=primary&pool=nope", Err("pool= is there twice: one pool at most can be asked for")),
            ("pool=", Err("pool= names nothing; write pool=NAME, or leave it out")),
            ("cluster", Err("cluster= names nothing; write cluster=NAME, or leave it out")),
        ] {
            let wanted = Wanted::parse(query);
            let told = wanted.as_ref().map(|wanted| (&*wanted.pool, &*wanted.cluster));
            assert_eq!(told.map_err(|error| &**error), expected, "{query}");
        }
    }
}
