//! The product's side of a test: workers, a primary pool and a replica pool, and the right to publish tables.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::proxy::listener::{self, Bound, ListenAddress, ListenOptions, Listening, Service};
use pilotfish::proxy::{
    Access, IdleLimits, Pool, PoolOptions, Protocol, SessionLimits, TcpOptions, TellTrouble, TroubleKind,
    Workers, WorkersOptions,
};
use pilotfish::routing::cell::cell;
use pilotfish::routing::{
    Backend, Balance, Candidate, ClusterId, Kind, PoolRoutes, Publisher, Routes, Table,
};
use pilotfish::stats::{End, Panics, PoolStats};
use pilotfish::topology::{Condition, Fate};

use super::member::Member;
use super::peer::Peer;
use super::{until, within};

/// What a test may want otherwise than most.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub workers: usize,
    pub protocol: Protocol,
    pub first_packet: Duration,
    pub hold: Duration,
    pub max_held: usize,
    pub connect_timeout: Duration,
    pub max_sessions: usize,
    pub balance: Balance,
    pub fallback: bool,
    pub tcp: TcpOptions,
    pub idle: IdleLimits,
    pub send_proxy: bool,
    pub limits: SessionLimits,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            workers: 1,
            protocol: Protocol::Postgresql,
            first_packet: Duration::from_secs(30),
            hold: Duration::from_secs(30),
            max_held: 1000,
            connect_timeout: Duration::from_secs(5),
            max_sessions: 10_000,
            balance: Balance::LeastConnections,
            fallback: true,
            tcp: TcpOptions::default(),
            idle: IdleLimits::default(),
            send_proxy: false,
            limits: SessionLimits::default(),
        }
    }
}

/// The data plane under test. Nothing is routed until a table is published.
pub struct Bench {
    pub primary: Port,
    pub replicas: Port,
    pub workers: Workers,
    pub panics: Panics,
    /// While it is set, whoever tells of a trouble panics: a session on its way.
    pub faulty: Arc<AtomicBool>,
    troubles: Arc<Mutex<Vec<(String, TroubleKind)>>>,
    publisher: Publisher,
    fallback: bool,
    listening: Mutex<Vec<Listening>>,
}

/// One pool, as its clients and its operators see it.
pub struct Port {
    pub at: SocketAddr,
    pub stats: Arc<PoolStats>,
    pub pool: Arc<Pool>,
}

/// A member's place in a table.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: &'static str,
    pub addresses: Vec<SocketAddr>,
    /// Takes new sessions of this kind.
    pub writer: bool,
    pub reader: bool,
    /// What becomes of its open sessions.
    pub writers: Fate,
    pub readers: Fate,
}

impl Bench {
    pub fn new(setup: Setup) -> Bench {
        let troubles = Arc::new(Mutex::new(Vec::new()));
        let (panics, faulty) = (Panics::default(), Arc::<AtomicBool>::default());
        let (told, fault) = (Arc::clone(&troubles), Arc::clone(&faulty));
        let trouble = TellTrouble(Arc::new(move |trouble| {
            assert!(!fault.load(Relaxed), "a fault, as the test wants it");
            told.lock().expect("no panic").push((trouble.member.to_string(), trouble.kind));
        }));
        let (publisher, cell) = cell(Table::new(0, [(ClusterId::default(), Arc::default())]));
        let options =
            WorkersOptions { count: setup.workers, max_sessions: setup.max_sessions, panics: panics.clone() };
        let workers = Workers::start(options, &cell, &trouble).expect("threads");
        let (primary, first) = Port::open(&workers, &setup, Kind::Primary);
        let (replicas, second) = Port::open(&workers, &setup, Kind::Replicas);
        let listening = Mutex::new(vec![first, second]);
        let fallback = setup.fallback;
        Bench { primary, replicas, workers, panics, faulty, troubles, publisher, fallback, listening }
    }

    /// Publishes a table with these members and no others.
    pub fn publish(&self, places: impl IntoIterator<Item = Place>) {
        let mut places: Vec<Place> = places.into_iter().collect();
        places.sort_by_key(|place| place.name);
        let epoch = self.publisher.load().epoch + 1;
        let routes = Routes {
            cluster: Arc::from("demo"),
            epoch,
            condition: if places.iter().any(|place| place.writer) {
                Condition::Ok
            } else {
                Condition::NoWriter
            },
            reason: "nobody holds the leader lock".to_owned(),
            pools: vec![self.routes(Kind::Primary, &places), self.routes(Kind::Replicas, &places)],
        };
        self.publisher.publish(Table::new(epoch, [(ClusterId::default(), Arc::new(routes))]));
    }

    /// Serves a socket on some worker.
    pub fn serve(&self, bound: Bound, service: Service) -> Listening {
        self.workers.listen(self.workers.watch(bound).expect("an event loop"), service)
    }

