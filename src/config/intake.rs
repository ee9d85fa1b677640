//! Keys in: each put and delete of a batch, last good values, targets that lose their last key, and what another node
//! has published.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    builder::CatalogBuilder,
    faults::Finder,
    last_good::{LastGood, LastHeld, MAX_HELD_BYTES},
    problem::Problems,
    redact,
    route::{Place, Routed, route},
    slots::Doomed,
    values::{self, Value},
};
use crate::model::{Now, TargetName, key::CategoryField};

/// A key that is there. Not `Debug`: the raw value may hold secrets.
pub struct Entry {
    raw: Arc<[u8]>,
    /// The value cannot be read.
    faulty: bool,
    /// The last good value, where the present one cannot be read.
    good: Option<Arc<[u8]>>,
}

impl Entry {
    fn in_force(&self) -> Option<&Arc<[u8]>> {
        if self.faulty { self.good.as_ref() } else { Some(&self.raw) }
    }
}

impl CatalogBuilder {
    pub(super) fn put(&mut self, relative: &str, raw: &[u8], mod_revision: i64, now: Now) {
        let Some(routed) = route(relative, &self.settings.region) else { return };
        let old = self.keys.remove(relative);
        self.count_in(&routed.place, relative, old.is_none());
        if let Some(entry) = old.as_ref()
            && *entry.raw == *raw
            && !matches!(routed.place, Place::Category(..))
        {
            self.keys.extend(old.map(|entry| (relative.to_owned(), entry)));
            return;
        }
        let raw: Arc<[u8]> = Arc::from(raw);
        let Routed { place, decoded_as, mut problems } = routed;
        let decoded = decoded_as.as_ref().map(|key| values::decode(key, &raw, &self.settings.region));
        let (value, faulty, good) = match decoded {
            None => (None, false, None),
            Some(Ok(value)) => (Some(value), false, None),
            Some(Err(Problems(found))) => {
                problems.extend(found);
                if matches!(place, Place::Category(_, _, Some(CategoryField::Enabled))) {
                    // A mistyped kill switch must not fail open.
                    problems.iter_mut().for_each(|p| p.reason.push_str("; it counts as off"));
                    (Some(Value::Flag(false)), true, None)
                } else {
                    let last = old.as_ref().and_then(Entry::in_force).cloned();
                    let last = last.or_else(|| self.seeded.remove(relative));
                    let read = |good: &Arc<[u8]>| {
                        decoded_as.as_ref().and_then(|key| values::decode(key, good, &self.settings.region).ok())
                    };
                    let value = last.as_ref().and_then(read);
                    let good = last.filter(|_| value.is_some());
                    (value, true, good)
                }
            }
        };
        if !faulty {
            self.seeded.remove(relative);
        }
        let shown = if problems.is_empty() { String::new() } else { redact::shown(relative, &raw) };
        self.faults.set(relative, Finder::Value, &problems, &shown, now.wall);
        self.assign(&place, value, mod_revision);
        self.keys.insert(relative.to_owned(), Entry { raw, faulty, good });
    }

    pub(super) fn delete(&mut self, relative: &str, now: Now) {
        self.seeded.remove(relative);
        let Some(Routed { place, .. }) = route(relative, &self.settings.region) else { return };
        let Some(entry) = self.keys.remove(relative) else { return };
        self.faults.set(relative, Finder::Value, &[], "", now.wall);
        match &place {
            Place::Target(name, layer, field) => {
                // What it said stays in force until the batch is through: the whole target may be going.
                if let Some(slot) = self.targets.get_mut(name) {
                    slot.keys = slot.keys.saturating_sub(1);
                    let raw = entry.in_force().cloned();
                    slot.doomed.push(Doomed { key: relative.to_owned(), raw, layer: *layer, field: *field });
                    self.dirty.targets.insert(name.clone());
                }
                return;
            }
            Place::Category(name, ..) => {
                if let Some(slot) = self.categories.get_mut(name) {
                    slot.keys = slot.keys.saturating_sub(1);
                }
            }
            Place::Service(name, _) => {
                if let Some(slot) = self.services.get_mut(name) {
                    slot.keys = slot.keys.saturating_sub(1);
                }
            }
            Place::Region(name, _) => {
                if let Some(slot) = self.regions.get_mut(name) {
                    slot.keys = slot.keys.saturating_sub(1);
                }
            }
            Place::ClusterAck | Place::Nowhere => {}
        }
        self.assign(&place, None, 0);
    }

