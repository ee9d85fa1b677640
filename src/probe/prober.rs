//! What the controller asks of whoever probes: the engine, or a simulation's stand-in.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{EngineHandle, Observed, look::Look};
use crate::model::{Mono, Target, TargetName};

/// Steers probing; only `once` and `sentinels` wait.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Replaces the targets; none: nothing is probed. Unchanged ones keep their schedule. `last` says when targets that are new
    /// to this prober were last probed by another node: each is due at its last time + interval, and what is overdue is spread,
    /// so that a takeover makes no burst (design section 4.3). Results that were already on their way may still come after a
    /// call without targets: they are to be ignored.
    fn set_targets(&self, targets: Vec<Arc<Target>>, last: Vec<(TargetName, Mono)>);

    /// Says which targets are probed at their fast interval.
    fn set_fast(&self, fast: Vec<(TargetName, bool)>);

    /// Probes targets at once; results come as all others do.
    fn refresh(&self, targets: Vec<TargetName>);

    /// Probes these once, beside the schedule, whether or not it holds them: a witness's look. Results come back here alone;
    /// what did not end within `bound` is left out.
    async fn once(&self, targets: Vec<Arc<Target>>, bound: Duration) -> Vec<Observed>;

    /// Whether one of the sentinels answers within `bound`: the network around this node works. `None`: there are no sentinels.
    async fn sentinels(&self, bound: Duration) -> Option<bool>;
}

#[async_trait]
impl Prober for EngineHandle {
    fn set_targets(&self, targets: Vec<Arc<Target>>, last: Vec<(TargetName, Mono)>) {
        Self::set_targets(self, targets, last);
    }

    fn set_fast(&self, fast: Vec<(TargetName, bool)>) {
        Self::set_fast(self, fast);
    }

    fn refresh(&self, targets: Vec<TargetName>) {
        Self::refresh(self, targets);
    }

    async fn once(&self, targets: Vec<Arc<Target>>, bound: Duration) -> Vec<Observed> {
        let (answer, answered) = oneshot::channel();
        if self.look(Look::Targets { targets, bound, answer }) { self.unless_ended(answered).await } else { Vec::new() }
    }

    async fn sentinels(&self, bound: Duration) -> Option<bool> {
        if !self.has_sentinels() {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        Some(self.look(Look::Sentinels { bound, answer }) && self.unless_ended(answered).await)
    }
}

impl EngineHandle {
    /// The answer, or nothing where the engine ends before it: nobody reads its mail then.
    async fn unless_ended<T: Default>(&self, answered: oneshot::Receiver<T>) -> T {
        tokio::select! {
            biased;
            answer = answered => answer.unwrap_or_default(),
            () = self.ended() => T::default(),
        }
    }
}
