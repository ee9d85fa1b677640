//! Wiring, supervision, shutdown: the only place that names all rooms. What each does is left to it.

pub mod answering;
pub mod assembly;
pub mod catalog_file;
pub mod figures;
pub mod options;
pub mod stores;
pub mod supervise;
pub mod trouble;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::{
    answering::Answering,
    assembly::{Assembled, Parts},
    catalog_file::CatalogFile,
    options::Options,
    supervise::{Stage, Stops, TaskEnded, Tasks},
};
use crate::{
    chance::Chance,
    clock::Clock,
    config::{self, CatalogBuilder},
    controller::{core::Identity, saver::Where},
    disk::{self, Disk},
    latest::Latest,
    model::{RegionName, View},
    probe::{Engine, EngineConfig, EngineHandle, ProbeError},
    publish::{
        Marks,
        graphite::{Graphite, GraphiteOptions, GraphiteStats},
        statsd::{self, StatsdOptions},
    },
    replication::{HttpPeers, PeerFiles},
    store::{Metered, Store, StoreError, session::SessionOptions},
    web::{self, BuildInfo, Doors, Server, Web, WebError, port::Port},
};

/// The source revision, where the build was told.
const REVISION: Option<&str> = option_env!("BELLWETHER_COMMIT");

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A listener, certificate or token file.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The store's options or data.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file named by a flag.
    #[error("{flag}: {path}: {cause}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: String,
        /// The cause; no `source`, as the text names it.
        cause: std::io::Error,
    },
    /// Another process runs this node.
    #[error(
        "--data-dir: another bellwether runs a node of this name here ({path}); give this one another --node or --data-dir"
    )]
    NodeRuns {
        /// The locked file.
        path: String,
    },
    /// The probe engine.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The threads that answer.
    #[error("cannot start the threads that answer: {0}")]
    Threads(#[source] std::io::Error),
    /// A task that must run for ever ended.
    #[error(transparent)]
    Ended(#[from] TaskEnded),
}

/// A node that runs.
pub struct Running {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    port: Arc<dyn Port>,
    view: Latest<View>,
    tasks: Tasks,
    _answering: Answering,
    /// Held until the last task has ended.
    _life: stores::Life,
    engine: EngineHandle,
    draining: CancellationToken,
    drain_delay: Duration,
    stops: Stops,
}

/// Starts a node: it listens when this returns; its catalog may still be on its way.
///
/// # Errors
/// What keeps it from starting; a store that does not answer yet is not among that.
pub async fn start(options: Options) -> Result<Running, RuntimeError> {
    let clock = Clock::system();
    let started = clock.now().wall;
    let region = options.region.clone().unwrap_or_else(RegionName::default_region);
    let identity = Identity {
        node: options.node.clone(),
        region: region.clone(),
        region_named: options.region.is_some(),
        environment: options.environment.clone(),
        started,
        version: env!("CARGO_PKG_VERSION"),
    };
    let builder = CatalogBuilder::new(config::Settings {
        root: options.root.clone(),
        region: region.clone(),
        gateway: options.gateway.clone(),
        sev_1_apps: options.sev_1_apps.clone(),
        mass_removal_hold: options.mass_removal_hold,
    });
    let doors = doors(&options)?;
    let answering = Answering::start().map_err(RuntimeError::Threads)?;
    let server = answering.within(|| Server::bind(web_options(&options)))?;
    let (address, admin_address) = (server.address(), server.admin_address());
    let store = Metered::new(stores::open(&options, &clock)?);
    let store_stats = store.stats();
    let store: Arc<dyn Store> = Arc::new(store);
    tracing::info!(store = %store.describe(), "store");

    let (engine, observations) = Engine::start(EngineConfig {
        socks_proxy: options.socks_proxy.clone(),
        max_probes: options.max_probes,
        max_per_host: options.max_probes_per_host,
        sentinels: options.sentinels.clone(),
        ..EngineConfig::new(clock.clone())
    })?;

    let stops = Stops::default();
    let stop = |stage| stops.of(stage).clone();
    let mut tasks = Tasks::default();
    let life = stores::life(&options, clock.now())?;
    let session = SessionOptions {
        region: region.clone(),
        node: options.node.clone(),
        url: advertise(&options, address),
        version: identity.version.to_owned(),
        started,
        instance: life.instance.clone(),
        ttl: options.session_ttl,
    };
    let disk: Arc<dyn Disk> = match &options.data_dir {
        Some(dir) => Arc::new(disk::Directory::new(dir)),
        None => Arc::new(disk::Nowhere),
    };
    let parts = Parts {
        identity,
        clock: clock.clone(),
        chance: Chance::system(),
        store,
        root: options.root.clone(),
        builder,
        session,
        prober: Arc::new(engine.clone()),
        observations,
        peers: Arc::new(HttpPeers::new(peer_files(&options), clock.clone())),
        disk,
        saves: Where::BlockingThread,
    };
    let Assembled { view, edits, cluster, faults, writer: queue, outputs, marks, stats, draining, .. } =
        assembly::assemble(parts, &stops, &mut tasks);
    let listener_faults = Some(faults.clone());
    if let Some(path) = options.catalog.clone() {
        let file = CatalogFile { path, port: edits.clone(), faults, clock: clock.clone() };
        tasks.spawn(Stage::Aside, "catalog file", endless(file.run(stop(Stage::Aside))));
    } else {
        // The sender stays open: a closed channel would be no source of faults, but a busy loop.
        tasks.spawn(Stage::Aside, "faults", keep_open(faults, stop(Stage::Aside)));
    }
    let graphite = graphite(&options, &view, (outputs, marks), &clock, stop(Stage::Aside), &mut tasks);
    let requests = Arc::new(web::Requests::default());
    let statsd = options.statsd.as_ref().map(|_| Arc::default());
    let sources = Arc::new(figures::Sources {
        controller: stats,
        store: store_stats,
        requests: Arc::clone(&requests),
        statsd: statsd.clone(),
        names: options.metrics_targets,
        view: view.clone(),
        probes: engine.stats(),
        writer: queue,
        graphite,
        revision: REVISION,
        clock: clock.clone(),
        draining: draining.clone(),
    });
    if let (Some(target), Some(figures)) = (&options.statsd, statsd) {
        let target = StatsdOptions::new(&target.host, target.port, &target.prefix, options.node.clone());
        let sender = statsd::run(target, figures::look(Arc::clone(&sources)), figures, stop(Stage::Aside));
        tasks.spawn(Stage::Aside, "statsd", endless(sender));
    }
    let metrics = figures::renderer(sources);
    let web = Arc::new(Web {
        view: view.clone(),
        port: edits.clone(),
        cluster,
        clock,
        doors,
        build: BuildInfo { name: "bellwether", version: env!("CARGO_PKG_VERSION"), revision: REVISION },
        metrics,
        faults: listener_faults,
        requests,
        fragments: web::Fragments::default(),
        draining: draining.clone(),
    });
    tasks.spawn(Stage::Answers, "web", answering.spawn(server.serve(web, stop(Stage::Answers))));
    tracing::info!(door = "main", %address, "listening");
    if let Some(address) = admin_address {
        tracing::info!(door = "admin", %address, "listening");
    }
    let port: Arc<dyn Port> = edits;
    let drain_delay = options.drain_delay;
    Ok(Running {
        address,
        admin_address,
        port,
        view,
        tasks,
        _answering: answering,
        _life: life,
        engine,
        draining,
        drain_delay,
        stops,
    })
}

impl Running {
    /// Where the main listener is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Edits, as the API makes them.
    #[must_use]
    pub fn port(&self) -> Arc<dyn Port> {
        Arc::clone(&self.port)
    }

    /// What readers get.
    #[must_use]
    pub fn view(&self) -> Latest<View> {
        self.view.clone()
    }

    /// Runs until `signal`, then shuts down in order: not ready, leader writes flushed, lead and lease given back. The
    /// answers go on, true, until the drain delay is over (load balancers need time to see that this node is not ready);
    /// what they are made of ends last. A task that fails ends the node without that delay.
    ///
    /// # Errors
    /// When a task ends that must not; it is named.
    pub async fn run_until(mut self, signal: impl Future<Output = ()>) -> Result<(), RuntimeError> {
        let mut ended = tokio::select! {
            biased;
            () = signal => Ok(()),
            ended = self.tasks.first_end() => Err(ended),
        };
        let began = tokio::time::Instant::now();
        self.draining.cancel();
        tracing::info!("shutting down");
        let mut cut = self.tasks.hand_over(&self.stops).await;
        let handed_over = began.elapsed();
        tracing::info!(after = ?handed_over, drain_delay = ?self.drain_delay, "lead and lease given back; draining");
        // Ten years at most, by how durations are read.
        if let Some(until) = began.checked_add(self.drain_delay).filter(|_| ended.is_ok()) {
            ended = self.tasks.drain(until).await.map_or(Ok(()), Err);
        }
        if let Err(ended) = &ended {
            tracing::error!(task = %ended.task, reason = %ended.reason, "the node ends: a task that must run for ever ended");
        }
        cut.extend(self.tasks.shutdown(&self.stops).await);
        self.engine.shutdown();
        if !cut.is_empty() {
            tracing::warn!(tasks = ?cut, "tasks did not end in time");
        }
        tracing::info!("ended");
        Ok(ended?)
    }
}

/// A task that only ends when it is told to.
async fn endless(task: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    task.await;
    Ok(())
}

async fn keep_open<T>(sender: mpsc::Sender<T>, stop: CancellationToken) -> Result<(), String> {
    stop.cancelled().await;
    drop(sender);
    Ok(())
}

fn doors(options: &Options) -> Result<Doors, RuntimeError> {
    let read = |flag, path: &Option<PathBuf>| path.as_deref().map(|p| web::Token::from_file(flag, p)).transpose();
    Ok(Doors {
        admin_token: read("--admin-token-file", &options.admin_token_file)?,
        admin_listen: options.admin_listen,
        cluster_token: read("--cluster-token-file", &options.cluster_token_file)?,
    })
}

/// What this node shows to its peers, and trusts in them.
fn peer_files(options: &Options) -> PeerFiles {
    PeerFiles {
        token: options.cluster_token_file.clone(),
        ca: options.cluster_ca.clone(),
        identity: options.tls.as_ref().map(|files| (files.cert.clone(), files.key.clone())),
    }
}

fn web_options(options: &Options) -> web::Options {
    let tls = options.tls.as_ref().map(|files| web::TlsFiles {
        cert: files.cert.clone(),
        key: files.key.clone(),
        client_ca: files.client_ca.clone(),
    });
    web::Options { admin_listen: options.admin_listen, tls, ..web::Options::new(options.listen) }
}

fn advertise(options: &Options, address: SocketAddr) -> String {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    // An address that stands for all of this machine's is none that others can reach.
    let host = if address.ip().is_unspecified() { host_name() } else { address.ip().to_canonical().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    options.advertise_url.clone().unwrap_or_else(|| format!("{scheme}://{host}:{}", address.port()))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn graphite(
    options: &Options,
    view: &Latest<View>,
    (active, marks): (watch::Receiver<bool>, Marks),
    clock: &Clock,
    stop: CancellationToken,
    tasks: &mut Tasks,
) -> Option<Arc<GraphiteStats>> {
    let target = options.graphite.as_ref()?;
    let graphite = GraphiteOptions {
        port: target.port,
        prefix: target.prefix.clone(),
        region: options.region.clone(),
        interval: target.interval,
        marks,
        ..GraphiteOptions::new(target.host.clone(), options.environment.clone())
    };
    let sender = Graphite::spawn(graphite, view.clone(), active, clock.clone(), stop);
    let stats = sender.stats();
    tasks.spawn(Stage::Aside, "graphite", sender.finished());
    Some(stats)
}

#[cfg(test)]
mod tests;
