//! What other nodes of the cluster ask of this one, through the web room's port: its stream, fresh results, a witness's look.
//! Who may ask is decided by `web`; what the bytes hold, by `replication`.

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::fresh::{Fresh, REFRESH_BOUND};
use crate::{
    clock::Clock,
    latest::Latest,
    model::{Role, TargetName, View},
    probe::Prober,
    replication::{self, Hub, NotServing, Seen, wire},
    store::session::Session,
    web::port::{ClusterError, ClusterPort, Lines},
};

/// Most targets that a witness looks at for one question.
const MAX_WITNESSED: usize = 5;
/// Most questions to this witness at a time.
const MAX_WITNESSES: usize = 4;

/// The port's implementation.
pub struct Cluster {
    hub: Hub,
    fresh: Arc<Fresh>,
    view: Latest<View>,
    prober: Arc<dyn Prober>,
    clock: Clock,
    session: Session,
    witnesses: Semaphore,
}

impl Cluster {
    /// Serves from these.
    #[must_use]
    pub fn new(hub: Hub, fresh: Arc<Fresh>, clock: Clock, session: Session) -> Self {
        let (view, prober) = (fresh.view.clone(), Arc::clone(&fresh.prober));
        Self { hub, fresh, view, prober, clock, session, witnesses: Semaphore::new(MAX_WITNESSES) }
    }

    /// Whether others may take this node's results.
    fn leads(&self) -> bool {
        let node = &self.view.peek().node;
        node.role == Role::Leader || node.static_leader
    }
}

fn refused(error: NotServing) -> ClusterError {
    match error {
        NotServing::NotLeading => ClusterError::NotServing(error.to_string()),
        NotServing::TooMany => ClusterError::TooMany,
    }
}

#[async_trait]
impl ClusterPort for Cluster {
    fn subscribe(&self, after: Option<(i64, u64)>) -> Result<Lines, ClusterError> {
        let subscription = self.hub.subscribe(after).map_err(refused)?;
        let next = |mut subscription: replication::Subscription| async move {
            let line = subscription.next().await?;
            Some((line, subscription))
        };
        Ok(Pin::from(Box::new(futures_util::stream::unfold(subscription, next)) as Box<_>))
    }

    fn may_write(&self) -> bool {
        self.session.may_write(self.clock.now().mono)
    }

    async fn refresh(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        if !self.leads() {
            return Err(ClusterError::NotServing("this node does not lead its region".to_owned()));
        }
        let refreshed = self.fresh.refresh(targets.clone()).await;
        let entries = self.fresh.entries(targets).await;
        let entries = entries.ok_or_else(|| ClusterError::NotServing("this node ends".to_owned()))?;
        let answer = replication::Refreshed { entries, not_refreshed: refreshed.not_refreshed };
        wire::refreshed(self.clock.now().wall, &answer).map_err(|e| ClusterError::Other(e.to_string()))
    }

    async fn witness(&self, targets: Vec<TargetName>) -> Result<Bytes, ClusterError> {
        let Ok(_permit) = self.witnesses.try_acquire() else {
            return Err(ClusterError::NotServing("this node looks at other targets now".to_owned()));
        };
        let view = self.view.load();
        let known = targets.iter().filter_map(|name| view.catalog.target(name.as_str()).cloned());
        let observed = self.prober.once(known.take(MAX_WITNESSED).collect(), REFRESH_BOUND).await;
        let seen: Vec<Seen> =
            observed.into_iter().map(|o| Seen { target: o.target, observation: o.observation }).collect();
        wire::witnessed(self.clock.now().wall, &seen).map_err(|e| ClusterError::Other(e.to_string()))
    }
}
