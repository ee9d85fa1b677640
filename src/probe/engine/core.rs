//! What the loop and the probes share, and a probe from its start to its result: the schedule, the limits and the
//! deadlines that it stands in, and what is worked out once for its check. All on the probe thread. When to look for
//! what is due, and how results are handed on, is left to `engine`; the exchange itself to `run`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures_util::FutureExt;
use tokio::{sync::Notify, task::AbortHandle};

use super::{EngineConfig, Observed};
use crate::{
    clock::Clock,
    model::{Mono, Observation, Outcome, Target, target::Check},
    probe::{
        connect::Connector,
        deadlines::Deadlines,
        limits::{HostKey, Limits},
        look::Looks,
        resolve::Resolver,
        run::{self, Kept, Prober},
        schedule::{Due, Id, Schedule},
        socks::SocksProxy,
        stats::Stats,
    },
};

/// Descriptors left for everything that is no probe.
const RESERVED_FILES: u64 = 512;

pub(super) struct Job {
    id: Id,
    due: Mono,
    host: HostKey,
}

/// What is worked out once for each check.
struct Prepared {
    check: Arc<Check>,
    kept: Rc<Kept>,
    host: HostKey,
    /// What its last probe found.
    last: Option<Outcome>,
}

/// What the loop and the probes share; all on one thread.
pub(super) struct Core {
    pub(super) clock: Clock,
    pub(super) prober: Rc<Prober>,
    pub(super) looks: Looks,
    pub(super) stats: Arc<Stats>,
    pub(super) schedule: RefCell<Schedule>,
    pub(super) limits: RefCell<Limits<Job>>,
    prepared: RefCell<Vec<Option<Prepared>>>,
    pub(super) results: RefCell<Vec<Observed>>,
    /// One of the results must not wait.
    pub(super) urgent: Cell<bool>,
    pub(super) deadlines: RefCell<Deadlines<AbortHandle>>,
    pub(super) progress: Notify,
}

impl Core {
    pub(super) fn new(config: &EngineConfig, proxy: Option<SocksProxy>, files: u64, stats: &Arc<Stats>) -> Self {
        let clock = config.clock.clone();
        let usable = usize::try_from(files.saturating_sub(RESERVED_FILES.min(files / 2))).unwrap_or(usize::MAX);
        // A quarter for idle connections, the rest for probes.
        let max_idle = (usable / 4).min(16_384);
        let max_probes = config.max_probes.min(usable - max_idle).max(1);
        stats.max_probes.store(max_probes as u64, Relaxed);
        let connector = Connector::new(Resolver::new(clock.clone()), proxy);
        let prober = Rc::new(Prober::new(clock.clone(), connector, config.user_agent.clone(), max_idle));
        Self {
            looks: Looks::new(clock.clone(), Rc::clone(&prober), config.sentinels.clone(), config.max_per_host),
            prober,
            clock,
            stats: Arc::clone(stats),
            schedule: RefCell::default(),
            limits: RefCell::new(Limits::new(max_probes, config.max_per_host)),
            prepared: RefCell::default(),
            results: RefCell::default(),
            urgent: Cell::new(false),
            deadlines: RefCell::default(),
            progress: Notify::new(),
        }
    }

    pub(super) fn submit(&self, due: &Due) {
        let schedule = self.schedule.borrow();
        let Some(target) = schedule.target(due.id) else { return };
        let host = self.prepare(due.id, &target.check).1;
        self.limits.borrow_mut().submit(&host, Job { id: due.id, due: due.due, host: host.clone() });
    }

