//! When each target is probed next: pure, time comes in as a `Mono`.
//!
//! First checks are spread over min(interval, 10 s) by a hash of the name that is the same in every process; then
//! each target keeps its phase, and slots that were missed are skipped. Phases are multiples of 50 ms and starts are
//! gathered into ticks of 10 ms, which is what makes a probe cheap (reference: the cost of a probe). A target that
//! another node probed before keeps that one's phase; what is overdue then, or was held up for `LATE`, is started by
//! `catchup`, at its next slot at the latest. Limits on concurrency, the probing itself and the meaning of results are left to others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{catchup::Catchup, ticks::Ticks};
use crate::model::{Mono, Target, TargetName, target::Kind};

/// Starts within one tick happen together.
pub const TICK: Duration = Duration::from_millis(10);
/// Phases of targets with an interval of at least `GATHERED` are multiples of this: a thread that wakes up with cold caches
/// pays about as much for that as for a probe, so those it starts come together.
const PHASE: Duration = Duration::from_millis(50);
const GATHERED: Duration = Duration::from_secs(1);
/// A start that is later than this was held up, and others with it: they go on at the pace of those that are overdue.
pub const LATE: Duration = Duration::from_millis(250);
/// First checks are spread over at most this.
pub const FIRST_SPREAD: Duration = Duration::from_secs(10);

/// One target in the schedule; a removed target's id never comes to mean another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    index: usize,
    generation: u64,
}

impl Id {
    /// Its index; indexes stay small and are used again.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// A target whose time has come.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its place in the schedule.
    pub id: Id,
    /// When it should have started, before gathering.
    pub due: Mono,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    target: Arc<Target>,
    /// Its place in the list of targets that was given last.
    place: usize,
    /// Some slot of its phase.
    anchor: Mono,
    /// Next start; counts only while it is not running.
    due: Mono,
    /// Which of its places in the queue is the true one.
    stamp: u64,
    fast: bool,
    running: bool,
    /// The check changed while it ran: start again at once.
    again: bool,
    refreshed: bool,
    /// Its missed slot was passed over since the last start: not again.
    skipped: bool,
    /// It waits among the overdue for its start: not again.
    overdue: bool,
    last_due: Option<Mono>,
    last_start: Option<Mono>,
}

impl Entry {
    /// Time between starts in force now.
    fn fast_interval(&self) -> Duration {
        self.target.check.fast_interval.min(self.target.interval).max(TICK)
    }

    fn interval(&self) -> Duration {
        self.target.interval.max(TICK)
    }

    /// The earliest instant that keeps the promise "never faster than min(interval, fast interval)".
    fn earliest(&self, now: Mono) -> Mono {
        let gap = self.fast_interval();
        let by_slot = self.last_due.map_or(now, |t| t.plus(gap));
        // After a late start the slots keep the phase, but at least half of the gap is left in between.
        let by_start = self.last_start.map_or(now, |t| t.plus(gap / 2));
        now.max(by_slot).max(by_start)
    }

    /// The first slot of its phase that is not before `from`.
    fn slot(&self, from: Mono) -> Mono {
        if from <= self.anchor {
            // Slots before the anchor are of the same phase.
            let before = rem(self.anchor.since(from), self.interval());
            return from.plus(before);
        }
        let past = rem(from.since(self.anchor), self.interval());
        if past.is_zero() { from } else { from.plus(self.interval() - past) }
    }

    /// Its start at `now`, due at `due`.
    fn begin(&mut self, index: usize, due: Mono, now: Mono) -> Due {
        self.running = true;
        self.skipped = false;
        self.overdue = false;
        self.again = false;
        self.last_due = Some(due);
        self.last_start = Some(now);
        Due { id: Id { index, generation: self.generation }, due }
    }

    /// A whole interval late (the machine was suspended): the slots after it are waited for, lest all targets start at
    /// once. Once only, and not where a start is urgent.
    fn is_missed(&self, now: Mono) -> bool {
        !self.skipped && !self.refreshed && !self.fast && now.since(self.due) >= self.interval()
    }