    /// A key is there (again): counts it, and brings back a target that was going.
    fn count_in(&mut self, place: &Place, relative: &str, is_new: bool) {
        let one = usize::from(is_new);
        match place {
            Place::Target(name, ..) => {
                self.removals.forget(name);
                let slot = self.targets.entry(name.clone()).or_default();
                if self.removals.is_held(name) {
                    self.removals.release(name);
                    slot.come_back();
                    self.dirty.held = true;
                }
                slot.keys = slot.keys.saturating_add(one);
                slot.doomed.retain(|d| d.key != relative);
                self.dirty.targets.insert(name.clone());
            }
            Place::Category(name, ..) => {
                let slot = self.categories.entry(name.clone()).or_default();
                slot.keys = slot.keys.saturating_add(one);
            }
            Place::Service(name, _) => {
                let slot = self.services.entry(name.clone()).or_default();
                slot.keys = slot.keys.saturating_add(one);
            }
            Place::Region(name, _) => {
                let slot = self.regions.entry(name.clone()).or_default();
                slot.keys = slot.keys.saturating_add(one);
            }
            Place::ClusterAck | Place::Nowhere => {}
        }
    }

    /// Puts what a key says (or nothing) in its place.
    fn assign(&mut self, place: &Place, value: Option<Value>, mod_revision: i64) {
        match place {
            Place::Target(name, layer, field) => {
                if let (Some(slot), Some(field)) = (self.targets.get_mut(name), field) {
                    slot.assign(*layer, *field, value);
                }
                self.dirty.targets.insert(name.clone());
            }
            Place::Category(name, layer, field) => {
                if let Some(slot) = self.categories.get_mut(name) {
                    if let Some(field) = field {
                        slot.assign(*layer, *field, value, mod_revision);
                    }
                    if slot.keys == 0 {
                        self.categories.remove(name);
                    }
                }
                self.dirty.categories.insert(name.clone());
            }
            Place::Service(name, is_spec) => {
                if let Some(slot) = self.services.get_mut(name) {
                    match value {
                        Some(Value::Service(spec)) => slot.spec = Some(spec),
                        Some(Value::Failover(region)) => slot.failover = region,
                        _ if *is_spec => slot.spec = None,
                        _ => slot.failover = None,
                    }
                    if slot.keys == 0 {
                        self.services.remove(name);
                    }
                }
                self.dirty.services.insert(name.clone());
                self.dirty.names = true;
            }
            Place::Region(name, is_spec) => {
                if let Some(slot) = self.regions.get_mut(name) {
                    match value {
                        Some(Value::Region(spec)) => slot.spec = Some(spec),
                        Some(Value::Flag(enabled)) => slot.enabled = Some(enabled),
                        _ if *is_spec => slot.spec = None,
                        _ => slot.enabled = None,
                    }
                    if slot.keys == 0 {
                        self.regions.remove(name);
                    }
                }
                self.dirty.regions = true;
                self.dirty.names = true;
            }
            Place::ClusterAck => {
                self.cluster_ack = match value {
                    Some(Value::Ack(ack)) => ack,
                    _ => None,
                };
                self.dirty.cluster_ack = true;
            }
            Place::Nowhere => {}
        }
    }

    /// Ends a batch: deleted fields go; targets without a key go too, unless so many go that they must wait.
    pub(super) fn bury(&mut self, now: Now) {
        let mut going = Vec::new();
        for name in &self.dirty.targets {
            let Some(slot) = self.targets.get_mut(name) else { continue };
            if slot.keys > 0 {
                for doomed in std::mem::take(&mut slot.doomed) {
                    if let Some(field) = doomed.field {
                        slot.assign(doomed.layer, field, None);
                    }
                }
            } else if !self.removals.is_held(name) {
                going.push(name.clone());
            }
        }
        let wait = self.removals.must_wait(&going, self.targets.len(), now);
        for name in going {
            if wait {
                self.removals.hold(name, now);
                self.dirty.held = true;
            } else {
                self.drop_target(&name, now);
            }
        }
    }

