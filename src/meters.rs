//! The primitives that rooms count with: relaxed atomics in fixed tables, so that counting costs a few nanoseconds and reading
//! disturbs nothing. What is counted is left to each room, who is told to `publish`.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets, in microseconds; a last bucket holds what is above.
const BOUNDS: [u64; 13] =
    [100, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];
const BUCKETS: usize = BOUNDS.len() + 1;
/// Most recent durations that are kept one by one.
const SAMPLES: usize = 32;

/// Durations of one kind: a histogram with few buckets, their sum, and the last 32 one by one.
#[derive(Debug)]
pub struct Timings {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
    recorded: AtomicU64,
    samples: [AtomicU32; SAMPLES],
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            micros: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            samples: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Timings {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(micros, Relaxed);
        let number = self.recorded.fetch_add(1, Relaxed);
        let slot = usize::try_from(number % SAMPLES as u64).unwrap_or(0);
        if let Some(sample) = self.samples.get(slot) {
            sample.store(u32::try_from(micros).unwrap_or(u32::MAX), Relaxed);
        }
    }

    /// What was counted so far. A duration that is recorded meanwhile may show in one part and not yet in another.
    #[must_use]
    pub fn figures(&self) -> TimingFigures {
        let recorded = self.recorded.load(Relaxed);
        let kept = recorded.min(SAMPLES as u64);
        let sample = |number: u64| {
            let slot = usize::try_from(number % SAMPLES as u64).ok()?;
            Some(Duration::from_micros(u64::from(self.samples.get(slot)?.load(Relaxed))))
        };
        let mut below = 0_u64;
        let buckets = self.buckets.iter().zip(BOUNDS).map(|(count, bound)| {
            below = below.saturating_add(count.load(Relaxed));
            (Duration::from_micros(bound), below)
        });
        let buckets: Vec<_> = buckets.collect();
        let count = below.saturating_add(self.buckets.last().map_or(0, |above| above.load(Relaxed)));
        TimingFigures {
            buckets,
            count,
            sum: Duration::from_micros(self.micros.load(Relaxed)),
            recorded,
            latest: (recorded.saturating_sub(kept)..recorded).filter_map(sample).collect(),
        }
    }
}

/// What `Timings` have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimingFigures {
    /// Upper bound, and how many were not above it.
    pub buckets: Vec<(Duration, u64)>,
    /// All of them.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// All of them, by the count that `latest` goes with.
    pub recorded: u64,
    /// The last of them, oldest first; at most 32.
    pub latest: Vec<Duration>,
}

impl TimingFigures {
    /// Those that were recorded since then, the last 32 at most.
    #[must_use]
    pub fn since(&self, before: &Self) -> &[Duration] {
        let new = usize::try_from(self.recorded.saturating_sub(before.recorded)).unwrap_or(usize::MAX);
        let skipped = self.latest.len().saturating_sub(new);
        self.latest.get(skipped..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_their_buckets() {
        let timings = Timings::default();
        for millis in [0, 1, 2, 7, 90, 20_000] {
            timings.record(Duration::from_millis(millis));
        }
        let figures = timings.figures();
        let below = |millis| figures.buckets.iter().find(|b| b.0 == Duration::from_millis(millis)).unwrap().1;
        assert_eq!((below(1), below(5), below(10), below(100), below(10_000)), (2, 3, 4, 5, 5));
        assert_eq!((figures.count, figures.sum), (6, Duration::from_millis(20_100)));
        assert!(figures.buckets.is_sorted());
    }

    #[test]
    fn the_latest_are_those_since_the_last_look() {
        let timings = Timings::default();
        let of = |range: std::ops::Range<u64>| range.map(Duration::from_millis).collect::<Vec<_>>();
        for duration in of(0..5) {
            timings.record(duration);
        }
        let before = timings.figures();
        assert_eq!(before.since(&TimingFigures::default()), of(0..5));
        assert!(timings.figures().since(&before).is_empty());
        for duration in of(5..8) {
            timings.record(duration);
        }
        assert_eq!(timings.figures().since(&before), of(5..8));
        for duration in of(8..100) {
            timings.record(duration);
        }
        assert_eq!(timings.figures().since(&before), of(68..100), "the last 32");
    }
}