    /// It should have started while nothing ran here (the process was stopped, or starved), and nothing makes it urgent.
    fn is_late(&self, now: Mono) -> bool {
        !self.refreshed && !self.fast && now.since(self.due) >= LATE
    }

    /// The next start, seen from `now`.
    fn next(&self, now: Mono) -> Mono {
        let earliest = self.earliest(now);
        if self.fast {
            let Some(last) = self.last_due else { return self.due.min(earliest) };
            let step = self.fast_interval();
            let past = rem(earliest.since(last), step);
            if past.is_zero() { earliest } else { earliest.plus(step - past) }
        } else {
            self.slot(earliest)
        }
    }
}

fn rem(a: Duration, b: Duration) -> Duration {
    // Five centuries fit; a division of 128 bits costs many times one of 64.
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos(a).checked_rem(nanos(b)).unwrap_or(0))
}

/// A place in the queue.
#[derive(Clone, Copy, Debug)]
struct Place {
    due: Mono,
    index: usize,
    stamp: u64,
}

/// All targets with the time of their next start.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    by_name: BTreeMap<TargetName, usize>,
    queue: Ticks<Place>,
    counter: u64,
    catchup: Catchup,
}

impl Schedule {
    /// An empty schedule.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of scheduled targets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nothing is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Replaces the whole set. Unchanged targets keep their schedule, new ones are spread, a changed check is due at
    /// once, a changed interval starts a new phase (never later than what was planned). Heartbeat targets are left out.
    /// `last` says when another node last probed targets that are new here: each is due one interval after it.
    pub fn set_targets(&mut self, targets: &[Arc<Target>], last: &BTreeMap<TargetName, Mono>, now: Mono) {
        let mut gone = std::mem::take(&mut self.by_name);
        for (place, target) in targets.iter().enumerate() {
            if target.check.kind == Kind::Heartbeat || self.by_name.contains_key(&target.name) {
                continue;
            }
            match gone.remove(&target.name) {
                Some(index) => {
                    self.by_name.insert(target.name.clone(), index);
                    self.replace(index, target, now);
                    if let Some(Some(entry)) = self.entries.get_mut(index) {
                        entry.place = place;
                    }
                }
                None => self.insert(place, target, last.get(&target.name).copied(), now),
            }
        }
        for index in gone.into_values() {
            if let Some(slot) = self.entries.get_mut(index) {
                *slot = None;
                self.free.push(index);
            }
        }
        self.tidy();
        let entries = &self.entries;
        self.catchup.set_intervals(entries.iter().flatten().map(Entry::interval));
        self.catchup.retain(|index, stamp| is_true(entries, index, stamp));
    }

    fn insert(&mut self, place: usize, target: &Arc<Target>, last: Option<Mono>, now: Mono) {
        // A time to come is no time of a probe.
        let last = last.map(|t| t.min(now));
        let first = last.map_or_else(|| now.plus(spread(target)), |t| t.plus(target.interval.max(TICK)));
        let first = phase(target, first);
        self.counter += 1;
        let mut entry = Entry {
            generation: self.counter,
            target: Arc::clone(target),
            place,
            anchor: first,
            due: first,
            stamp: 0,
            fast: false,
            running: false,
            again: false,
            refreshed: false,
            skipped: false,
            overdue: false,
            last_due: last,
            last_start: None,
        };
        // What is overdue waits for its next slot at the longest.
        let overdue = last.is_some() && first < now;
        let due = if overdue { entry.slot(now) } else { first };
        entry.due = due;
        let index = self.free.pop().unwrap_or(self.entries.len());
        if let Some(slot) = self.entries.get_mut(index) {
            *slot = Some(entry);
        } else {
            self.entries.push(Some(entry));
        }
        self.by_name.insert(target.name.clone(), index);
        self.plan(index, due);
        if overdue {
            self.catchup.push(first, index, self.counter, now);
        }
    }

