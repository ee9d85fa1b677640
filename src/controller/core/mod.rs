//! The controller's state and its steps as functions of values: facts go in, effects come out. No I/O, no clock.
//! The loop around it (`controller::run`) gathers the facts and carries out the effects. Here: keys and the catalog. What the
//! node is, is in `roles`; results of its own in `leading`, another's in `following`; verdicts and the view in `evaluate`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use self::{
    following::MAX_ASIDE,
    guard::{Question, Witness},
    roles::Serving,
};
pub use super::effects::{Change, Effects, Identity, Standing, Write};
use super::{
    standing::{Place, Whom},
    status::StatusValue,
    transitions::Transition,
};
use crate::{
    config::{CatalogBuilder, LastGood, RawEvent},
    evaluation::{
        health::{Params, Track},
        isolation::Guard,
    },
    model::{
        Catalog, CategoryName, Cell, Evaluation, Fault, Health, Latch, NodeName, Now, Observation, Target, TargetName,
        key,
    },
    publish::Marks,
    store::{Event, keys::NodeKey},
};

mod evaluate;
mod following;
mod guard;
mod kept;
mod latching;
mod leading;
mod regions;
mod roles;

/// What of the cluster a target's state stands on: the term of the leader that said it, then (term, n) of the transition. The
/// higher one counts, so that a late value of the store turns nobody back (design section 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    /// The term of who said it; 0 where that is not known.
    said: i64,
    term: i64,
    n: u64,
}

impl Stamp {
    const fn of(said: i64, health: &Health) -> Self {
        Self { said, term: health.term, n: health.n }
    }
}

struct Entry {
    target: Arc<Target>,
    params: Params,
    track: Track,
    cell: Arc<Cell>,
    fast: bool,
    stamp: Stamp,
    /// The cluster's time at the moment when another's word for its last result was read; none where the node saw that itself.
    read: Option<Now>,
    /// This node found it by itself while it was autonomous: it gives way to whatever the leader says.
    own: bool,
    /// The number of its state in the history before this one; none once somebody in this history has said more of it.
    survived: Option<(i64, u64)>,
    /// A bad result that would turn it down, kept back by the guard.
    withheld: Option<Arc<Observation>>,
}

/// Sources of faults that say that a part of the store cannot be used: the node is degraded while there are any.
pub const STORE_SOURCES: [&str; 4] = ["store", "feed", "session", "leader writes"];

/// The controller's state.
pub struct Core {
    identity: Identity,
    /// Where other nodes reach this one.
    url: String,
    /// How far Graphite is.
    marks: Marks,
    builder: CatalogBuilder,
    /// Faults from elsewhere (catalog file, TLS reload), by source.
    other_faults: BTreeMap<&'static str, Vec<Fault>>,
    catalog: Arc<Catalog>,
    entries: Vec<Entry>,
    /// Of the targets in force.
    longest_interval: Duration,
    synced: bool,
    standing: Standing,
    roles: roles::Roles,
    following: following::Following,
    leading: leading::Leading,
    regions: regions::RegionKeys,
    guard: Guard,
    store_latches: BTreeMap<CategoryName, Latch>,
    own_latches: BTreeMap<CategoryName, Latch>,
    /// Last written transitions, with the revision of each.
    statuses: BTreeMap<TargetName, (StatusValue, i64)>,
    evaluation: Option<Arc<Evaluation>>,
    last_good: LastGood,
    /// The first evaluation of a new leader judges sticky categories afresh.
    fresh_leader: bool,
    /// Own latches are not in the store yet: it has just begun to lead.
    latches_to_write: bool,
    /// Writes that wait for the evaluation, so that a latch goes out together with the transition that caused it.
    pending: Vec<Write>,
    /// As `pending`: they go out in the transaction that writes the states.
    transitions: Vec<Transition>,
    /// The store's history is another one, and its keys have not come yet.
    was_reset: bool,
    /// The store's generation that its keys were listed in.
    keys_of: u64,
    dirty: bool,
}

impl Core {
    /// A node that knows nothing yet.
    #[must_use]
    pub fn new(identity: Identity, builder: CatalogBuilder, own_latches: BTreeMap<CategoryName, Latch>) -> Self {
        let catalog = Arc::new(Catalog::empty(identity.region.clone()));
        let roles = roles::Roles::new(identity.started);
        Self {
            identity,
            url: String::new(),
            marks: Marks::default(),
            builder,
            other_faults: BTreeMap::new(),
            catalog,
            entries: Vec::new(),
            longest_interval: Duration::ZERO,
            synced: false,
            standing: Standing::default(),
            roles,
            following: following::Following::default(),
            leading: leading::Leading::default(),
            regions: regions::RegionKeys::default(),
            guard: Guard::default(),
            store_latches: BTreeMap::new(),
            own_latches,
            statuses: BTreeMap::new(),
            evaluation: None,
            last_good: LastGood::default(),
            fresh_leader: true,
            latches_to_write: false,
            pending: Vec::new(),
            transitions: Vec::new(),
            was_reset: false,
            keys_of: 1,
            dirty: true,
        }
    }

