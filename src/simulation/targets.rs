//! The services of a run: when each is up, for whom, and how a node's probes find that out. The schedule is the real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

use crate::{
    chance::Chance,
    clock::Clock,
    model::{Mono, Observation, Outcome, Target, TargetName},
    probe::{
        Observed, Prober,
        schedule::{Id, Schedule},
    },
};

/// One service's history.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// It is up at first and turns at each of these times (milliseconds).
    pub turns: Vec<u64>,
    /// It seems down to one node: node, from, to.
    pub hidden: Vec<(usize, u64, u64)>,
    /// A failure is a time-out, not a refusal.
    pub hangs: bool,
}

impl Service {
    /// Whether it is up.
    pub fn up(&self, at: u64) -> bool {
        self.turns.partition_point(|t| *t <= at).is_multiple_of(2)
    }

    /// Whether it is up as a node sees it.
    pub fn seen_up(&self, node: usize, at: u64) -> bool {
        self.up(at) && !self.hidden.iter().any(|(n, from, to)| *n == node && (*from..*to).contains(&at))
    }
}

/// A probe that ended.
#[derive(Clone, Debug)]
pub struct Probe {
    pub at: u64,
    pub node: usize,
    pub target: String,
    pub good: bool,
}

/// What all nodes probe.
#[derive(Debug, Default)]
pub struct Field {
    pub services: BTreeMap<String, Service>,
    /// The master's time.
    pub now: AtomicU64,
    pub probes: Mutex<Vec<Probe>>,
}

impl Field {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Whether a node sees a service up now.
    pub fn seen_up(&self, node: usize, target: &str) -> bool {
        self.services.get(target).is_some_and(|s| s.seen_up(node, self.now()))
    }

    /// Probes that ended since the last call.
    pub fn take_probes(&self) -> Vec<Probe> {
        std::mem::take(&mut self.probes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A probe under way: of what, and what it will say after how long.
type Running = (Id, Arc<Target>, Outcome, Duration);

struct Inner {
    schedule: Schedule,
    /// When each probe under way ends, and what it will say.
    running: BTreeMap<(Mono, u64), Running>,
    fast: BTreeSet<TargetName>,
    counted: u64,
}

/// One node's prober.
#[derive(Clone)]
pub struct SimProber {
    node: usize,
    field: Arc<Field>,
    clock: Clock,
    chance: Chance,
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
}

impl SimProber {
    /// Starts one; its task ends with the runtime.
    pub fn start(
        node: usize,
        field: Arc<Field>,
        clock: Clock,
        chance: Chance,
    ) -> (Self, mpsc::Receiver<Vec<Observed>>) {
        let inner = Inner { schedule: Schedule::new(), running: BTreeMap::new(), fast: BTreeSet::new(), counted: 0 };
        let (inner, wake) = (Arc::new(Mutex::new(inner)), Arc::default());
        let prober = Self { node, field, clock, chance, inner, wake };
        let (out, observations) = mpsc::channel(16);
        tokio::spawn(prober.clone().run(out));
        (prober, observations)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a probe that begins now will say, and after how long.
    fn look(&self, target: &Target) -> (Outcome, Duration) {
        let quick = Duration::from_millis(1 + self.chance.below(30));
        match self.field.services.get(target.name.as_str()) {
            Some(s) if s.seen_up(self.node, self.field.now()) => (Outcome::Good, quick),
            Some(s) if s.hangs => (Outcome::Timeout, target.check.timeout),
            _ => (Outcome::Unreachable, quick),
        }
    }

    fn result(&self, target: &Arc<Target>, outcome: Outcome, took: Duration, refreshed: bool) -> Observed {
        let probe =
            Probe { at: self.field.now(), node: self.node, target: target.name.to_string(), good: outcome.is_good() };
        self.field.probes.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
        let output = if outcome.is_good() { "200" } else { "no answer" };
        let observation = Arc::new(Observation::plain(outcome, took, output, self.clock.now()));
        Observed { target: target.name.clone(), place: 0, check: Arc::clone(&target.check), observation, refreshed }
    }

    /// Starts what is due, ends what has ended; returns results and the next time to look.
    fn turn(&self) -> (Vec<Observed>, Option<Mono>) {
        let now = self.clock.mono();
        let mut inner = self.inner();
        let mut results = Vec::new();
        while let Some(entry) = inner.running.first_entry().filter(|e| e.key().0 <= now) {
            let (id, target, outcome, took) = entry.remove();
            if let Some(refreshed) = inner.schedule.finished(id, now) {
                results.push(self.result(&target, outcome, took, refreshed));
            }
        }
        let mut due = Vec::new();
        inner.schedule.due(now, &mut due);
        for due in due {
            let Some(target) = inner.schedule.started(due.id, now) else { continue };
            let (outcome, took) = self.look(&target);
            inner.counted += 1;
            let key = (now.plus(took), inner.counted);
            inner.running.insert(key, (due.id, target, outcome, took));
        }
        let ends = inner.running.keys().next().map(|(at, _)| *at);
        let next = [ends, inner.schedule.next_wake()].into_iter().flatten().min();
        (results, next)
    }

    async fn run(self, out: mpsc::Sender<Vec<Observed>>) {
        loop {
            let (results, next) = self.turn();
            if !results.is_empty() && out.send(results).await.is_err() {
                return;
            }
            let wait = next.map_or(Duration::from_secs(60), |next| next.since(self.clock.mono()));
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            }
        }
    }
}

#[async_trait]
impl Prober for SimProber {
    fn set_targets(&self, targets: Vec<Arc<Target>>, last: Vec<(TargetName, Mono)>) {
        let now = self.clock.mono();
        let last = last.into_iter().collect();
        self.inner().schedule.set_targets(&targets, &last, now);
        self.wake.notify_one();
    }

    fn set_fast(&self, fast: Vec<(TargetName, bool)>) {
        let now = self.clock.mono();
        let mut inner = self.inner();
        for (name, fast) in fast {
            inner.schedule.set_fast(name.as_str(), fast, now);
            if fast {
                inner.fast.insert(name)
            } else {
                inner.fast.remove(&name)
            };
        }
        drop(inner);
        self.wake.notify_one();
    }

    fn refresh(&self, targets: Vec<TargetName>) {
        let now = self.clock.mono();
        for name in targets {
            self.inner().schedule.refresh(name.as_str(), now);
        }
        self.wake.notify_one();
    }

    async fn once(&self, targets: Vec<Arc<Target>>, bound: Duration) -> Vec<Observed> {
        let mut results = Vec::new();
        let looks: Vec<_> = targets.into_iter().map(|t| (self.look(&t), t)).collect();
        let longest = looks.iter().map(|((_, took), _)| *took).max().unwrap_or_default();
        tokio::time::sleep(longest.min(bound)).await;
        for ((outcome, took), target) in looks.into_iter().filter(|((_, took), _)| *took <= bound) {
            results.push(self.result(&target, outcome, took, false));
        }
        results
    }

    async fn sentinels(&self, _bound: Duration) -> Option<bool> {
        None
    }
}
