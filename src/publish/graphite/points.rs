//! Pure: the points of one flush, their lines, and the ring that keeps them until carbon has them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use crate::model::{HealthState, RegionName, TargetName, Timestamp, View};

/// One value of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The metric's whole path.
    pub path: Arc<str>,
    /// FT: 0 is ok, 1 is failed; the pilot light is 1.
    pub value: u8,
    /// Seconds since the Unix epoch.
    pub time: i64,
}

impl Point {
    /// Appends the point's line of carbon's plaintext protocol.
    pub fn render(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} {} {}", self.path, self.value, self.time);
    }
}

/// One part of a path: anything outside `[A-Za-z0-9_-]` becomes `-`.
#[must_use]
pub fn sanitise(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' }).collect()
}

/// What all paths begin with: `<prefix>.health.<environment>[.<region>]`. The prefix may have several parts.
#[must_use]
pub fn base(prefix: &str, environment: &str, region: Option<&RegionName>) -> String {
    let mut parts: Vec<String> = prefix.split('.').filter(|p| !p.is_empty()).map(sanitise).collect();
    parts.push("health".to_owned());
    parts.push(sanitise(environment));
    parts.extend(region.map(|r| sanitise(r.as_str())));
    parts.join(".")
}

/// Makes the points of each flush, and knows which check was sent last.
#[derive(Debug)]
pub struct Points {
    base: String,
    pilot_light: Arc<str>,
    known: BTreeMap<TargetName, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    path: Arc<str>,
    /// Time of the newest check sent, in milliseconds.
    sent: i64,
}

impl Points {
    /// For paths below `base`.
    #[must_use]
    pub fn new(base: String) -> Self {
        let pilot_light = Arc::from(format!("{base}.pilot-light"));
        Self { base, pilot_light, known: BTreeMap::new() }
    }

    /// One point for each target with a result, and the pilot light. A check that came since the last flush has its own
    /// time; without one the last result is repeated at `now` (as failed once the health is unknown).
    pub fn flush(&mut self, view: &View, now: Timestamp) -> Vec<Point> {
        let mut points = Vec::with_capacity(view.catalog.targets.len() + 1);
        let mut known = BTreeMap::new();
        for (index, target) in view.catalog.targets.iter().enumerate() {
            let old = self.known.remove(&target.name);
            let Some(observation) = view.cells.get(index).and_then(|cell| cell.load()) else {
                known.extend(old.map(|old| (target.name.clone(), old)));
                continue;
            };
            let path = match &old {
                Some(old) => Arc::clone(&old.path),
                None => Arc::from(format!("{}.services.{}", self.base, sanitise(target.name.as_str()))),
            };
            let checked = observation.at.wall;
            let failed = !observation.outcome.is_good();
            let fresh = old.is_none_or(|old| old.sent < checked.as_millis());
            let (failed, time) = if fresh {
                (failed, checked)
            } else {
                let unknown = view.health.get(index).is_none_or(|h| h.state == HealthState::Unknown);
                (failed || unknown, now)
            };
            points.push(Point { path: Arc::clone(&path), value: u8::from(failed), time: time.as_secs() });
            known.insert(target.name.clone(), Known { path, sent: checked.as_millis() });
        }
        self.known = known;
        for (name, verdict) in &view.evaluation.categories {
            let path = Arc::from(format!("{}.categories.{}", self.base, sanitise(name.as_str())));
            points.push(Point { path, value: u8::from(!verdict.ok), time: now.as_secs() });
        }
        points.push(Point { path: Arc::clone(&self.pilot_light), value: 1, time: now.as_secs() });
        points
    }

