//! The leader key: followed by a watch and a poll beside it, taken where it is free and this node may, given back where it is
//! ours of a term given up.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::core::Campaign;
use super::{RETRY, Session};
use crate::store::{Compare, Event, Op, Store as _, StoreError, Txn, TxnOutcome, WatchMessage};

/// How often the leader key is read beside the watch.
const POLL: Duration = Duration::from_secs(2);
/// The same while this node is held down: the others may not be there any more.
const HELD_DOWN_POLL: Duration = Duration::from_millis(500);
/// Candidates spread over this time.
const SPREAD: Duration = Duration::from_millis(100);

/// A watch of the leader key. What it told before its generation ended may still wait in it, and be read in the next one.
struct Watching {
    generation: u64,
    messages: mpsc::Receiver<WatchMessage>,
}

type Watch = Option<Watching>;

impl Session {
    /// Follows the leader key, and takes it where it is free and this node may.
    pub(super) async fn stand(&self) {
        let mut watch = None;
        loop {
            match self.look(&mut watch).await {
                Ok(again) => {
                    self.0.troubles.gone(&self.0.leader_key);
                    if !again {
                        self.wait(&mut watch).await;
                    }
                }
                Err(error) => {
                    self.failed(&self.0.leader_key, &error);
                    tokio::time::sleep(self.0.chance.jitter(RETRY * 4)).await;
                }
            }
        }
    }

    /// Reads the leader key and acts on it. Returns whether to look again at once.
    async fn look(&self, watch: &mut Watch) -> Result<bool, StoreError> {
        let generation = self.enter();
        let (revision, pair) = self.0.store.get(&self.0.leader_key).await?;
        if self.enter() != generation {
            *watch = None;
            return Ok(true);
        }
        self.change(|core, now| core.read(pair.as_ref(), revision, now));
        if watch.as_ref().is_none_or(|watch| watch.generation != generation) {
            let from = self.core().as_of().saturating_add(1);
            let messages = self.0.store.watch(std::slice::from_ref(&self.0.leader_key), from).await.ok();
            *watch = messages.map(|messages| Watching { generation, messages });
        }
        let leftover = pair.and_then(|pair| self.core().leftover(&pair));
        if let Some(compares) = leftover {
            let ops = vec![Op::Delete(self.0.leader_key.clone())];
            self.0.store.txn(Txn { compares, ops }).await?;
            return Ok(true);
        }
        if !self.may_campaign().await? {
            return Ok(false);
        }
        tokio::time::sleep(self.0.chance.up_to(SPREAD)).await;
        self.campaign(generation).await
    }

    async fn may_campaign(&self) -> Result<bool, StoreError> {
        if !*self.0.ready.borrow() || !self.registered() {
            return Ok(false);
        }
        let campaign = self.core().campaign(self.0.clock.mono());
        Ok(match campaign {
            Campaign::Yes => true,
            Campaign::No => false,
            Campaign::IfAlone => !self.another_is_ready().await?,
        })
    }

    /// Tries to take the leader key. Returns whether to look again at once.
    async fn campaign(&self, generation: u64) -> Result<bool, StoreError> {
        // Much may have happened while this candidate waited for its turn.
        let (lease, may) = {
            let core = self.core();
            (core.lease(), core.campaign(self.0.clock.mono()) != Campaign::No && core.generation() == generation)
        };
        let Some(lease) = lease.filter(|_| may && self.registered()) else { return Ok(true) };
        let value = serde_json::json!({ "node": self.0.options.node, "url": self.0.options.url });
        let key = &self.0.leader_key;
        let op = Op::Put { key: key.clone(), value: Bytes::from(value.to_string()), lease: Some(lease) };
        let txn = Txn { compares: vec![Compare::Absent(key.clone())], ops: vec![op] };
        let outcome = self.0.store.txn(txn).await?;
        // A term of a history that is over: the next look clears it away.
        if self.enter() == generation
            && let TxnOutcome::Done { revision } = outcome
        {
            tracing::info!(term = revision, "this node leads its region");
            self.change(|core, now| core.won(lease, revision, now));
            return Ok(false);
        }
        Ok(true)
    }

    /// Until the leader key may have changed, or this node has.
    async fn wait(&self, watch: &mut Watch) {
        let held_down = self.core().held_down(self.0.clock.mono());
        let poll = held_down.map_or(POLL, |left| left.clamp(RETRY, HELD_DOWN_POLL));
        let poll = tokio::time::sleep(poll);
        tokio::pin!(poll);
        loop {
            let told = async {
                match watch.as_mut() {
                    Some(watch) => (watch.generation, watch.messages.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut poll => return,
                () = self.0.look.notified() => return,
                (generation, message) = told => match message {
                    Some(WatchMessage::Alive) => {}
                    Some(WatchMessage::Events(events)) => return self.told(generation, &events),
                    // It is opened again after the next look.
                    None | Some(WatchMessage::Compacted { .. }) => {
                        *watch = None;
                        tokio::time::sleep(self.0.chance.jitter(RETRY)).await;
                        return;
                    }
                },
            }
        }
    }

    /// Changes of the leader key, as a watch of this generation tells them.
    pub(super) fn told(&self, generation: u64, events: &[Event]) {
        // An event of a history that is over would be taken for one of the new one.
        self.enter();
        for event in events.iter().filter(|e| e.key() == self.0.leader_key) {
            let pair = match event {
                Event::Put(pair) => Some(pair),
                Event::Delete { .. } => None,
            };
            self.change(|core, now| {
                if core.generation() == generation {
                    core.told(pair, event.revision(), now);
                }
            });
        }
    }
}
