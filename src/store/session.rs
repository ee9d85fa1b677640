//! A node's session: one lease, the node's key, and the election of its region's leader (design section 4.2), over any
//! store. What a leader does, and what a node does without a store, is left to `controller`.
//!
//! **Authority and time.** Authority ends at an instant of a local clock that runs on while the machine is suspended:
//! the margin before the lease can end, or 3 s after the controller's last tick, whichever comes first. The design asks for a
//! thread that watches this, or an equally safe form. Here the instant is compared with the clock at each use: `may_write`,
//! `fence`, and each change of the session's own state ask it, and nothing is kept between the question and the write but the
//! fence itself, which the store checks. A thread would only set a flag, late by its own scheduling, and a process that was
//! stopped and thaws may run the writer before that thread; a comparison cannot be late. The guard below (a task) only makes
//! the end known to others, and gives the lease back.
//!
//! Parts: `authority` values and arithmetic, `core` the rules, `keep` the lease, `name` the node's key, `campaign` the leader
//! key, `leadership` what people see. The three that talk to the store run side by side and wait for nothing of each other.

mod authority;
mod campaign;
mod core;
mod keep;
mod leadership;
mod name;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::authority::{Authority, Standing, authority_ends, margin};
use self::core::Core;
pub use self::leadership::Leadership;
use self::name::Inscribed;
use super::horizon::Horizon;
use super::keys::NodeKey;
use super::{Compare, Op, Store, StoreError, Troubles, Txn};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::latest::Latest;
use crate::model::{Mono, NodeName, RegionName, Timestamp};

/// The wait after an attempt that failed.
const RETRY: Duration = Duration::from_millis(50);
/// How often the guard looks where no end is near.
const GUARD_LOOK: Duration = Duration::from_secs(2);
/// How long a shutdown waits for the store.
const RELEASE: Duration = Duration::from_secs(2);

/// What a session needs to know of its node.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The node's region.
    pub region: RegionName,
    /// The node.
    pub node: NodeName,
    /// Where other nodes reach it.
    pub url: String,
    /// The program's version.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// What tells this node from another of its name; kept in the data directory, so that it knows its own earlier life.
    pub instance: String,
    /// T: the lease's time (5 s).
    pub ttl: Duration,
}

/// Why a session ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another node has this name.
    #[error("the node name {node} is taken in region {region} by {}; give this node another --node", shown(holder))]
    NameTaken {
        /// The name.
        node: NodeName,
        /// The region.
        region: RegionName,
        /// The holder's key, as it stands in the store.
        holder: String,
    },
}

/// Who holds a node's key, as far as its value says.
fn shown(holder: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(holder).unwrap_or_default();
    let field = |name: &str| value.get(name).and_then(|f| f.as_str());
    match (field("url"), field("started")) {
        (Some(url), Some(started)) => format!("the node at {url}, which runs since {started}"),
        (Some(url), None) => format!("the node at {url}"),
        _ => format!("a key that says {holder:.200}"),
    }
}

/// A handle; clones share the session.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Horizon,
    clock: Clock,
    chance: Chance,
    options: SessionOptions,
    leader_key: String,
    node_key: String,
    core: Mutex<Core>,
    authority: Latest<Authority>,
    leadership: Latest<Leadership>,
    ready: watch::Sender<bool>,
    /// The node's key as it was written or read last.
    inscribed: watch::Sender<Option<Inscribed>>,
    /// The lease is to be looked at.
    keep: Notify,
    /// The node's key is to be looked at.
    inscribe: Notify,
    /// The leader key is to be looked at.
    look: Notify,
    /// Keys that the store denies.
    troubles: Troubles,
}