    /// What is kept for a check, and its host key; made anew when the check has changed.
    fn prepare(&self, id: Id, check: &Arc<Check>) -> (Rc<Kept>, HostKey) {
        let mut all = self.prepared.borrow_mut();
        if all.len() <= id.index() {
            all.resize_with(id.index() + 1, || None);
        }
        let known = all.get(id.index()).and_then(Option::as_ref).filter(|p| Arc::ptr_eq(&p.check, check));
        if let Some(known) = known {
            return (Rc::clone(&known.kept), known.host.clone());
        }
        let host: HostKey = (!check.via_gateway).then(|| Rc::from(format!("{}:{}", check.host, check.port)));
        // Where the request is always the same, nothing in it waits.
        let kept = Rc::new(self.prober.prepare(check).now_or_never().unwrap_or_default());
        if let Some(slot) = all.get_mut(id.index()) {
            *slot = Some(Prepared { check: Arc::clone(check), kept: Rc::clone(&kept), host: host.clone(), last: None });
        }
        (kept, host)
    }

    /// Notes what was found. True where it says nothing new: the same as before, and nobody waits for a change.
    fn is_calm(&self, id: Id, check: &Arc<Check>, found: Outcome) -> bool {
        let mut all = self.prepared.borrow_mut();
        let Some(Some(known)) = all.get_mut(id.index()) else { return false };
        if !Arc::ptr_eq(&known.check, check) {
            return false;
        }
        known.last.replace(found) == Some(found) && !self.schedule.borrow().is_fast(id)
    }

    pub(super) fn start(self: &Rc<Self>, job: Job) {
        let now = self.clock.mono();
        let Some(target) = self.schedule.borrow_mut().started(job.id, now) else {
            self.limits.borrow_mut().finish(&job.host);
            return;
        };
        self.stats.started.fetch_add(1, Relaxed);
        self.stats.late.record(now.since(job.due));
        let kept = self.prepare(job.id, &target.check).0;
        let (deadline, index) = (now.plus(target.check.timeout), job.id.index());
        let number = Rc::new(Cell::new(0));
        let running = Running { core: Rc::clone(self), job, target, begin: now, deadline, number, observation: None };
        let told = Rc::clone(&running.number);
        // Owned by the runtime: it ends with the thread, and by its deadline before that.
        let task = tokio::task::spawn_local(running.run(kept));
        let (number, before) = self.deadlines.borrow_mut().begin(index, deadline, task.abort_handle());
        told.set(number);
        // Of a target that is gone: nobody waits for it.
        if let Some(before) = before {
            before.abort();
        }
    }
}

/// A probe under way. Its end is told by its drop, so that not even a panic inside it loses the target.
struct Running {
    core: Rc<Core>,
    job: Job,
    target: Arc<Target>,
    begin: Mono,
    deadline: Mono,
    /// Its number among the deadlines.
    number: Rc<Cell<u64>>,
    observation: Option<Observation>,
}

impl Running {
    async fn run(mut self, kept: Rc<Kept>) {
        self.observation = Some(self.core.prober.probe(&self.target, &kept, self.begin).await);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let core = &self.core;
        // It was told when the result was made, an instant ago.
        let now = self.observation.as_ref().map_or_else(|| core.clock.now(), |observation| observation.at);
        core.deadlines.borrow_mut().end(self.job.id.index(), self.number.get());
        let observation = self.observation.take().unwrap_or_else(|| {
            if now.mono >= self.deadline {
                return run::timed_out(&self.target.check, self.begin, now);
            }
            Observation::plain(Outcome::Unreachable, now.mono.since(self.begin), "the probe broke off", now)
        });
        core.stats.count(observation.outcome);
        core.stats.latency.record(observation.latency);
        core.limits.borrow_mut().finish(&self.job.host);
        let Some(refreshed) = core.schedule.borrow_mut().finished(self.job.id, now.mono) else { return };
        let place = core.schedule.borrow().place(self.job.id).unwrap_or(usize::MAX);
        let calm = core.is_calm(self.job.id, &self.target.check, observation.outcome) && !refreshed;
        let mut results = core.results.borrow_mut();
        results.push(Observed {
            target: self.target.name.clone(),
            place,
            check: Arc::clone(&self.target.check),
            observation: Arc::new(observation),
            refreshed,
        });
        // The loop is woken for the first result, and for the first that must not wait.
        let first_urgent = !calm && !core.urgent.replace(true);
        if results.len() == 1 || first_urgent {
            core.progress.notify_one();
        }
    }
}
