//! Server-Sent Events: what an open page lives by, drawn once for all of them.
//!
//! `GET /api/v1/stream` sends `status` events, the JSON of `/api/v1/status`; `?as=page` sends `page` events, the living
//! part of the page as HTML. An event comes at least once a second, so silence means that something is wrong, and four
//! times a second while routes change or clients wait. Nothing is drawn while nobody looks.
//!
//! No reader can hold up another, or the balancer: each has room for two frames; who does not take them for a while is
//! let go, and there are only so many places.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::usage::thread_time;
use super::{Sources, dashboard, view};

pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";
/// Half of the admin side's connections: a scrape always finds a place beside the pages.
pub const MOST_STREAMS: usize = 64;
/// Between two events in quiet times.
const QUIET: Duration = Duration::from_secs(1);
/// Between two events while something happens; faster than people read.
const BUSY: Duration = Duration::from_millis(250);
/// Between two looks for a change: news comes with every check of every node, and each look goes over all clusters.
const LOOK: Duration = Duration::from_millis(20);
/// Drawing takes at most one part in so many of the thread's time, however much there is to draw.
const SHARE: u32 = 20;
/// A frame that is being written and the one after it.
const ROOM: usize = 2;
/// Who takes no frame for so long is gone or cannot follow.
const SLOW: Duration = Duration::from_secs(10);
/// A stream ends by itself before the server's limit for a connection cuts it; browsers come back within a second.
const LIFETIME: Duration = Duration::from_secs(240);
/// How soon a browser comes back, in milliseconds.
const RETRY: &str = "retry: 1000\n\n";

/// What a reader wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `status` events with JSON.
    Status,
    /// `page` events with HTML.
    Page,
}

/// The readers of all streams.
#[derive(Debug, Default)]
pub struct Hub {
    readers: Mutex<Vec<Reader>>,
    joined: Notify,
}

#[derive(Debug)]
struct Reader {
    form: Form,
    frames: mpsc::Sender<Bytes>,
    joined_at: Instant,
    /// Since when it has had no room.
    full_since: Option<Instant>,
}

/// The body of one stream's answer.
#[derive(Debug)]
pub struct Frames(mpsc::Receiver<Bytes>);

impl Hub {
    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader; `None` when there are [`MOST_STREAMS`].
    pub fn join(&self, form: Form) -> Option<Frames> {
        let (sender, receiver) = mpsc::channel(ROOM);
        let mut readers = self.readers();
        readers.retain(|reader| !reader.frames.is_closed());
        if readers.len() >= MOST_STREAMS {
            return None;
        }
        // Cannot fail: the channel is new.
        let _ = sender.try_send(Bytes::from_static(RETRY.as_bytes()));
        readers.push(Reader { form, frames: sender, joined_at: Instant::now(), full_since: None });
        self.joined.notify_one();
        Some(Frames(receiver))
    }

    /// Everybody is to come back, which leads to another process by now.
    pub fn send_away(&self) {
        self.readers().clear();
    }

    /// Whether anybody wants this form.
    fn wants(&self, form: Form) -> bool {
        self.readers().iter().any(|reader| reader.form == form && !reader.frames.is_closed())
    }

    /// Sends a frame to all who want it, and lets go of who cannot follow.
    fn send(&self, form: Form, frame: &Bytes, now: Instant) {
        self.readers().retain_mut(|reader| reader.form != form || reader.offer(frame, now));
    }
}