    /// Only the checks that came since the last look, each under its own time: what a follower keeps between two flushes.
    pub fn fresh(&mut self, view: &View) -> Vec<Point> {
        let mut points = Vec::new();
        for (index, target) in view.catalog.targets.iter().enumerate() {
            let Some(observation) = view.cells.get(index).and_then(|cell| cell.load()) else { continue };
            let checked = observation.at.wall;
            let old = self.known.get_mut(&target.name);
            if old.as_ref().is_some_and(|old| old.sent >= checked.as_millis()) {
                continue;
            }
            let path = match old {
                Some(old) => {
                    old.sent = checked.as_millis();
                    Arc::clone(&old.path)
                }
                None => {
                    let path = Arc::from(format!("{}.services.{}", self.base, sanitise(target.name.as_str())));
                    let known = Known { path: Arc::clone(&path), sent: checked.as_millis() };
                    self.known.insert(target.name.clone(), known);
                    path
                }
            };
            points.push(Point { path, value: u8::from(!observation.outcome.is_good()), time: checked.as_secs() });
        }
        points
    }
}

/// What a follower keeps for the case that the leader is lost with points that carbon has not got (design section 8): the
/// points that it would have sent itself, less those that the leader's mark shows as taken. Bounded: the oldest go first.
#[derive(Debug, Default)]
pub struct Kept {
    points: VecDeque<Point>,
}

impl Kept {
    /// Adds points in order, and drops the oldest beyond `capacity`.
    pub fn push(&mut self, points: Vec<Point>, capacity: usize) {
        self.points.extend(points);
        let beyond = self.points.len().saturating_sub(capacity);
        self.points.drain(..beyond);
    }

    /// Carbon has every point up to `mark`: drops what lies an interval before it, or earlier. The last interval stays: a flush
    /// of the leader's puts each target's point at its check, and may leave the time from there to the flush to the next one.
    pub fn taken(&mut self, mark: Timestamp, interval: Duration) {
        let covered = covered(mark, interval);
        self.points.retain(|point| point.time > covered);
    }

    /// Gives all of it away.
    pub fn take(&mut self) -> Vec<Point> {
        std::mem::take(&mut self.points).into()
    }

    /// Points that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// None is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// The second up to which nothing is missing, given the leader's mark.
fn covered(mark: Timestamp, interval: Duration) -> i64 {
    mark.as_secs().saturating_sub(i64::try_from(interval.as_millis().div_ceil(1000)).unwrap_or(i64::MAX))
}

/// Points that carbon has not got yet, oldest first, each with a number; bounded, the oldest dropped and counted.
#[derive(Debug, Default)]
pub struct Ring {
    points: VecDeque<Point>,
    /// Number of the oldest point.
    first: u64,
    dropped: u64,
    /// Flushes whose points are not all gone yet: the number after the last of them, and when it was.
    flushes: VecDeque<(u64, Timestamp)>,
}

impl Ring {
    /// Adds the points of a flush in order and drops the oldest beyond `capacity`.
    pub fn push(&mut self, points: Vec<Point>, capacity: usize, flushed: Timestamp) {
        self.points.extend(points);
        self.flushes.push_back((self.first + self.points.len() as u64, flushed));
        while self.points.len() > capacity {
            self.points.pop_front();
            self.first += 1;
            self.dropped += 1;
        }
    }

    /// Lines of the oldest points, at most `max`, and the number after the last of them. They stay until `done`.
    #[must_use]
    pub fn batch(&self, max: usize) -> (String, u64) {
        let count = self.points.len().min(max);
        let mut lines = String::with_capacity(count * 80);
        for point in self.points.iter().take(count) {
            point.render(&mut lines);
        }
        (lines, self.first + count as u64)
    }

    /// Points before number `end` have arrived; returns how many were still here.
    pub fn done(&mut self, end: u64) -> u64 {
        let count = end.saturating_sub(self.first).min(self.points.len() as u64);
        self.points.drain(..usize::try_from(count).unwrap_or(0));
        self.first += count;
        count
    }

    /// The newest flush whose points have all left, where one has since the last call.
    pub fn flushed(&mut self) -> Option<Timestamp> {
        let mut newest = None;
        while let Some((end, flushed)) = self.flushes.front().copied()
            && end <= self.first
        {
            newest = Some(flushed);
            self.flushes.pop_front();
        }
        newest
    }

