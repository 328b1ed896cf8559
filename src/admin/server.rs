//! The HTTP server of the admin side.
//!
//! A connection loop of our own around hyper, since a server that faces a network needs limits: how many connections,
//! how long for the handshake and the headers, how large, how long for an answer. It has a thread of its own, so that
//! neither a flood nor a slow scrape keeps the control plane from its nodes.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::IntoResponse;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::Peer;
use super::places::{Place, Places};
use super::refusal::Refusal;
use super::tls::{self, Certificates};
use super::turns::{give_turn, give_way, turn_by_turn};
use crate::proxy::event_loop::EventLoop;
use crate::proxy::share::{Kept, Share};
use crate::proxy::socket_file::SocketFile;
use crate::stats::{Panics, Part};

/// Open pages, scrapers and scripts at each door; who comes then takes the place of one that asks nothing (see
/// [`super::places`]). The socket has its own, so that a crowd on the network does not keep the operator out.
pub const MAX_CONNECTIONS: usize = 128;
/// A client sends its headers at once, and does its part of a handshake at once; who does not is not waited for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers and request line together.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// A connection is closed after this long, busy or not; clients come back.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// Who takes nothing that was sent for so long is gone or stopped, and its connection with it; the kernel watches. A
/// place would otherwise be lost to each stream that nobody reads until [`CONNECTION_LIFETIME`] is over.
const DEAF: Duration = Duration::from_secs(10);
/// What the kernel keeps of answers for one client, in bytes; it doubles this. Left to itself it keeps megabytes for each that
/// reads nothing, and goes on keeping them when the connection is closed.
const SEND_BUFFER: usize = 64 * 1024;
/// When accepting fails for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Slow hashes and files, a few at a time.
const BLOCKING_THREADS: usize = 4;

/// Where the admin side lets people in.
#[derive(Debug)]
pub enum Door {
    /// With what `tls` holds at the time, encrypted or not.
    Network {
        listener: std::net::TcpListener,
        tls: watch::Receiver<Option<Arc<Certificates>>>,
    },
    Socket(SocketFile),
}

/// A door whose socket is watched already: nothing can fail any more.
#[derive(Debug)]
pub struct ReadyDoor {
    kept: Kept,
    served: Served,
}

/// A unix socket that the thread of the doors watches. Its file stays for as long as this does.
#[derive(Debug)]
pub struct WatchedSocket {
    pub listener: UnixListener,
    _file: SocketFile,
}

/// The running thread, in which doors are opened and closed.
#[derive(Debug)]
pub struct Doors {
    runtime: Handle,
    router: Router,
    ends: Ends,
    panics: Panics,
}

/// How connections come to their end, and who has one.
#[derive(Debug, Clone)]
pub struct Ends {
    /// At once.
    stop: CancellationToken,
    /// After the answer that is under way.
    leave: CancellationToken,
    visits: TaskTracker,
}

impl Ends {
    /// Everybody is asked to come back, which leads to another process by now. Waits until they have gone, `patience` at most.
    pub async fn send_away(&self, patience: Duration) {
        self.leave.cancel();
        self.visits.close();
        let _ = tokio::time::timeout(patience, self.visits.wait()).await;
    }
}

/// Somewhere to come in, for as long as this is there. Whoever is in may stay.
#[derive(Debug)]
pub struct OpenDoor {
    /// Ends the accepting when it goes.
    close: CancellationToken,
    closed: std::sync::mpsc::Receiver<()>,
    kept: Option<Kept>,
}

/// Starts the thread. It serves until `stop`, with `work` beside it; open connections are then closed.
///
/// # Errors
/// When the thread or its event loop cannot be made.
pub fn start(
    router: Router,
    work: impl Future<Output = ()> + Send + 'static,
    stop: CancellationToken,
    panics: Panics,
) -> io::Result<(Doors, JoinHandle<()>)> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.max_blocking_threads(BLOCKING_THREADS).thread_name("admin-blocking");
    // A hash under way is not waited for.
    let event_loop = EventLoop::new(&mut builder)?;
    let ends = Ends { stop: stop.clone(), leave: CancellationToken::new(), visits: TaskTracker::new() };
    let doors = Doors { runtime: event_loop.handle.clone(), router, ends, panics };
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        give_way();
        event_loop.run(async {
            tokio::spawn(work);
            stop.cancelled().await;
        });
    })?;
    Ok((doors, thread))
}

