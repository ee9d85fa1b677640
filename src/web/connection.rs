//! One connection: `hot` as long as only `/__gtg` is asked, then HTTP/1.1 or HTTP/2 as the client speaks, with `/__gtg` before the
//! router; a watchdog over idle and slow peers in both.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    future::{Either, Ready, ready},
    stream::FuturesUnordered,
};
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    Web,
    doors::Peer,
    gtg,
    hot::{Hot, Resumed, Step},
    requests::Endpoint,
};

/// What all connections of a listener share.
pub(super) struct Site {
    pub(super) web: Arc<Web>,
    pub(super) router: Router,
    pub(super) http: auto::Builder<TokioExecutor>,
    /// Finish what is under way, then close.
    pub(super) stop: CancellationToken,
    /// Close now.
    pub(super) kill: CancellationToken,
    /// `Web::draining` without its lock.
    pub(super) draining: Arc<AtomicBool>,
}

/// What the watchdog sees of a connection.
#[derive(Default)]
struct Activity {
    requests: AtomicU64,
    busy: AtomicU32,
}

/// Serves a connection to its end: `/__gtg` alone at first, then everything.
pub(super) async fn serve<S>(site: &Arc<Site>, stream: S, peer: Peer, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let mut watchdog = Watchdog::new(site, idle, &activity);
    let Some(stream) = only_gtg(site, stream, &mut watchdog).await else { return };
    let service = Service { site: Arc::clone(site), peer, activity };
    let mut connection = pin!(site.http.serve_connection(TokioIo::new(stream), service));
    loop {
        if watchdog.ending {
            connection.as_mut().graceful_shutdown();
        }
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(address = %peer.address, %error, "a connection ended badly");
                }
                return;
            }
            goes_on = watchdog.bark() => if !goes_on { return },
        }
    }
}

/// The first stage. None: the connection has ended.
async fn only_gtg<S>(site: &Arc<Site>, stream: S, watchdog: &mut Watchdog) -> Option<Resumed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut hot = Hot::new(stream);
    loop {
        // How a connection is ended well is the HTTP library's to know.
        if watchdog.ending && hot.is_flushed() {
            return Some(hot.hand_over());
        }
        tokio::select! {
            biased;
            step = hot.step(site) => match step {
                Ok(Step::Answered(count)) => {
                    watchdog.activity.requests.fetch_add(count, Ordering::Relaxed);
                }
                Ok(Step::HandOver) => return Some(hot.hand_over()),
                Err(_) => return None,
            },
            goes_on = watchdog.bark() => if !goes_on { return None },
        }
    }
}

/// Says when a connection is to end: the listener stops, or nothing happens any more.
struct Watchdog {
    site: Arc<Site>,
    idle: Duration,
    activity: Arc<Activity>,
    /// Requests at the last look.
    seen: u64,
    /// What is under way is finished, and no more.
    ending: bool,
    /// In a set, so that it is polled only when it has something to say: the tokens' locks are shared by all
    /// connections, and must not be taken once a request.
    controls: FuturesUnordered<Pin<Box<dyn Future<Output = Control> + Send>>>,
}

impl Watchdog {
    fn new(site: &Arc<Site>, idle: Duration, activity: &Arc<Activity>) -> Self {
        let controls = FuturesUnordered::new();
        let new =
            Self { site: Arc::clone(site), idle, activity: Arc::clone(activity), seen: 0, ending: false, controls };
        new.listen();
        new
    }

    fn listen(&self) {
        self.controls.push(Box::pin(control(Arc::clone(&self.site), self.ending, self.idle)));
    }

    /// Waits until something is to be done: false: close now; true: look at `ending`.
    async fn bark(&mut self) -> bool {
        match self.controls.next().await {
            Some(Control::Kill) | None => return false,
            Some(Control::Stop) => self.ending = true,
            Some(Control::Look) => {
                let requests = self.activity.requests.load(Ordering::Relaxed);
                let idle = self.activity.busy.load(Ordering::Relaxed) == 0 && requests == self.seen;
                if idle && (requests == 0 || self.ending) {
                    return false;
                }
                self.ending |= idle;
                self.seen = requests;
            }
        }
        self.listen();
        true
    }
}

/// What a connection is told.
enum Control {
    /// Close now.
    Kill,
    /// Finish what is under way.
    Stop,
    /// Look whether anything has happened.
    Look,
}

async fn control(site: Arc<Site>, ending: bool, idle: Duration) -> Control {
    tokio::select! {
        biased;
        () = site.kill.cancelled() => Control::Kill,
        () = site.stop.cancelled(), if !ending => Control::Stop,
        () = tokio::time::sleep(idle) => Control::Look,
    }
}

/// Answers the requests of one connection.
#[derive(Clone)]
struct Service {
    site: Arc<Site>,
    peer: Peer,
    activity: Arc<Activity>,
}

type WebBody = http_body_util::Either<Full<Bytes>, Guarded>;
type Answer = Result<Response<WebBody>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<WebBody>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, Pin<Box<dyn Future<Output = Answer> + Send>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.activity.requests.fetch_add(1, Ordering::Relaxed);
        let web = &self.site.web;
        let is_gtg = gtg::owns(request.uri().path());
        let uri = request.uri();
        if is_gtg
            && gtg::answers(request.method())
            && let Some(answer) = gtg::ready(web, uri.path(), uri.query())
        {
            web.requests.count(Endpoint::Gtg, answer.status);
            let mut response = answer.response().map(http_body_util::Either::Left);
            self.close_if_draining(request.version(), &mut response);
            return Either::Left(ready(Ok(response)));
        }
        Either::Right(Box::pin(self.clone().routed(request, is_gtg)))
    }
}

impl Service {
    async fn routed(self, mut request: Request<Incoming>, is_gtg: bool) -> Answer {
        let busy = Busy::new(&self.activity);
        let web = &self.site.web;
        let (head, version) = (request.method() == Method::HEAD, request.version());
        let response = if is_gtg {
            let mut response = gtg::slow(web, request.method(), request.uri()).await;
            web.requests.count(Endpoint::Gtg, response.status());
            if head {
                empty(&mut response);
            }
            response
        } else {
            // The router does the same for HEAD by itself.
            request.extensions_mut().insert(self.peer);
            let Ok(response) = self.site.router.clone().oneshot(request.map(Body::new)).await;
            response
        };
        let mut response = response.map(|inner| http_body_util::Either::Right(Guarded { inner, _busy: busy }));
        self.close_if_draining(version, &mut response);
        Ok(response)
    }

    /// A draining node sends its clients elsewhere (HTTP/2 has no such header; its connections end at the stop).
    fn close_if_draining<B>(&self, version: Version, response: &mut Response<B>) {
        if version < Version::HTTP_2 && self.site.draining.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// HEAD: the same headers, the length included, and no body.
fn empty(response: &mut Response<Body>) {
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
}

/// Marks a connection as busy while a request is worked on or its answer is being sent.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that keeps its connection marked as busy.
struct Guarded {
    inner: Body,
    _busy: Busy,
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
