//! What the engine counts about itself. Reading never disturbs it: plain atomics.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{meters::Timings, model::Outcome};

/// Counters of one engine; all only grow, but for `in_flight` and `queued`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Probes started.
    pub started: AtomicU64,
    /// Probes ended with `Good`.
    pub good: AtomicU64,
    /// Probes ended with `Bad`.
    pub bad: AtomicU64,
    /// Probes ended with `Timeout`.
    pub timeout: AtomicU64,
    /// Probes ended with `Unreachable`.
    pub unreachable: AtomicU64,
    /// Probes ended with `Protocol`.
    pub protocol: AtomicU64,
    /// Probes under way now.
    pub in_flight: AtomicU64,
    /// Due probes that wait for a limit now.
    pub queued: AtomicU64,
    /// Scheduled targets now.
    pub targets: AtomicU64,
    /// How long probes took, whatever their outcome.
    pub latency: Timings,
    /// How late probes started, waiting for limits included.
    pub late: Histogram,
    /// Batches thrown away because their reader was too slow.
    pub dropped_batches: AtomicU64,
    /// Observations in them.
    pub dropped_observations: AtomicU64,
    /// CPU time of the probe thread, in nanoseconds, read about every 100 ms.
    pub cpu_nanos: AtomicU64,
    /// The limit on concurrent probes in force.
    pub max_probes: AtomicU64,
}

impl Stats {
    /// Counts an ended probe.
    pub fn count(&self, outcome: Outcome) {
        self.by_outcome(outcome).fetch_add(1, Relaxed);
    }

    /// The counter of an outcome.
    #[must_use]
    pub const fn by_outcome(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Good => &self.good,
            Outcome::Bad => &self.bad,
            Outcome::Timeout => &self.timeout,
            Outcome::Unreachable => &self.unreachable,
            Outcome::Protocol => &self.protocol,
        }
    }

    /// Probes ended, whatever their outcome.
    #[must_use]
    pub fn finished(&self) -> u64 {
        let all = [Outcome::Good, Outcome::Bad, Outcome::Timeout, Outcome::Unreachable, Outcome::Protocol];
        all.into_iter().map(|o| self.by_outcome(o).load(Relaxed)).sum()
    }
}

/// Bits of a value that a bucket keeps: 16 buckets for each power of two, an error below 7 %.
const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
const BUCKETS: usize = 448;

/// A log-linear histogram of durations in milliseconds: exact to 16 ms, then within 7 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    max_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max_micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration, rounded up to whole milliseconds.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.max_micros.fetch_max(micros, Relaxed);
        if let Some(bucket) = self.buckets.get(bucket_of(micros.div_ceil(1000))) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Number of counted durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Relaxed)).sum()
    }

    /// The largest one.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros.load(Relaxed))
    }

    /// An upper bound of the value below which the share `q` (0 to 1) lies; zero when nothing was counted.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((self.count() as f64) * q.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank && seen > 0 {
                return Duration::from_millis(upper_of(i)).min(self.max());
            }
        }
        self.max()
    }

    /// Upper bound and count of each bucket that is not empty, ascending.
    #[must_use]
    pub fn buckets(&self) -> Vec<(Duration, u64)> {
        let counted =
            self.buckets.iter().enumerate().map(|(i, b)| (Duration::from_millis(upper_of(i)), b.load(Relaxed)));
        counted.filter(|(_, n)| *n > 0).collect()
    }
}

fn bucket_of(millis: u64) -> usize {
    if millis < SUB {
        return usize::try_from(millis).unwrap_or(0);
    }
    let exponent = millis.ilog2() - SUB_BITS;
    let index = u64::from(exponent + 1) * SUB + ((millis >> exponent) - SUB);
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

fn upper_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let exponent = bucket / SUB - 1;
    (((bucket % SUB) + SUB + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for millis in (0..5000).chain([60_000, 123_456, 10_000_000]) {
            let upper = upper_of(bucket_of(millis));
            assert!(upper >= millis && upper <= millis + millis / 16, "{millis} -> {upper}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let h = Histogram::default();
        assert_eq!(h.quantile(0.99), Duration::ZERO);
        (1..=100).for_each(|i| h.record(Duration::from_millis(i)));
        assert_eq!(h.count(), 100);
        assert_eq!(h.max(), Duration::from_millis(100));
        assert_eq!(h.quantile(0.1), Duration::from_millis(10));
        let p99 = h.quantile(0.99).as_millis();
        assert!((99..=100).contains(&p99), "{p99}");
    }
}