impl Reader {
    /// Whether it stays.
    fn offer(&mut self, frame: &Bytes, now: Instant) -> bool {
        match self.frames.try_send(frame.clone()) {
            Ok(()) => self.full_since = None,
            // The next frame makes up for this one: each says everything.
            Err(mpsc::error::TrySendError::Full(_)) => {
                if now.duration_since(*self.full_since.get_or_insert(now)) > SLOW {
                    return false;
                }
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
        now.duration_since(self.joined_at) < LIFETIME
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Draws for all readers until it is dropped.
pub async fn run(sources: &Sources) {
    let hub = &sources.live.hub;
    let mut changes = sources.pictures.follow();
    loop {
        if !hub.wants(Form::Status) && !hub.wants(Form::Page) {
            hub.joined.notified().await;
        }
        let (begun, spent) = (Instant::now(), thread_time());
        let (seen, is_busy) = situation(sources);
        draw(sources, begun);
        let least = BUSY.max(thread_time().saturating_sub(spent) * SHARE);
        let latest = begun + if is_busy { least } else { QUIET.max(least) };
        sleep_until(begun + least).await;
        rest(&hub.joined, &mut changes, latest, || situation(sources).0 == seen).await;
    }
}

/// Waits until `latest`, or until somebody joins or it is no longer the same as before, whichever comes first.
async fn rest<T>(
    joined: &Notify,
    changes: &mut watch::Receiver<T>,
    latest: Instant,
    mut is_same: impl FnMut() -> bool,
) {
    while Instant::now() < latest && is_same() {
        tokio::select! {
            () = sleep_until(latest) => break,
            () = joined.notified() => break,
            // The sender lives as long as the sources.
            _ = changes.changed() => sleep_until(latest.min(Instant::now() + LOOK)).await,
        }
    }
}

fn draw(sources: &Sources, now: Instant) {
    let hub = &sources.live.hub;
    let status = view::status(sources);
    if hub.wants(Form::Status) {
        match serde_json::to_string(&status) {
            Ok(json) => hub.send(Form::Status, &frame("status", &json), now),
            Err(error) => tracing::error!(%error, "the status cannot be written"),
        }
    }
    if hub.wants(Form::Page) {
        match dashboard::draw_live(sources, &status) {
            Ok(html) => hub.send(Form::Page, &frame("page", &html), now),
            Err(error) => tracing::error!(%error, "the page cannot be drawn"),
        }
    }
}

/// One event, as it goes over the wire (WHATWG HTML, 9.2 "Server-sent events"). A carriage return ends a line there too:
/// a name that holds one must not begin a field of its own.
pub fn frame(event: &str, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + data.len() / 16 + 64);
    text.push_str("event: ");
    text.push_str(event);
    for line in data.trim_end_matches('\n').split(['\n', '\r']) {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
    Bytes::from(text)
}

/// What is worth an event at once, as a fingerprint; and whether clients wait or a writer is missing.
fn situation(sources: &Sources) -> (u64, bool) {
    let mut seen = DefaultHasher::new();
    let mut is_busy = sources.served.load().pools.iter().any(|source| source.pool.stats.held() > 0);
    for picture in sources.pictures.all() {
        picture.epoch.hash(&mut seen);
        for member in &picture.members {
            (member.class, member.operator).hash(&mut seen);
        }
        if let Some(decision) = &picture.decision {
            (decision.condition, &decision.writer, &decision.readers).hash(&mut seen);
            is_busy |= decision.condition != crate::topology::Condition::Ok;
        }
        let newest = picture.incidents.first();
        newest.map(|incident| (incident.number, incident.lasted)).hash(&mut seen);
    }
    (seen.finish(), is_busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_event_whatever_is_in_it() {
        assert_eq!(
            frame("page", "<p>\n a\n\n</p>"),
            "event: page\ndata: <p>\ndata:  a\ndata: \ndata: </p>\n\n"
        );
        assert_eq!(frame("status", "a\rid: 7\n"), "event: status\ndata: a\ndata: id: 7\n\n");
    }

    #[test]
    fn who_takes_no_frame_is_let_go_and_who_takes_them_stays() {
        let hub = Hub::default();
        let (mut able, deaf) = (hub.join(Form::Page).expect("room"), hub.join(Form::Page).expect("room"));
        let begun = Instant::now();
        for second in 0..=20 {
            hub.send(Form::Page, &Bytes::from_static(b"frame"), begun + Duration::from_secs(second));
            while able.0.try_recv().is_ok() {}
            let expected = if second < 12 { 2 } else { 1 };
            assert_eq!(hub.readers().len(), expected, "after {second} s");
        }
        hub.send(Form::Page, &Bytes::new(), begun + LIFETIME + Duration::from_secs(1));
        assert_eq!(hub.readers().len(), 0, "a stream ends before the server cuts its connection");
        drop(deaf);
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_news_there_is_looks_are_apart_and_the_last_is_not_late() {
        let (news, mut changes) = watch::channel(());
        let endless = async {
            loop {
                news.send_replace(());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (joined, begun, mut looks) = (Notify::new(), Instant::now(), 0);
        let latest = begun + Duration::from_millis(250);
        let is_same = || {
            looks += 1;
            true
        };
        tokio::select! {
            () = endless => {}
            () = rest(&joined, &mut changes, latest, is_same) => {}
        }
        let late = latest.elapsed();
        assert!(begun.elapsed() >= latest - begun && late <= Duration::from_millis(2), "{late:?} late");
        assert!((10..=14).contains(&looks), "{looks} looks");
    }

    #[test]
    fn places_are_bounded_and_come_free() {
        let hub = Hub::default();
        let mut places: Vec<Frames> = std::iter::from_fn(|| hub.join(Form::Status)).collect();
        assert_eq!(places.len(), MOST_STREAMS);
        places.pop();
        let freed = hub.join(Form::Page);
        assert!(freed.is_some() && hub.wants(Form::Page) && hub.join(Form::Page).is_none());
    }
}
