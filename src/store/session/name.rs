//! The node's key: who this node is, where it is reached, and whether it is ready, for the others to see. It hangs on the
//! session's lease; a stranger under the same name is found here.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{RETRY, Session, SessionError};
use crate::model::Mono;
use crate::store::keys::nodes_prefix;
use crate::store::{Compare, LeaseId, Op, Store as _, StoreError, Txn, TxnOutcome};

/// Time between two looks whether the node's key is still there.
const CHECK_KEY_EVERY: Duration = Duration::from_secs(3);
/// The same while it is not there, or not as it should be.
const AGAIN: Duration = Duration::from_millis(200);

/// A node's key as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inscribed {
    lease: LeaseId,
    ready: bool,
}

/// What is read of other nodes' keys.
#[derive(Debug, Deserialize)]
struct OtherNode {
    /// A node that does not say it is taken for ready.
    #[serde(default = "yes")]
    ready: bool,
}

const fn yes() -> bool {
    true
}

impl Session {
    /// Keeps the node's key on the lease, beside the renewals. A key that somebody deleted is written anew.
    pub(super) async fn inscribe(&self) -> Result<(), SessionError> {
        let mut stranger = None;
        let mut first = true;
        loop {
            let wanted = self.wanted();
            if let Some(wanted) = wanted {
                match self.register(wanted).await {
                    Ok(None) => {
                        (first, stranger) = (false, None);
                        self.0.troubles.gone(&nodes_prefix(&self.0.options.region));
                        if self.0.inscribed.send_replace(Some(wanted)) != Some(wanted) {
                            self.0.look.notify_one();
                        }
                    }
                    Ok(Some(holder)) => {
                        self.0.inscribed.send_replace(None);
                        self.taken(holder, first, &mut stranger)?;
                    }
                    Err(error) => self.failed(&nodes_prefix(&self.0.options.region), &error),
                }
            }
            let done = *self.0.inscribed.borrow() == self.wanted();
            let wait = if done { CHECK_KEY_EVERY } else { AGAIN };
            tokio::select! {
                biased;
                () = self.0.inscribe.notified() => {}
                () = tokio::time::sleep(self.0.chance.jitter(wait).max(RETRY)) => {}
            }
        }
    }

    fn wanted(&self) -> Option<Inscribed> {
        let lease = self.core().lease()?;
        Some(Inscribed { lease, ready: *self.0.ready.borrow() })
    }

    /// Whether the node's key hangs on the lease of now.
    pub(super) fn registered(&self) -> bool {
        let inscribed = *self.0.inscribed.borrow();
        inscribed.is_some_and(|i| self.core().lease() == Some(i.lease))
    }

    /// Writes the node's key where it is missing or says something else, and returns who holds it where a stranger does.
    async fn register(&self, wanted: Inscribed) -> Result<Option<String>, StoreError> {
        let (key, options) = (&self.0.node_key, &self.0.options);
        let value = serde_json::json!({
            "v": 1, "node": options.node, "url": options.url, "version": options.version, "started": options.started,
            "instance": options.instance, "ready": wanted.ready,
        });
        let value = Bytes::from(value.to_string());
        let (_, found) = self.0.store.get(key).await?;
        let guard = match found {
            None => Compare::Absent(key.clone()),
            Some(pair) if pair.lease == Some(wanted.lease) && pair.value == value => return Ok(None),
            Some(pair) if pair.lease == Some(wanted.lease) => Compare::Lease(key.clone(), wanted.lease),
            Some(pair) => {
                let held: serde_json::Value = serde_json::from_slice(&pair.value).unwrap_or_default();
                let own = held.get("instance").and_then(|i| i.as_str()) == Some(options.instance.as_str());
                if let Some(earlier) = pair.lease.filter(|_| own) {
                    tracing::info!("the lease of this node's earlier life is ended");
                    self.0.store.revoke(earlier).await?;
                    return Ok(Some(String::new()));
                }
                return Ok(Some(String::from_utf8_lossy(&pair.value).into_owned()));
            }
        };
        let op = Op::Put { key: key.clone(), value, lease: Some(wanted.lease) };
        match self.0.store.txn(Txn { compares: vec![guard], ops: vec![op] }).await? {
            TxnOutcome::Done { .. } => Ok(None),
            // It changed in between: looked at again soon.
            TxnOutcome::Refused { .. } => Ok(Some(String::new())),
        }
    }

    /// A stranger has the name: it is waited for up to T at the start, and for ever once this node had it.
    fn taken(&self, holder: String, first: bool, since: &mut Option<Mono>) -> Result<(), SessionError> {
        let now = self.0.clock.mono();
        let waited = now.since(*since.get_or_insert(now));
        let options = &self.0.options;
        // Twice the grace of a second: an expired lease goes a little after its time.
        let patience = options.ttl.saturating_add(Duration::from_secs(2));
        if first && !holder.is_empty() && waited > patience {
            let (node, region) = (options.node.clone(), options.region.clone());
            return Err(SessionError::NameTaken { node, region, holder });
        }
        Ok(())
    }

    /// Whether another node of the region could lead.
    pub(super) async fn another_is_ready(&self) -> Result<bool, StoreError> {
        let listing = self.0.store.list(&nodes_prefix(&self.0.options.region), None).await?;
        let mut others = listing.pairs.iter().filter(|pair| pair.key != self.0.node_key);
        Ok(others.any(|pair| serde_json::from_slice::<OtherNode>(&pair.value).is_ok_and(|node| node.ready)))
    }
}
