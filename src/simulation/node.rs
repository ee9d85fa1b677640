//! One node: the real core on a runtime of its own with paused time, stepped by the master. Dropping the runtime is the
//! crash; a stopped process is one that is not stepped and whose clock then jumps.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    client::{SharedServer, SimStore},
    disk::MemoryDisk,
    network::{Network, SimPeers},
    targets::{Field, SimProber},
};
use crate::{
    chance::Chance,
    clock::Clock,
    config::{CatalogBuilder, Settings},
    controller::{core::Identity, saver::Where},
    model::{Mono, NodeName, Now, RegionName, Timestamp, View},
    runtime::{
        assembly::{self, Assembled, Parts},
        supervise::{Stops, Tasks},
    },
    store::{Store, etcd::EtcdTimes, session::SessionOptions},
};

/// The wall clock at the beginning of a run.
const EPOCH: i64 = 1_790_000_000_000;
/// How long a mass removal is held.
pub const REMOVAL_HOLD: Duration = Duration::from_secs(8);

/// What all nodes share.
#[derive(Clone)]
pub struct Shared {
    pub server: SharedServer,
    pub field: Arc<Field>,
    pub network: Network,
    pub seed: u64,
}

/// A node over all its lives.
pub struct SimNode {
    pub index: usize,
    pub name: String,
    pub disk: Arc<MemoryDisk>,
    pub lives: u64,
    pub paused: bool,
    /// It was stopped while it was about to end.
    frozen: bool,
    /// Its clock runs this many millionths faster.
    pub drift: i64,
    /// Its wall clock is off by this.
    pub skew: i64,
    pub life: Option<Life>,
}

/// A process that runs.
pub struct Life {
    rt: Runtime,
    base: tokio::time::Instant,
    pub began: u64,
    done: u64,
    pub clock: Clock,
    pub core: Assembled,
    ended: Arc<Mutex<Option<String>>>,
    quit: CancellationToken,
}

impl SimNode {
    pub fn new(index: usize, drift: i64) -> Self {
        let name = format!("n{}", index + 1);
        Self { index, name, disk: Arc::default(), lives: 0, paused: false, frozen: false, drift, skew: 0, life: None }
    }

    /// Starts the process.
    pub fn start(&mut self, now: u64, shared: &Shared) {
        self.lives += 1;
        self.paused = false;
        self.frozen = false;
        let rt = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let mono = Mono::from_origin(Duration::from_millis(1_000_000 + 7_000 * self.index as u64 + now));
        let wall = Timestamp::from_millis(EPOCH + now as i64 + self.skew);
        let ended = Arc::new(Mutex::new(None));
        let quit = CancellationToken::new();
        let (clock, core, base) = rt.block_on(async {
            let clock = Clock::tokio(Now { wall, mono });
            let (core, mut tasks, stops) = self.assemble(&clock, shared);
            let (draining, told, leave) = (core.draining.clone(), Arc::clone(&ended), quit.clone());
            tokio::spawn(async move {
                let end = tokio::select! {
                    biased;
                    () = leave.cancelled() => "stopped".to_owned(),
                    end = tasks.first_end() => format!("failed: {end}"),
                };
                draining.cancel();
                let cut = tasks.shutdown(&stops).await;
                let end = if cut.is_empty() { end } else { format!("failed: {cut:?} did not end in time ({end})") };
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
            });
            #[allow(clippy::disallowed_methods)]
            let base = tokio::time::Instant::now();
            (clock, core, base)
        });
        self.life = Some(Life { rt, base, began: now, done: 0, clock, core, ended, quit });
    }

