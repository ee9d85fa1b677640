use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::probe::testing;

fn ms(millis: u64) -> Mono {
    Mono::from_origin(Duration::from_millis(millis))
}

fn set(intervals: &[u64]) -> Vec<Arc<Target>> {
    let target =
        |(i, ms): (usize, &u64)| testing::target(&format!("t-{i}"), testing::check(), Duration::from_millis(*ms));
    intervals.iter().enumerate().map(target).collect()
}

/// A takeover at `at`, run for `run` ms. Starts in order: (time, target).
fn take_over(targets: &[Arc<Target>], last: &[u64], at: u64, run: u64) -> Vec<(u64, usize)> {
    let mut schedule = Schedule::new();
    let known: BTreeMap<_, _> = targets.iter().zip(last).map(|(t, l)| (t.name.clone(), ms(*l))).collect();
    schedule.set_targets(targets, &known, ms(at));
    let (mut starts, mut due) = (Vec::new(), Vec::new());
    let mut now = at;
    while now <= at + run {
        schedule.due(ms(now), &mut due);
        for d in due.drain(..) {
            let target = schedule.started(d.id, ms(now)).unwrap();
            starts.push((now, target.name.as_str()[2..].parse().unwrap()));
            schedule.finished(d.id, ms(now));
        }
        // As the engine does: it sleeps until something is due.
        let wake = schedule.next_wake().unwrap().elapsed().as_millis();
        now = (now + 10).max(u64::try_from(wake).unwrap().next_multiple_of(10));
    }
    starts
}

/// Most starts in any second.
fn most_in_a_second(starts: &[(u64, usize)]) -> usize {
    let mut begin = 0;
    let mut most = 0;
    for (end, (time, _)) in starts.iter().enumerate() {
        while starts[begin].0 + 1_000 <= *time {
            begin += 1;
        }
        most = most.max(end + 1 - begin);
    }
    most
}

fn firsts(starts: &[(u64, usize)]) -> BTreeMap<usize, u64> {
    let mut firsts = BTreeMap::new();
    starts.iter().for_each(|(time, target)| {
        firsts.entry(*target).or_insert(*time);
    });
    firsts
}

fn phases(n: usize, interval: u64, seed: u64) -> Vec<u64> {
    let chance = crate::chance::Chance::seeded(seed);
    (0..n).map(|_| chance.below(interval)).collect()
}

#[test]
fn ten_thousand_targets_are_taken_over_without_a_burst() {
    for (interval, gap) in [(60_000, 5_000), (10_000, 5_000), (10_000, 9_500), (60_000, 400_000), (5_000, 5_000)] {
        let targets = set(&vec![interval; 10_000]);
        let last = phases(10_000, interval, gap);
        let at = interval + gap;
        let starts = take_over(&targets, &last, at, 2 * interval);
        let normal = 10_000.0 / (interval as f64 / 1_000.0);
        let most = most_in_a_second(&starts);
        let firsts = firsts(&starts);
        let overdue: Vec<u64> =
            last.iter().enumerate().filter(|(_, l)| *l + interval < at).map(|(i, _)| firsts[&i]).collect();
        let caught_up = overdue.iter().max().unwrap() - at;
        println!(
            "interval {interval} ms, gap {gap} ms: normal {normal:.0}/s, most in 1 s {most} ({:.2} x), {} overdue, caught up after {caught_up} ms",
            most as f64 / normal,
            overdue.len()
        );
        assert!(most as f64 <= 2.0 * normal, "{most} of {normal}");
        assert_eq!(firsts.len(), 10_000);
        // Of `overdue`, what 1.9 times the normal rate leaves beside the others: at most one interval in all.
        assert!(caught_up <= interval, "{caught_up}");
        for (i, l) in last.iter().enumerate() {
            assert!(firsts[&i] <= (l + 2 * interval).max(at + interval) + 10, "{i}");
        }
    }
}

#[test]
fn who_is_not_overdue_is_probed_one_interval_after_its_last_time_and_keeps_that_phase() {
    let targets = set(&[10_000; 3]);
    let starts = take_over(&targets, &[4_000, 6_500, 8_010], 9_000, 40_000);
    // The last one's phase, rounded up to where others are.
    for (i, first) in [14_000, 16_500, 18_050].into_iter().enumerate() {
        let of: Vec<u64> = starts.iter().filter(|(_, t)| *t == i).map(|(time, _)| *time).collect();
        assert_eq!(of[..3], [first, first + 10_000, first + 20_000]);
    }
}

