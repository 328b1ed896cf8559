//! The part of a session's life in which bytes flow, and what some sessions are watched for meanwhile: a forged header,
//! and that nothing moves.

use std::pin::Pin;

use tokio_util::either::Either;

use super::access::begins_with_header;
use super::counts::Counts;
use super::engine::{Engine, Relaying};
use super::idle;
use super::stream::Stream;
use crate::stats::End;

/// In a box: what watching takes is then not kept for the other sessions, which are most.
type Watched<'a> = Pin<Box<dyn Future<Output = End> + Send + 'a>>;

/// Relays until the end. `is_bare`: what the client says first is still to come, and must not be a PROXY protocol header.
/// PostgreSQL's first packet has been read by now, and was none.
pub(super) fn relayed(
    engine: &Engine<Counts>,
    client: Stream,
    backend: Stream,
    counts: Counts,
    is_bare: bool,
) -> Either<Relaying<'_, Counts>, Watched<'_>> {
    let options = &counts.session.pool.options;
    let (protocol, is_limited) = (options.protocol, options.idle.first().is_some());
    if !is_bare && !is_limited {
        return Either::Left(engine.relay(client, backend, protocol, counts));
    }
    let session = counts.session.clone();
    Either::Right(Box::pin(async move {
        let relaying = async {
            if is_bare && begins_with_header(&client, &backend).await {
                session.remark("a PROXY protocol header from an address that is not in accept_proxy");
                return End::ProxyHeader;
            }
            engine.relay(client, backend, protocol, counts).await
        };
        idle::limited(relaying, &session).await
    }))
}
