//! The HTTP server of the admin side.
//!
//! A connection loop of our own around hyper, since a server that faces a network needs limits: how many connections,
//! how long for the headers, how large, how long for an answer. None of them can take anything from the data plane.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Open pages, scrapers and scripts; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 128;
/// A browser sends its headers at once; who does not is not waited for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers and request line together.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// A connection is closed after this long, busy or not; clients come back.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// When accepting fails for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`; open connections are then closed.
pub async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept_all = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        tokio::select! {
                            () = stop.cancelled() => {}
                            outcome = tokio::time::timeout(CONNECTION_LIFETIME, serve(stream, router)) => {
                                tracing::debug!(?outcome, "admin connection closed");
                            }
                        }
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "admin connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept_all => {}
    }
}

async fn serve(stream: tokio::net::TcpStream, router: Router) -> Result<(), hyper::Error> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

/// Makes a bound socket ready for [`run`], within the runtime that will run it.
///
/// # Errors
/// Those of the system.
pub fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