    /// Where other nodes reach this one.
    #[must_use]
    pub fn reached_at(self, url: String) -> Self {
        Self { url, ..self }
    }

    /// How far Graphite is, shared with its sender.
    #[must_use]
    pub fn marked_by(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// Whether something changed that the view does not show yet.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether it has a catalog: the store's, or one that was kept on disk.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Latches that this node holds by itself, for its disk.
    #[must_use]
    pub const fn own_latches(&self) -> &BTreeMap<CategoryName, Latch> {
        &self.own_latches
    }

    /// This node's name.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.identity.node
    }

    /// The catalog in force.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// In which generation of the store (`store::Generation`) the keys that come next were listed.
    pub const fn keys_are_of(&mut self, generation: u64) {
        self.keys_of = generation;
    }

    /// The store went back in time: what it said before is nothing now, and all of it comes again with the next `apply`.
    pub fn store_was_reset(&mut self) {
        self.statuses.clear();
        self.store_latches.clear();
        self.regions.clear();
        self.was_reset = true;
        self.dirty = true;
    }

    /// Changes of the store's keys. `synced` marks a whole listing.
    pub fn apply(&mut self, revision: i64, events: &[Event], synced: bool, now: Now) -> Effects {
        let mut effects = Effects::default();
        let status_catalog = NodeKey::CatalogStatus(self.identity.region.clone()).to_string();
        if synced
            && !self.synced
            && let Some(seed) = events.iter().find_map(|e| match e {
                Event::Put(pair) if pair.key == status_catalog => serde_json::from_slice(&pair.value).ok(),
                _ => None,
            })
        {
            self.last_good = seed;
            self.builder.seed(self.last_good.clone(), now);
        }
        for event in events {
            if let Some(key) = NodeKey::parse(event.key()) {
                self.apply_node_key(key, event, now, &mut effects);
            }
        }
        let raw: Vec<RawEvent<'_>> = events
            .iter()
            .filter(|e| !matches!(key::parse(e.key()), key::Parsed::Foreign))
            .map(|e| match e {
                Event::Put(p) => RawEvent { key: &p.key, value: Some(&p.value), mod_revision: p.mod_revision },
                Event::Delete { key, revision } => RawEvent { key, value: None, mod_revision: *revision },
            })
            .collect();
        let changed = self.builder.apply(revision, raw, now);
        if changed || (synced && !self.synced) {
            self.catalog_changed(now, &mut effects);
        }
        if synced && !self.synced {
            self.synced = true;
            self.dirty = true;
        }
        let led = NodeKey::Leader(self.identity.region.clone()).to_string();
        if events.iter().any(|e| e.key() == led) {
            // What comes with it is that leader's word: it is shown as such from the first moment.
            self.decide(now, &mut effects);
        }
        // Who was elected before it had read the restored store compared its states with those of the other history.
        if synced && std::mem::take(&mut self.was_reset) && matches!(self.roles.place, Place::Leader) {
            self.adopt_written(now, &mut effects);
            self.on_leading();
            self.dirty = true;
        }
        effects
    }

    fn apply_node_key(&mut self, key: NodeKey, event: &Event, now: Now, effects: &mut Effects) {
        self.dirty |= self.regions.apply(&key, event, now.wall);
        match key {
            NodeKey::Latch(region, category) if region == self.identity.region => {
                self.apply_latch(category, event, effects);
            }
            NodeKey::TargetStatus(region, target) if region == self.identity.region => {
                self.apply_status(target, event, now, effects);
            }
            NodeKey::Summary(region) if region == self.identity.region => self.apply_summary(now),
            NodeKey::Node(region, node) if region == self.identity.region => self.node_seen(&node),
            _ => {}
        }
    }

    /// Faults that something other than the store found, replacing that source's earlier ones.
    pub fn set_faults(&mut self, source: &'static str, faults: Vec<Fault>, now: Now) -> Effects {
        let mut effects = Effects::default();
        self.other_faults.insert(source, faults);
        self.catalog_changed(now, &mut effects);
        if STORE_SOURCES.contains(&source) {
            // They are no values, and who found them has logged them in its own words.
            effects.changes.retain(|c| !matches!(c, Change::FaultAppeared(_) | Change::FaultGone(_)));
        }
        effects
    }

