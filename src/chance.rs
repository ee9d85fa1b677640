//! The one source of randomness for what must only be spread: waits of candidates and retries. In a simulation it is seeded,
//! so that a seed gives one history. Nothing secret is made from it.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Draws numbers; clones share one sequence.
#[derive(Clone, Debug)]
pub struct Chance(Arc<AtomicU64>);

impl Chance {
    /// Another sequence in each process.
    #[must_use]
    pub fn system() -> Self {
        // The hasher's keys are the process's own randomness.
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// The same sequence for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// The next number (SplitMix64).
    #[must_use]
    pub fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where there is none.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// A time from zero up to `longest`.
    #[must_use]
    pub fn up_to(&self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }

    /// A wait between half of `longest` and `longest`, so that many nodes do not come back at one moment.
    #[must_use]
    pub fn jitter(&self, longest: Duration) -> Duration {
        let half = longest / 2;
        half.saturating_add(self.up_to(longest.saturating_sub(half)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_within_bounds() {
        let (a, b) = (Chance::seeded(7), Chance::seeded(7));
        let second = Duration::from_secs(1);
        for _ in 0..1000 {
            let wait = a.jitter(second);
            assert_eq!(wait, b.jitter(second));
            assert!(wait >= second / 2 && wait <= second);
        }
        assert_ne!(a.draw(), Chance::seeded(8).draw());
        assert_eq!(a.below(0), 0);
        assert!(a.up_to(Duration::from_nanos(3)) <= Duration::from_nanos(3));
    }
}