impl Session {
    /// Starts a session. It ends when `cancel` is cancelled: then it gives up the leader key under its fence, and its lease,
    /// within 2 s. It ends with an error when another node has its name at the start and keeps it for longer than T.
    ///
    /// It campaigns only once it was told that the node is ready and that the controller ticks.
    #[must_use]
    pub fn spawn(
        store: Arc<dyn Store>,
        clock: Clock,
        chance: Chance,
        options: SessionOptions,
        cancel: CancellationToken,
    ) -> (Self, JoinHandle<Result<(), SessionError>>) {
        let store = Horizon::over(store);
        let leader_key = NodeKey::Leader(options.region.clone()).to_string();
        let node_key = NodeKey::Node(options.region.clone(), options.node.clone()).to_string();
        let (node, url) = (options.node.clone(), options.url.clone());
        let core = Core::new(leader_key.clone(), node, url, options.ttl, store.number());
        let now = clock.now();
        let authority = Latest::new(core.authority(now.mono));
        let leadership = Latest::new(Leadership::of(&core, now, None));
        let (core, ready, inscribed) = (Mutex::new(core), watch::Sender::new(false), watch::Sender::new(None));
        let (keep, inscribe, look) = (Notify::new(), Notify::new(), Notify::new());
        let session = Self(Arc::new(Inner {
            store,
            clock,
            chance,
            options,
            leader_key,
            node_key,
            core,
            authority,
            leadership,
            ready,
            inscribed,
            keep,
            inscribe,
            look,
            troubles: Troubles::default(),
        }));
        let running = session.clone();
        (session, tokio::spawn(async move { running.run(cancel).await }))
    }

    /// What this node is, and its changes. Renewals and ticks change `until`, each about once a second.
    #[must_use]
    pub fn authority(&self) -> &Latest<Authority> {
        &self.0.authority
    }

    /// Who leads, since when, how often that changed and why last; and its changes.
    #[must_use]
    pub fn leadership(&self) -> &Latest<Leadership> {
        &self.0.leadership
    }

    /// Whether this node may write at `now`.
    #[must_use]
    pub fn may_write(&self, now: Mono) -> bool {
        let authority = self.0.authority.peek();
        authority.generation == self.0.store.number() && authority.may_write(now)
    }

    /// Whether this node may become leader: its catalog is synced and it has caught up. It is not at the start. A leader
    /// stays leader when it is set back. Other nodes see it in the node's key.
    pub fn set_ready(&self, ready: bool) {
        if self.0.ready.send_replace(ready) != ready {
            self.0.inscribe.notify_one();
            self.0.look.notify_one();
        }
    }

    /// The controller lives. It says so about once a second; 3 s after the last time authority is over, and the lease is
    /// given back. Before the first time this node does not campaign.
    pub fn ticked(&self) {
        let (before, after) = self.change(|core, now| {
            let before = core.ends().is_some();
            core.tick_of_controller(now);
            (before, core.ends().is_some())
        });
        if !before || !after {
            self.0.keep.notify_one();
            self.0.look.notify_one();
        }
    }

    /// The compares for a leader's write, `None` where this node may not write now.
    #[must_use]
    pub fn fence(&self) -> Option<Vec<Compare>> {
        let authority = self.0.authority.peek();
        let current = authority.generation == self.0.store.number();
        authority.fence(&self.0.leader_key, self.0.clock.mono()).filter(|_| current)
    }

    /// To be called when a write of this term was refused by its fence: the node leads no more.
    pub fn step_down(&self, term: i64) {
        self.change(|core, now| core.step_down(term, now));
        self.0.look.notify_one();
    }

    /// Gives the lead away, but not the session: authority ends now, the leader key is deleted under its fence, and this node
    /// does not campaign for 2 T, unless nobody takes the lead for T. Returns whether it led.
    pub fn hand_over(&self, reason: &str) -> bool {
        let led = self.change(|core, now| core.hand_over(reason, now));
        if led {
            tracing::info!(reason, "the lead is handed over");
            self.0.look.notify_one();
        }
        led
    }

