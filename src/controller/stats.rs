//! What the loop counts about itself; who is told is left to `publish`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{meters::Timings, model::HealthState};

/// Figures of the loop; read at any time.
#[derive(Debug, Default)]
pub struct LoopStats {
    /// How long an evaluation took, its view included.
    pub evaluation: Timings,
    /// How long after a result a view showed what it changed.
    pub publish: Timings,
    /// Changes of a category's verdict.
    pub categories: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    unknown: AtomicU64,
}

impl LoopStats {
    const fn of(&self, state: HealthState) -> &AtomicU64 {
        match state {
            HealthState::Up => &self.up,
            HealthState::Down => &self.down,
            HealthState::Unknown => &self.unknown,
        }
    }

    /// A target's health changed to this.
    pub fn changed(&self, to: HealthState) {
        self.of(to).fetch_add(1, Relaxed);
    }

    /// Changes of targets' health so far, by what they changed to.
    #[must_use]
    pub fn changes(&self) -> [(&'static str, u64); 3] {
        [HealthState::Up, HealthState::Down, HealthState::Unknown].map(|s| (s.word(), self.of(s).load(Relaxed)))
    }
}
