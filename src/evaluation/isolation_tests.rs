use proptest::prelude::*;

use super::*;
use crate::model::{ServiceName, Severity, TargetName, target::Check};

fn at(seconds: u64) -> Mono {
    Mono::from_origin(Duration::from_secs(seconds))
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn nodes(n: usize) -> Vec<NodeName> {
    (0..n).map(|i| node(&format!("n{i}"))).collect()
}

/// Services of 5 targets, hosts of 4; interval 10 s, time-out 5 s.
fn targets(n: usize) -> Vec<Arc<Target>> {
    let target = |i: usize| {
        let name = TargetName::new(&format!("t{:02}-{}", i / 5, i % 5)).unwrap();
        Arc::new(Target {
            service: ServiceName::of_target(&name),
            name,
            path: "/".to_owned(),
            categories: Vec::new(),
            ack: None,
            check: Arc::new(Check::http(&format!("h{}", i / 4), 80, "/")),
            interval: Duration::from_secs(10),
            severity: Severity::MEDIUM,
            business_impact: String::new(),
            technical_summary: String::new(),
            panic_guide: String::new(),
        })
    };
    (0..n).map(target).collect()
}

fn sights<'a>(targets: &'a [Arc<Target>], since: &'a [Option<u64>]) -> impl Iterator<Item = Sight<'a>> + Clone {
    targets.iter().zip(since).map(|(target, since)| Sight { target, failing_since: since.map(at) })
}

/// A leader that sees `failing` of `n` fail since t = 1000, at t = 1001.
fn alarmed(n: usize, failing: usize, others: usize, sentinels: bool) -> (Guard, Option<Ask>) {
    let mut guard = Guard::default();
    let since: Vec<_> = (0..n).map(|i| (i < failing).then_some(1000)).collect();
    let all = targets(n);
    let ask = guard.look(at(1001), sights(&all, &since), &nodes(others), sentinels);
    (guard, ask)
}

fn witness(i: usize, good: usize, bad: usize) -> Answer {
    Answer::Witness { node: node(&format!("n{i}")), good, bad }
}

fn flips(ruling: Option<Ruling>) -> bool {
    matches!(ruling, Some(Ruling::Flip { .. }))
}

fn hands_over(ruling: Option<Ruling>) -> bool {
    matches!(ruling, Some(Ruling::HandOver { .. }))
}

#[test]
fn over_half_of_eight_or_more_with_a_witness() {
    assert!(alarmed(8, 5, 1, false).1.is_some());
    assert!(alarmed(8, 4, 1, false).1.is_none(), "half is not over half");
    assert!(alarmed(7, 7, 1, false).1.is_none(), "too few to tell");
    let (guard, ask) = alarmed(8, 8, 0, true);
    assert!(ask.is_none() && !guard.holds(), "no witness at all: no guard, sentinels or not");
}

#[test]
fn what_fails_longer_than_a_cycle_says_nothing() {
    let (all, mut guard) = (targets(20), Guard::default());
    // One each 3 s: over half fail in the end, never over half of the others within 15 s.
    let since: Vec<_> = (0..20).map(|i| (i < 11).then_some(1000 + 3 * i as u64)).collect();
    for now in 1000..1040 {
        let seen: Vec<_> = since.iter().map(|s| s.filter(|s| *s <= now)).collect();
        assert!(guard.look(at(now), sights(&all, &seen), &nodes(2), false).is_none(), "at {now}");
    }
    // 12 have been down for long; 5 of the 8 others fail at once.
    let seen: Vec<_> = (0..20).map(|i| if i < 12 { Some(10) } else { (i < 17).then_some(1100) }).collect();
    let ask = guard.look(at(1101), sights(&all, &seen), &nodes(2), false).unwrap();
    assert_eq!((ask.failing, ask.of), (5, 8));
    assert!(
        ask.witnesses.iter().flat_map(|(_, t)| t).all(|t| t.name.as_str() >= "t02-2"),
        "only those are asked about"
    );
}

#[test]
fn witnesses_get_five_each_of_different_services_and_hosts() {
    let (_, ask) = alarmed(100, 100, 5, true);
    let ask = ask.unwrap();
    assert!(ask.sentinels && ask.witnesses.len() == 3);
    assert!(ask.witnesses.iter().all(|(_, t)| t.len() == 5));
    let asked = || ask.witnesses.iter().flat_map(|(_, t)| t);
    assert_eq!(asked().map(|t| &t.service).collect::<BTreeSet<_>>().len(), 15);
    assert_eq!(asked().map(|t| &t.check.host).collect::<BTreeSet<_>>().len(), 15);
    let (_, ask) = alarmed(8, 8, 2, true);
    assert_eq!(ask.unwrap().witnesses.iter().map(|(_, t)| t.len()).collect::<Vec<_>>(), [4, 4], "all there are");
}

#[test]
fn agreeing_witnesses_flip_at_once_and_disagreeing_ones_hand_over_after_the_sentinels() {
    let (mut guard, _) = alarmed(10, 9, 3, true);
    assert_eq!(guard.answer(at(1001), &witness(0, 1, 4)), Some(Ruling::Wait), "others may see it otherwise");
    assert!(flips(guard.answer(at(1001), &witness(1, 0, 5))), "two of three");
    assert!(!guard.holds());
    let (mut guard, _) = alarmed(10, 9, 2, true);
    assert_eq!(guard.answer(at(1001), &witness(0, 5, 0)), Some(Ruling::Wait));
    assert_eq!(guard.answer(at(1001), &witness(0, 5, 0)), Some(Ruling::Wait), "each counts once");
    assert_eq!(guard.answer(at(1002), &witness(1, 3, 2)), Some(Ruling::Wait), "the sentinels are still out");
    assert!(hands_over(guard.clone().answer(at(1003), &Answer::Sentinels(false))));
    assert!(flips(guard.clone().answer(at(1003), &Answer::Sentinels(true))));
    assert!(hands_over(guard.tick(at(1004))), "nor for ever");
    assert!(guard.holds(), "nothing flips at a node that is cut off");
    assert_eq!(guard.tick(at(1008)), Some(Ruling::Wait));
    assert!(flips(guard.tick(at(1009))), "nobody took it");
}

#[test]
fn a_tie_and_a_witness_without_a_route_flip() {
    let (mut guard, _) = alarmed(10, 9, 2, false);
    assert_eq!(guard.answer(at(1001), &witness(0, 5, 0)), Some(Ruling::Wait));
    assert!(flips(guard.answer(at(1001), &witness(1, 0, 5))));
    let (mut guard, _) = alarmed(10, 9, 3, false);
    assert_eq!(guard.answer(at(1001), &witness(0, 0, 5)), Some(Ruling::Wait), "it may have no route either");
    assert_eq!(guard.answer(at(1001), &witness(1, 5, 0)), Some(Ruling::Wait));
    assert!(hands_over(guard.answer(at(1001), &witness(2, 4, 1))), "outvoted");
}

#[test]
fn without_an_answer_it_flips_after_five_seconds() {
    let (mut guard, _) = alarmed(10, 9, 2, true);
    assert_eq!(guard.answer(at(1002), &witness(0, 0, 0)), Some(Ruling::Wait), "not reached");
    assert_eq!(guard.answer(at(1002), &witness(1, 0, 0)), Some(Ruling::Wait));
    assert_eq!(guard.answer(at(1004), &Answer::Sentinels(false)), Some(Ruling::Wait));
    assert_eq!(guard.next_due(), Some(at(1006)));
    assert_eq!(guard.tick(at(1005)), Some(Ruling::Wait));
    assert!(guard.holds() && flips(guard.tick(at(1006))) && !guard.holds());
    assert_eq!((guard.tick(at(1007)), guard.next_due()), (None, None));
    let (mut guard, _) = alarmed(10, 9, 3, true);
    assert_eq!(guard.answer(at(1002), &witness(0, 4, 0)), Some(Ruling::Wait));
    assert_eq!(guard.next_due(), Some(at(1004)));
    assert!(hands_over(guard.tick(at(1004))), "those that answered within 3 s decide");
}

#[test]
fn no_alarm_again_until_the_share_has_fallen() {
    let (mut guard, _) = alarmed(10, 9, 1, false);
    assert!(flips(guard.answer(at(1001), &witness(0, 0, 5))));
    let all = targets(10);
    let many = [Some(1000); 10];
    assert!(guard.look(at(1002), sights(&all, &many), &nodes(1), false).is_none());
    assert!(guard.look(at(1003), sights(&all, &[None; 10]), &nodes(1), false).is_none());
    assert!(guard.look(at(1004), sights(&all, &many), &nodes(1), false).is_some());
    assert!(guard.holds());
    assert!(guard.look(at(1005), sights(&all, &[None; 10]), &nodes(1), false).is_none());
    assert!(!guard.holds() && guard.answer(at(1005), &witness(0, 5, 0)).is_none(), "well again: over");
}

#[test]
fn a_node_hands_over_once_in_a_minute_and_two_cycles() {
    let all = targets(10);
    let alarm = |guard: &mut Guard, t: u64| {
        guard.reset();
        assert!(guard.look(at(t), sights(&all, &[Some(t - 1); 10]), &nodes(1), false).is_some());
        guard.answer(at(t), &witness(0, 5, 0))
    };
    let mut guard = Guard::default();
    assert!(hands_over(alarm(&mut guard, 1001)), "however short a time it leads");
    // It leads again. A cycle is 15 s here.
    assert!(flips(alarm(&mut guard, 1090)));
    assert!(hands_over(alarm(&mut guard, 1091)));
    assert!(flips(alarm(&mut guard, 1092)), "counted from the latest");
}

proptest! {
    /// Whatever comes in: an alarm holds for at most 5 s, and 5 s more after a hand-over; one ruling ends it; at most one hand-over
    /// in a time of leading unless the targets were well in between; no witness, no hold.
    #[test]
    fn every_alarm_ends(steps in proptest::collection::vec((0_u64..2_000, 0_u8..8, 0_usize..20, 0_usize..6), 1..200)) {
        let all = targets(16);
        let mut guard = Guard::default();
            let (mut now, mut held_since, mut over_since_well) = (Duration::from_secs(1_000), None::<Duration>, 0);
        for (wait, kind, a, b) in steps {
            now += Duration::from_millis(wait);
            let mono = Mono::from_origin(now);
            // As the controller does: it wakes when something is due.
            while let Some(due) = guard.next_due().filter(|due| *due <= mono) {
                let ruling = guard.tick(due).unwrap();
                prop_assert!(ruling != Ruling::Wait, "nothing is due in vain");
                over_since_well += usize::from(hands_over(Some(ruling)));
                prop_assert!(over_since_well <= 1);
                held_since = held_since.filter(|since| guard.holds() || due.elapsed() - *since > 2 * FLIP_AFTER);
            }
            let ruling = match kind {
                0..=2 => {
                    let since: Vec<_> = (0..16).map(|i| (i < a).then_some(now.as_secs())).collect();
                    let held = guard.holds();
                    let ask = guard.look(mono, sights(&all, &since), &nodes(b), a.is_multiple_of(2));
                    prop_assert!(ask.is_none() || (a > 8 && b > 0 && !held));
                    if a <= 8 && !guard.holds() { over_since_well = 0; }
                    None
                }
                3 => guard.answer(mono, &Answer::Sentinels(a < 3)),
                4 | 5 => guard.answer(mono, &witness(b, a, 20 - a)),
                _ => None,
            };
            let ticked = guard.tick(mono);
            for ruling in [ruling, ticked].into_iter().flatten() {
                match ruling {
                    Ruling::Flip { .. } => prop_assert!(!guard.holds()),
                    Ruling::HandOver { .. } => { over_since_well += 1; prop_assert!(over_since_well <= 1); }
                    Ruling::Wait => {}
                }
            }
            held_since = if guard.holds() { held_since.or(Some(now)) } else { None };
            prop_assert!(held_since.is_none_or(|s| now - s < 2 * FLIP_AFTER));
            prop_assert_eq!(guard.holds(), guard.next_due().is_some());
        }
    }
}