    /// Another node told of this term, or this node's disk. It is a revision that the store had: one that answers with a lower one
    /// later has another history.
    pub fn heard_of(&self, generation: u64, term: i64) {
        self.0.store.saw(generation, term);
    }

    /// What was read in this generation proves that it is over: the store has another history.
    pub fn has_another_history(&self, generation: u64, proof: &str) {
        self.0.store.another_history(generation, proof);
    }

    /// Keys that the store denies to this node, until it takes them.
    #[must_use]
    pub fn troubles(&self) -> &Troubles {
        &self.0.troubles
    }

    fn failed(&self, key: &str, error: &StoreError) {
        if self.0.troubles.note_denied(key, error) {
            tracing::error!(key, %error, "the store denies this node a key; without it this node does not lead");
        } else {
            tracing::debug!(key, %error, "a key of the session could not be used");
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Core, Mono) -> T) -> T {
        let mut core = self.core();
        let now = self.0.clock.now();
        let led = core.leads();
        let result = change(&mut core, now.mono);
        let authority = core.authority(now.mono);
        // Stored under the lock, so that the last change is the last stored.
        if **self.0.authority.peek() != authority {
            self.0.authority.store(Arc::new(authority));
        }
        let leadership = Leadership::of(&core, now, Some(&self.0.leadership.peek()));
        if led && !core.leads() {
            tracing::info!(reason = %leadership.last_reason, "this node leads no more");
            // A lease that is gone may explain it: then this node is not held down.
            self.0.keep.notify_one();
        }
        if **self.0.leadership.peek() != leadership {
            self.0.leadership.store(Arc::new(leadership));
        }
        result
    }

    async fn run(&self, cancel: CancellationToken) -> Result<(), SessionError> {
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            () = self.guard() => Ok(()),
            () = self.generations() => Ok(()),
            () = self.keep() => Ok(()),
            ended = self.inscribe() => ended,
            () = self.stand() => Ok(()),
        };
        self.release().await;
        ended
    }

    /// Makes the end of the authority known at its time, whatever the store does.
    async fn guard(&self) {
        let mut changes = self.0.authority.changes();
        loop {
            let left = self.change(|core, now| {
                core.tick(now);
                core.ends().map(|ends| ends.since(now))
            });
            if left.is_none() {
                self.0.keep.notify_one();
            }
            tokio::select! {
                biased;
                () = changes.wait() => {}
                () = tokio::time::sleep(left.filter(|l| !l.is_zero()).unwrap_or(GUARD_LOOK)) => {}
            }
        }
    }

    /// Leaves a history of the store behind as soon as it is known to be over.
    async fn generations(&self) {
        let mut changes = self.0.store.generation().changes();
        loop {
            self.enter();
            changes.wait().await;
        }
    }

    /// Enters the store's generation, and returns its number.
    fn enter(&self) -> u64 {
        let number = self.0.store.number();
        if self.change(|core, now| core.enter(number, now)) {
            self.0.keep.notify_one();
            self.0.inscribe.notify_one();
            self.0.look.notify_one();
        }
        number
    }

    /// Gives everything up: authority first, then the key under its fence, then the lease.
    async fn release(&self) {
        let (fence, lease) = self.change(|core, now| core.close(now));
        let release = async {
            if let Some(compares) = fence {
                let ops = vec![Op::Delete(self.0.leader_key.clone())];
                if let Err(error) = self.0.store.txn(Txn { compares, ops }).await {
                    tracing::warn!(%error, "the leader key could not be given up; it ends with the lease");
                }
            }
            if let Some(lease) = lease
                && let Err(error) = self.0.store.revoke(lease).await
            {
                tracing::warn!(%error, "the lease could not be ended; it runs out");
            }
        };
        if tokio::time::timeout(RELEASE, release).await.is_err() {
            tracing::warn!("the store did not answer at shutdown; the lease runs out");
        }
    }
}

#[cfg(test)]
mod tests;