impl Doors {
    /// Has the thread watch a bound socket, at which nobody is let in yet.
    ///
    /// # Errors
    /// When the event loop cannot watch the socket, or no descriptors are left.
    pub fn ready(&self, door: Door) -> io::Result<ReadyDoor> {
        let kept = door.keep()?;
        let _within = self.runtime.enter();
        Ok(ReadyDoor { kept, served: Served::new(door)? })
    }

    /// The same for a socket that is served by something else: see [`Doors::serve`].
    ///
    /// # Errors
    /// As [`Doors::ready`].
    pub fn watch(&self, file: SocketFile) -> io::Result<(Kept, WatchedSocket)> {
        let kept = file.keep()?;
        let _within = self.runtime.enter();
        Ok((kept, WatchedSocket::new(file)?))
    }

    /// Lets people in.
    pub fn open(&self, ReadyDoor { kept, served }: ReadyDoor) -> OpenDoor {
        let (router, ends, panics) = (self.router.clone(), self.ends.clone(), self.panics.clone());
        // Those who are in keep theirs when accepting begins anew.
        let places = Places::new(MAX_CONNECTIONS);
        self.serve(kept, move |close| async move {
            tokio::select! {
                () = ends.stop.cancelled() => {}
                () = close.cancelled() => {}
                () = panics.again(Part::Admin, || served.follow()) => {}
                () = panics.again(Part::Admin, || served.accept_all(&places, &router, &ends, &panics)) => {}
            }
        })
    }

    pub fn ends(&self) -> Ends {
        self.ends.clone()
    }

    /// Runs something that lets people in until it is told to close, in the thread of the doors.
    pub fn serve<F>(&self, kept: Kept, serve: impl FnOnce(CancellationToken) -> F) -> OpenDoor
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let close = CancellationToken::new();
        let (until_closed, closed) = std::sync::mpsc::channel();
        let serving = serve(close.clone());
        self.runtime.spawn(async move {
            serving.await;
            drop(until_closed);
        });
        OpenDoor { close, closed, kept: Some(kept) }
    }
}

