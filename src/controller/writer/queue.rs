//! What waits to be written by the leader: merged by key, bounded, latches first; and the transitions that go out as events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    controller::{core::Write, transitions::Transition},
    model::{CategoryName, TargetName},
    store::Troubles,
};

/// Most writes that wait. Keys are merged, so only more keys than this lose their oldest; a new leader writes all anew.
const MAX_QUEUED: usize = 200_000;
/// Most transitions that wait to go out as events; beyond it the oldest are left out.
const MAX_TRANSITIONS: usize = 10_000;

/// What waits to be written; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    transitions: Mutex<VecDeque<Transition>>,
    wake: Notify,
    troubles: Troubles,
}

#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<Slot>,
    writes: BTreeMap<Slot, Write>,
}

/// Writes with the same slot replace each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Latch(CategoryName),
    Status(TargetName),
    LastGood,
    Summary,
}

fn slot(write: &Write) -> Slot {
    match write {
        Write::Status(target, _) | Write::DropStatus(target) => Slot::Status(target.clone()),
        Write::Latch { category, .. } | Write::Unlatch { category, .. } => Slot::Latch(category.clone()),
        Write::LastGood(_) => Slot::LastGood,
        Write::Summary(_) => Slot::Summary,
    }
}

/// How many operations a write comes to, at most.
const fn most_ops(write: &Write) -> usize {
    match write {
        Write::Latch { .. } => 2,
        Write::Status(..) | Write::DropStatus(_) | Write::Unlatch { .. } | Write::LastGood(_) | Write::Summary(_) => 1,
    }
}

impl Queue {
    /// Adds writes; a waiting one of the same key is replaced.
    pub fn push(&self, writes: Vec<Write>) {
        self.push_with(Vec::new(), writes);
    }

    /// Adds transitions that go out as events, in their order, and the writes that they cause: one wake-up for both.
    pub fn push_with(&self, transitions: Vec<Transition>, writes: Vec<Write>) {
        let mut pending = self.pending();
        let mut waiting = self.transitions();
        waiting.extend(transitions);
        let over = waiting.len().saturating_sub(MAX_TRANSITIONS);
        waiting.drain(..over);
        for write in writes {
            pending.put(write);
        }
        drop((waiting, pending));
        self.0.wake.notify_one();
    }

    /// The oldest of those.
    pub(super) fn take_transitions(&self, most: usize) -> Vec<Transition> {
        let mut waiting = self.transitions();
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    /// Puts back what could not be written.
    pub(super) fn give_back_transitions(&self, transitions: Vec<Transition>) {
        let mut waiting = self.transitions();
        for transition in transitions.into_iter().rev() {
            waiting.push_front(transition);
        }
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.depth() == 0 && self.transitions().is_empty()
    }

    /// Returns when something was added.
    pub(super) async fn added(&self) {
        self.0.wake.notified().await;
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transitions(&self) -> MutexGuard<'_, VecDeque<Transition>> {
        self.0.transitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.pending().writes.len()
    }

    /// What the store denies to leader writes, until it takes them.
    #[must_use]
    pub fn troubles(&self) -> &Troubles {
        &self.0.troubles
    }

    /// The first of them, of at most so many operations.
    pub(super) fn take(&self, most: usize) -> Vec<Write> {
        let mut pending = self.pending();
        let mut taken = Vec::new();
        let mut ops = 0_usize;
        while let Some(slot) = pending.order.front() {
            ops = ops.saturating_add(pending.writes.get(slot).map_or(0, most_ops));
            if ops > most {
                break;
            }
            if let Some(slot) = pending.order.pop_front() {
                taken.extend(pending.writes.remove(&slot));
            }
        }
        taken
    }

    /// Puts back what could not be written, unless a newer write of the same key came meanwhile.
    pub(super) fn give_back(&self, writes: Vec<Write>) {
        let mut pending = self.pending();
        for write in writes.into_iter().rev() {
            let slot = slot(&write);
            if !pending.writes.contains_key(&slot) {
                pending.writes.insert(slot.clone(), write);
                pending.order.push_front(slot);
            }
        }
    }

    /// As `give_back`, but behind all others: what is denied must not keep them waiting.
    pub(super) fn give_back_last(&self, writes: Vec<Write>) {
        let mut pending = self.pending();
        for write in writes {
            let slot = slot(&write);
            if !pending.writes.contains_key(&slot) {
                pending.writes.insert(slot.clone(), write);
                pending.order.push_back(slot);
            }
        }
    }

    pub(super) fn clear(&self) {
        *self.pending() = Pending::default();
        self.transitions().clear();
        // Who does not write is denied nothing.
        self.0.troubles.clear();
    }
}

impl Pending {
    fn put(&mut self, write: Write) {
        let slot = slot(&write);
        if self.writes.insert(slot.clone(), write).is_none() {
            // A latch must not wait behind thousands of statuses: lost with a crash, a failure could pass unlatched.
            if matches!(slot, Slot::Latch(_)) { self.order.push_front(slot) } else { self.order.push_back(slot) }
        }
        while self.order.len() > MAX_QUEUED {
            if let Some(oldest) = self.order.pop_front() {
                self.writes.remove(&oldest);
            }
        }
    }
}