    fn replace(&mut self, index: usize, target: &Arc<Target>, now: Mono) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        let old = std::mem::replace(&mut entry.target, Arc::clone(target));
        let changed = !Arc::ptr_eq(&old.check, &target.check) && old.check != target.check;
        let mut due = entry.due;
        if old.interval != target.interval {
            entry.anchor = phase(target, now.plus(spread(target)).max(entry.earliest(now)));
            if !entry.running {
                // Never later than planned: an interval that is edited again and again must not starve the target.
                entry.anchor = entry.anchor.min(entry.due);
            }
            due = due.min(entry.next(now)).min(entry.anchor);
        }
        if changed {
            entry.again = entry.running;
            due = now;
        }
        if !entry.running && due != entry.due {
            self.plan(index, due);
        }
    }

    /// Says whether a target is probed at its fast interval.
    pub fn set_fast(&mut self, name: &str, fast: bool, now: Mono) {
        let Some((index, entry)) = self.find(name) else { return };
        if entry.fast == fast {
            return;
        }
        entry.fast = fast;
        if entry.running {
            return;
        }
        let due = match (fast, entry.last_due) {
            // Something already due, by a refresh or a changed check, stays due.
            _ if entry.due <= now => entry.due,
            (true, None) => entry.due.min(now.plus(entry.fast_interval())),
            (true, Some(_)) => entry.due.min(entry.next(now)),
            (false, None) => entry.due,
            (false, Some(_)) => entry.next(now),
        };
        self.plan(index, due);
    }

    /// Makes a target due at once. A run already under way answers the refresh. False: no such target.
    pub fn refresh(&mut self, name: &str, now: Mono) -> bool {
        let Some((index, entry)) = self.find(name) else { return false };
        entry.refreshed = true;
        if !entry.running && entry.due > now {
            self.plan(index, now);
        }
        true
    }

    /// Moves every target whose tick has come into `out`; each counts as running until `finished`.
    pub fn due(&mut self, now: Mono, out: &mut Vec<Due>) {
        while let Some(Place { due, index, stamp }) = self.queue.pop(now) {
            let Some(Some(entry)) = self.entries.get_mut(index) else { continue };
            if entry.stamp != stamp || entry.running {
                continue;
            }
            if entry.is_missed(now) {
                entry.skipped = true;
                let slot = entry.slot(now);
                self.plan(index, slot);
                continue;
            }
            if entry.is_late(now) && !entry.overdue {
                entry.overdue = true;
                let slot = entry.slot(now);
                self.plan(index, slot);
                self.catchup.push(due, index, self.counter, now);
                continue;
            }
            self.catchup.spend();
            out.push(entry.begin(index, due, now));
        }
        loop {
            let entries = &mut self.entries;
            let Some((index, _)) = self.catchup.pop(now, |index, stamp| is_true(entries, index, stamp)) else { return };
            if let Some(Some(entry)) = entries.get_mut(index) {
                out.push(entry.begin(index, now, now));
            }
        }
    }

    /// The target behind an id. `None`: removed meanwhile.
    #[must_use]
    pub fn target(&self, id: Id) -> Option<&Arc<Target>> {
        self.entries.get(id.index)?.as_ref().filter(|e| e.generation == id.generation).map(|e| &e.target)
    }

    /// The target behind an id, at its actual start (which limits may have put off). `None`: removed meanwhile.
    pub fn started(&mut self, id: Id, now: Mono) -> Option<Arc<Target>> {
        let entry = self.entry(id)?;
        entry.last_start = Some(now);
        entry.again = false;
        Some(Arc::clone(&entry.target))
    }

    /// Where the target behind an id stood in the list that was given last.
    #[must_use]
    pub fn place(&self, id: Id) -> Option<usize> {
        let entry = self.entries.get(id.index).and_then(Option::as_ref);
        entry.filter(|e| e.generation == id.generation).map(|e| e.place)
    }

    /// Whether a target is probed at its fast interval: a change of its state is under way.
    #[must_use]
    pub fn is_fast(&self, id: Id) -> bool {
        let entry = self.entries.get(id.index).and_then(Option::as_ref);
        entry.is_some_and(|e| e.generation == id.generation && e.fast)
    }

    /// Ends a run and plans the next one; says whether it answered a refresh. `None`: removed meanwhile.
    pub fn finished(&mut self, id: Id, now: Mono) -> Option<bool> {
        let entry = self.entry(id)?;
        entry.running = false;
        let due = if entry.again { now } else { entry.next(now) };
        entry.again = false;
        let refreshed = std::mem::take(&mut entry.refreshed);
        self.plan(id.index, due);
        Some(refreshed)
    }

    /// When `due` will next have something.
    #[must_use]
    pub fn next_wake(&mut self) -> Option<Mono> {
        let entries = &self.entries;
        let overdue = self.catchup.next(|index, stamp| is_true(entries, index, stamp)).map(tick_of);
        self.queue.skip(|place| is_true(entries, place.index, place.stamp));
        let due = self.queue.first().map(|(tick, _)| tick);
        overdue.into_iter().chain(due).min()
    }

    /// A scheduled target by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Target>> {
        let index = *self.by_name.get(name)?;
        self.entries.get(index)?.as_ref().map(|e| &e.target)
    }

    fn find(&mut self, name: &str) -> Option<(usize, &mut Entry)> {
        let index = *self.by_name.get(name)?;
        self.entries.get_mut(index)?.as_mut().map(|e| (index, e))
    }

    fn entry(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(id.index)?.as_mut().filter(|e| e.generation == id.generation)
    }

    fn plan(&mut self, index: usize, due: Mono) {
        self.counter += 1;
        let stamp = self.counter;
        if let Some(Some(entry)) = self.entries.get_mut(index) {
            entry.due = due;
            entry.stamp = stamp;
            self.queue.push(due, Place { due, index, stamp });
        }
        self.tidy();
    }

    /// Throws overtaken places away once they outnumber the true ones: the queue stays bounded by the targets.
    fn tidy(&mut self) {
        if self.queue.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.queue.retain(|place| is_true(entries, place.index, place.stamp));
        }
    }
}

