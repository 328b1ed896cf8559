//! The HTTP server of the admin side.
//!
//! A connection loop of our own around hyper, since a server that faces a network needs limits: how many connections,
//! how long for the handshake and the headers, how large, how long for an answer. It has a thread of its own, so that
//! neither a flood nor a slow scrape keeps the control plane from its nodes.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::Peer;
use super::refusal::Refusal;
use super::tls::Certificates;
use crate::proxy::share::{Kept, Share};
use crate::proxy::socket_file::SocketFile;
use crate::stats::{Panics, Part};

/// Open pages, scrapers and scripts at each door; more wait in the kernel's backlog. The socket has its own, so that
/// a crowd on the network does not keep the operator out.
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("admin-blocking")
        .build()?;
    let ends = Ends { stop: stop.clone(), leave: CancellationToken::new(), visits: TaskTracker::new() };
    let doors = Doors { runtime: runtime.handle().clone(), router, ends, panics };
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(work);
            stop.cancelled().await;
        });
        // A hash under way is not waited for.
        runtime.shutdown_background();
    })?;
    Ok((doors, thread))
}

impl Doors {
    /// Lets people in at a bound socket.
    ///
    /// # Errors
    /// When the event loop cannot watch the socket.
    pub fn open(&self, door: Door) -> io::Result<OpenDoor> {
        let kept = door.keep()?;
        let served = {
            let _within = self.runtime.enter();
            Served::open(door)?
        };
        let (router, ends, panics) = (self.router.clone(), self.ends.clone(), self.panics.clone());
        Ok(self.serve(kept, move |close| async move {
            tokio::select! {
                () = ends.stop.cancelled() => {}
                () = close.cancelled() => {}
                () = panics.again(Part::Admin, || served.follow()) => {}
                () = panics.again(Part::Admin, || served.accept_all(&router, &ends, &panics)) => {}
            }
        }))
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
    /// Lets nobody in any more, and waits until the socket is closed, `patience` at most. Blocks; not for async code.
    pub fn close(mut self, patience: Duration) {
        self.kept = None;
        self.close.cancel();
        let _ = self.closed.recv_timeout(patience);
    }
}

impl OpenDoor {
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

/// A door within the runtime that serves it.
enum Served {
    Network(TcpListener, watch::Receiver<Option<Arc<Certificates>>>),
    /// The file stays for as long as it is served.
    Socket {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Served {
    fn open(door: Door) -> io::Result<Served> {
        match door {
            Door::Network { listener, tls } => {
                listener.set_nonblocking(true)?;
                Ok(Served::Network(TcpListener::from_std(listener)?, tls))
            }
            Door::Socket(mut file) => {
                let listener = file.take().ok_or(io::ErrorKind::NotConnected)?;
                Ok(Served::Socket { listener: UnixListener::from_std(listener)?, _file: file })
            }
        }
    }

    async fn accept_all(&self, router: &Router, ends: &Ends, panics: &Panics) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (router, ends, panics) = (router.clone(), ends.clone(), panics.clone());
            if let Err(error) = self.accept(Visit { router, ends, panics, place }).await {
                tracing::debug!(%error, "admin connection not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn follow(&self) {
        match self {
            Served::Network(_, tls) => follow(tls.clone()).await,
            Served::Socket { .. } => std::future::pending().await,
        }
    }

    async fn accept(&self, visit: Visit) -> io::Result<()> {
        match self {
            Served::Network(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                SockRef::from(&stream).set_tcp_user_timeout(Some(DEAF))?;
                let certificates = tls.borrow().clone();
                match certificates {
                    None => {
                        visit.begin(async move { Ok(stream) }, Peer::Network { address, encrypted: false })
                    }
                    Some(certificates) => {
                        let peer = Peer::Network { address, encrypted: true };
                        visit.begin(
                            handshake(TlsAcceptor::from(certificates.config()), stream, address),
                            peer,
                        );
                    }
                }
            }
            Served::Socket { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                visit.begin(async move { Ok::<UnixStream, io::Error>(stream) }, Peer::Socket { uid });
            }
        }
        Ok(())
    }
}

/// Follows the files of whichever certificate counts, for ever.
async fn follow(mut tls: watch::Receiver<Option<Arc<Certificates>>>) {
    loop {
        let certificates = tls.borrow_and_update().clone();
        let following = async {
            match certificates {
                Some(certificates) => certificates.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = following => {}
            changed = tls.changed() => if changed.is_err() {
                // Nobody is left who could change it: the door is about to close.
                return std::future::pending().await;
            },
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let outcome = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await;
    let outcome = outcome.unwrap_or_else(|late| Err(late.into()));
    outcome.inspect_err(|error| tracing::debug!(%address, %error, "no handshake with an admin client"))
}

/// One connection and its place among them.
struct Visit {
    router: Router,
    ends: Ends,
    panics: Panics,
    place: OwnedSemaphorePermit,
}

impl Visit {
    fn begin<S>(self, ready: impl Future<Output = io::Result<S>> + Send + 'static, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Visit { router, ends: Ends { stop, leave, visits }, panics, place } = self;
        visits.spawn(async move {
            let _place = place;
            let whole = async {
                let exchange = exchange(ready.await?, router, peer, &leave, &panics);
                exchange.await.map_err(io::Error::other)
            };
            let whole = panics.caught(Part::Admin, whole);
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = tokio::time::timeout(CONNECTION_LIFETIME, whole) => {
                    tracing::debug!(?outcome, "admin connection closed");
                }
            }
        });
    }
}

/// Requests and answers until one side has had enough; each request carries who its sender is. One that panics is told so.
async fn exchange<S>(
    stream: S,
    router: Router,
    peer: Peer,
    leave: &CancellationToken,
    panics: &Panics,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, panics) = (TowerToHyperService::new(router), panics.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        let (answered, panics) = (router.call(request), panics.clone());
        async move { panics.caught(Part::Admin, answered).await.unwrap_or_else(|| Ok(fault().into_response())) }
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

fn fault() -> Refusal {
    let error = "a fault inside pilotfish; see its log. Whether it was done is not known";
    Refusal::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, error)
}
