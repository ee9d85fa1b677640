//! Results of this node's own probes: health computed from them, what of it goes out to followers and to the store, and the
//! summary of the region. Who may probe is decided in `roles`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Change, Core, Effects, Entry, Place, Stamp, StatusValue, Write};
use crate::{
    bugs::{self, Bug},
    controller::transitions::Transition,
    evaluation::health,
    model::{Catalog, HealthState, Mono, NodeName, Now, Observation, TargetName, Timestamp, cluster::Summary},
    probe::{Observed, schedule},
    replication,
};

/// How often the leader says what its region is like.
const SUMMARY_EVERY: Duration = Duration::from_secs(5);
/// Words that were read by clocks which differ by more than this were on their way for different times, or the clock was set.
const APART: Duration = Duration::from_millis(500);

/// What a node keeps beside its entries while it probes.
#[derive(Debug, Default)]
pub(super) struct Leading {
    /// Entries that followers have not been told of, by index.
    touched: BTreeSet<usize>,
    summary: Option<Mono>,
    /// When the newest result came in.
    probed_at: Option<Timestamp>,
    /// Nodes that follow this one's stream.
    pub followers: usize,
    /// The lowest number that no target which was removed here has had.
    unused: u64,
}

impl Leading {
    /// The touched ones by name: indexes change with the catalog.
    pub fn touched_names(&mut self, entries: &[Entry]) -> Vec<TargetName> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|i| entries.get(i)).map(|e| e.target.name.clone()).collect()
    }

    pub fn touch_names(&mut self, names: &[TargetName], catalog: &Catalog) {
        self.touched.extend(names.iter().filter_map(|name| catalog.index_of(name.as_str())));
    }

    /// A target was removed.
    pub fn removed(&mut self, gone: &Entry) {
        self.unused = self.unused.max(gone.track.health().n.saturating_add(1));
    }
}

impl Core {
    /// Results of probes. Those that come in after another took over say nothing any more.
    pub fn observe(&mut self, batch: &[Observed]) -> Effects {
        let mut effects = Effects::default();
        if !self.roles.place.probes() {
            return effects;
        }
        let mut falling = Vec::new();
        let mut bad = None;
        for observed in batch {
            let Some(index) = self.index_of(observed) else { continue };
            let guarded = self.is_guarded();
            let Some(entry) = self.entries.get_mut(index) else { continue };
            // A result of a check that was replaced meanwhile says nothing about the new one.
            if !Arc::ptr_eq(&entry.target.check, &observed.check) && entry.target.check != observed.check {
                continue;
            }
            let observation = &observed.observation;
            entry.cell.store(Arc::clone(observation));
            entry.read = None;
            entry.own = matches!(self.roles.place, Place::Autonomous { .. });
            self.leading.touched.insert(index);
            self.leading.probed_at = self.leading.probed_at.max(Some(observation.at.wall));
            if !observation.outcome.is_good() {
                bad = bad.max(Some(observation.at.mono));
            }
            if guarded && entry.would_fall(observation) {
                entry.withheld = Some(Arc::clone(observation));
                falling.push(index);
            } else {
                entry.withheld = None;
                self.settle(index, observation, &mut effects);
            }
        }
        let guarded = self.is_guarded();
        let waits = bad.is_some_and(|now| guarded && self.look(now, &mut effects));
        if !waits {
            for index in falling {
                let withheld = self.entries.get_mut(index).and_then(|e| e.withheld.take());
                if let Some(observation) = withheld {
                    self.settle(index, &observation, &mut effects);
                }
            }
        }
        effects
    }

    /// By its place where that is still so: a search by name reads a dozen others, out of the main memory.
    fn index_of(&self, observed: &Observed) -> Option<usize> {
        let at_place = self.catalog.targets.get(observed.place).is_some_and(|t| t.name == observed.target);
        if at_place { Some(observed.place) } else { self.catalog.index_of(observed.target.as_str()) }
    }

    /// A target that comes while this node leads may be one of a name that was removed in the same term. Its number goes on above
    /// those of all that were removed: a follower that missed the removal would hold the old state for the later one.
    pub(super) fn renumber(&self, entry: &mut Entry) {
        if self.roles.place.streams() {
            entry.track.number_from(self.own_term(), self.leading.unused);
        }
    }

    /// Lets a result take effect.
    pub(super) fn settle(&mut self, index: usize, observation: &Observation, effects: &mut Effects) {
        let (term, node) = (self.own_term(), self.identity.node.clone());
        let Some(entry) = self.entries.get_mut(index) else { return };
        if let Some(change) = entry.track.observe(observation, &entry.params, term) {
            self.dirty = true;
            self.leading.touched.insert(index);
            note_transition(entry, &change, (node, term), effects, (&mut self.pending, &mut self.transitions));
        }
        let fast = entry.track.wants_fast(&entry.params);
        if fast != entry.fast {
            entry.fast = fast;
            effects.fast.push((entry.target.name.clone(), fast));
        }
    }