/// Whether a place in a queue is its target's true one, and still to come.
fn is_true(entries: &[Option<Entry>], index: usize, stamp: u64) -> bool {
    matches!(entries.get(index), Some(Some(e)) if e.stamp == stamp && !e.running)
}

/// The end of the tick that an instant belongs to.
pub(super) fn tick_of(t: Mono) -> Mono {
    up_to(t, TICK)
}

/// The first multiple of `step` that is not before an instant.
fn up_to(t: Mono, step: Duration) -> Mono {
    let past = rem(t.elapsed(), step);
    if past.is_zero() { t } else { t.plus(step - past) }
}

/// The first instant from `t` on that may be a target's phase.
fn phase(target: &Target, t: Mono) -> Mono {
    if target.interval < GATHERED { t } else { up_to(t, PHASE) }
}

/// The end of the tick that comes after an instant.
#[must_use]
pub fn tick_after(t: Mono) -> Mono {
    tick_of(t.plus(Duration::from_nanos(1)))
}

/// Where in min(interval, 10 s) a target's first check lies.
fn spread(target: &Target) -> Duration {
    let span = target.interval.min(FIRST_SPREAD).as_nanos().max(1);
    let offset = u128::from(stable_hash(target.name.as_str())).checked_rem(span).unwrap_or(0);
    Duration::from_nanos(u64::try_from(offset).unwrap_or(0))
}

/// A last time for a target that was probed by another, nobody knows when: it is due once within its whole interval from now, at
/// a phase by its name, so that all of them together come at the normal rate.
#[must_use]
pub fn last_by_phase(target: &Target, now: Mono) -> Mono {
    let interval = target.interval.max(TICK);
    let phase = rem(Duration::from_nanos(stable_hash(target.name.as_str())), interval);
    Mono::from_origin(now.plus(phase).elapsed().saturating_sub(interval))
}

/// FNV-1a with a finalizer (murmur3's): the same in every process and version, spread well also for `name-1`, `name-2`.
fn stable_hash(text: &str) -> u64 {
    let mut h = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "catchup_tests.rs"]
mod catchup_tests;