    /// One more listener of the primary pool; says where.
    pub fn also_listen(&self, listen: &ListenOptions, access: Access) -> ListenAddress {
        let bound = listener::bind(listen).expect("an address that is free");
        let address = bound.address.clone();
        let service = Service { pool: Arc::clone(&self.primary.pool), access: Arc::new(access) };
        let listening = self.serve(bound, service);
        self.listening.lock().expect("no panic").push(listening);
        address
    }

    fn routes(&self, kind: Kind, places: &[Place]) -> PoolRoutes {
        let is_primary = kind == Kind::Primary;
        let port = if is_primary { &self.primary } else { &self.replicas };
        let backend = |place: &Place| Backend {
            name: Arc::from(place.name),
            addresses: place.addresses.clone().into(),
            obstacle: None,
            weight: 100,
            initial_weight: 100,
            fate: if is_primary { place.writers } else { place.readers },
            stats: port.stats.member(place.name),
        };
        let takes = |&index: &usize| if is_primary { places[index].writer } else { places[index].reader };
        let takers = (0..places.len()).filter(takes);
        PoolRoutes {
            name: Arc::from(kind.as_str()),
            kind,
            backends: places.iter().map(backend).collect(),
            candidates: takers.map(Candidate::new).collect(),
            fallback: places.iter().position(|place| place.writer).filter(|_| !is_primary && self.fallback),
            vacancy: None,
        }
    }

    /// Whose troubles were told, in order.
    pub fn troubles(&self) -> Vec<(String, TroubleKind)> {
        self.troubles.lock().expect("no panic").clone()
    }

    /// Waits until every session has ended and every gauge is back at zero.
    pub async fn emptied(&self) {
        let is_empty = |port: &Port| {
            let active: u64 = port.stats.members().iter().map(|(_, counts)| counts.active).sum();
            (port.stats.clients(), port.stats.held(), active) == (0, 0, 0)
        };
        until("every gauge at zero", || {
            self.workers.open_sessions() == 0 && is_empty(&self.primary) && is_empty(&self.replicas)
        })
        .await;
    }
}

/// A listener for everybody.
pub fn listen_at(address: ListenAddress, tcp: TcpOptions) -> ListenOptions {
    ListenOptions { address, free_bind: false, mode: 0o600, tcp }
}

impl Port {
    fn open(workers: &Workers, setup: &Setup, kind: Kind) -> (Port, Listening) {
        let options = PoolOptions {
            balance: setup.balance,
            protocol: setup.protocol,
            first_packet: setup.first_packet,
            hold: setup.hold,
            max_held: setup.max_held,
            connect_timeout: setup.connect_timeout,
            tcp: setup.tcp,
            idle: setup.idle,
            send_proxy: setup.send_proxy,
            limits: setup.limits,
            ..PoolOptions::new(ClusterId::default(), kind.as_str(), kind)
        };
        let stats = Arc::new(PoolStats::new(setup.workers));
        let pool = Arc::new(Pool::new(options, Arc::clone(&stats)));
        let listen = listen_at(ListenAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), setup.tcp);
        let bound = listener::bind(&listen).expect("a free port");
        let ListenAddress::Ip(at) = bound.address else { panic!("no IP address") };
        let service = Service { pool: Arc::clone(&pool), access: Arc::default() };
        let listening = workers.listen(workers.watch(bound).expect("an event loop"), service);
        (Port { at, stats, pool }, listening)
    }

    /// A new connection to the pool.
    pub async fn client(&self) -> Peer {
        within("a connection to the pool", Peer::connect(self.at)).await
    }

    /// A client that has sent `bytes`.
    pub async fn client_saying(&self, bytes: &[u8]) -> Peer {
        let mut client = self.client().await;
        client.say(bytes).await;
        client
    }

    /// An open session: its client, and what `member` has of it. Both have heard of each other.
    pub async fn session(&self, member: &Member) -> (Peer, Peer) {
        member.welcome(self.client().await).await
    }

    pub async fn holds(&self, clients: usize) {
        until(&format!("{clients} held"), || self.stats.held() == clients).await;
    }

    /// Waits until so many sessions have ended in this way.
    pub async fn ended(&self, end: End, times: u64) {
        until(&format!("{times} x {end}"), || self.stats.ends(end) >= times).await;
        assert_eq!(self.stats.ends(end), times, "{end}");
    }

    /// Every way in which sessions have ended, and how often.
    pub fn ends(&self) -> Vec<(End, u64)> {
        let counted = End::ALL.into_iter().map(|end| (end, self.stats.ends(end)));
        counted.filter(|(_, times)| *times > 0).collect()
    }

    /// Dials so far, whatever came of them.
    pub fn dials(&self) -> u64 {
        self.stats.connect_seconds.snapshot().count
    }
}
