//! Tests of the wired isolation guard, and of a start from what was kept on disk.

use super::{following::*, *};
use crate::{
    controller::{
        kept::{KeptCatalog, KeptState},
        standing::Place,
    },
    evaluation::isolation::Answer,
    model::{cluster::NodeInfo, cluster::ResultsFrom},
};

const NODE: &str = r#"{"v":1,"node":"b","url":"http://b"}"#;

/// A leader of ten targets that are up, beside node `b`.
fn ten() -> Bench {
    let names: Vec<String> = (0..10).map(|i| format!("healthcheck/t-{i}/path")).collect();
    let keys: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "/x")).collect();
    let mut bench = Bench::led(&keys);
    bench.put("regions/eu/nodes/b", NODE);
    for i in 0..10 {
        bench.good(&format!("t-{i}"), 2);
    }
    bench.evaluate();
    bench
}

/// All fail, as often as it takes.
fn all_fail(bench: &mut Bench) -> Effects {
    let mut all = Effects::default();
    for _ in 0..3 {
        bench.secs += 1;
        let batch: Vec<Observed> = (0..10)
            .map(|i| {
                let name = format!("t-{i}");
                let check = Arc::clone(&bench.core.catalog().target(&name).unwrap().check);
                let observation = Arc::new(Observation::plain(Outcome::Timeout, Duration::ZERO, "late", bench.now()));
                Observed { target: target(&name), place: 0, check, observation, refreshed: false }
            })
            .collect();
        let effects = bench.core.observe(&batch);
        all.changes.extend(effects.changes);
        all.question = all.question.or(effects.question);
    }
    all
}

fn downs(bench: &mut Bench) -> usize {
    bench.evaluate().0.health.iter().filter(|h| h.state == HealthState::Down).count()
}

fn witness(good: usize, bad: usize) -> Answer {
    Answer::Witness { node: NodeName::new("b").unwrap(), good, bad }
}

#[test]
fn when_most_targets_fail_at_once_others_are_asked_before_anything_flips() {
    let mut bench = ten();
    let effects = all_fail(&mut bench);
    assert!(effects.changes.is_empty(), "{effects:?}");
    let question = effects.question.unwrap();
    assert_eq!((question.witnesses.len(), question.witnesses[0].url.as_str()), (1, "http://b"));
    assert_eq!(question.witnesses[0].targets.len(), 5);
    assert_eq!(downs(&mut bench), 0);
    let (view, _) = bench.evaluate();
    assert_eq!(view.cells[0].load().unwrap().outcome, Outcome::Timeout, "the cells show them");
    assert!(bench.core.next_due(bench.now()).unwrap() <= Duration::from_secs(5));
    // The witness agrees: now.
    let effects = bench.core.answered(&witness(0, 5), bench.now().mono);
    assert_eq!(effects.changes.len(), 10, "{effects:?}");
    assert_eq!(downs(&mut bench), 10);
}

#[test]
fn a_leader_that_is_cut_off_hands_over_and_flips_nothing() {
    let mut bench = ten();
    all_fail(&mut bench);
    let now = bench.now().mono;
    bench.core.answered(&Answer::Sentinels(false), now);
    let effects = bench.core.answered(&witness(5, 0), now);
    assert!(effects.hand_over.is_some(), "{effects:?}");
    assert_eq!(downs(&mut bench), 0);
    // Another leads, and what it says counts.
    bench.core.stand(Standing { term: 9, ..standing(false, Some("b"), StoreState::Ok) }, bench.now());
    let now = bench.now();
    bench.full(("b", 9), vec![entry("t-0", HealthState::Down, (9, 2), now)]);
    assert_eq!(downs(&mut bench), 1);
}

#[test]
fn without_an_answer_it_flips_and_a_good_result_takes_its_own_back() {
    let mut bench = ten();
    all_fail(&mut bench);
    bench.good("t-0", 1);
    bench.secs += 5;
    bench.core.tick(bench.now());
    assert_eq!(downs(&mut bench), 9);
    // Alone there is no guard.
    let mut bench = ten();
    bench.delete(&["regions/eu/nodes/b"]);
    let effects = all_fail(&mut bench);
    assert!(effects.question.is_none());
    assert_eq!(downs(&mut bench), 10);
}