#[test]
fn the_overdue_come_oldest_first_and_return_to_their_phase() {
    let targets = set(&[10_000; 6]);
    let last = [6_000, 5_000, 7_000, 3_000, 9_000, 8_000];
    let starts = take_over(&targets, &last, 25_500, 30_000);
    // One each second at least; those whose next slot comes before their turn start there.
    let order: Vec<usize> =
        firsts(&starts).into_iter().map(|(t, at)| (at, t)).collect::<BTreeMap<_, _>>().into_values().collect();
    assert_eq!(order[0], 3);
    assert!(firsts(&starts).values().all(|first| *first <= 35_000), "{starts:?}");
    for (time, target) in starts.iter().filter(|(time, _)| *time > 36_000) {
        assert_eq!((time - last[*target]) % 10_000, 0, "{target} at {time}");
    }
}

#[test]
fn a_few_targets_wait_no_longer_than_they_must() {
    let starts = take_over(&set(&[60_000; 5]), &[0; 5], 100_000, 10_000);
    let times: Vec<u64> = starts.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [100_000, 101_000, 102_000, 103_000, 104_000], "one a second");
}

#[test]
fn those_at_their_fast_interval_go_on_in_the_phase_of_their_last_probe() {
    let targets = set(&[60_000; 1_000]);
    let mut schedule = Schedule::new();
    let known = targets.iter().enumerate().map(|(i, t)| (t.name.clone(), ms(100_000 + i as u64))).collect();
    schedule.set_targets(&targets, &known, ms(102_500));
    targets.iter().for_each(|t| schedule.set_fast(t.name.as_str(), true, ms(102_500)));
    let (mut due, mut most, mut count) = (Vec::new(), 0, 0);
    for tick in 0..=100 {
        schedule.due(ms(102_500 + tick * 10), &mut due);
        most = most.max(due.len());
        count += due.drain(..).count();
    }
    assert_eq!(count, 1_000, "all within a fast interval");
    assert!(most <= 20, "{most} in one tick");
}

#[test]
fn a_set_taken_away_and_given_again_is_scheduled_anew() {
    let targets = set(&[10_000; 50]);
    let known: BTreeMap<_, _> = targets.iter().map(|t| (t.name.clone(), ms(0))).collect();
    let mut schedule = Schedule::new();
    schedule.set_targets(&targets, &known, ms(100_000));
    let mut due = Vec::new();
    schedule.due(ms(100_000), &mut due);
    assert!(!due.is_empty());
    schedule.set_targets(&[], &BTreeMap::new(), ms(100_000));
    assert!(due.drain(..).all(|d| schedule.started(d.id, ms(100_000)).is_none()));
    assert_eq!(schedule.next_wake(), None, "a follower probes nothing");
    schedule.set_targets(&targets, &known, ms(200_000));
    let mut names = std::collections::BTreeSet::new();
    for tick in 0..=1_000 {
        schedule.due(ms(200_000 + tick * 10), &mut due);
        due.drain(..).for_each(|d| {
            names.insert(schedule.target(d.id).unwrap().name.clone());
        });
    }
    assert_eq!(names.len(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any mix of intervals and last times, clumped phases among them: what is overdue adds no burst of its own; everything started by max(last + 2 × interval, the takeover + its interval).
    #[test]
    fn no_burst_and_nobody_starves(
        targets in proptest::collection::vec((1_u64..120, 0_u64..200_000), 1..400),
        gap in 0_u64..100_000,
    ) {
        let intervals: Vec<u64> = targets.iter().map(|(i, _)| i * 1_000).collect();
        let at = 200_000 + gap;
        let last: Vec<u64> = targets.iter().map(|(_, l)| *l).collect();
        let set = set(&intervals);
        let starts = take_over(&set, &last, at, 250_000);
        let firsts = firsts(&starts);
        for (i, l) in last.iter().enumerate() {
            let latest = (l + 2 * intervals[i]).max(at + intervals[i]) + 10;
            prop_assert!(firsts.get(&i).is_some_and(|first| *first <= latest && *first + 10 >= (l + intervals[i]).max(at)));
        }
        // What their phases alone bring, counted from where each target was due before the takeover.
        let mut phased: Vec<(u64, usize)> = Vec::new();
        for (i, l) in last.iter().enumerate() {
            let mut slot = l + intervals[i];
            while slot <= at + 250_000 {
                if slot >= at { phased.push((slot.next_multiple_of(10), i)); }
                slot += intervals[i];
            }
        }
        phased.sort_unstable();
        let normal: f64 = intervals.iter().map(|i| 1_000.0 / *i as f64).sum();
        let alone = if phased.is_empty() { 0 } else { most_in_a_second(&phased) };
        let most = most_in_a_second(&starts);
        // The overdue take up to twice the normal rate (a start a second at least); after the last of them in a second only
        // phases bring more.
        prop_assert!(most as f64 <= (2.0 * normal).max(1.0) + 2.0 + alone as f64, "{most}: {normal} {alone}");
    }
}
