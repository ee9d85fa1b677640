//! Keeps on disk what a start without the store needs (design section 4.5), and hands it out at such a start. What is in the
//! files is `kept`'s; what is made of it, `core`'s.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    core::Core,
    kept::{KeptCatalog, KeptPair, KeptState, catalog_file, state_file},
    saver::Saver,
};
use crate::{
    disk::Disk,
    model::{Mono, NodeName, Now, key},
    store::{Event, Pair, keys::NodeKey},
};

/// A change of catalog or states is saved this long after it.
const SOON: Duration = Duration::from_secs(1);
/// Times and counters are saved this often.
const STEADY: Duration = Duration::from_secs(10);
/// How long the store is given before what was kept is used.
pub const PATIENCE: Duration = Duration::from_millis(700);
/// Longest wait for the disk at the end.
const LAST: Duration = Duration::from_secs(1);

/// What is kept of one node.
pub struct Keeper {
    saver: Saver,
    node: NodeName,
    /// Operators' keys as the store, or the disk, has them.
    pairs: BTreeMap<String, (Bytes, i64)>,
    /// Keys of nodes that were taken from disk, until the store has told its own.
    lent: Vec<String>,
    catalog_due: Option<Mono>,
    state_due: Option<Mono>,
    state_saved: Mono,
    revision: i64,
}

impl Keeper {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(saver: Saver, node: NodeName) -> Self {
        Self {
            saver,
            node,
            pairs: BTreeMap::new(),
            lent: Vec::new(),
            catalog_due: None,
            state_due: None,
            state_saved: Mono::default(),
            revision: 0,
        }
    }

    /// What was kept, as the store would tell it, and the states; none without a kept catalog.
    pub(super) fn load(&mut self, now: Now) -> Option<(KeptCatalog, KeptState, Vec<Event>)> {
        let disk: &dyn Disk = self.saver.disk().as_ref();
        let catalog = KeptCatalog::load(disk, &self.node)?;
        let state = KeptState::load(disk, &self.node, now).unwrap_or_default();
        self.revision = catalog.revision;
        self.pairs =
            catalog.pairs.iter().map(|p| (p.key.clone(), (Bytes::from(p.value.clone()), p.mod_revision))).collect();
        let events = self.pairs.iter().map(|(key, (value, revision))| put(key.clone(), value.clone(), *revision));
        Some((catalog, state, events.collect()))
    }

    /// Keys beside the operators' that were taken from disk.
    pub(super) fn lend(&mut self, keys: Vec<String>) {
        self.lent = keys;
    }

    /// The store's first listing, with deletes of what was taken from disk and is there no more.
    pub(super) fn reconcile(&mut self, mut events: Vec<Event>, revision: i64) -> Vec<Event> {
        let lent = std::mem::take(&mut self.lent);
        let told: std::collections::BTreeSet<&str> = events.iter().map(Event::key).collect();
        let gone: Vec<String> =
            self.pairs.keys().chain(&lent).filter(|key| !told.contains(key.as_str())).cloned().collect();
        events.extend(gone.into_iter().map(|key| Event::Delete { key, revision }));
        events
    }

    /// Keys have changed.
    pub(super) fn told(&mut self, events: &[Event], revision: i64, now: Mono) {
        self.revision = revision;
        let mut changed = false;
        for event in events {
            if matches!(key::parse(event.key()), key::Parsed::Foreign) {
                // Of the nodes' keys these are kept too.
                changed |= matches!(
                    NodeKey::parse(event.key()),
                    Some(NodeKey::Node(..) | NodeKey::Latch(..) | NodeKey::CatalogStatus(_) | NodeKey::Leader(_))
                );
                continue;
            }
            changed = true;
            match event {
                Event::Put(pair) => drop(self.pairs.insert(pair.key.clone(), (pair.value.clone(), pair.mod_revision))),
                Event::Delete { key, .. } => drop(self.pairs.remove(key)),
            }
        }
        if changed {
            self.catalog_due.get_or_insert(now.plus(SOON));
        }
    }

    /// A state has changed.
    pub(super) fn state_changed(&mut self, now: Mono) {
        self.state_due.get_or_insert(now.plus(SOON));
    }

    /// Saves what is due.
    pub(super) fn save_due(&mut self, core: &Core, now: Now) {
        if !core.is_synced() {
            return;
        }
        if self.catalog_due.is_some_and(|due| due <= now.mono) {
            self.save_catalog(core);
        }
        let steady = now.mono.since(self.state_saved) >= STEADY;
        if steady || self.state_due.is_some_and(|due| due <= now.mono) {
            self.save_state(core, now);
        }
    }

    fn save_catalog(&mut self, core: &Core) {
        self.catalog_due = None;
        let mut kept = core.kept();
        kept.revision = self.revision;
        let pairs = self.pairs.clone();
        self.saver.save(&catalog_file(&self.node), move || {
            let pair = |(key, (value, mod_revision)): (String, (Bytes, i64))| KeptPair {
                key,
                value: value.to_vec(),
                mod_revision,
            };
            kept.pairs = pairs.into_iter().map(pair).collect();
            kept.encode()
        });
    }

    fn save_state(&mut self, core: &Core, now: Now) {
        (self.state_due, self.state_saved) = (None, now.mono);
        let kept = KeptState { saved: now.wall, entries: core.full(now) };
        self.saver.save(&state_file(&self.node), move || kept.encode());
    }

    /// The last words, at the end.
    pub(super) async fn end(&mut self, core: &Core, now: Now) {
        if core.is_synced() {
            self.save_catalog(core);
            self.save_state(core, now);
        }
        if tokio::time::timeout(LAST, self.saver.flush()).await.is_err() {
            tracing::warn!("the disk did not take the last state in time");
        }
    }
}

pub(super) fn put(key: String, value: Bytes, revision: i64) -> Event {
    Event::Put(Pair { key, value, create_revision: revision, mod_revision: revision, lease: None })
}
