//! Runs the probes: a thread of its own with a single-threaded runtime, so that neither answers nor evaluation delay
//! probing, and probing delays none of them. Starts are gathered by tick, limited in all and per host, results handed
//! on in batches: by tick, or each 100 ms while they say nothing new. A slow reader never delays probing: what it does
//! not take is kept up to a bound, then the oldest goes. One probe is left to `core`, its exchange to `run`, the times
//! to `schedule`.

mod core;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::core::Core;
use super::{
    look::Look,
    outbox::Outbox,
    schedule::{Due, TICK, tick_after},
    sentinel::Sentinel,
    socks::{SocksProxy, SocksProxyError},
    stats::Stats,
};
use crate::{
    clock::Clock,
    model::{Mono, Observation, Target, TargetName, target::Check},
};

/// Batches that the channel itself holds.
const CHANNEL: usize = 16;
/// Observations kept for a slow reader, beside those in the channel.
const MAX_PENDING: usize = 65_536;
/// Looks that wait for the thread.
const MAX_LOOKS: usize = 64;
const CPU_EVERY: Duration = Duration::from_millis(100);
/// Longest wait of a result that says what the one before it said. Whoever reads results is woken ten times a second for all of
/// these together; for any other result at the end of its tick.
const CALM: Duration = Duration::from_millis(100);

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The SOCKS proxy's address is not usable.
    #[error(transparent)]
    Proxy(#[from] SocksProxyError),
    /// The probe thread or its runtime could not be made.
    #[error("cannot start the probe thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The clock; it must run (the system's, or one that a test keeps moving).
    pub clock: Clock,
    /// `host:port` or `socks5://user:password@host:port`, for all probes.
    pub socks_proxy: Option<String>,
    /// Most probes at once; also bounded by the limit on open files.
    pub max_probes: usize,
    /// Most probes at once against one host and port; the gateway is exempt.
    pub max_per_host: usize,
    /// `User-Agent` of HTTP probes.
    pub user_agent: String,
    /// Places that answer while the network around this node works.
    pub sentinels: Vec<Sentinel>,
}

impl EngineConfig {
    /// The defaults: no proxy, 4096 probes at once, 128 against one host.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let user_agent = concat!("bellwether/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { clock, socks_proxy: None, max_probes: 4096, max_per_host: 128, user_agent, sentinels: Vec::new() }
    }
}

/// One result, and what it is a result of.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The target.
    pub target: TargetName,
    /// Where it stood in the targets that were set last: a hint, the catalog may be another one by now.
    pub place: usize,
    /// The check that was run: the catalog may have another one by now.
    pub check: Arc<Check>,
    /// The result.
    pub observation: Arc<Observation>,
    /// It answers a `refresh`.
    pub refreshed: bool,
}

#[derive(Default)]
struct Mailbox {
    targets: Option<Vec<Arc<Target>>>,
    /// When other nodes last probed targets; kept until the thread has read it.
    last: BTreeMap<TargetName, Mono>,
    looks: Vec<Look>,
    fast: BTreeMap<TargetName, bool>,
    refresh: BTreeSet<TargetName>,
}

