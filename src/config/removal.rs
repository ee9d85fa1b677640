//! The guard against mass removal: over half of the targets (of ten or more) gone within 5 s are held and announced
//! before they go (design section 3).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::model::{Mono, Now, TargetName, Timestamp, catalog::HeldRemoval};

/// Removals within this time are one.
const WINDOW: Duration = Duration::from_secs(5);
/// Fewer targets than this are not guarded.
const FEWEST: usize = 10;

/// What was removed lately, and what waits.
#[derive(Debug)]
pub struct Removals {
    hold: Duration,
    recent: VecDeque<(Mono, BTreeSet<TargetName>)>,
    held: BTreeSet<TargetName>,
    since: Timestamp,
    until: Timestamp,
    due: Mono,
}

impl Removals {
    /// Holds removals for `hold`; zero: never.
    #[must_use]
    pub fn new(hold: Duration) -> Self {
        let (since, until) = (Timestamp::from_millis(0), Timestamp::from_millis(0));
        let (recent, held) = (VecDeque::new(), BTreeSet::new());
        Self { hold, recent, held, since, until, due: Mono::from_origin(Duration::ZERO) }
    }

    /// `going` have lost their last key, of `present` targets (the held ones among them): true when they must wait.
    /// Those that need not wait are counted as removed, each name once: one that comes and goes is one removal.
    pub fn must_wait(&mut self, going: &[TargetName], present: usize, now: Now) -> bool {
        while self.recent.front().is_some_and(|(at, _)| now.mono.since(*at) >= WINDOW) {
            self.recent.pop_front();
        }
        if going.is_empty() || self.hold.is_zero() {
            return false;
        }
        for name in going {
            self.forget(name);
        }
        let lately: usize = self.recent.iter().map(|(_, names)| names.len()).sum();
        let gone = going.len().saturating_add(self.held.len()).saturating_add(lately);
        let total = present.saturating_add(lately);
        // What is removed while a removal waits belongs to it.
        if !self.held.is_empty() || (total >= FEWEST && gone.saturating_mul(2) > total) {
            return true;
        }
        // One entry a batch; a burst of single deletes stays bounded by merging into the last one.
        match self.recent.back_mut() {
            Some((at, names)) if now.mono.since(*at) < Duration::from_millis(100) => {
                names.extend(going.iter().cloned())
            }
            _ => self.recent.push_back((now.mono, going.iter().cloned().collect())),
        }
        false
    }

    /// Makes a target wait. The first one starts the clock.
    pub fn hold(&mut self, target: TargetName, now: Now) {
        if self.held.is_empty() {
            self.since = now.wall;
            self.until = now.wall.plus(self.hold);
            self.due = now.mono.plus(self.hold);
        }
        self.held.insert(target);
    }

    /// Takes over a removal that another node announced; it ends when that node said, but never later than our own would.
    pub fn adopt(
        &mut self,
        targets: impl IntoIterator<Item = TargetName>,
        since: Timestamp,
        until: Timestamp,
        now: Now,
    ) {
        let left = until.since(now.wall).min(self.hold);
        self.held.extend(targets);
        if !self.held.is_empty() {
            self.since = since;
            self.until = now.wall.plus(left);
            self.due = now.mono.plus(left);
        }
    }

    /// A target came back.
    pub fn release(&mut self, target: &TargetName) {
        self.held.remove(target);
    }

    /// A target that is there again counts no longer as removed lately.
    pub fn forget(&mut self, target: &TargetName) {
        for (_, names) in &mut self.recent {
            names.remove(target);
        }
    }

    /// Whether a target waits.
    #[must_use]
    pub fn is_held(&self, target: &TargetName) -> bool {
        self.held.contains(target)
    }

    /// Targets whose time has come; they wait no longer.
    pub fn take_due(&mut self, now: Mono) -> BTreeSet<TargetName> {
        if now >= self.due { std::mem::take(&mut self.held) } else { BTreeSet::new() }
    }

    /// When the held ones go.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        (!self.held.is_empty()).then_some(self.due)
    }

    /// The announcement.
    #[must_use]
    pub fn announcement(&self) -> Option<HeldRemoval> {
        let targets: Vec<TargetName> = self.held.iter().cloned().collect();
        (!targets.is_empty()).then_some(HeldRemoval { targets, since: self.since, until: self.until })
    }
}
