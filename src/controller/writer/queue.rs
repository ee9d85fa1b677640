//! What waits to be written by the leader: merged by key, bounded, latches first; and the transitions that go out as events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    controller::{core::Write, transitions::Transition},
    model::{CategoryName, TargetName},
    store::{Troubles, session::Authority},
};

/// Most writes that wait. Keys are merged, so only more keys than this lose their oldest; a new leader writes all anew.
const MAX_QUEUED: usize = 200_000;
/// Most transitions that wait to go out as events; beyond it the oldest are left out.
const MAX_TRANSITIONS: usize = 10_000;

/// A term and the store's history that it is of. What was to be written in one is nothing in the next: a new leader begins
/// with all states anew, and a write of the last term that fails late must not take those with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reign {
    /// The store's generation.
    pub generation: u64,
    /// The term.
    pub term: i64,
}

impl Reign {
    /// The one that a node's authority is of: its own, or the highest that it has seen.
    #[must_use]
    pub const fn of(authority: &Authority) -> Self {
        Self { generation: authority.generation, term: authority.term() }
    }
}

/// What waits to be written; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Notify,
    troubles: Troubles,
}

#[derive(Debug, Default)]
struct Pending {
    reign: Reign,
    transitions: VecDeque<Transition>,
    order: VecDeque<Slot>,
    writes: BTreeMap<Slot, Write>,
}

/// Writes with the same slot replace each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Latch(CategoryName),
    Status(TargetName),
    LastGood,
    Summary,
}

pub(super) fn slot(write: &Write) -> Slot {
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
    /// Adds transitions that go out as events, in their order, and the writes that they cause: one wake-up for both. A waiting
    /// write of the same key is replaced; what waits of an earlier reign is dropped.
    pub fn push(&self, reign: Reign, transitions: Vec<Transition>, writes: Vec<Write>) {
        let mut pending = self.pending();
        if pending.reign > reign {
            return;
        }
        if pending.reign < reign {
            *pending = Pending { reign, ..Pending::default() };
        }
        pending.transitions.extend(transitions);
        let over = pending.transitions.len().saturating_sub(MAX_TRANSITIONS);
        pending.transitions.drain(..over);
        for write in writes {
            pending.put(write);
        }
        drop(pending);
        self.0.wake.notify_one();
    }

    /// The oldest transitions.
    pub(super) fn take_transitions(&self, reign: Reign, most: usize) -> Vec<Transition> {
        let mut pending = self.pending();
        let most = if pending.reign == reign { most.min(pending.transitions.len()) } else { 0 };
        pending.transitions.drain(..most).collect()
    }

    /// Puts back what could not be written.
    pub(super) fn give_back_transitions(&self, reign: Reign, transitions: Vec<Transition>) {
        let mut pending = self.pending();
        if pending.reign != reign {
            return;
        }
        for transition in transitions.into_iter().rev() {
            pending.transitions.push_front(transition);
        }
    }

    /// Drops transitions up to and with this number: the store has them.
    pub(super) fn told_through(&self, reign: Reign, number: u64) {
        let mut pending = self.pending();
        if pending.reign == reign {
            pending.transitions.retain(|t| t.number > number);
        }
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_empty(&self) -> bool {
        let pending = self.pending();
        pending.writes.is_empty() && pending.transitions.is_empty()
    }

    /// Returns when something was added.
    pub(super) async fn added(&self) {
        self.0.wake.notified().await;
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) fn take(&self, reign: Reign, most: usize) -> Vec<Write> {
        let mut pending = self.pending();
        if pending.reign != reign {
            return Vec::new();
        }
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
    pub(super) fn give_back(&self, reign: Reign, writes: Vec<Write>) {
        let mut pending = self.pending();
        if pending.reign != reign {
            return;
        }
        for write in writes.into_iter().rev() {
            let slot = slot(&write);
            if !pending.writes.contains_key(&slot) {
                pending.writes.insert(slot.clone(), write);
                pending.order.push_front(slot);
            }
        }
    }

    /// As `give_back`, but behind all others: what is denied must not keep them waiting.
    pub(super) fn give_back_last(&self, reign: Reign, writes: Vec<Write>) {
        let mut pending = self.pending();
        if pending.reign != reign {
            return;
        }
        for write in writes {
            let slot = slot(&write);
            if !pending.writes.contains_key(&slot) {
                pending.writes.insert(slot.clone(), write);
                pending.order.push_back(slot);
            }
        }
    }

    /// Drops what waits, unless it is of a later reign.
    pub(super) fn clear(&self, through: Reign) {
        let mut pending = self.pending();
        if pending.reign <= through {
            *pending = Pending { reign: pending.reign, ..Pending::default() };
            // Who does not write is denied nothing.
            self.0.troubles.clear();
        }
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
