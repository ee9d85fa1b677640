//! A node's core, put together from parts that may be the real ones or a simulation's: store, probes, peers, disk, clock and
//! chance. The listeners, Graphite and the probe engine's thread are left to `runtime::start`.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    supervise::{Stage, Stops, Tasks},
    trouble,
};
use crate::{
    chance::Chance,
    clock::Clock,
    config::CatalogBuilder,
    controller::{
        self, Combinations, Wiring,
        cluster::Cluster,
        core::{Core, Identity, STORE_SOURCES},
        edits::Edits,
        fresh::{Fresh, Runs},
        keeper::Keeper,
        latch_file::LatchFile,
        saver::{Saver, Where},
        stats::LoopStats,
        streams::Streams,
        transitions::TransitionLog,
        writer,
    },
    disk::Disk,
    latest::Latest,
    model::key::OPERATOR_PREFIXES,
    model::{
        Catalog, Evaluation, Fault, NodeStatus, Now, Role, StoreState, View, cluster::ClusterStatus, view::PreparedGtg,
    },
    probe::{Observed, Prober},
    publish::Marks,
    replication::{Hub, Peers, follow, scout},
    store::{
        Horizon, Store,
        feed::{self, FeedOptions},
        session::{Session, SessionOptions},
    },
};

/// Most questions that wait for the controller.
const ASKS: usize = 16;

/// What a node's core is made of.
pub struct Parts {
    /// Who this node is.
    pub identity: Identity,
    /// Time.
    pub clock: Clock,
    /// Spread.
    pub chance: Chance,
    /// Where keys live.
    pub store: Arc<dyn Store>,
    /// ROOT, for whole keys in what people read.
    pub root: String,
    /// Keys to catalog.
    pub builder: CatalogBuilder,
    /// The session.
    pub session: SessionOptions,
    /// Who probes.
    pub prober: Arc<dyn Prober>,
    /// What the probes saw.
    pub observations: mpsc::Receiver<Vec<Observed>>,
    /// Other nodes.
    pub peers: Arc<dyn Peers>,
    /// What is kept over a restart.
    pub disk: Arc<dyn Disk>,
    /// Where files are written: a simulation knows no threads.
    pub saves: Where,
}

