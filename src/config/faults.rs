//! The list of what is wrong, by key: a fault keeps its `since` as long as it stays the same.

use std::{collections::BTreeMap, sync::Arc};

use super::problem::Problem;
use crate::model::{Fault, Timestamp};

/// Faults by their place: a key relative to ROOT, and who found them.
#[derive(Debug, Default)]
pub struct FaultBook {
    root: String,
    entries: BTreeMap<(String, Finder), Vec<Fault>>,
    changed: bool,
}

/// Who found a fault; each replaces only its own findings about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finder {
    /// The key's own value or name.
    Value,
    /// What the target's keys make together.
    Target,
    /// References between services, regions and categories.
    References,
    /// A held removal.
    Removal,
}

impl FaultBook {
    /// An empty list for keys below `root`.
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned(), ..Self::default() }
    }

    /// Replaces what `finder` says about a key. `value` is shown with it, its secrets already replaced.
    pub fn set(&mut self, key: &str, finder: Finder, problems: &[Problem], value: &str, now: Timestamp) {
        let place = (key.to_owned(), finder);
        if problems.is_empty() {
            self.changed |= self.entries.remove(&place).is_some();
            return;
        }
        let old = self.entries.get(&place);
        let faults: Vec<Fault> = problems
            .iter()
            .map(|problem| {
                let reason = problem.sentence();
                let same = |f: &&Fault| f.reason == reason && f.value == value && f.level == problem.level;
                Fault {
                    key: format!("{}/{key}", self.root),
                    level: problem.level,
                    value: value.to_owned(),
                    since: old.into_iter().flatten().find(same).map_or(now, |f| f.since),
                    reason,
                    expected: problem.expected.clone(),
                    nearest: problem.nearest.clone(),
                }
            })
            .collect();
        if old != Some(&faults) {
            self.entries.insert(place, faults);
            self.changed = true;
        }
    }

    /// Keys that `finder` has something to say about.
    #[must_use]
    pub fn keys_of(&self, finder: Finder) -> Vec<String> {
        self.entries.keys().filter(|(_, f)| *f == finder).map(|(key, _)| key.clone()).collect()
    }

    /// Whether anything changed since the last `take`.
    #[must_use]
    pub const fn is_changed(&self) -> bool {
        self.changed
    }

    /// All faults, sorted by key.
    #[must_use]
    pub fn take(&mut self) -> Arc<[Fault]> {
        self.changed = false;
        self.entries.values().flatten().cloned().collect()
    }
}
