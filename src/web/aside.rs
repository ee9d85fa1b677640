//! Work of milliseconds (answers about thousands of targets) beside the threads that answer `/__gtg`; few at once, and
//! only so many in wait.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::respond;
use crate::model::View;

/// With up to so many targets the work is done at once: it is shorter than handing it over.
const LARGE: usize = 500;
/// Most such works at once.
static PLACES: Semaphore = Semaphore::const_new(2);
/// Most that wait for a place.
static WAITING: Semaphore = Semaphore::const_new(256);
/// Longest wait for a place.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Why the work was not done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy;

impl Busy {
    /// 503, to be asked again.
    pub(super) fn response(self) -> Response<Body> {
        let text = "too many large answers are asked for at once; ask again later";
        let mut response = respond::text(StatusCode::SERVICE_UNAVAILABLE, text);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

/// Does the work, beside the threads that answer where the view is large.
///
/// # Errors
/// `Busy` when too many wait already, or the node stops.
pub(super) async fn run<T, F>(view: Arc<View>, work: F) -> Result<T, Busy>
where
    T: Send + 'static,
    F: FnOnce(&View) -> T + Send + 'static,
{
    if view.catalog.targets.len() <= LARGE {
        return Ok(work(&view));
    }
    always(move || work(&view)).await
}

/// Does the work beside the threads that answer, whatever the view.
///
/// # Errors
/// `Busy` as for `run`.
pub(super) async fn always<T, F>(work: F) -> Result<T, Busy>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let waiting = WAITING.try_acquire().map_err(|_| Busy)?;
    let place = timeout(MAX_WAIT, PLACES.acquire()).await.map_err(|_| Busy)?.map_err(|_| Busy)?;
    drop(waiting);
    // The place goes along: an asker that leaves does not make room before its work has ended.
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    })
    .await
    .map_err(|_| Busy)
}

/// Most bytes that are handed to a connection at once: the rest of a large answer stays in `Large`.
const PIECE: usize = 64 * 1024;
/// Most large answers that are being sent; each may take megabytes until its reader has read it.
const MAX_SENT: usize = 64;
static SENT: Semaphore = Semaphore::const_new(MAX_SENT);

/// A large answer that is being sent piece by piece.
struct Large {
    left: Bytes,
    _place: SemaphorePermit<'static>,
}

impl hyper::body::Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.len().min(PIECE);
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

/// Sends an answer that is whole in memory piece by piece, and holds the place until it is sent.
async fn send(response: Response<Body>, place: SemaphorePermit<'static>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(left) if left.len() > PIECE => Response::from_parts(parts, Body::new(Large { left, _place: place })),
        Ok(small) => Response::from_parts(parts, Body::from(small)),
        Err(_) => Busy.response(),
    }
}

/// As `run`, for work that gives the answer itself.
pub(super) async fn answer<F>(view: Arc<View>, work: F) -> Response<Body>
where
    F: FnOnce(&View) -> Response<Body> + Send + 'static,
{
    if view.catalog.targets.len() <= LARGE {
        return work(&view);
    }
    // Slow readers must not fill the memory.
    let Ok(place) = SENT.try_acquire() else { return Busy.response() };
    match run(view, work).await {
        Ok(response) => send(response, place).await,
        Err(busy) => busy.response(),
    }
}

/// As `answer`, whatever the view.
pub(super) async fn always_answer<F>(work: F) -> Response<Body>
where
    F: FnOnce() -> Response<Body> + Send + 'static,
{
    let Ok(place) = SENT.try_acquire() else { return Busy.response() };
    match always(work).await {
        Ok(response) => send(response, place).await,
        Err(busy) => busy.response(),
    }
}