    /// Another has sent everything up to `mark`: drops what lies an interval before it, uncounted.
    pub fn taken(&mut self, mark: Timestamp, interval: Duration) {
        let covered = covered(mark, interval);
        while self.points.front().is_some_and(|point| point.time <= covered) {
            self.points.pop_front();
            self.first += 1;
        }
        let _ = self.flushed();
    }

    /// Points that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// None waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Points dropped since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(time: i64) -> Point {
        Point { path: Arc::from("p"), value: 0, time }
    }

    fn times(lines: &str) -> Vec<i64> {
        lines.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn paths_as_ft_had_them() {
        assert_eq!(base("coco", "prod.uk", None), "coco.health.prod-uk");
        let region = RegionName::new("eu.1").unwrap();
        assert_eq!(base("a.b c.", "x", Some(&region)), "a.b-c.health.x.eu-1");
        assert_eq!(sanitise("foo.bar_1-ü/\n"), "foo-bar_1----");
    }

    #[test]
    fn a_batch_that_failed_is_sent_again_whole_and_drops_are_counted() {
        let mut ring = Ring::default();
        ring.push((0..5).map(point).collect(), 5, Timestamp::default());
        let (lines, end) = ring.batch(3);
        assert_eq!(times(&lines), [0, 1, 2]);
        assert_eq!(ring.batch(3).0, lines);
        ring.push(vec![point(5)], 5, Timestamp::default());
        assert_eq!(ring.dropped(), 1);
        assert_eq!(ring.done(end), 2, "one of the three was dropped meanwhile");
        assert_eq!(times(&ring.batch(10).0), [3, 4, 5]);
    }

    #[test]
    fn the_mark_follows_the_flushes_that_have_left_whole() {
        let at = Timestamp::from_millis;
        let mut ring = Ring::default();
        ring.push((0..5).map(point).collect(), 100, at(1));
        ring.push((5..8).map(point).collect(), 100, at(2));
        assert_eq!(ring.flushed(), None);
        ring.done(4);
        assert_eq!(ring.flushed(), None, "one of the first flush waits");
        ring.done(7);
        assert_eq!((ring.flushed(), ring.flushed()), (Some(at(1)), None));
        ring.push(Vec::new(), 100, at(3));
        ring.done(8);
        assert_eq!(ring.flushed(), Some(at(3)));
    }

    #[test]
    fn what_is_kept_ends_an_interval_before_the_mark_and_is_bounded() {
        let times = |kept: &Kept| kept.points.iter().map(|p| p.time).collect::<Vec<_>>();
        let mut kept = Kept::default();
        kept.push((0..200).map(point).collect(), 150);
        assert_eq!(times(&kept), (50..200).collect::<Vec<_>>());
        kept.taken(Timestamp::from_millis(150_999), Duration::from_secs(60));
        assert_eq!(times(&kept), (91..200).collect::<Vec<_>>());
        kept.taken(Timestamp::from_millis(0), Duration::from_secs(60));
        assert_eq!(kept.take().len(), 109, "an old mark drops nothing");
        assert!(kept.is_empty());
    }

    proptest! {
        /// Whatever fails, what arrives is in order, each point once in the accounts, and sent + dropped + waiting is all.
        #[test]
        fn order_is_kept_and_nothing_is_lost_uncounted(
            steps in prop::collection::vec((0_usize..6, 1_usize..4, any::<bool>()), 1..60), capacity in 1_usize..12
        ) {
            let mut ring = Ring::default();
            let (mut next, mut arrived, mut sent) = (0, Vec::new(), 0);
            for (push, max, works) in steps {
                let (lines, end) = ring.batch(max);
                ring.push((next..next + push as i64).map(point).collect(), capacity, Timestamp::default());
                next += push as i64;
                if works {
                    arrived.extend(times(&lines));
                    sent += ring.done(end);
                }
                prop_assert!(ring.len() <= capacity);
                prop_assert_eq!(sent + ring.dropped() + ring.len() as u64, next as u64);
            }
            prop_assert!(arrived.is_sorted());
            let waiting = times(&ring.batch(usize::MAX).0);
            prop_assert!(waiting.iter().all(|t| arrived.last().is_none_or(|a| a < t)));
        }
    }
}
