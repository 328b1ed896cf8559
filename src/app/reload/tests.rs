//! A change that fails at the last moment, when everything is bound: nothing of it may be in effect.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use tokio::sync::oneshot;

use super::*;
use crate::app::App;

/// epoll takes none, so nobody can watch it.
fn file() -> OwnedFd {
    File::open("/proc/self/exe").expect("this program").into()
}

fn config(text: &str) -> Config {
    Config::parse("config.yaml", text, &|_| None).expect("a configuration")
}

/// Two configurations with nothing in common but the nodes, at which nobody answers.
fn configs() -> [Config; 2] {
    let before = config(
        "clusters: [{name: sales, patroni: '127.0.0.1:1', primary: {listen: '127.0.0.1:0'}, replicas: off}]\n\
         admin: {listen: '127.0.0.1:0'}\n",
    );
    let mut after = before.clone();
    let cluster = &mut after.clusters[0];
    cluster.name = Some("shop".to_owned());
    let primary = cluster.primary.as_mut().expect("it is there");
    primary.name = "writers".to_owned();
    primary.listen = vec![SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()];
    after.admin.listen = Some((Ipv4Addr::new(127, 0, 0, 2), 0).into());
    after.admin.allowed_hosts = vec!["pilotfish.example".to_owned()];
    (after.max_sessions, after.drain_timeout) = (Some(7), Duration::from_secs(9));
    [before, after]
}

/// What others see of it.
fn effects(running: &Running, sources: &Sources) -> String {
    let pool = |pool: &PoolSource| format!("{:?} {:?}", pool.pool.options, pool.listen);
    let pools: Vec<_> = sources.served.load().pools.iter().map(pool).collect();
    let names: Vec<_> = sources.pictures.all().iter().map(|picture| Arc::clone(&picture.name)).collect();
    let listen: Vec<_> = running.sockets.iter().map(|(_, listening)| &listening.address).collect();
    let (config, gate, sessions) = (&running.config, &sources.gate, sources.workers.max_sessions());
    let patience = &running.context.drain_timeout;
    format!("{config}{pools:?}{names:?}{listen:?}{gate:?}{sessions:?}{patience:?}")
}

#[tokio::test]
async fn a_socket_that_cannot_be_watched_leaves_all_as_it_was() {
    let [before, after] = configs();
    let app = App::prepare(before, None).expect("free ports");
    let slot = app.slot.clone();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(app.run(async { drop(stopped.await) }, std::future::pending()));
    let changes = tokio::task::spawn_blocking(move || {
        while slot.with(|_| ()).is_none() {
            std::thread::yield_now();
        }
        slot.with(|running| {
            let sources = running.context.sources.upgrade().expect("it runs");
            let prepare = |running: &Running| {
                let Context { workers, names, .. } = &running.context;
                Prepared::new(after.clone(), *workers, names, Before::Running(running)).expect("free ports")
            };
            let was = effects(running, &sources);
            for place in ["a pool", "the admin page"] {
                let mut prepared = prepare(running);
                match place {
                    "a pool" => {
                        let bound = prepared.sockets[0].as_mut().expect("a new address");
                        bound.socket = Arc::new(file());
                    }
                    _ => prepared.entrances.spoil(file()),
                }
                running.commit(prepared, &sources, None).expect_err(place);
                assert_eq!(effects(running, &sources), was, "{place}");
            }
            let whole = prepare(running);
            running.commit(whole, &sources, None).expect("nothing is wrong with it");
            assert_ne!(effects(running, &sources), was);
            assert_eq!(running.config.max_sessions, Some(7));
        })
    });
    changes.await.expect("no panic");
    stop.send(()).expect("it runs");
    serving.await.expect("no panic").expect("an end");
}
