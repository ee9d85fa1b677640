//! Fresh results on demand (`cache=false`, design section 6): probed here where this node probes, and else asked of the leader.
//! One run serves all who ask meanwhile. What an answer makes of them is left to `web`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::Ask;
use crate::{
    clock::Clock,
    latest::Latest,
    model::{NodeStatus, Role, TargetName, View},
    probe::Prober,
    replication::{self, Peers},
    web::port::Refreshed,
};

/// A target probed within this time is not probed again (design section 6).
pub(super) const RECENT: Duration = Duration::from_secs(1);
/// Longest wait for fresh results.
pub const REFRESH_BOUND: Duration = Duration::from_secs(3);
/// Most sets of targets that are asked of the leader at a time.
const MAX_RUNS: usize = 64;

type Run = Shared<BoxFuture<'static, Refreshed>>;

/// Where fresh results come from.
pub struct Fresh {
    /// What is in force.
    pub view: Latest<View>,
    /// Who probes here.
    pub prober: Arc<dyn Prober>,
    /// Told by the controller after each batch of results.
    pub results: watch::Sender<u64>,
    /// Other nodes.
    pub peers: Arc<dyn Peers>,
    /// The controller.
    pub asks: mpsc::Sender<Ask>,
    /// Time.
    pub clock: Clock,
    /// Sets that the leader is being asked for; a run ends when nobody waits for it any more.
    pub runs: Runs,
}

/// Runs under way, by what they ask for.
#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<UnderWay>>);

type UnderWay = BTreeMap<Vec<TargetName>, WeakShared<BoxFuture<'static, Refreshed>>>;

/// This node probes for itself.
pub(super) fn probes(node: &NodeStatus) -> bool {
    matches!(node.role, Role::Leader | Role::Autonomous)
}

impl Fresh {
    /// Fresh results of these targets in the cells, within 3 s; names those that have none.
    pub async fn refresh(&self, targets: Vec<TargetName>) -> Refreshed {
        let asked = self.clock.mono();
        let view = self.view.load();
        let recent = |name: &TargetName| {
            let cell = view.catalog.index_of(name.as_str()).and_then(|i| view.cells.get(i))?;
            Some(cell.load().is_some_and(|o| asked.since(o.at.mono) <= RECENT))
        };
        let waiting: Vec<TargetName> = targets.into_iter().filter(|name| recent(name) == Some(false)).collect();
        if waiting.is_empty() {
            return Refreshed::default();
        }
        if probes(&view.node) {
            return self.probe(waiting, &view).await;
        }
        match &view.node.leader_url {
            Some(url) if view.node.leader.as_ref() != Some(&view.node.node) => self.forward(waiting, url.clone()).await,
            _ => Refreshed { not_refreshed: waiting },
        }
    }

    async fn probe(&self, targets: Vec<TargetName>, view: &View) -> Refreshed {
        let asked = self.clock.mono();
        let cell = |name: &TargetName| view.catalog.index_of(name.as_str()).and_then(|i| view.cells.get(i)).cloned();
        let mut waiting: Vec<_> = targets.into_iter().filter_map(|name| Some((cell(&name)?, name))).collect();
        let mut results = self.results.subscribe();
        self.prober.refresh(waiting.iter().map(|(_, name)| name.clone()).collect());
        let all_in = async {
            loop {
                // A run that was under way when we asked is shared: what counts is that it ended after.
                waiting.retain(|(cell, _)| cell.load().is_none_or(|o| o.at.mono < asked));
                if waiting.is_empty() || results.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(REFRESH_BOUND, all_in).await;
        Refreshed { not_refreshed: waiting.into_iter().map(|(_, name)| name).collect() }
    }

    async fn forward(&self, mut targets: Vec<TargetName>, url: String) -> Refreshed {
        targets.sort_unstable();
        targets.dedup();
        match self.run(targets.clone(), url) {
            Some(run) => run.await,
            None => Refreshed { not_refreshed: targets },
        }
    }

    /// The run for these targets: the one under way, or a new one; none where there are too many.
    fn run(&self, targets: Vec<TargetName>, url: String) -> Option<Run> {
        let mut runs = self.runs.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|_, run| run.upgrade().is_some());
        if let Some(run) = runs.get(&targets).and_then(WeakShared::upgrade) {
            return Some(run);
        }
        if runs.len() >= MAX_RUNS {
            return None;
        }
        let (peers, asks, all) = (Arc::clone(&self.peers), self.asks.clone(), self.runs.clone());
        let key = targets.clone();
        let run = async move {
            let answered = tokio::time::timeout(REFRESH_BOUND, ask(peers.as_ref(), &asks, &url, &targets)).await;
            // Who asks from now on wants newer ones.
            all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&targets);
            answered.ok().flatten().unwrap_or(Refreshed { not_refreshed: targets })
        };
        let run = run.boxed().shared();
        runs.extend(run.downgrade().map(|weak| (key, weak)));
        Some(run)
    }

    /// These targets as they are now.
    pub(super) async fn entries(&self, targets: Vec<TargetName>) -> Option<Vec<replication::Entry>> {
        let (to, answer) = oneshot::channel();
        self.asks.send(Ask::Entries(targets, to)).await.ok()?;
        answer.await.ok()
    }
}

/// Asks the leader, and puts what it says where answers are made from.
async fn ask(peers: &dyn Peers, asks: &mpsc::Sender<Ask>, url: &str, targets: &[TargetName]) -> Option<Refreshed> {
    let answer = peers.refresh(url, targets).await;
    let answer = answer.inspect_err(|error| tracing::debug!(%error, "fresh results could not be had")).ok()?;
    let (to, taken) = oneshot::channel();
    asks.send(Ask::Take(answer.entries, to)).await.ok()?;
    taken.await.ok()?;
    Some(Refreshed { not_refreshed: answer.not_refreshed })
}