impl OpenDoor {
    /// Lets nobody in any more at these, and waits until their sockets are closed, `patience` at most for all. Blocks; not for
    /// async code.
    pub fn close_all(doors: impl IntoIterator<Item = OpenDoor>, patience: Duration) {
        let until = Instant::now() + patience;
        let tell = |mut door: OpenDoor| {
            door.kept = None;
            door.close.cancel();
            door
        };
        // All are told before one is waited for.
        let told: Vec<OpenDoor> = doors.into_iter().map(tell).collect();
        for door in told {
            let _ = door.closed.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// For a process that is to go on with it.
    pub fn share(&self) -> Option<&Share> {
        self.kept.as_ref().map(|kept| &kept.share)
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

impl Door {
    fn keep(&self) -> io::Result<Kept> {
        match self {
            Door::Network { listener, .. } => Kept::new(listener, None),
            Door::Socket(file) => file.keep(),
        }
    }
}

impl ReadyDoor {
    /// There is a file, and this process would remove it.
    pub fn has_file(&self) -> bool {
        self.kept.share.has_file()
    }
}

impl WatchedSocket {
    /// Within a runtime.
    fn new(mut file: SocketFile) -> io::Result<WatchedSocket> {
        let listener = file.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok(WatchedSocket { listener: UnixListener::from_std(listener)?, _file: file })
    }
}

/// A door within the runtime that serves it.
#[derive(Debug)]
enum Served {
    Network(TcpListener, watch::Receiver<Option<Arc<Certificates>>>),
    Socket(WatchedSocket),
}

impl Served {
    fn new(door: Door) -> io::Result<Served> {
        match door {
            Door::Network { listener, tls } => {
                listener.set_nonblocking(true)?;
                Ok(Served::Network(TcpListener::from_std(listener)?, tls))
            }
            Door::Socket(file) => WatchedSocket::new(file).map(Served::Socket),
        }
    }

    async fn accept_all(&self, places: &Arc<Places>, router: &Router, ends: &Ends, panics: &Panics) {
        loop {
            match self.accept().await {
                Ok((arrival, peer)) => {
                    give_turn();
                    let place = places.take(peer).await;
                    let (router, ends, panics) = (router.clone(), ends.clone(), panics.clone());
                    arrival.begin(Visit { router, ends, panics, place, peer });
                }
                Err(error) => {
                    tracing::debug!(%error, "admin connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn follow(&self) {
        match self {
            Served::Network(_, tls) => tls::follow_current(tls.clone()).await,
            Served::Socket(_) => std::future::pending().await,
        }
    }

    async fn accept(&self) -> io::Result<(Arrival, Peer)> {
        match self {
            Served::Network(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                let socket = SockRef::from(&stream);
                socket.set_tcp_user_timeout(Some(DEAF))?;
                socket.set_send_buffer_size(SEND_BUFFER)?;
                let certificates = tls.borrow().clone();
                let peer = Peer::Network { address, encrypted: certificates.is_some() };
                let arrival = match certificates {
                    None => Arrival::Plain(stream),
                    Some(certificates) => {
                        Arrival::Encrypted(stream, TlsAcceptor::from(certificates.config()))
                    }
                };
                Ok((arrival, peer))
            }
            Served::Socket(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Arrival::Local(stream), Peer::Socket { uid }))
            }
        }
    }
}

/// Who has come, before a word is said.
enum Arrival {
    Plain(TcpStream),
    Encrypted(TcpStream, TlsAcceptor),
    Local(UnixStream),
}

impl Arrival {
    fn begin(self, visit: Visit) {
        match self {
            Arrival::Plain(stream) => visit.begin(std::future::ready(Ok(stream))),
            Arrival::Encrypted(stream, acceptor) => {
                let peer = visit.peer;
                visit.begin(handshake(acceptor, stream, peer));
            }
            Arrival::Local(stream) => visit.begin(std::future::ready(Ok(stream))),
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: Peer,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let outcome = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await;
    let outcome = outcome.unwrap_or_else(|late| Err(late.into()));
    outcome.inspect_err(|error| tracing::debug!(%peer, %error, "no handshake with an admin client"))
}

/// One connection and its place among them.
struct Visit {
    router: Router,
    ends: Ends,
    panics: Panics,
    place: Place,
    peer: Peer,
}

impl Visit {
    fn begin<S>(self, ready: impl Future<Output = io::Result<S>> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Visit { router, ends: Ends { stop, leave, visits }, panics, place, peer } = self;
        visits.spawn(turn_by_turn(async move {
            let (let_go, place) = (place.let_go(), Arc::new(place));
            let whole = async {
                let exchange = exchange(ready.await?, router, peer, &place, &leave, &panics);
                exchange.await.map_err(io::Error::other)
            };
            let whole = panics.caught(Part::Admin, whole);
            tokio::select! {
                () = stop.cancelled() => {}
                () = let_go.cancelled() => tracing::debug!(%peer, "admin connection let go for a newcomer"),
                outcome = tokio::time::timeout(CONNECTION_LIFETIME, whole) => {
                    tracing::debug!(?outcome, "admin connection closed");
                }
            }
        }));
    }
}

/// Requests and answers until one side has had enough, or `leave` is cancelled; each request carries who its sender is. One
/// that panics is told so.
///
/// # Errors
/// What was no HTTP, came too late or was too large; hyper has answered it where that can be.
pub async fn exchange<S>(
    stream: S,
    router: Router,
    peer: Peer,
    place: &Arc<Place>,
    leave: &CancellationToken,
    panics: &Panics,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, panics) = (TowerToHyperService::new(router), panics.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        let (work, answered, panics) = (place.works(), router.call(request), panics.clone());
        async move {
            let answered = panics.caught(Part::Admin, answered).await;
            let answered = answered.unwrap_or_else(|| Ok(Refusal::fault().into_response()));
            answered.map(|answer| answer.map(|body| work.answer(body)))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = leave.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
