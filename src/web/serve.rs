//! The listeners: accepting, TLS, bounds on connections and idle time, and the drain at the end. What is answered is
//! left to `gtg` (before any router) and `routes`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Web, WebError,
    connection::{self, Site},
    doors::{Listener, Peer},
    reload::Reload,
    routes,
    tls::{Tls, TlsFiles},
};

/// What the listeners are opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--listen`; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `--admin-listen`.
    pub admin_listen: Option<SocketAddr>,
    /// TLS for both listeners.
    pub tls: Option<TlsFiles>,
    /// Most connections at once on each listener; more wait in the system's queue.
    pub max_connections: usize,
    /// A connection that brings no whole request for this long (to twice this) is closed; also the bound on a TLS
    /// handshake.
    pub idle_timeout: Duration,
    /// How long open requests may go on after the stop.
    pub drain: Duration,
    /// How often the TLS files and the token's file are looked at.
    pub reload_every: Duration,
}

impl Options {
    /// The usual bounds.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            admin_listen: None,
            tls: None,
            max_connections: 10_000,
            idle_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            reload_every: Duration::from_secs(2),
        }
    }
}

/// Open listeners, not yet answering.
pub struct Server {
    main: TcpListener,
    admin: Option<TcpListener>,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    tls: Option<Arc<Tls>>,
    options: Options,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("options", &self.options).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the listeners (inside a tokio runtime).
    ///
    /// # Errors
    /// `WebError` naming the flag and the address or file.
    pub fn bind(options: Options) -> Result<Self, WebError> {
        let tls = options.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let (main, address) = listen("--listen", options.listen)?;
        let (admin, admin_address) = match options.admin_listen {
            Some(wanted) => {
                let (listener, address) = listen("--admin-listen", wanted)?;
                (Some(listener), Some(address))
            }
            None => (None, None),
        };
        Ok(Self { main, admin, address, admin_address, tls, options })
    }

    /// The public listener's address, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin listener's address.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Answers until `stop` is cancelled, then lets open requests end within the bound. Stopping implies draining.
    pub async fn serve(self, web: Arc<Web>, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let kill = CancellationToken::new();
        let router = routes::router(&web);
        let draining = Arc::new(AtomicBool::new(false));
        tracker.spawn(watch_drain(web.draining.clone(), Arc::clone(&draining)));
        let listeners = [(Some(self.main), Listener::Public), (self.admin, Listener::Admin)];
        for (listener, kind) in listeners {
            let Some(listener) = listener else { continue };
            let door = Door {
                web: Arc::clone(&web),
                router: router.clone(),
                tls: self.tls.clone(),
                kind,
                stop: stop.clone(),
                kill: kill.clone(),
                draining: Arc::clone(&draining),
                idle: self.options.idle_timeout,
                places: Arc::new(Semaphore::new(self.options.max_connections)),
            };
            tracker.spawn(door.accept(listener, tracker.clone()));
        }
        let reload = Reload::new(Arc::clone(&web), self.tls.clone());
        tracker.spawn(reload.run(self.options.reload_every, stop.clone()));
        stop.cancelled().await;
        web.draining.cancel();
        tracker.close();
        if timeout(self.options.drain, tracker.wait()).await.is_err() {
            tracing::warn!(connections = tracker.len(), "requests still open after the drain are cut");
            kill.cancel();
            tracker.wait().await;
        }
    }
}

/// A listener whose connections are bounded in what a silent peer can hold: the options are inherited on accept.
fn listen(flag: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), WebError> {
    let open = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from_std(socket.into())?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    open().map_err(|source| WebError::Bind { flag, address, source })
}

/// One listener's surroundings.
struct Door {
    web: Arc<Web>,
    router: Router,
    tls: Option<Arc<Tls>>,
    kind: Listener,
    stop: CancellationToken,
    kill: CancellationToken,
    draining: Arc<AtomicBool>,
    idle: Duration,
    places: Arc<Semaphore>,
}

impl Door {
    async fn accept(self, listener: TcpListener, tracker: TaskTracker) {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // No header timer of hyper's: the watchdog of `connection` bounds idle and slow peers without a timer a request.
        // No `pipeline_flush`: with it hyper buffers a streamed body without bound while its reader is slow (seen, hyper 1.12).
        http.http1().writev(false).max_buf_size(64 * 1024);
        http.http2().timer(TokioTimer::new()).max_concurrent_streams(256).max_header_list_size(64 * 1024);
        let site = Arc::new(Site {
            web: self.web,
            router: self.router,
            http,
            stop: self.stop,
            kill: self.kill,
            draining: self.draining,
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = site.stop.cancelled() => return,
                accepted = next(&listener, &self.places) => accepted,
            };
            let Some((stream, address, place)) = accepted else { return };
            let site = Arc::clone(&site);
            let tls = self.tls.as_ref().map(|tls| tls.config());
            let (peer, idle) = (Peer { address, listener: self.kind }, self.idle);
            tracker.spawn(async move {
                match tls {
                    None => connection::serve(&site, stream, peer, idle).await,
                    Some(config) => {
                        let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
                        let done = tokio::select! {
                            biased;
                            () = site.kill.cancelled() => return,
                            done = timeout(idle, handshake) => done,
                        };
                        match done {
                            Ok(Ok(stream)) => connection::serve(&site, stream, peer, idle).await,
                            Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                            Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                        }
                    }
                }
                drop(place);
            });
        }
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is a place for it. None: the semaphore is gone.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Some((stream, address, place)),
            Err(error) => {
                // Out of file descriptors, most often: connections end, and with them the cause.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Mirrors the token, whose lock must not be taken once a request. Ends with the drain, which the stop implies.
async fn watch_drain(token: CancellationToken, draining: Arc<AtomicBool>) {
    token.cancelled().await;
    draining.store(true, Ordering::Relaxed);
}