/// A node's core that runs; its tasks are in the `Tasks` given to `assemble`.
pub struct Assembled {
    /// What readers get.
    pub view: Latest<View>,
    /// Edits and fresh results.
    pub edits: Arc<Edits>,
    /// Faults found elsewhere go in here.
    pub faults: mpsc::Sender<(&'static str, Vec<Fault>)>,
    /// Leader writes that wait.
    pub writer: writer::Queue,
    /// Whether this node sends outputs.
    pub outputs: watch::Receiver<bool>,
    /// How far Graphite is, between its sender and the controller.
    pub marks: Marks,
    /// What the controller counts.
    pub stats: Arc<LoopStats>,
    /// The session.
    pub session: Session,
    /// What other nodes ask of this one.
    pub cluster: Arc<Cluster>,
    /// Where followers read.
    pub hub: Hub,
    /// Cancelled when the process begins to shut down.
    pub draining: CancellationToken,
}

/// Starts a node's core.
pub fn assemble(parts: Parts, stops: &Stops, tasks: &mut Tasks) -> Assembled {
    let Parts { identity, clock, store, prober, .. } = parts;
    // One for all: who notices another history of the store tells the others.
    let store: Arc<dyn Store> = Arc::new(Horizon::over(store));
    let stop = |stage| stops.of(stage).clone();
    let region = identity.region.clone();
    let view = Latest::new(first_view(&identity, clock.now()));
    let url = parts.session.url.clone();
    let (session, session_task) =
        Session::spawn(Arc::clone(&store), clock.clone(), parts.chance.clone(), parts.session, stop(Stage::Session));

    let latch_file = LatchFile::new(Arc::clone(&parts.disk), &identity.node);
    let (results, _) = watch::channel(0);
    let (outputs, outputs_in) = watch::channel(false);
    let combinations = Arc::new(Combinations::default());
    let (faults, faults_in) = mpsc::channel(16);
    let queue = writer::Queue::default();
    let feed_options = FeedOptions { chance: parts.chance.clone(), ..FeedOptions::new(OPERATOR_PREFIXES) };
    let root = parts.root.as_str();
    let [of_store, of_feed, of_session, of_writes] = STORE_SOURCES;
    let troubled = [
        (of_store, "", None, store.troubles()),
        (of_feed, root, Some("read"), Some(feed_options.troubles.subscribe())),
        (of_session, root, Some("readwrite"), Some(session.troubles().subscribe())),
        (of_writes, root, Some("readwrite"), Some(queue.troubles().subscribe())),
    ];
    for (source, root, right, troubles) in troubled {
        let Some(troubles) = troubles else { continue };
        let (root, faults, clock) = (root.to_owned(), faults.clone(), clock.clone());
        let told = trouble::Teller { source, root, right, troubles, faults, clock };
        tasks.spawn(Stage::Aside, source, super::endless(told.run(stop(Stage::Aside))));
    }
    let lists = Arc::clone(&feed_options.lists);
    let (feed, feed_task) = feed::spawn(Arc::clone(&store), feed_options, stop(Stage::State));
    tasks.spawn(Stage::State, "feed", feed_task);

    let (streams, hub) = streams(&parts.peers, &clock, &parts.chance, stops, tasks);
    let (asks, asks_in) = mpsc::channel(ASKS);
    let fresh = Arc::new(Fresh {
        view: view.clone(),
        prober: Arc::clone(&prober),
        results: results.clone(),
        peers: Arc::clone(&parts.peers),
        asks,
        clock: clock.clone(),
        runs: Runs::default(),
    });
    let edits = Arc::new(Edits {
        store: Arc::clone(&store),
        root: parts.root.clone(),
        region: region.clone(),
        view: view.clone(),
        fresh: Arc::clone(&fresh),
        combinations: Arc::clone(&combinations),
        clock: clock.clone(),
    });
    let cluster = Arc::new(Cluster::new(hub.clone(), fresh, clock.clone(), session.clone()));
    let draining = CancellationToken::new();
    let marks = Marks::default();
    let saver = Saver::new(Arc::clone(&parts.disk), parts.saves);
    let keeper = Keeper::new(saver.clone(), identity.node.clone());
    let log = TransitionLog::open(saver, &identity.node);
    let core = Core::new(identity, parts.builder, latch_file.load()).reached_at(url).marked_by(marks.clone());
    let stats = Arc::new(LoopStats::default());
    let wiring = Wiring {
        stats: Arc::clone(&stats),
        clock,
        feed,
        lists,
        observations: parts.observations,
        faults: faults_in,
        session: session.clone(),
        prober,
        writer: queue.clone(),
        combinations,
        view: view.clone(),
        results,
        streams,
        asks: asks_in,
        peers: parts.peers,
        keeper,
        log,
        latch_file,
        outputs,
        draining: draining.clone(),
    };
    tasks.spawn(Stage::State, "controller", controller::run(core, wiring, stop(Stage::State)));
    tasks.spawn(Stage::Session, "session", flatten(session_task));
    let writer = writer::run(queue.clone(), store, session.clone(), region, stop(Stage::Writes));
    tasks.spawn(Stage::Writes, "writer", super::endless(writer));
    Assembled { view, edits, faults, writer: queue, outputs: outputs_in, marks, stats, session, cluster, hub, draining }
}

/// The tasks that follow another node and ask what others are, and the controller's ends of them.
fn streams(peers: &Arc<dyn Peers>, clock: &Clock, chance: &Chance, stops: &Stops, tasks: &mut Tasks) -> (Streams, Hub) {
    let stop = || stops.of(Stage::State).clone();
    let (whom, whom_in) = watch::channel(None);
    let (heard, follow) = follow::spawn(Arc::clone(peers), clock.clone(), chance.clone(), whom_in, stop());
    tasks.spawn(Stage::State, "follow", follow);
    let (urls, urls_in) = watch::channel(Vec::new());
    let (scouting, scouting_in) = watch::channel(false);
    let (rounds, scout) = scout::spawn(Arc::clone(peers), chance.clone(), urls_in, scouting_in, stop());
    tasks.spawn(Stage::State, "scout", scout);
    let hub = Hub::default();
    (Streams { hub: hub.clone(), whom, heard, urls, scouting, rounds, last_delta: None }, hub)
}

/// A task's own error, or that it panicked.
async fn flatten<E: std::fmt::Display>(task: JoinHandle<Result<(), E>>) -> Result<(), String> {
    task.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// What is answered until the controller has built its first view: starting.
fn first_view(identity: &Identity, now: Now) -> View {
    View {
        built: now,
        catalog: Arc::new(Catalog::empty(identity.region.clone())),
        health: Arc::from([]),
        cells: Arc::from([]),
        evaluation: Arc::new(Evaluation::default()),
        latches: Arc::default(),
        node: NodeStatus {
            node: identity.node.clone(),
            region: identity.region.clone(),
            environment: identity.environment.clone(),
            role: Role::Starting,
            term: 0,
            leader: None,
            leader_url: None,
            leader_term: None,
            static_leader: false,
            ready: false,
            degraded: true,
            since: now.wall,
            store: StoreState::Lost,
            started: identity.started,
            version: identity.version,
        },
        cluster: Arc::new(ClusterStatus::unknown(identity.region.clone(), identity.node.clone())),
        regions: Arc::default(),
        gtg: PreparedGtg::default(),
    }
}
