//! Sticky latches (design section 3): read from the store, made by who may, taken back when an operator switches the
//! category on. When they are made and cleared is decided by `evaluation::aggregate`.

use std::collections::BTreeMap;

use super::{Core, Effects, Write};
use crate::{
    model::{CategoryName, Evaluation, Latch, Now, Role, StoreState},
    store::Event,
};

impl Core {
    pub(super) fn apply_latch(&mut self, category: CategoryName, event: &Event, effects: &mut Effects) {
        match event {
            Event::Put(pair) => {
                if let Ok(mut latch) = serde_json::from_slice::<Latch>(&pair.value) {
                    latch.revision = pair.mod_revision;
                    effects.own_latches_changed |= self.own_latches.remove(&category).is_some();
                    self.store_latches.insert(category, latch);
                    self.dirty = true;
                }
            }
            Event::Delete { .. } => self.dirty |= self.store_latches.remove(&category).is_some(),
        }
    }

    /// Latches that this node made alone: written once it leads, dropped once another does.
    pub(super) fn settle_own_latches(&mut self, effects: &mut Effects) {
        let other = self.standing.leader.as_ref().is_some_and(|leader| *leader != self.identity.node);
        if self.role() == Role::Leader && self.standing.store == StoreState::Ok && self.latches_to_write {
            self.latches_to_write = false;
            for (category, latch) in &self.own_latches {
                effects.writes.push(self.latch_write(category, latch));
            }
        } else if self.role() == Role::Follower && self.standing.session && other && !self.own_latches.is_empty() {
            // The leader's latches are the ones that count.
            tracing::warn!(latches = ?self.own_latches.keys(), "latches made while the store was away are dropped");
            self.own_latches.clear();
            effects.own_latches_changed = true;
        }
    }

    pub(super) fn latch_write(&self, category: &CategoryName, latch: &Latch) -> Write {
        Write::Latch { category: category.clone(), latch: latch.clone(), disable_plain: !self.identity.region_named }
    }

    pub(super) fn latches(&self) -> BTreeMap<CategoryName, Latch> {
        let mut latches = self.store_latches.clone();
        for (category, latch) in &self.own_latches {
            latches.entry(category.clone()).or_insert_with(|| latch.clone());
        }
        latches
    }

    /// Latches what turned bad, where this node may: as the leader, or by itself without the store.
    pub(super) fn latch(&mut self, evaluation: &Evaluation, now: Now, effects: &mut Effects) -> bool {
        if !self.latches_by_itself() {
            return false;
        }
        for (category, reason) in &evaluation.new_latches {
            let latch = Latch {
                v: 1,
                by: self.identity.node.to_string(),
                at: now.wall,
                reason: reason.clone(),
                revision: self.catalog.revision,
            };
            effects.writes.push(self.latch_write(category, &latch));
            // A latch that an operator cleared makes room for the new one.
            self.store_latches.remove(category);
            self.own_latches.insert(category.clone(), latch);
            effects.own_latches_changed = true;
        }
        !evaluation.new_latches.is_empty()
    }

    pub(super) fn unlatch(&mut self, evaluation: &Evaluation, effects: &mut Effects) {
        for category in &evaluation.cleared_latches {
            let own = self.own_latches.remove(category);
            effects.own_latches_changed |= own.is_some();
            // Also for one that may still wait to be written: it must not be written after all.
            if let Some(revision) = self.store_latches.get(category).or(own.as_ref()).map(|latch| latch.revision) {
                effects.writes.push(Write::Unlatch { category: category.clone(), revision });
            }
        }
    }
}