    /// Time passes: held removals, staleness, what is due. Cheap; called about once a second and when something is due.
    pub fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        if self.builder.tick(now) {
            self.catalog_changed(now, &mut effects);
        }
        self.following.tick();
        self.decide(now, &mut effects);
        self.tick_guard(now.mono, &mut effects);
        if self.roles.place.probes() {
            self.age(now, &mut effects);
        } else {
            self.age_followed(now, &mut effects);
        }
        if let Some(due) = self.evaluation.as_ref().and_then(|e| e.next_due)
            && due <= self.cluster_now(now).wall
        {
            self.dirty = true;
        }
        if matches!(self.roles.place, Place::Leader) {
            effects.writes.extend(self.summary(now));
        }
        effects
    }

    fn age(&mut self, now: Now, effects: &mut Effects) {
        let term = self.own_term();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if let Some(change) = entry.track.age(now, &entry.params, term) {
                self.dirty = true;
                self.leading.touched.insert(index);
                note_transition(
                    entry,
                    &change,
                    (self.identity.node.clone(), term),
                    effects,
                    (&mut self.pending, &mut self.transitions),
                );
            }
        }
    }

    /// This node probes from now on: each target goes on where it was, counters and times included.
    pub(super) fn begin_probing(&mut self, now: Mono, effects: &mut Effects) {
        // Whose own time is not known gets a phase of its own: the summary's one time would make all of them due at once.
        let anchor = self.following.anchor();
        for entry in &mut self.entries {
            entry.track.share(!entry.is_dated(anchor));
            entry.read = None;
        }
        let times = |e: &Entry| {
            let last = e.track.last_result()?;
            let last = if e.track.is_shared() { schedule::last_by_phase(&e.target, now) } else { last };
            Some((e.target.name.clone(), last))
        };
        effects.last = self.entries.iter().filter_map(times).collect();
        effects.targets = Some(self.catalog.targets.clone());
        for entry in &mut self.entries {
            if bugs::is(Bug::TakeoverForgets) {
                entry.track = health::Track::new(Now::default());
            }
            entry.fast = entry.track.wants_fast(&entry.params);
        }
        effects.fast.extend(self.entries.iter().filter(|e| e.fast).map(|e| (e.target.name.clone(), true)));
        self.leading.summary = None;
        self.leading.probed_at = self.followed_probed_at();
        self.following.probing();
    }

    /// Another probes from now on. What this node said in its own term stands until a later leader says something.
    pub(super) fn end_probing(&mut self, before: &Place, led: i64, effects: &mut Effects) {
        effects.targets = Some(Vec::new());
        effects.fast.clear();
        for entry in &mut self.entries {
            entry.fast = false;
            if before.streams() {
                entry.stamp = entry.stamp.max(Stamp::of(led, entry.track.health()));
            }
        }
        self.leading.touched.clear();
    }

    /// What earlier leaders of this history wrote while this node probed for itself, and so followed nobody: a later word than its
    /// own counts. What it found alone it keeps, as it keeps what it knew when the store was sent back; but no number falls.
    pub(super) fn adopt_written(&mut self, now: Now, effects: &mut Effects) {
        let (came, probed_at, term) = (self.cluster_now(now), self.followed_probed_at(), self.standing.term);
        for entry in &mut self.entries {
            let Some((written, _)) = self.statuses.get(&entry.target.name) else { continue };
            let health = entry.track.health();
            let (known, told) = ((health.term, health.n), (written.term, written.n));
            if told > known && health.term > 0 && !entry.own {
                let stamp = Stamp { said: term, term: written.term, n: written.n };
                entry.follow_status(stamp, written, probed_at, came, effects);
                self.dirty = true;
            } else if told != known {
                entry.track.number_from(term, written.n.saturating_add(1));
            }
        }
    }

    /// What a new leader writes at once: every state that the store does not have, its own latches (after the next
    /// evaluation, which may find them cleared), the last good values. What is written of targets that are gone, goes.
    pub(super) fn on_leading(&mut self) {
        self.latches_to_write = true;
        // What waits was decided before, and all of it comes anew here.
        self.pending.clear();
        for entry in &mut self.entries {
            entry.own = false;
            let (name, health) = (&entry.target.name, entry.track.health());
            let written = self.statuses.get(name).map(|(status, _)| status);
            let unseen = written.is_some_and(|w| (w.term, w.n) == (health.term, health.n))
                && health.state == HealthState::Unknown;
            let status = StatusValue::of(health);
            // A state that was read and not yet seen again is no news.
            if health.n > 0 && !unseen && written != Some(&status) {
                self.pending.push(Write::Status(name.clone(), status));
            }
        }
        let gone = self.statuses.keys().filter(|name| self.catalog.index_of(name.as_str()).is_none());
        self.pending.extend(gone.cloned().map(Write::DropStatus));
        self.pending.push(Write::LastGood(self.last_good.clone()));
    }

    /// Whether followers have something to hear.
    #[must_use]
    pub fn has_delta(&self) -> bool {
        self.roles.place.streams() && !self.leading.touched.is_empty()
    }

    /// The targets touched since the last call.
    pub fn take_delta(&mut self, now: Now) -> Vec<replication::Entry> {
        let touched = std::mem::take(&mut self.leading.touched);
        touched.into_iter().filter_map(|index| self.entries.get(index)).map(|e| frame_entry(e, now)).collect()
    }

    /// Forgets what was touched since the last call of `take_delta`: nobody listens. Whether anything was.
    pub fn drop_delta(&mut self) -> bool {
        !std::mem::take(&mut self.leading.touched).is_empty()
    }

    /// Every target, for a follower that begins.
    #[must_use]
    pub fn full(&self, now: Now) -> Vec<replication::Entry> {
        self.entries.iter().map(|e| frame_entry(e, now)).collect()
    }

    /// These targets as they are now.
    #[must_use]
    pub fn entries_of(&self, targets: &[TargetName], now: Now) -> Vec<replication::Entry> {
        let entry = |name: &TargetName| self.entries.get(self.catalog.index_of(name.as_str())?);
        targets.iter().filter_map(entry).map(|e| frame_entry(e, now)).collect()
    }

    /// How many nodes follow this one's stream.
    pub fn set_followers(&mut self, followers: usize) {
        self.dirty |= std::mem::replace(&mut self.leading.followers, followers) != followers;
    }

    /// Up to when Graphite has every point: as this node sent them, or as a leader before it told.
    #[must_use]
    pub fn graphite_mark(&self) -> Option<Timestamp> {
        let told = self.regions.summary(&self.identity.region).and_then(|s| s.graphite_mark);
        told.max(*self.marks.sent.load()).max(*self.marks.heard.load())
    }

    /// The region as its leader sees it, when it is time to say so again.
    fn summary(&mut self, now: Now) -> Option<Write> {
        let due = self.leading.summary.is_none_or(|last| now.mono.since(last) >= SUMMARY_EVERY);
        let evaluation = self.evaluation.as_ref().filter(|_| due)?;
        let enabled = self.catalog.regions.get(&self.identity.region).is_none_or(|r| r.enabled);
        let good = evaluation.categories.get("default").is_some_and(|c| c.ok);
        let count = |state| {
            u32::try_from(self.entries.iter().filter(|e| e.track.health().state == state).count()).unwrap_or(u32::MAX)
        };
        let summary = Summary {
            v: 1,
            node: self.identity.node.clone(),
            term: self.standing.term,
            now: now.wall,
            probed_at: self.leading.probed_at,
            viable: enabled && good,
            up: count(HealthState::Up),
            down: count(HealthState::Down),
            unknown: count(HealthState::Unknown),
            graphite_mark: self.graphite_mark(),
        };
        self.leading.summary = Some(now.mono);
        Some(Write::Summary(summary))
    }
}

