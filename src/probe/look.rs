//! Looks beside the schedule, by the same runner: a witness's look at targets (design section 4.5), and the sentinels. They
//! have a small allowance of their own, never touch what the schedule keeps, and end with whoever asked.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, oneshot};

use super::{
    Observed,
    run::{self, Kept, Prober},
    sentinel::Sentinel,
};
use crate::{
    clock::Clock,
    model::{
        Observation, Outcome, Target,
        target::{Check, Kind},
    },
};

/// Most exchanges of looks at once.
const ALLOWANCE: usize = 16;
/// Most targets of one look; those beyond are left out.
const MAX_TARGETS: usize = 256;

/// One look and where its result goes; the look ends when nobody waits for it any more.
#[derive(Debug)]
pub enum Look {
    /// Each of these once.
    Targets {
        /// Which.
        targets: Vec<Arc<Target>>,
        /// What did not end within this is left out.
        bound: Duration,
        /// The results.
        answer: oneshot::Sender<Vec<Observed>>,
    },
    /// Whether a sentinel answers.
    Sentinels {
        /// Within this.
        bound: Duration,
        /// Whether one did.
        answer: oneshot::Sender<bool>,
    },
}

/// Runs looks, on the probe thread.
pub struct Looks(Rc<Shared>);

struct Shared {
    clock: Clock,
    prober: Rc<Prober>,
    sentinels: Vec<Arc<Target>>,
    allowance: Semaphore,
}

impl Looks {
    /// With the schedule's runner; `max_per_host` also bounds all looks together.
    #[must_use]
    pub fn new(clock: Clock, prober: Rc<Prober>, sentinels: Vec<Sentinel>, max_per_host: usize) -> Self {
        let allowance = Semaphore::new(ALLOWANCE.min(max_per_host).max(1));
        let sentinels = sentinels.iter().map(Sentinel::target).map(Arc::new).collect();
        Self(Rc::new(Shared { clock, prober, sentinels, allowance }))
    }

    /// Begins a look. Its task is the runtime's: it ends by its bound, with the asker, or with the thread.
    pub fn start(&self, look: Look) {
        let shared = Rc::clone(&self.0);
        match look {
            Look::Targets { targets, bound, answer } => {
                tokio::task::spawn_local(async move { shared.targets(targets, bound, answer).await });
            }
            Look::Sentinels { bound, answer } => {
                tokio::task::spawn_local(async move { shared.try_sentinels(bound, answer).await });
            }
        }
    }
}

impl Shared {
    async fn targets(&self, targets: Vec<Arc<Target>>, bound: Duration, mut answer: oneshot::Sender<Vec<Observed>>) {
        let seen = RefCell::new(Vec::new());
        let probed = targets.into_iter().filter(|t| t.check.kind != Kind::Heartbeat).take(MAX_TARGETS);
        let seen_here = &seen;
        let looks = join_all(probed.map(|target| async move {
            let observation = Arc::new(self.probe(&target).await);
            let (target, check) = (target.name.clone(), Arc::clone(&target.check));
            seen_here.borrow_mut().push(Observed { target, place: usize::MAX, check, observation, refreshed: false });
        }));
        let gone = tokio::select! {
            biased;
            () = answer.closed() => true,
            _ = tokio::time::timeout(bound, looks) => false,
        };
        if !gone {
            // An asker that goes in this very moment loses nothing.
            let _ = answer.send(seen.take());
        }
    }

    async fn try_sentinels(&self, bound: Duration, mut answer: oneshot::Sender<bool>) {
        let answers = async {
            let tries = self.sentinels.iter().map(|target| {
                Box::pin(async move {
                    // Good or bad: it has answered.
                    match self.probe(target).await.outcome {
                        Outcome::Good | Outcome::Bad => Ok(()),
                        Outcome::Timeout | Outcome::Unreachable | Outcome::Protocol => Err(()),
                    }
                })
            });
            futures_util::future::select_ok(tries).await.is_ok()
        };
        let answered = tokio::select! {
            biased;
            () = answer.closed() => return,
            answered = tokio::time::timeout(bound, answers) => answered.unwrap_or(false),
        };
        let _ = answer.send(answered);
    }

    /// One exchange within the allowance and the check's own time-out.
    async fn probe(&self, target: &Arc<Target>) -> Observation {
        let permit = self.allowance.acquire().await;
        let own = fresh(target);
        let kept: Kept = self.prober.prepare(&own.check).await;
        let begin = self.clock.mono();
        let probed = tokio::time::timeout(own.check.timeout, self.prober.probe(&own, &kept, begin)).await;
        drop(permit);
        probed.unwrap_or_else(|_| run::timed_out(&own.check, begin, self.clock.now()))
    }
}

/// The target on a connection of its own: what the schedule keeps open is left to it, and nothing is left open here.
fn fresh(target: &Arc<Target>) -> Arc<Target> {
    if !target.check.reuse {
        return Arc::clone(target);
    }
    let check = Arc::new(Check { reuse: false, ..(*target.check).clone() });
    Arc::new(Target { check, ..(**target).clone() })
}