#[test]
fn a_start_from_disk_answers_at_once_marked_stale_and_gives_way_to_the_store() {
    let mut bench = Bench::starting(true, BTreeMap::new());
    let pairs = ["healthcheck/a-1/path", "healthcheck/b-1/path", "healthcheck/gone-1/path"];
    let events: Vec<Event> = pairs.iter().map(|key| bench.put_event(key, "/x")).collect();
    let (recent, old) = (bench.now(), Now::default());
    let node = |name: &str| NodeInfo {
        node: NodeName::new(name).unwrap(),
        url: format!("http://{name}"),
        version: String::new(),
        started: Timestamp::default(),
    };
    let latch = Latch { v: 1, by: "b".into(), at: Timestamp::default(), reason: "x".into(), revision: 5 };
    let kept = KeptCatalog {
        revision: 9,
        term: 7,
        leader: NodeName::new("b").ok(),
        latches: BTreeMap::from([(category("read"), latch)]),
        nodes: vec![node("b"), node("n1")],
        ..KeptCatalog::default()
    };
    bench.secs += 30;
    // `b-1` was seen last a long time ago.
    bench.secs += 600;
    let recent = Now { wall: bench.now().wall, ..recent };
    let entries = vec![
        entry("a-1", HealthState::Up, (7, 3), recent),
        entry("b-1", HealthState::Up, (7, 1), old),
        entry("gone-1", HealthState::Up, (7, 1), recent),
    ];
    let (_, lent) = bench.core.restore(kept, KeptState { saved: recent.wall, entries }, events, bench.now());
    assert_eq!(lent, ["regions/eu/nodes/b", "regions/eu/nodes/n1", "regions/eu/latches/read"]);
    bench.core.tick(bench.now());
    let (view, _) = bench.evaluate();
    let seen: Vec<_> = view.health.iter().map(|h| (h.state, h.stale)).collect();
    assert_eq!(seen, [(HealthState::Up, true), (HealthState::Unknown, false), (HealthState::Up, true)]);
    assert_eq!((view.node.role, view.node.ready, view.node.degraded, view.node.term), (Role::Follower, true, true, 7));
    assert!(matches!(view.cluster.results, ResultsFrom::Kept) && view.latches.contains_key("read"));
    assert!(view.cells[0].load().is_some(), "with the last result");
    assert_eq!(
        (bench.core.peer_urls(), bench.core.dials().unwrap().url.as_str()),
        (vec!["http://b".to_owned()], "http://b")
    );
    assert!(bench.core.wants_scouts());
    // Nobody answers: it probes for itself, from where it was.
    bench.secs += 125;
    let effects = bench.core.tick(bench.now());
    assert!(matches!(bench.core.place(), Place::Autonomous { .. }));
    assert_eq!(effects.targets.map(|t| t.len()), Some(3));
    // The store is back, and one target was removed meanwhile (the keeper finds the deletes).
    bench.revision = 20;
    let gone = [Event::Delete { key: pairs[2].to_owned(), revision: 20 }];
    bench.core.apply(20, &gone, true, bench.now());
    bench.core.stand(Standing { term: 12, ..standing(false, Some("b"), StoreState::Ok) }, bench.now());
    bench.status("b-1", HealthState::Down, 2);
    let now = bench.now();
    bench.full(("b", 12), vec![entry("a-1", HealthState::Up, (7, 3), now)]);
    let (view, _) = bench.evaluate();
    let seen: Vec<_> = view.health.iter().map(|h| (h.state, h.stale)).collect();
    assert_eq!(seen, [(HealthState::Up, false), (HealthState::Down, false)]);
    let kept = bench.core.kept();
    assert_eq!((kept.term, kept.leader.unwrap().as_str(), kept.nodes.len()), (12, "b", 2));
}
