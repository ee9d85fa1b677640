use proptest::prelude::*;

use super::*;
use crate::model::Outcome;

const PARAMS: Params = Params {
    rise: 2,
    fall: 3,
    interval: Duration::from_secs(10),
    fast_interval: Duration::from_secs(1),
    timeout: Duration::from_secs(5),
};

fn at(secs: u64) -> Now {
    Now {
        wall: Timestamp::from_millis(1_000_000 + secs as i64 * 1000),
        mono: Mono::from_origin(Duration::from_secs(1000 + secs)),
    }
}

fn result(good: bool, secs: u64) -> Observation {
    let (outcome, output) = if good { (Outcome::Good, "status 200") } else { (Outcome::Bad, "status 503") };
    Observation::plain(outcome, Duration::from_millis(3), output, at(secs))
}

/// A track that has seen `pattern` (`G`, `B`), one result each second, and the time of the next.
fn after(pattern: &str) -> (Track, u64) {
    let mut track = Track::new(at(0));
    for (i, c) in pattern.chars().enumerate() {
        track.observe(&result(c == 'G', i as u64), &PARAMS, 7);
    }
    (track, pattern.len() as u64)
}

#[test]
fn rise_and_fall_also_count_from_unknown() {
    for (pattern, state) in [
        ("", HealthState::Unknown),
        ("G", HealthState::Unknown),
        ("BB", HealthState::Unknown),
        ("GG", HealthState::Up),
        ("BBB", HealthState::Down),
        ("GGBB", HealthState::Up),
        ("GGBBGBB", HealthState::Up),
        ("GGBBB", HealthState::Down),
        ("BBBG", HealthState::Down),
        ("BBBGG", HealthState::Up),
    ] {
        assert_eq!(after(pattern).0.health().state, state, "{pattern}");
    }
}

#[test]
fn a_transition_says_when_why_and_counts_itself() {
    let (mut track, next) = after("GGBB");
    assert_eq!((track.health().n, track.health().term), (1, 7));
    let change = track.observe(&result(false, next), &PARAMS, 8).unwrap();
    assert!(change.is_transition());
    assert_eq!((change.from, change.to, change.n), (HealthState::Up, HealthState::Down, 2));
    assert_eq!(&*change.reason, "3 bad results in a row: status 503");
    assert_eq!(track.health().since, at(next).wall);
    assert_eq!(track.health().term, 8);
    assert!(track.observe(&result(false, next + 1), &PARAMS, 8).is_none(), "more of the same changes nothing");
}

#[test]
fn reasons_are_one_bounded_line() {
    let (mut track, next) = after("BB");
    let mut hostile = result(false, next);
    hostile.output = Arc::from(format!("a\r\nSet-Cookie: x\u{1b}[31m{}", "y".repeat(2000)));
    let change = track.observe(&hostile, &PARAMS, 0).unwrap();
    assert!(!change.reason.chars().any(char::is_control), "{:?}", change.reason);
    assert!(change.reason.chars().count() < 400);
}

#[test]
fn only_a_changing_state_is_hurried() {
    for (pattern, fast) in
        [("", false), ("G", true), ("B", true), ("GG", false), ("GGB", true), ("GGBBB", false), ("GGBBBG", true)]
    {
        assert_eq!(after(pattern).0.wants_fast(&PARAMS), fast, "{pattern}");
    }
}

#[test]
fn stale_then_unknown_by_age() {
    let (mut track, _) = after("GG");
    let last = 1;
    assert_eq!(track.next_due(&PARAMS), Some(at(last + 25).mono));
    assert!(track.age(at(last + 24), &PARAMS, 7).is_none());
    let change = track.age(at(last + 25), &PARAMS, 7).unwrap();
    assert!(!change.is_transition() && change.stale);
    assert_eq!(track.health().state, HealthState::Up, "still the last known");
    assert_eq!(track.next_due(&PARAMS), Some(at(last + 100).mono));
    let change = track.age(at(last + 100), &PARAMS, 7).unwrap();
    assert_eq!(change.to, HealthState::Unknown);
    assert_eq!(&*change.reason, "no result for 100 s");
    assert!(!track.health().stale, "unknown, stale and down are distinct");
    assert_eq!(track.next_due(&PARAMS), None);
    // One good result does not bring it back: rise counts from unknown.
    track.observe(&result(true, last + 101), &PARAMS, 7);
    assert_eq!(track.health().state, HealthState::Unknown);
    track.observe(&result(true, last + 102), &PARAMS, 7);
    assert_eq!(track.health().state, HealthState::Up);
}