    fn assemble(&self, clock: &Clock, shared: &Shared) -> (Assembled, Tasks, Stops) {
        let seed = shared.seed.wrapping_mul(0x9e37).wrapping_add(self.index as u64 * 1_000_003 + self.lives);
        let chance = Chance::seeded(seed);
        let region = RegionName::new("eu").expect("a name");
        let node = NodeName::new(&self.name).expect("a name");
        let started = clock.now().wall;
        let store: Arc<dyn Store> = Arc::new(SimStore {
            node: self.index,
            server: Arc::clone(&shared.server),
            chance: Chance::seeded(chance.draw()),
            times: EtcdTimes::default(),
        });
        let (prober, observations) =
            SimProber::start(self.index, Arc::clone(&shared.field), clock.clone(), Chance::seeded(chance.draw()));
        let identity = Identity {
            node: node.clone(),
            region: region.clone(),
            region_named: true,
            environment: "sim".to_owned(),
            started,
            version: "0",
        };
        let builder = CatalogBuilder::new(Settings {
            root: "/ft".to_owned(),
            region: region.clone(),
            gateway: Some("gateway:80".to_owned()),
            sev_1_apps: Vec::new(),
            mass_removal_hold: REMOVAL_HOLD,
        });
        let session = SessionOptions {
            region,
            node,
            url: format!("http://{}", self.name),
            version: "0".to_owned(),
            started,
            instance: format!("instance-{}", self.name),
            ttl: Duration::from_secs(5),
        };
        let (stops, mut tasks) = (Stops::default(), Tasks::default());
        let peers = SimPeers {
            node: self.index,
            network: shared.network.clone(),
            field: Arc::clone(&shared.field),
            clock: clock.clone(),
            chance: Chance::seeded(chance.draw()),
        };
        let parts = Parts {
            identity,
            clock: clock.clone(),
            chance,
            store,
            root: "/ft".to_owned(),
            builder,
            session,
            prober: Arc::new(prober),
            observations,
            peers: Arc::new(peers),
            disk: Arc::clone(&self.disk) as Arc<_>,
            saves: Where::Here,
        };
        let core = assembly::assemble(parts, &stops, &mut tasks);
        (core, tasks, stops)
    }

    /// How far the node's clock should be.
    fn due(&self, now: u64, began: u64) -> u64 {
        let passed = (now - began) as i64;
        (passed + passed * self.drift / 1_000_000) as u64
    }

    /// Lets the node live up to the master's time.
    pub fn step(&mut self, now: u64) {
        let Some(due) = self.life.as_ref().map(|life| self.due(now, life.began)) else { return };
        if self.paused {
            return;
        }
        if let Some(life) = &mut self.life
            && due > life.done
        {
            life.done = due;
            let until = life.base + Duration::from_millis(due);
            life.rt.block_on(async { tokio::time::sleep_until(until).await });
        }
    }

    /// The process runs again after it was stopped: its clock has run on.
    pub fn resume(&mut self, now: u64) {
        self.paused = false;
        self.frozen |= self.life.is_some() && !self.serves();
        let Some(due) = self.life.as_ref().map(|life| self.due(now, life.began)) else { return };
        if let Some(life) = &mut self.life {
            let missed = Duration::from_millis(due - life.done);
            life.done = due;
            life.rt.block_on(async { tokio::time::advance(missed).await });
        }
    }

    /// The node's monotonic clock, also while it is stopped.
    pub fn mono(&self, now: u64) -> Mono {
        let began = self.life.as_ref().map_or(0, |life| life.began);
        Mono::from_origin(Duration::from_millis(1_000_000 + 7_000 * self.index as u64 + began + self.due(now, began)))
    }

    /// kill -9, or the machine with it.
    pub fn crash(&mut self, machine: bool) {
        self.life = None;
        self.paused = false;
        if machine {
            self.disk.lose_last();
        }
    }

    /// SIGTERM.
    pub fn stop(&mut self) {
        if let Some(life) = &self.life {
            life.quit.cancel();
        }
    }

    /// A clock step, as NTP makes it.
    pub fn step_wall(&mut self, millis: i64) {
        self.skew += millis;
        if let Some(life) = &self.life {
            life.clock.step_wall(millis);
        }
    }

    /// Whether the process ended, and how.
    pub fn ended(&self) -> Option<String> {
        self.life.as_ref()?.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether what it did to end was held up: the bounds of an end pass also while the process is stopped, and cut what they find.
    pub const fn ended_late(&self) -> bool {
        self.frozen
    }

    /// What the node answers with.
    pub fn view(&self) -> Option<Arc<View>> {
        self.life.as_ref().map(|life| life.core.view.load())
    }

    /// The store's generation, as the node counts them.
    pub fn generation(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.core.session.authority().peek().generation)
    }

    /// It runs and is not about to end.
    pub fn serves(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.quit.is_cancelled())
    }

    /// Whether the node believes that it may write, by its own clock.
    pub fn may_write(&self, now: u64) -> bool {
        let mono = self.mono(now);
        self.life.as_ref().is_some_and(|life| life.core.session.may_write(mono))
    }
}
