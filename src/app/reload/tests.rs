//! A change that fails at the last moment, when everything is bound: nothing of it may be in effect.

use std::convert::Infallible;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context as Asking, Wake, Waker};

use tokio::sync::oneshot;

use super::*;
use crate::admin::drawings::Form;
use crate::app::App;
use crate::control::ClusterPicture;
use crate::proxy::beside::tests::free_port;

/// epoll takes none, so nobody can watch it.
fn file() -> OwnedFd {
    File::open("/proc/self/exe").expect("this program").into()
}

fn config(text: &str) -> Config {
    Config::parse("config.yaml", text, &|_| None).expect("a configuration")
}

/// Two configurations with nothing in common but the nodes, at which nobody answers and which are asked once; and one like
/// the second with a wider address than the first.
fn configs(port: u16) -> [Config; 3] {
    let before = config(&format!(
        "clusters:\n\
         - {{name: sales, patroni: {{endpoints: '127.0.0.1:1', interval: 1h, fast_interval: 1h}},\n   \
            primary: {{listen: '127.0.0.1:{port}'}}, replicas: off}}\n\
         admin: {{listen: '127.0.0.1:0'}}\n",
    ));
    let mut after = before.clone();
    let cluster = &mut after.clusters[0];
    cluster.name = Some("shop".to_owned());
    let primary = cluster.primary.as_mut().expect("it is there");
    primary.name = "writers".to_owned();
    primary.listen = vec![SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()];
    after.admin.listen = Some((Ipv4Addr::new(127, 0, 0, 2), 0).into());
    after.admin.allowed_hosts = vec!["pilotfish.example".to_owned()];
    (after.max_sessions, after.drain_timeout) = (Some(7), Duration::from_secs(9));
    let mut wider = after.clone();
    let primary = wider.clusters[0].primary.as_mut().expect("it is there");
    primary.listen = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()];
    [before, after, wider]
}

/// Whoever shows the next picture panics, after a look whether somebody comes in here already.
struct Bomb {
    door: SocketAddr,
    is_open: AtomicBool,
}

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        self.is_open.store(TcpStream::connect(self.door).is_ok(), Relaxed);
        panic!("a fault, as the test wants it");
    }
}

/// What others see of it.
fn effects(running: &Running, sources: &Sources) -> String {
    let pool = |pool: &PoolSource| format!("{:?} {:?}", pool.pool.options, pool.listen);
    let pools: Vec<_> = sources.served.load().pools.iter().map(pool).collect();
    let of_control = |picture: &Arc<ClusterPicture>| {
        let pools = picture.routes.pools.iter().map(|pool| pool.name.to_string());
        (picture.id, picture.name.to_string(), pools.collect::<Vec<_>>())
    };
    let shown: Vec<_> = sources.pictures.all().iter().map(of_control).collect();
    let listen: Vec<_> = running.sockets.iter().map(|(_, listening)| &listening.address).collect();
    let (config, gate, sessions) = (&running.config, &sources.gate, sources.workers.max_sessions());
    let patience = &running.context.drain_timeout;
    format!("{config}{pools:?}{shown:?}{listen:?}{gate:?}{sessions:?}{patience:?}")
}

#[tokio::test]
async fn a_change_that_fails_at_the_last_moment_leaves_all_as_it_was() {
    let port = free_port();
    let [before, after, wider] = configs(port);
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
            let prepare = |running: &Running, next: &Config| {
                let Context { workers, names, .. } = &running.context;
                Prepared::new(next.clone(), *workers, names, Before::Running(running)).expect("free ports")
            };
            while sources.pictures.all()[0].decision.is_none() {
                std::thread::yield_now();
            }
            let was = effects(running, &sources);
            for (place, next) in [("a pool", &after), ("a wider pool", &wider), ("the admin page", &after)] {
                let mut prepared = prepare(running, next);
                match place {
                    "a pool" | "a wider pool" => {
                        let bound = prepared.sockets[0].as_mut().expect("a new address");
                        bound.socket = Arc::new(file());
                    }
                    _ => prepared.entrances.spoil(file()),
                }
                running.commit(prepared, &sources, None).expect_err(place);
                assert_eq!(effects(running, &sources), was, "{place}");
            }
            // Control has changed half of it by then.
            let mut shown = sources.pictures.follow();
            let mut shown = pin!(shown.changed());
            let door = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
            let bomb = Arc::new(Bomb { door, is_open: AtomicBool::new(true) });
            let waker = Waker::from(Arc::clone(&bomb));
            assert!(shown.as_mut().poll(&mut Asking::from_waker(&waker)).is_pending());
            let prepared = prepare(running, &wider);
            let failed = running.commit(prepared, &sources, None).expect_err("a fault in control");
            assert!(!bomb.is_open.load(Relaxed), "whoever had come in by then would be reset");
            assert!(matches!(failed, StartError::NotTakenOver), "{failed}");
            assert_eq!(sources.inbox.panics.of(Part::Control), 1);
            assert_eq!(effects(running, &sources), was, "control");
            let drawings = &sources.live.drawings;
            let old =
                || drawings.draw(Form::Status, || Ok::<_, Infallible>("new")).expect("a drawing") == "old";
            let much = Duration::from_secs(1);
            drawings.spend(Instant::now() + 1000 * much, Form::Status, much, &"old".into());
            assert!(old());
            let whole = prepare(running, &wider);
            running.commit(whole, &sources, None).expect("nothing is wrong with it");
            assert!(!old(), "whoever looks next sees it");
            assert_ne!(effects(running, &sources), was);
            assert_eq!(running.config.max_sessions, Some(7));
        })
    });
    changes.await.expect("no panic");
    stop.send(()).expect("it runs");
    serving.await.expect("no panic").expect("an end");
}
