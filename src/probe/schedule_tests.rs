use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::probe::testing;

fn ms(millis: u64) -> Mono {
    Mono::from_origin(Duration::from_millis(millis))
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn target(name: &str, interval: Duration) -> Arc<Target> {
    testing::target(name, testing::check(), interval)
}

/// Runs the schedule tick by tick; each run takes `takes`. Returns the starts by name.
struct Sim {
    schedule: Schedule,
    now: u64,
    running: BTreeMap<u64, Vec<Id>>,
    starts: BTreeMap<String, Vec<u64>>,
}

impl Sim {
    fn new(targets: &[Arc<Target>]) -> Self {
        let mut schedule = Schedule::new();
        schedule.set_targets(targets, &BTreeMap::new(), ms(0));
        Self { schedule, now: 0, running: BTreeMap::new(), starts: BTreeMap::new() }
    }

    fn run_until(&mut self, end: u64, takes: u64) {
        while self.now <= end {
            let now = ms(self.now);
            let ended = self.running.split_off(&(self.now + 1));
            for id in std::mem::replace(&mut self.running, ended).into_values().flatten() {
                self.schedule.finished(id, now);
            }
            let mut due = Vec::new();
            self.schedule.due(now, &mut due);
            for d in due {
                let Some(target) = self.schedule.started(d.id, now) else { continue };
                assert!(d.due <= now);
                self.starts.entry(target.name.to_string()).or_default().push(self.now);
                self.running.entry(self.now + takes).or_default().push(d.id);
            }
            self.now += 10;
        }
    }

    fn of(&self, name: &str) -> Vec<u64> {
        self.starts.get(name).cloned().unwrap_or_default()
    }

    fn gaps(&self, name: &str) -> Vec<u64> {
        self.of(name).windows(2).map(|w| w[1] - w[0]).collect()
    }
}

#[test]
fn first_checks_are_spread_and_the_phase_is_kept() {
    let targets: Vec<_> = (0..1000).map(|i| target(&format!("svc-{i}"), secs(60))).collect();
    let mut sim = Sim::new(&targets);
    sim.run_until(200_000, 30);
    let firsts: Vec<u64> = sim.starts.values().map(|s| s[0]).collect();
    assert_eq!(firsts.len(), 1000);
    assert!(firsts.iter().all(|t| *t <= 10_000), "within 10 s");
    for second in 0..10 {
        let n = firsts.iter().filter(|t| **t / 1000 == second).count();
        assert!((60..=150).contains(&n), "{n} of 1000 in second {second}");
    }
    for t in &targets {
        assert!(sim.gaps(t.name.as_str()).iter().all(|gap| *gap == 60_000));
    }
}

#[test]
fn a_short_interval_is_the_spread() {
    let targets: Vec<_> = (0..100).map(|i| target(&format!("svc-{i}"), secs(2))).collect();
    let mut sim = Sim::new(&targets);
    sim.run_until(2_000, 10);
    assert!(sim.starts.values().all(|s| s[0] <= 2_000));
    assert_eq!(sim.starts.len(), 100);
}

#[test]
fn a_slow_target_skips_slots_and_never_overlaps_itself() {
    let mut sim = Sim::new(&[target("slow", secs(1))]);
    sim.run_until(30_000, 2_500);
    assert!(sim.gaps("slow").iter().all(|gap| *gap == 3_000), "{:?}", sim.gaps("slow"));
}

#[test]
fn fast_starts_soon_and_slow_returns_to_the_phase() {
    let mut sim = Sim::new(&[target("t", secs(10))]);
    sim.run_until(10_000, 10);
    let first = sim.of("t")[0];
    sim.run_until(first + 13_000, 10);
    sim.schedule.set_fast("t", true, ms(sim.now));
    let switched = sim.now;
    sim.run_until(first + 25_500, 10);
    let fast: Vec<u64> = sim.of("t").into_iter().filter(|t| *t >= switched).collect();
    assert!(fast[0] <= switched + 1_000, "{fast:?}");
    assert!(fast.len() >= 11 && fast.windows(2).all(|w| w[1] - w[0] == 1_000), "{fast:?}");
    sim.schedule.set_fast("t", false, ms(sim.now));
    let back = sim.now;
    sim.run_until(first + 60_000, 10);
    let slow: Vec<u64> = sim.of("t").into_iter().filter(|t| *t >= back).collect();
    assert!(slow.iter().all(|t| (t - first).is_multiple_of(10_000)), "{first} {slow:?}");
    assert_eq!(slow[0], first + 30_000);
}

#[test]
fn a_changed_check_is_due_at_once_and_unchanged_targets_are_left_alone() {
    let (a, b) = (target("a", secs(10)), target("b", secs(10)));
    let mut sim = Sim::new(&[Arc::clone(&a), Arc::clone(&b)]);
    sim.run_until(20_000, 10);
    let (before_a, before_b) = (sim.of("a").len(), sim.of("b"));
    let mut check = testing::check();
    check.path = "/other".to_owned();
    let changed = testing::target("a", check, secs(10));
    let acked = Arc::new(Target { panic_guide: "new".to_owned(), ..(*b).clone() });
    let at = sim.now;
    sim.schedule.set_targets(&[changed, acked], &BTreeMap::new(), ms(at));
    sim.run_until(40_000, 10);
    assert_eq!(sim.of("a")[before_a], at, "at once");
    assert!(sim.of("b").starts_with(&before_b));
    assert!(sim.gaps("b").iter().all(|gap| *gap == 10_000));
    assert!(
        sim.of("a")[before_a + 1..].iter().all(|t| (t - sim.of("a")[0]).is_multiple_of(10_000)),
        "and then its phase"
    );
}

#[test]
fn a_check_that_changes_under_way_is_run_again_after_it() {
    let mut schedule = Schedule::new();
    schedule.set_targets(&[target("a", secs(10))], &BTreeMap::new(), ms(0));
    schedule.refresh("a", ms(0));
    let mut due = Vec::new();
    schedule.due(ms(0), &mut due);
    assert!(schedule.started(due[0].id, ms(0)).is_some());
    let mut check = testing::check();
    check.path = "/other".to_owned();
    schedule.set_targets(&[testing::target("a", check, secs(10))], &BTreeMap::new(), ms(100));
    let mut none = Vec::new();
    schedule.due(ms(200), &mut none);
    assert!(none.is_empty(), "not twice at once");
    schedule.refresh("a", ms(200));
    assert_eq!(schedule.finished(due[0].id, ms(5_000)), Some(true));
    assert_eq!(schedule.next_wake(), Some(ms(5_000)));
}

#[test]
fn a_shorter_interval_takes_effect_and_an_edited_one_never_starves() {
    let mut sim = Sim::new(&[target("a", secs(600))]);
    sim.run_until(10_000, 10);
    assert_eq!(sim.of("a").len(), 1);
    sim.schedule.set_targets(&[target("a", secs(5))], &BTreeMap::new(), ms(sim.now));
    sim.run_until(20_000, 10);
    assert!(sim.of("a").len() >= 2);
    // Edited each 100 ms for a minute.
    let mut sim = Sim::new(&[target("a", secs(10))]);
    for i in 0..600_u64 {
        sim.schedule.set_targets(&[target("a", Duration::from_millis(10_000 + i))], &BTreeMap::new(), ms(sim.now));
        sim.run_until(i * 100, 10);
    }
    assert!(sim.gaps("a").iter().all(|gap| *gap <= 21_000) && sim.of("a").len() >= 3, "{:?}", sim.of("a"));
}

#[test]
fn removed_targets_go_and_their_ids_mean_nothing_else() {
    let mut schedule = Schedule::new();
    schedule.set_targets(&[target("a", secs(1))], &BTreeMap::new(), ms(0));
    let mut due = Vec::new();
    schedule.due(ms(1_000), &mut due);
    let id = due[0].id;
    schedule.set_targets(&[target("b", secs(1))], &BTreeMap::new(), ms(1_000));
    assert!(schedule.started(id, ms(1_000)).is_none());
    assert_eq!(schedule.finished(id, ms(1_000)), None);
    assert!(schedule.get("a").is_none() && schedule.len() == 1);
    schedule.set_targets(&[], &BTreeMap::new(), ms(1_000));
    assert!(schedule.is_empty() && schedule.next_wake().is_none());
}

/// 1,000 targets each 10 s, the process stopped for so many milliseconds, then 10 s more; and when it went on.
fn after_a_stop(stopped: u64) -> (Sim, u64) {
    let targets: Vec<_> = (0..1000).map(|i| target(&format!("svc-{i}"), secs(10))).collect();
    let mut sim = Sim::new(&targets);
    sim.run_until(30_000, 10);
    sim.now += stopped;
    let back = sim.now;
    sim.run_until(back + 10_000, 10);
    (sim, back)
}

#[test]
fn after_a_suspension_targets_come_back_in_their_phases() {
    let (sim, back) = after_a_stop(3_600_000);
    let after: Vec<u64> = sim.starts.values().flat_map(|s| s.iter().copied().filter(|t| *t >= back).take(1)).collect();
    assert_eq!(after.len(), 1000, "all within one interval");
    for second in 0..10 {
        let n = after.iter().filter(|t| (**t - back) / 1000 == second).count();
        assert!((60..=150).contains(&n), "{n} of 1000 in second {second}");
    }
}

#[test]
fn after_a_short_stop_what_was_due_meanwhile_does_not_start_at_once() {
    let (sim, back) = after_a_stop(6_000);
    let starts: Vec<u64> = sim.starts.values().flat_map(|s| s.iter().copied().filter(|t| *t >= back)).collect();
    for second in 0..10 {
        let n = starts.iter().filter(|t| (**t - back) / 1000 == second).count();
        assert!(n <= 230, "{n} of 1000 in second {second}: twice the normal rate is 200");
    }
    let first = |s: &Vec<u64>| s.iter().copied().find(|t| *t >= back);
    assert!(
        sim.starts.values().all(|s| first(s).is_some_and(|t| t <= back + 10_000)),
        "none waits for more than an interval"
    );
}

#[test]
fn heartbeat_targets_are_never_due() {
    let mut check = testing::check();
    check.kind = Kind::Heartbeat;
    let mut schedule = Schedule::new();
    schedule.set_targets(&[testing::target("h", check, secs(1))], &BTreeMap::new(), ms(0));
    assert!(!schedule.refresh("h", ms(0)));
    assert_eq!(schedule.next_wake(), None);
}

#[test]
fn ten_thousand_refreshes_keep_the_queue_small() {
    let mut schedule = Schedule::new();
    schedule.set_targets(&[target("a", secs(10)), target("b", secs(10))], &BTreeMap::new(), ms(0));
    for i in 0..10_000 {
        schedule.set_fast("a", i % 2 == 0, ms(i));
        schedule.refresh("b", ms(i));
    }
    assert!(schedule.queue.len() <= 80, "{}", schedule.queue.len());
}

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Fast(bool),
    Retarget(u64),
    Takes(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1_u64..8_000).prop_map(Act::Wait),
        any::<bool>().prop_map(Act::Fast),
        (1_u64..20).prop_map(Act::Retarget),
        (1_u64..6_000).prop_map(Act::Takes),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    /// Never faster than min(interval, fast interval); never later than the longest interval, plus how long a probe takes,
    /// plus the first spread.
    #[test]
    fn neither_too_fast_nor_starved(acts in acts(), name in "[a-z]{1,8}", first in 1_u64..20) {
        let fast = 1_000;
        let mut sim = Sim::new(&[target(&name, secs(first))]);
        let (mut takes, mut longest, mut slowest) = (10, first * 1_000, 10);
        for act in &acts {
            match act {
                Act::Wait(time) => {
                    let end = sim.now + time;
                    sim.run_until(end, takes);
                }
                Act::Fast(on) => sim.schedule.set_fast(&name, *on, ms(sim.now)),
                Act::Retarget(s) => {
                    longest = longest.max(s * 1_000);
                    sim.schedule.set_targets(&[target(&name, secs(*s))], &BTreeMap::new(), ms(sim.now));
                }
                Act::Takes(t) => {
                    takes = *t;
                    slowest = slowest.max(*t);
                }
            }
        }
        let end = sim.now + 2 * longest + slowest + 10_000;
        sim.run_until(end, takes);
        for gap in sim.gaps(&name) {
            prop_assert!(gap + 10 >= fast, "gap {gap} of {:?}", sim.of(&name));
            prop_assert!(gap <= 2 * longest + slowest + 10_000 + 20, "gap {gap} of {:?}", sim.of(&name));
        }
        prop_assert!(!sim.of(&name).is_empty());
    }

    /// A thread that wakes late makes late starts, not bursts.
    #[test]
    fn late_wakes_never_burst(wakes in proptest::collection::vec(0_u64..7_000, 1..60)) {
        let mut schedule = Schedule::new();
        schedule.set_targets(&[target("t", secs(1))], &BTreeMap::new(), ms(0));
        let (mut now, mut last) = (0, None::<u64>);
        for wake in wakes {
            now += wake;
            let mut due = Vec::new();
            schedule.due(ms(now), &mut due);
            prop_assert!(due.len() <= 1);
            for d in due {
                prop_assert!(last.is_none_or(|last| now - last >= 490), "{last:?} {now}");
                last = Some(now);
                schedule.finished(d.id, ms(now));
            }
        }
    }
}
