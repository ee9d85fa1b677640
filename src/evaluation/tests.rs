//! Design sections 3 and 6, sentence by sentence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    answer::{Source, words},
    properties::{NOW, T, World, category},
    *,
};
use crate::model::{
    Ack, Evaluation, GtgAnswer, Latch, Mono, Now, Observation, Outcome, Reason, ServiceName, Severity, Timestamp,
};

fn latch(revision: i64) -> Latch {
    Latch { v: 1, by: "n1".into(), at: NOW, reason: "x-1 is down: status 503".into(), revision }
}

fn gtg(world: &World, evaluation: &Evaluation, words: &[&str]) -> GtgAnswer {
    source(world, evaluation).gtg(words)
}

fn source<'a>(world: &'a World, evaluation: &'a Evaluation) -> Source<'a, impl Fn(usize) -> Option<Mono>> {
    Source {
        catalog: &world.catalog,
        evaluation,
        health: &world.health,
        last_results: |i| Some(Mono::from_origin(Duration::from_secs(100 - i as u64))),
        starting: world.starting,
    }
}

fn body(answer: &GtgAnswer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[test]
fn not_resilient_every_target_counts() {
    let world = World::new(vec![T::up("foo-1", &["a"]), T::down("foo-2", &["a"]), T::up("bar-1", &["b"])]);
    let evaluation = world.evaluate(None);
    let a = &evaluation.categories["a"];
    assert!(!a.ok && !a.healthy && !a.only_unknown);
    assert_eq!(a.severity, Some(Severity::MEDIUM));
    assert_eq!(a.reasons[0].to_string(), "foo-2 is down: status 503");
    assert!(evaluation.categories["b"].ok);
    assert!(!evaluation.categories["default"].ok);
    assert!(evaluation.services["foo"].ok, "one target is up");
}

#[test]
fn resilient_a_service_fails_when_all_its_targets_there_have() {
    let mut world = World::new(vec![
        T::up("foo-1", &["a"]),
        T::down("foo-2", &["a"]),
        T::down("foo-read", &["a"]),
        T::up("foo-write", &["a"]),
        T::down("bar-1", &["a", "b"]),
        T::unknown("bar-2", &["a", "b"]),
        T::up("bar-3", &[]),
    ]);
    world.category("a").resilient = true;
    let evaluation = world.evaluate(None);
    let a: Vec<String> = evaluation.categories["a"].reasons.iter().map(ToString::to_string).collect();
    assert_eq!(
        a,
        ["service bar failed: all 2 targets failed", "service foo-read failed: its only target failed"],
        "bar-3 is up but not in a; foo-read and foo-write are two services (FT merged them)"
    );
    assert!(!evaluation.categories["a"].only_unknown, "foo-read is down");
    assert!(evaluation.services["bar"].ok);
}

#[test]
fn an_acked_failure_does_not_count_anywhere() {
    let world = World::new(vec![T::down("foo-1", &["a"]).acked(None), T::up("foo-2", &["a"])]);
    let evaluation = world.evaluate(None);
    assert!(evaluation.categories["a"].ok && evaluation.services["foo"].ok);
    assert!(evaluation.targets[0].acked && !evaluation.targets[0].ok);
    // A resilient service without a target that is up stays failed while one of its failures is not acked.
    let two = |second: T| {
        let mut world = World::new(vec![T::down("foo-1", &["a"]).acked(None), second]);
        world.category("a").resilient = true;
        let evaluation = world.evaluate(None);
        (evaluation.categories["a"].ok, evaluation.services["foo"].ok)
    };
    assert_eq!(two(T::down("foo-2", &["a"])), (false, false));
    assert_eq!(two(T::down("foo-2", &["a"]).acked(None)), (true, true));
}

#[test]
fn an_ack_ends_by_itself_and_shows_while_up() {
    let soon = Timestamp::from_millis(NOW.as_millis() + 5000);
    let mut world = World::new(vec![T::down("foo-1", &[]).acked(Some(soon)), T::up("foo-2", &[]).acked(None)]);
    let evaluation = world.evaluate(None);
    assert!(evaluation.categories["default"].ok && evaluation.targets[1].acked);
    assert_eq!(evaluation.next_due, Some(soon));
    let input = Input { now: soon, ..world.input(None) };
    let later = evaluate(&input);
    assert!(invariants::breaches(&input, &later).is_empty());
    assert!(!later.categories["default"].ok);
    assert_eq!(later.next_due, None);
    world.catalog.cluster_ack = Some(Ack { until: Some(soon), ..Ack::text("known") });
    let acked = world.evaluate(None);
    assert!(acked.cluster_acked);
    assert_eq!(gtg(&world, &acked, &["default"]).status, 200);
    world.health[1].state = crate::model::HealthState::Down;
    Arc::make_mut(&mut world.catalog.targets[1]).ack = None;
    assert_eq!(gtg(&world, &world.evaluate(None), &["default"]).status, 503, "gtg ignores the cluster ack");
}

#[test]
fn it_fails_closed() {
    let world = World::new(vec![T::unknown("foo-1", &["a"])]);
    let evaluation = world.evaluate(None);
    assert!(!evaluation.categories["a"].ok && evaluation.categories["a"].only_unknown);
    assert!(!evaluation.services["foo"].ok);
    assert_eq!(body(&gtg(&world, &evaluation, &["b"])), "category b has no targets");
    // A health that is missing is unknown.
    let mut world = World::new(vec![T::up("foo-1", &["a"])]);
    world.health.clear();
    assert!(!world.evaluate(None).categories["a"].ok);
    // A service that has a key but no target.
    let name = ServiceName::new("empty").unwrap();
    let empty = crate::model::Service { name: name.clone(), members: vec![], spec: Arc::default(), failover: None };
    world.catalog.services.insert(name, empty);
    let evaluation = world.evaluate(None);
    assert!(!evaluation.services["empty"].ok);
    assert_eq!(body(&source(&world, &evaluation).service("empty").unwrap()), "service empty has no targets here");
}

#[test]
fn a_sticky_category_latches_when_it_turns_bad() {
    let mut world = World::new(vec![T::up("foo-1", &["a"]), T::unknown("foo-2", &["b"])]);
    world.category("a").sticky = true;
    world.category("b").sticky = true;
    world.category("c").sticky = true;
    let good = world.evaluate(None);
    assert!(good.new_latches.is_empty(), "neither unknown nor empty categories latch");
    world.health[0].state = crate::model::HealthState::Down;
    let bad = world.evaluate(Some(&good));
    assert_eq!(bad.new_latches[&category("a")], "foo-1 is down: status 503");
    assert_eq!(bad.new_latches.len(), 1);
    // From unknown to down is turning bad, too.
    world.health[1].state = crate::model::HealthState::Down;
    assert!(world.evaluate(Some(&bad)).new_latches.contains_key(&category("b")));
    // Not while it is off, nor where a latch is in force.
    world.category("a").enabled = false;
    assert!(!world.evaluate(Some(&good)).new_latches.contains_key(&category("a")));
    world.category("a").enabled = true;
    world.latches.insert(category("a"), latch(7));
    assert!(!world.evaluate(Some(&good)).new_latches.contains_key(&category("a")));
}

#[test]
fn a_latch_holds_until_a_later_enabled() {
    let mut world = World::new(vec![T::up("foo-1", &["a"])]);
    world.latches.insert(category("a"), latch(7));
    let evaluation = world.evaluate(None);
    let a = &evaluation.categories["a"];
    assert!(a.healthy && !a.ok && a.latch.is_some());
    assert!(body(&gtg(&world, &evaluation, &["a"])).starts_with("category a was switched off by its sticky latch at "));
    assert_eq!(gtg(&world, &evaluation, &["a", "b"]).status, 503);
    // FT's plain `enabled` false, put by the latch itself or by hand, clears nothing.
    (world.category("a").enabled, world.category("a").enabled_revision) = (false, 9);
    let off = world.evaluate(None);
    assert!(off.cleared_latches.is_empty());
    assert!(body(&gtg(&world, &off, &["a"])).starts_with("category a was switched off by its sticky latch at "));
    (world.category("a").enabled, world.category("a").enabled_revision) = (true, 7);
    assert!(world.evaluate(None).cleared_latches.is_empty());
    world.category("a").enabled_revision = 8;
    let cleared = world.evaluate(None);
    assert_eq!(cleared.cleared_latches, [category("a")]);
    assert!(cleared.categories["a"].ok && cleared.categories["a"].latch.is_none());
}

#[test]
fn a_new_leader_latches_unless_enabled_was_put_after_the_newest_failure() {
    let mut world = World::new(vec![T::down("foo-1", &["a"]), T::down("foo-2", &["a"])]);
    world.category("a").sticky = true;
    world.category("a").enabled_revision = 20;
    let latches =
        |failure_revisions: &[i64]| !evaluate(&Input { failure_revisions, ..world.input(None) }).new_latches.is_empty();
    assert!(!latches(&[10, 19]));
    assert!(latches(&[10, 21]));
    assert!(latches(&[10, 0]), "one that is not written yet is newer than any put");
    assert!(latches(&[]), "nothing known: fail closed");
    // An operator switched it on while it was bad: it stays on until it turns bad again.
    let before = world.evaluate(None);
    assert!(world.evaluate(Some(&before)).new_latches.is_empty());
}

#[test]
fn a_drained_region_is_not_ok_though_healthy() {
    let mut world = World::new(vec![T::up("foo-1", &["a"])]);
    world.drain();
    let evaluation = world.evaluate(None);
    assert!(evaluation.categories["a"].healthy && !evaluation.categories["a"].ok);
    assert_eq!(body(&gtg(&world, &evaluation, &["a"])), "region default is drained by an operator");
    assert_eq!(source(&world, &evaluation).service("foo").unwrap().status, 503);
}

#[test]
fn reasons_are_bounded_and_the_worst_come_first() {
    let mut list: Vec<T> = (0..40).map(|i| T::down(&format!("foo-{i:02}"), &["a"])).collect();
    list[33].severity = 1;
    list[3].severity = 3;
    let world = World::new(list);
    let evaluation = world.evaluate(None);
    let a = &evaluation.categories["a"];
    assert_eq!(a.reasons.len(), aggregate::MAX_REASONS);
    assert_eq!(a.severity, Some(Severity::HIGH));
    let named = |i: usize| match &a.reasons[i] {
        Reason::TargetFailed { target, .. } => target.as_str(),
        other => panic!("{other}"),
    };
    assert_eq!((named(0), named(1), named(4)), ("foo-33", "foo-00", "foo-04"));
}

#[test]
fn words_of_a_request() {
    assert_eq!(words([]), ["default"]);
    assert_eq!(words(["", " , "]), ["default"]);
    assert_eq!(words(["a, b,", "c"]), ["a", "b", "c"]);
}

#[test]
fn gtg_of_several_categories() {
    let mut world = World::new(vec![T::up("foo-1", &["a", "b"]), T::down("foo-2", &["b"])]);
    let of = |world: &World, words: &[&str]| gtg(world, &world.evaluate(None), words);
    assert_eq!(body(&of(&world, &["a"])), "OK");
    assert_eq!(of(&world, &["a", "b"]).status, 503);
    world.category("b").resilient = true;
    assert_eq!(of(&world, &["b"]).status, 200);
    assert_eq!(of(&world, &["a", "b"]).status, 503, "resilient only if all are");
    world.category("a").resilient = true;
    assert_eq!(of(&world, &["a", "b"]).status, 200);
    // Unknown ones are named and ignored; none known is 400; off comes before anything else.
    let mixed = of(&world, &["nope", "a", "e\r\nvil"]);
    assert_eq!((mixed.status, mixed.unknown.as_deref()), (200, Some(&b"nope,e??vil"[..])));
    let none = of(&world, &["nope"]);
    assert_eq!((none.status, body(&none)), (400, "no known category among: nope"));
    world.category("a").enabled = false;
    assert_eq!(body(&of(&world, &["nope", "b", "a"])), "category a is disabled");
    world.starting = true;
    assert_eq!(of(&world, &["nope"]), GtgAnswer::default());
}

#[test]
fn prepared_answers_and_the_age_of_stale_ones() {
    let mut world = World::new(vec![T::up("foo-1", &["a"]), T::up("foo-2", &["a"]), T::up("foo-3", &["b"])]);
    world.health[0].stale = true;
    world.health[1].stale = true;
    let evaluation = world.evaluate(None);
    let prepared = source(&world, &evaluation).prepare(&["a,b".into(), "a,nope".into()]);
    assert_eq!(prepared.default.status, 200, "stale is still counted as last known");
    let oldest = Some(Mono::from_origin(Duration::from_secs(99)));
    assert_eq!(prepared.default.stale_since, oldest);
    assert_eq!(prepared.categories["a"].stale_since, oldest);
    assert_eq!(prepared.categories["b"].stale_since, None);
    assert_eq!(prepared.services["foo"].stale_since, oldest);
    assert_eq!(prepared.categories["a,b"].status, 200);
    assert_eq!(prepared.categories["a,nope"].unknown.as_deref(), Some(&b"nope"[..]));
    assert_eq!(prepared.categories.len(), 6);
    assert!(source(&world, &evaluation).service("nope").is_none());
}

#[test]
fn raw_results_replace_damped_states_and_latch_nothing() {
    let mut world = World::new(vec![T::up("foo-1", &["a"]), T::down("foo-2", &["a"])]);
    world.category("a").sticky = true;
    let raw = |outcome, output: &str| Arc::new(Observation::plain(outcome, Duration::ZERO, output, Now::default()));
    let results =
        BTreeMap::from([(0, raw(Outcome::Timeout, "no answer in 3 s")), (1, raw(Outcome::Good, "status 200"))]);
    let good = world.evaluate(None);
    let (health, evaluation) = raw::evaluate_raw(&world.input(Some(&good)), &results);
    assert_eq!(evaluation.categories["a"].reasons[0].to_string(), "foo-1 is down: no answer in 3 s");
    assert_eq!(evaluation.categories["a"].reasons.len(), 1, "foo-2 is up now");
    assert!(evaluation.new_latches.is_empty());
    assert_eq!(health.len(), 2);
    assert_eq!(raw::evaluate_raw(&world.input(Some(&good)), &BTreeMap::new()).1.categories, good.categories);
}

/// Design section 9: 10,000 targets, 1,000 services in at most 2 ms. Run by hand:
/// `cargo test --release --lib ten_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement; needs a release build"]
#[allow(clippy::disallowed_methods)]
fn ten_thousand_targets() {
    let list = (0..10_000).map(|i| {
        let name = format!("service{:04}-{:02}", i / 10, i % 10);
        let categories: &[&str] = if i % 2 == 0 { &["a", "b"] } else { &["b", "c"] };
        if i % 50 == 0 { T::down(&name, categories) } else { T::up(&name, categories) }
    });
    let mut world = World::new(list.collect());
    world.category("b").resilient = true;
    let mut previous = evaluate(&world.input(None));
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = std::time::Instant::now();
        previous = evaluate(&world.input(Some(&previous)));
        times.push(start.elapsed());
    }
    times.sort();
    let start = std::time::Instant::now();
    let prepared = source(&world, &previous).prepare(&[]);
    println!(
        "evaluate p50 {:?} max {:?}; prepare {:?} ({} services)",
        times[100],
        times[199],
        start.elapsed(),
        prepared.services.len()
    );
}