#[test]
fn short_intervals_are_unknown_after_a_minute_and_a_result_ends_staleness() {
    let params = Params { interval: Duration::from_secs(1), ..PARAMS };
    let (mut track, _) = after("GG");
    assert!(track.age(at(1 + 7), &params, 7).unwrap().stale);
    assert!(track.age(at(1 + 59), &params, 7).is_none());
    let change = track.observe(&result(true, 60), &params, 7).unwrap();
    assert!(!change.stale && !change.is_transition());
    assert_eq!(track.age(at(60 + 60), &params, 7).unwrap().to, HealthState::Unknown);
}

#[test]
fn while_flapping_the_worse_state_holds() {
    let (mut track, mut next) = after("GGBBBGGBBBGGBBBGGBBB");
    assert!(track.health().flapping, "two changes in each five results are 40 %");
    assert_eq!(track.health().state, HealthState::Down);
    let (mut ups, mut good) = (0, 0);
    while track.health().flapping {
        assert_eq!(track.health().state, HealthState::Down, "held");
        track.observe(&result(true, next), &PARAMS, 7);
        next += 1;
        good += 1;
        ups += u32::from(track.health().state == HealthState::Up);
        assert!(good < 20);
    }
    assert!(good > 2, "rise alone would have made it up after 2");
    assert_eq!((track.health().state, ups), (HealthState::Up, 1), "the result that ends the flapping makes it up");
    assert!(!track.wants_fast(&PARAMS));
}

#[test]
fn a_track_goes_on_where_the_leader_before_stopped() {
    let (mut track, next) = after("GGBB");
    let counters = track.counters(at(next));
    let json = serde_json::to_string(&counters).unwrap();
    assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
    // Another process: its monotonic clock has another origin.
    let there = |secs: u64| Now { wall: at(secs).wall, mono: Mono::from_origin(Duration::from_secs(50_000 + secs)) };
    let mut taken = Track::restore(track.health().clone(), Some(&counters), there(next));
    assert_eq!(taken.last_result(), Some(there(next - 1).mono));
    let mut observation = result(false, next);
    let here = track.observe(&observation, &PARAMS, 7);
    observation.at = there(next);
    assert_eq!(taken.observe(&observation, &PARAMS, 7), here);
    assert_eq!(taken.health(), track.health());
}

#[test]
fn a_late_result_is_ignored_and_a_changed_spec_keeps_the_health() {
    let (mut track, _) = after("GGGG");
    let health = track.health().clone();
    assert!(track.observe(&result(false, 0), &Params { fall: 1, ..PARAMS }, 7).is_none());
    assert_eq!(track.health(), &health);
    assert!(track.observe(&result(true, 4), &Params { rise: 9, fall: 9, ..PARAMS }, 7).is_none());
    assert_eq!(track.health(), &health);
}

proptest! {
    /// Never faster than the damping: up only after `rise` good results in a row, down only after `fall` bad ones; `n`
    /// grows by one with each transition; the same results give the same health.
    #[test]
    fn never_faster_than_the_damping(results in prop::collection::vec(any::<bool>(), 1..80), rise in 1_u32..5, fall in 1_u32..5) {
        let params = Params { rise, fall, ..PARAMS };
        let (mut track, mut again) = (Track::new(at(0)), Track::new(at(0)));
        let (mut good, mut bad) = (0, 0);
        for (i, ok) in results.iter().enumerate() {
            let n = track.health().n;
            let change = track.observe(&result(*ok, i as u64), &params, 1);
            prop_assert_eq!(&change, &again.observe(&result(*ok, i as u64), &params, 1));
            (good, bad) = if *ok { (good + 1, 0) } else { (0, bad + 1) };
            match change.filter(Change::is_transition).map(|c| c.to) {
                Some(HealthState::Up) => prop_assert!(good >= rise && !track.health().flapping),
                Some(HealthState::Down) => prop_assert!(bad >= fall),
                Some(HealthState::Unknown) => prop_assert!(false, "a result never makes it unknown"),
                None => prop_assert_eq!(track.health().n, n),
            }
            // A run that is long enough has settled, unless flapping holds it.
            if bad >= fall { prop_assert_eq!(track.health().state, HealthState::Down); }
            if good >= rise && !track.health().flapping { prop_assert_eq!(track.health().state, HealthState::Up); }
        }
    }

    /// `next_due` is exact: a moment before it nothing changes, at it something does.
    #[test]
    fn next_due_is_exact(pattern in "[GB]{3,9}", interval in 1_u64..40, timeout in 1_u64..400) {
        let params = Params { interval: Duration::from_secs(interval), timeout: Duration::from_secs(timeout), ..PARAMS };
        let (mut track, _) = after(&pattern);
        while let Some(due) = track.next_due(&params) {
            let secs = due.elapsed().as_secs() - 1000;
            prop_assert!(track.age(at(secs - 1), &params, 1).is_none());
            prop_assert!(track.age(at(secs), &params, 1).is_some());
        }
        prop_assert_eq!(track.health().state, HealthState::Unknown);
    }
}