struct Shared {
    mailbox: Mutex<Mailbox>,
    mail: Notify,
    stats: Arc<Stats>,
    has_sentinels: bool,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Shared {
    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the engine when the last handle goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

/// Steers a running engine; no call waits for it.
#[derive(Clone)]
pub struct EngineHandle(Arc<Owner>);

impl EngineHandle {
    fn tell(&self, change: impl FnOnce(&mut Mailbox)) {
        let shared = &self.0.0;
        change(&mut shared.mailbox());
        shared.mail.notify_one();
    }

    /// Replaces the targets; the latest call wins, and is applied before `set_fast` and `refresh` called with it.
    /// Unchanged ones keep their schedule. None: nothing is probed, and results that nobody has taken yet are thrown away; those
    /// already in the channel still come. `last`: see `Prober::set_targets`.
    pub fn set_targets(&self, targets: Vec<Arc<Target>>, last: Vec<(TargetName, Mono)>) {
        self.tell(|m| {
            if targets.is_empty() {
                m.last.clear();
            }
            m.last.extend(last);
            m.targets = Some(targets);
        });
    }

    /// Hands a look to the thread; false where too many wait already.
    pub(super) fn look(&self, look: Look) -> bool {
        let mut taken = false;
        self.tell(|m| {
            taken = m.looks.len() < MAX_LOOKS;
            if taken {
                m.looks.push(look);
            }
        });
        taken
    }

    /// Whether there are sentinels.
    pub(super) fn has_sentinels(&self) -> bool {
        self.0.0.has_sentinels
    }

    /// Says which targets are probed at their fast interval. Names that are no targets are ignored; a target that was
    /// taken out and put in again begins slow.
    pub fn set_fast(&self, fast: Vec<(TargetName, bool)>) {
        self.tell(|m| m.fast.extend(fast));
    }

    /// Probes targets at once; a probe already under way answers. Names that are no targets are ignored.
    pub fn refresh(&self, targets: Vec<TargetName>) {
        self.tell(|m| m.refresh.extend(targets));
    }

    /// What the engine counts about itself.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.0.0.stats)
    }

    /// Ends the engine; probes under way are broken off, the receiver closes.
    pub fn shutdown(&self) {
        self.0.0.stop.cancel();
    }

    /// Returns once the probe thread has ended, by `shutdown` or by a fault.
    pub async fn ended(&self) {
        self.0.0.ended.cancelled().await;
    }
}

/// Makes engines.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Starts the probe thread. The receiver closes when it ends, for whatever reason.
    ///
    /// # Errors
    /// `ProbeError` when the proxy's address is not usable or the thread cannot be made.
    pub fn start(config: EngineConfig) -> Result<(EngineHandle, mpsc::Receiver<Vec<Observed>>), ProbeError> {
        let proxy =
            config.socks_proxy.as_deref().filter(|t| !t.trim().is_empty()).map(SocksProxy::parse).transpose()?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(96).thread_name("probe-blocking").event_interval(256);
        let files = raise_file_limit();
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let shared = Arc::new(Shared {
            mailbox: Mutex::default(),
            mail: Notify::new(),
            stats: Arc::default(),
            has_sentinels: !config.sentinels.is_empty(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let for_thread = Arc::clone(&shared);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let run = move || {
            let _ended = for_thread.ended.clone().drop_guard();
            // A local runtime cannot leave the thread that made it.
            let runtime = match builder.build_local(tokio::runtime::LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            let core = Core::new(&config, proxy, files, &for_thread.stats);
            let main = Loop::new(Rc::new(core), for_thread, sender).run();
            // As a task: to wake the runtime's own future costs a system call each time.
            if let Err(fault) = runtime.block_on(async { tokio::task::spawn_local(main).await }) {
                tracing::error!(%fault, "the probe engine has failed");
            }
            // Look-ups that hang in the system's resolver must not hold the thread.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("probe".to_owned()).spawn(run).map_err(ProbeError::Thread)?;
        match started.recv() {
            Ok(Ok(())) => Ok((EngineHandle(Arc::new(Owner(shared))), receiver)),
            Ok(Err(error)) => Err(ProbeError::Thread(error)),
            Err(_) => Err(ProbeError::Thread(std::io::Error::other("it ended at once"))),
        }
    }
}

/// Raises the soft limit on open files to the hard one; returns what is then in force.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, wanted).is_err() {
        tracing::warn!(current = ?limit.current, "the limit on open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

struct Loop {
    core: Rc<Core>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Vec<Observed>>,
    pending: Outbox<Observed>,
    due: Vec<Due>,
    flush_at: Option<Mono>,
    cpu_at: Mono,
}

impl Loop {
    fn new(core: Rc<Core>, shared: Arc<Shared>, sender: mpsc::Sender<Vec<Observed>>) -> Self {
        let (pending, due) = (Outbox::new(MAX_PENDING), Vec::new());
        Self { core, shared, sender, pending, due, flush_at: None, cpu_at: Mono::default() }
    }

    async fn run(mut self) {
        let (core, shared, sender) = (Rc::clone(&self.core), Arc::clone(&self.shared), self.sender.clone());
        loop {
            let now = core.clock.mono();
            self.read_mail(now);
            self.step(now);
            let wake = self.wake(now);
            let sleep = tokio::time::sleep(wake.since(core.clock.mono()));
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                () = sender.closed() => return,
                permit = sender.reserve(), if !self.pending.is_empty() => {
                    if let (Ok(permit), Some(batch)) = (permit, self.pending.pop()) {
                        permit.send(batch);
                    }
                }
                () = shared.mail.notified() => {}
                () = core.progress.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn read_mail(&mut self, now: Mono) {
        let mail = std::mem::take(&mut *self.shared.mailbox());
        let core = &self.core;
        let mut schedule = core.schedule.borrow_mut();
        mail.looks.into_iter().for_each(|look| core.looks.start(look));
        if let Some(targets) = mail.targets {
            schedule.set_targets(&targets, &mail.last, now);
            if targets.is_empty() {
                // Another node probes now: what was seen here is no longer asked for.
                core.results.borrow_mut().clear();
                self.pending = Outbox::new(MAX_PENDING);
            }
            core.prober.forget(|name| schedule.get(name).is_some_and(|target| target.check.reuse));
            core.stats.targets.store(schedule.len() as u64, Relaxed);
        }
        mail.fast.iter().for_each(|(name, fast)| schedule.set_fast(name.as_str(), *fast, now));
        for name in &mail.refresh {
            schedule.refresh(name.as_str(), now);
        }
    }

    /// Starts what is due and hands results on, both at ticks only.
    fn step(&mut self, now: Mono) {
        let core = Rc::clone(&self.core);
        loop {
            let expired = core.deadlines.borrow_mut().expired(now);
            let Some(task) = expired else { break };
            task.abort();
        }
        core.schedule.borrow_mut().due(now, &mut self.due);
        let flush = self.flush_at.is_some_and(|at| at <= now);
        if !self.due.is_empty() || flush {
            self.due.drain(..).for_each(|due| core.submit(&due));
            loop {
                let next = core.limits.borrow_mut().start_next();
                let Some(job) = next else { break };
                core.start(job);
            }
        }
        if flush {
            self.flush_at = None;
            self.flush();
        }
        if !core.results.borrow().is_empty() {
            let by = if core.urgent.get() { tick_after(now) } else { tick_after(now.plus(CALM)) };
            self.flush_at = Some(self.flush_at.map_or(by, |at| at.min(by)));
        }
        self.count(now);
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut *self.core.results.borrow_mut());
        self.core.urgent.set(false);
        if batch.is_empty() {
            return;
        }
        // In order: straight into the channel only when nothing waits before it.
        let left = if self.pending.is_empty() {
            match self.sender.try_send(batch) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) => batch,
            }
        } else {
            batch
        };
        let (batches, observations) = self.pending.push(left);
        self.core.stats.dropped_batches.fetch_add(batches, Relaxed);
        self.core.stats.dropped_observations.fetch_add(observations, Relaxed);
    }

    fn count(&mut self, now: Mono) {
        let (limits, stats) = (self.core.limits.borrow(), &self.core.stats);
        stats.in_flight.store(limits.running() as u64, Relaxed);
        stats.queued.store(limits.queued() as u64, Relaxed);
        if now.since(self.cpu_at) >= CPU_EVERY {
            self.cpu_at = now;
            let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let nanos = u64::try_from(t.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
            stats.cpu_nanos.store(nanos.saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0)), Relaxed);
        }
    }

    /// When there is something to do next.
    fn wake(&self, now: Mono) -> Mono {
        /// With nothing to do, and under a clock that was moved.
        const IDLE: Duration = Duration::from_secs(1);
        let due = self.core.schedule.borrow_mut().next_wake();
        let deadline = self.core.deadlines.borrow_mut().earliest();
        let wake = [due, deadline, self.flush_at].into_iter().flatten().min().unwrap_or(now.plus(IDLE));
        wake.min(now.plus(IDLE)).max(now.plus(TICK / 10))
    }
}