    pub(super) fn drop_target(&mut self, name: &TargetName, now: Now) {
        let Some(slot) = self.targets.remove(name) else { return };
        self.forget_uses(slot.service.as_ref(), &slot.categories);
        self.faults.set(&format!("healthcheck/{name}"), Finder::Target, &[], "", now.wall);
        self.dirty.gone.extend(slot.resolved.map(|_| name.clone()));
        self.dirty.targets.insert(name.clone());
    }

    /// What other nodes need to see the same catalog. Holds secrets as the operators' keys do.
    #[must_use]
    pub fn last_good(&self) -> LastGood {
        let text = |raw: &Arc<[u8]>| std::str::from_utf8(raw).ok().map(str::to_owned);
        let faulty = self.faults.keys_of(Finder::Value);
        let values = faulty
            .into_iter()
            .filter_map(|key| self.keys.get(&key).and_then(|e| e.good.as_ref()).and_then(text).map(|raw| (key, raw)))
            .collect();
        let held = self.removals.announcement().map(|held| {
            let mut left = MAX_HELD_BYTES;
            let mut values = BTreeMap::new();
            for slot in held.targets.iter().filter_map(|name| self.targets.get(name)) {
                let size: usize =
                    slot.doomed.iter().map(|d| d.key.len() + d.raw.as_ref().map_or(0, |r| r.len()) + 8).sum();
                let Some(rest) = left.checked_sub(size) else { continue };
                left = rest;
                // An unreadable key still says that the target exists.
                values.extend(
                    slot.doomed.iter().map(|d| (d.key.clone(), d.raw.as_ref().and_then(text).unwrap_or_default())),
                );
            }
            LastHeld { targets: held.targets, since: held.since, until: held.until, values }
        });
        LastGood { v: 1, values, held }
    }

    /// Takes over what a leader published, before or after the first keys: last good values where the present one
    /// cannot be read, and a removal that waits. True when the catalog changed.
    pub fn seed(&mut self, last: LastGood, now: Now) -> bool {
        self.seeded.clear();
        for (key, raw) in last.values {
            let raw: Arc<[u8]> = Arc::from(raw.into_bytes());
            match self.keys.get(&key) {
                None => {
                    self.seeded.insert(key, raw);
                }
                Some(entry) if entry.faulty => self.adopt_good(&key, raw),
                Some(_) => {}
            }
        }
        if let Some(held) = last.held {
            self.adopt_held(held, now);
        }
        self.rebuild(now)
    }

    fn adopt_good(&mut self, relative: &str, raw: Arc<[u8]>) {
        let Some(Routed { place, decoded_as: Some(key), .. }) = route(relative, &self.settings.region) else { return };
        if matches!(place, Place::Category(_, _, Some(CategoryField::Enabled))) {
            return;
        }
        let Ok(value) = values::decode(&key, &raw, &self.settings.region) else { return };
        if let Some(entry) = self.keys.get_mut(relative) {
            entry.good = Some(raw);
        }
        self.assign(&place, Some(value), 0);
    }

    fn adopt_held(&mut self, held: LastHeld, now: Now) {
        if held.until <= now.wall || self.settings.mass_removal_hold.is_zero() {
            return;
        }
        for (key, raw) in held.values {
            let Some(Routed { place, decoded_as, .. }) = route(&key, &self.settings.region) else { continue };
            let Place::Target(name, layer, field) = place else { continue };
            let here = self.targets.get(&name);
            let known = here.is_some_and(|slot| slot.keys > 0 || slot.doomed.iter().any(|d| d.key == key));
            if known || held.targets.binary_search(&name).is_err() {
                continue;
            }
            let raw: Arc<[u8]> = Arc::from(raw.into_bytes());
            let value = decoded_as.and_then(|key| values::decode(&key, &raw, &self.settings.region).ok());
            let slot = self.targets.entry(name.clone()).or_default();
            if let Some(field) = field {
                slot.assign(layer, field, value);
            }
            slot.doomed.push(Doomed { key, raw: Some(raw), layer, field });
            self.dirty.targets.insert(name);
        }
        let ghosts = |name: &TargetName| self.targets.get(name).is_some_and(|slot| slot.keys == 0);
        let targets: Vec<TargetName> = held.targets.into_iter().filter(ghosts).collect();
        if !targets.is_empty() {
            self.removals.adopt(targets, held.since, held.until, now);
            self.dirty.held = true;
        }
    }
}