    fn store_troubled(&self) -> bool {
        STORE_SOURCES.iter().any(|source| self.other_faults.get(source).is_some_and(|faults| !faults.is_empty()))
    }

    /// When `tick` has something to do next, besides its steady beat.
    #[must_use]
    pub fn next_due(&self, now: Now) -> Option<Duration> {
        let builder = self.builder.next_due().map(|due| due.since(now.mono));
        let wall = self.cluster_now(now).wall;
        let evaluation = self.evaluation.as_ref().and_then(|e| e.next_due).map(|due| due.since(wall));
        let guard = self.guard.next_due().map(|due| due.since(now.mono));
        [builder, evaluation, guard].into_iter().flatten().min()
    }

    fn catalog_changed(&mut self, now: Now, effects: &mut Effects) {
        self.dirty = true;
        let built = self.builder.catalog();
        let extra: Vec<Fault> = self.other_faults.values().flatten().cloned().collect();
        let catalog = if extra.is_empty() {
            built
        } else {
            let mut faults: Vec<Fault> = built.faults.iter().cloned().chain(extra).collect();
            faults.sort_by(|a, b| a.key.cmp(&b.key));
            Arc::new(Catalog { faults: Arc::from(faults), ..(*built).clone() })
        };
        note_faults(&self.catalog.faults, &catalog.faults, effects);
        self.regions.catalog_changed();
        self.realign(&catalog, now, effects);
        self.catalog = catalog;
        let last_good = self.builder.last_good();
        if last_good != self.last_good {
            self.last_good = last_good;
            self.pending.push(Write::LastGood(self.last_good.clone()));
        }
    }

    /// Carries every unchanged target's health, counters, cell and speed over to the new catalog.
    fn realign(&mut self, catalog: &Arc<Catalog>, now: Now, effects: &mut Effects) {
        let same = self.entries.len() == catalog.targets.len()
            && self.entries.iter().zip(&catalog.targets).all(|(e, t)| Arc::ptr_eq(&e.target, t));
        if same {
            return;
        }
        let touched = self.leading.touched_names(&self.entries);
        let mut old = std::mem::take(&mut self.entries).into_iter().peekable();
        let mut entries = Vec::with_capacity(catalog.targets.len());
        for target in &catalog.targets {
            while let Some(gone) = old.next_if(|e| e.target.name < target.name) {
                self.leading.removed(&gone);
                self.pending.push(Write::DropStatus(gone.target.name.clone()));
            }
            entries.push(match old.next_if(|e| e.target.name == target.name) {
                Some(entry) if Arc::ptr_eq(&entry.target, target) => entry,
                Some(entry) => Entry { target: Arc::clone(target), params: Params::of(target), ..entry },
                None => {
                    let mut entry = self.known(target, now);
                    self.renumber(&mut entry);
                    // The status that it is known by may be one whose deletion is under way, and no transition writes it again.
                    if matches!(self.roles.place, Place::Leader) && self.statuses.contains_key(&target.name) {
                        self.pending.push(Write::Status(target.name.clone(), StatusValue::of(entry.track.health())));
                    }
                    entry
                }
            });
        }
        for gone in old {
            self.leading.removed(&gone);
            self.pending.push(Write::DropStatus(gone.target.name.clone()));
        }
        self.entries = entries;
        self.longest_interval = self.entries.iter().map(|e| e.params.interval).max().unwrap_or_default();
        self.leading.touch_names(&touched, catalog);
        if self.roles.place.probes() {
            effects.targets = Some(catalog.targets.clone());
            // The engine forgets speeds of targets that it did not know.
            effects.fast.extend(self.entries.iter().filter(|e| e.fast).map(|e| (e.target.name.clone(), true)));
        }
    }
}

fn note_faults(old: &[Fault], new: &[Fault], effects: &mut Effects) {
    let key = |f: &Fault| (f.key.clone(), f.reason.clone());
    let before: BTreeSet<_> = old.iter().map(key).collect();
    let after: BTreeSet<_> = new.iter().map(key).collect();
    effects.changes.extend(new.iter().filter(|f| !before.contains(&key(f))).cloned().map(Change::FaultAppeared));
    effects.changes.extend(
        before.difference(&after).map(|(k, _)| k.clone()).collect::<BTreeSet<_>>().into_iter().map(Change::FaultGone),
    );
}

#[cfg(test)]
mod tests;