impl Entry {
    /// Whether the time of its last result may count, seen from what is known of the cluster's time now. After a pause of this node, or
    /// of the network, many frames come at once: each tells of its own moment, and all results would seem to be of this one.
    fn is_dated(&self, anchor: Option<Now>) -> bool {
        let (Some(read), Some(anchor)) = (self.read, anchor) else { return !self.track.is_shared() };
        let expected = read.wall.plus(anchor.mono.since(read.mono)).minus(read.mono.since(anchor.mono));
        let apart = expected.since(anchor.wall).max(anchor.wall.since(expected));
        apart <= APART && !self.track.is_shared()
    }
}

fn frame_entry(entry: &Entry, now: Now) -> replication::Entry {
    replication::Entry {
        target: entry.target.name.clone(),
        health: entry.track.health().clone(),
        counters: entry.track.counters(now),
        observation: entry.cell.load(),
    }
}

fn note_transition(
    entry: &Entry,
    change: &health::Change,
    (node, term): (NodeName, i64),
    effects: &mut Effects,
    (writes, told): (&mut Vec<Write>, &mut Vec<Transition>),
) {
    if !change.is_transition() {
        return;
    }
    effects.changes.push(Change::Target {
        target: entry.target.name.clone(),
        from: change.from,
        to: change.to,
        reason: Arc::clone(&change.reason),
    });
    told.push(Transition {
        number: 0,
        term,
        node,
        target: entry.target.name.clone(),
        from: change.from,
        to: change.to,
        at: change.at,
        reason: Arc::clone(&change.reason),
        n: change.n,
    });
    writes.push(Write::Status(entry.target.name.clone(), StatusValue::of(entry.track.health())));
}
