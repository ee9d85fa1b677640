//! Tests of takeovers, of life without the store and of its return, as the core carries them out.

use super::{following::*, *};
use crate::{
    controller::{standing::Place, writer::Reign},
    model::{cluster::PeerNode, cluster::ResultsFrom},
    replication,
};

const A: (&str, &str) = ("healthcheck/a-1/path", "/x");
/// Longer than the bound of any node: 2 x 60 s and 2 s of spread.
const BOUND: u64 = 123;

fn peer(node: &str, term: i64) -> PeerNode {
    PeerNode {
        node: NodeName::new(node).unwrap(),
        region: RegionName::new("eu").unwrap(),
        role: Role::Follower,
        term,
        leader: None,
        leader_url: None,
        leader_term: None,
        store: StoreState::Lost,
        static_leader: false,
    }
}

fn fixed(node: &str, term: i64) -> PeerNode {
    let (leader, leader_url) = (NodeName::new(node).ok(), Some(format!("http://{node}")));
    PeerNode { static_leader: true, role: Role::Autonomous, leader, leader_url, ..peer(node, term) }
}

impl Bench {
    fn lose_store(&mut self) -> Effects {
        let leader = self.core.standing.leader.clone();
        let standing = Standing { leader, ..standing(false, None, StoreState::Lost) };
        self.core.stand(standing, self.now())
    }

    /// The store has it up; the leader said over its stream alone that it is down; then both are lost.
    fn alone_after_a_stream() -> Self {
        let mut bench = Self::following(&[A]);
        bench.status("a-1", HealthState::Up, 1);
        bench.full(("other", 7), vec![bench.down("a-1", (7, 2))]);
        bench.lose_store();
        bench.core.stream_lost("silent", bench.now());
        bench
    }

    fn up(&self, name: &str, number: (i64, u64)) -> replication::Entry {
        entry(name, HealthState::Up, number, self.now())
    }

    fn down(&self, name: &str, number: (i64, u64)) -> replication::Entry {
        entry(name, HealthState::Down, number, self.now())
    }

    fn pass(&mut self, secs: u64) -> Effects {
        self.secs += secs;
        self.core.tick(self.now())
    }
}

#[test]
fn a_takeover_flips_nothing_keeps_counters_and_bursts_nothing() {
    let mut bench = Bench::following(&[A]);
    let mut failing = bench.up("a-1", (7, 1));
    // Two of three bad results have come.
    failing.counters.good = 0;
    failing.counters.bad = 2;
    bench.full(("other", 7), vec![failing]);
    let probed = bench.now().mono;
    let (before, _) = bench.evaluate();
    bench.secs += 5;
    let effects = bench.core.stand(Standing { term: 20, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    assert_eq!(effects.targets.map(|t| t.len()), Some(1));
    assert_eq!(effects.last, [(target("a-1"), probed)], "due where the old leader would have probed");
    assert_eq!(effects.fast, [(target("a-1"), true)]);
    let (view, effects) = bench.evaluate();
    assert_eq!(view.health, before.health);
    assert_eq!((view.node.role, view.node.term), (Role::Leader, 20));
    assert_eq!(statuses(&effects.writes), [("a-1", HealthState::Up)], "the store has not got it");
    let Some(Write::Status(_, status)) = effects.writes.iter().find(|w| matches!(w, Write::Status(..))) else {
        panic!()
    };
    assert_eq!((status.term, status.n), (7, 1), "its transition's own term");
    bench.bad("a-1", 1);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 20, 2), "the third: the count went on");
    assert_eq!(bench.core.take_delta(bench.now()).len(), 1);
    assert!(!bench.core.has_delta());
    // It loses the lead: nothing is probed, and results on their way say nothing.
    let effects = bench.core.stand(Standing { term: 30, ..standing(false, Some("b"), StoreState::Ok) }, bench.now());
    assert_eq!(effects.targets, Some(Vec::new()));
    assert_eq!(bench.core.serving(), None);
    bench.good("a-1", 2);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 20, 2));
    // Its own earlier word turns it not back.
    bench.revision = 21;
    bench.status("a-1", HealthState::Up, 1);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 20, 2));
}

#[test]
fn who_led_last_goes_on_and_gives_way_to_a_higher_term() {
    let mut bench = Bench::led(&[A]);
    bench.good("a-1", 2);
    let effects = bench.lose_store();
    assert_eq!(effects.targets, None, "the probes go on");
    let (view, _) = bench.evaluate();
    assert_eq!((view.node.role, view.node.term, view.node.static_leader), (Role::Autonomous, 7, true));
    assert!(view.node.degraded && bench.core.sends_outputs() && bench.core.wants_scouts());
    assert_eq!(view.node.leader_url.as_deref(), Some("http://n1"), "others find it by what it says of itself");
    let serving = bench.core.serving().unwrap();
    assert_eq!((serving.term, serving.degraded), (7, true));
    bench.bad("a-1", 3);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
    bench.core.scouted(vec![peer("b", 7), fixed("c", 6)], bench.now());
    assert!(matches!(bench.core.place(), Place::StaticLeader { term: 7 }));
    let effects = bench.core.scouted(vec![fixed("c", 9)], bench.now());
    assert_eq!(effects.targets, Some(Vec::new()));
    assert_eq!(bench.core.whom().unwrap().node.as_str(), "c");
    assert!(!bench.core.sends_outputs());
    assert_eq!(bench.evaluate().0.node.term, 9);
    // For good: the other one falls silent.
    bench.core.scouted(Vec::new(), bench.now());
    bench.pass(BOUND);
    assert!(matches!(bench.core.place(), Place::Autonomous { .. }), "{:?}", bench.core.place());
    assert!(!bench.core.sends_outputs());
    assert_eq!(bench.evaluate().0.node.term, 9, "it never falls");
}

#[test]
fn what_was_said_in_an_earlier_outage_counts_no_more() {
    let mut bench = Bench::led(&[A]);
    bench.lose_store();
    let (leader, leader_url) = (NodeName::new("b").ok(), Some("http://b".to_owned()));
    let live = PeerNode { store: StoreState::Ok, leader, leader_url, ..peer("c", 9) };
    bench.core.scouted(vec![live], bench.now());
    assert_eq!(bench.core.whom().unwrap().node.as_str(), "b");
    bench.core.stand(Standing { term: 20, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    bench.lose_store();
    assert!(matches!(bench.core.place(), Place::StaticLeader { term: 20 }), "{:?}", bench.core.place());
}

#[test]
fn of_session_and_feed_the_later_leader_counts() {
    let leads = |node: &str| format!(r#"{{"node":"{node}","url":"http://{node}"}}"#);
    // The session lags: the feed has read of a later term.
    let mut bench = Bench::following(&[A]);
    bench.revision = 33;
    bench.put(LEADER, &leads("b"));
    let shown = |bench: &mut Bench| {
        let node = bench.evaluate().0.node;
        (node.leader.unwrap().to_string(), node.leader_term, node.term)
    };
    assert_eq!(shown(&mut bench), ("b".to_owned(), Some(34), 34));
    // The feed lags: without a session its leader is of a term that is known to be over.
    bench.core.stand(Standing { term: 50, ..standing(false, Some("c"), StoreState::Ok) }, bench.now());
    assert_eq!(shown(&mut bench), ("c".to_owned(), Some(50), 50));
    let cut = Standing { term: 50, session: false, ..standing(false, None, StoreState::Ok) };
    bench.core.stand(cut.clone(), bench.now());
    assert_eq!(shown(&mut bench), ("c".to_owned(), Some(50), 50));
    // Another history: what the feed read in the one before counts no more.
    bench.core.stand(Standing { generation: 2, term: 20, session: true, ..cut }, bench.now());
    assert_eq!((bench.evaluate().0.node.leader, bench.core.whom()), (None, None));
}

#[test]
fn terms_of_the_generation_before_count_no_more_whoever_tells_them() {
    let mut bench = Bench::following(&[A]);
    bench.lose_store();
    bench.full(("other", 24), vec![bench.up("a-1", (24, 1))]);
    let anew = |leader, store| Standing { generation: 2, ..standing(false, leader, store) };
    bench.core.stand(Standing { term: 0, ..anew(None, StoreState::Lost) }, bench.now());
    // Its leader has not noticed yet.
    bench.core.scouted(vec![fixed("other", 24)], bench.now());
    assert_eq!(bench.core.whom(), None);
    assert_eq!(bench.evaluate().0.node.term, 0);
    bench.core.stand(Standing { term: 23, ..anew(Some("other"), StoreState::Ok) }, bench.now());
    assert_eq!(bench.evaluate().0.node.term, 23);
    bench.full(("other", 23), vec![bench.down("a-1", (23, 1))]);
    assert_eq!(bench.seen("a-1").0, HealthState::Down);
    // In an outage of the new generation what the others say counts again.
    bench.core.stand(Standing { term: 23, ..anew(None, StoreState::Lost) }, bench.now());
    bench.core.stream_lost("silent", bench.now());
    bench.core.scouted(vec![fixed("c", 30)], bench.now());
    assert_eq!(bench.core.whom().unwrap().node.as_str(), "c");
}

#[test]
fn a_leader_of_a_history_that_is_over_is_not_followed_by_who_has_the_store() {
    let mut bench = Bench::following(&[A]);
    // It has not noticed the restore, and streams on in its old term.
    bench.full(("other", 24), vec![bench.up("a-1", (24, 1))]);
    assert_eq!(bench.seen("a-1"), (HealthState::Unknown, 0, 0));
    assert_eq!((bench.evaluate().0.node.term, bench.core.dials()), (7, None), "what it began is not gone on with");
    bench.pass(1);
    assert!(bench.core.dials().is_some());
    // Nor is it by hearsay, while nobody leads.
    bench.stand(false, None, StoreState::Ok);
    bench.core.scouted(vec![fixed("other", 24)], bench.now());
    assert_eq!(bench.evaluate().0.node.term, 7);
    // But a term that the store tells as well is the leader's next one.
    bench.core.stand(Standing { term: 24, ..standing(false, Some("other"), StoreState::Ok) }, bench.now());
    bench.full(("other", 24), vec![bench.up("a-1", (24, 1))]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 24, 1));
}

#[test]
fn a_new_leader_has_read_the_store_once_its_own_key_has_come() {
    let mut bench = Bench::following(&[A]);
    let reign = Reign { generation: 1, term: 34 };
    assert!(!bench.core.has_read(reign));
    bench.put(LEADER, r#"{"node":"other","url":"http://other"}"#);
    assert!(!bench.core.has_read(reign), "an earlier term's");
    bench.revision = 33;
    bench.put(LEADER, r#"{"node":"n1","url":"http://n1"}"#);
    assert!(bench.core.has_read(reign));
    assert!(!bench.core.has_read(Reign { generation: 2, ..reign }), "of another history");
}

/// Led in term 7, lost the store, and missed what `b` wrote in term 20 until it is elected itself, in term 40.
fn elected_after(alone: impl FnOnce(&mut Bench), health: HealthState, n: u64) -> Bench {
    let mut bench = Bench::led(&[A]);
    bench.good("a-1", 2);
    bench.lose_store();
    alone(&mut bench);
    bench.revision = 29;
    let (since, reason) = (bench.now().wall, "written".to_owned());
    let value = StatusValue { v: 1, health, since, reason, term: 20, n };
    bench.put(&status_key("a-1"), &serde_json::to_string(&value).unwrap());
    bench.core.stand(Standing { term: 40, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    bench
}

#[test]
fn a_new_leader_takes_what_was_written_while_it_went_on_in_its_old_term() {
    let mut bench = elected_after(|_| (), HealthState::Down, 3);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 20, 3));
    let mut bench = elected_after(|_| (), HealthState::Down, 3);
    assert_eq!(statuses(&bench.evaluate().1.writes), [], "it is in the store");
    // Also as a follower, of a leader that it heard nothing of.
    let follow = |bench: &mut Bench| {
        let led = Standing { term: 20, ..standing(false, Some("b"), StoreState::Ok) };
        bench.core.stand(led, bench.now());
        let elected = Standing { term: 40, ..standing(false, Some("n1"), StoreState::Ok) };
        bench.core.stand(elected, bench.now());
    };
    assert_eq!(elected_after(follow, HealthState::Down, 3).seen("a-1"), (HealthState::Down, 20, 3));
}

#[test]
fn what_a_new_leader_found_alone_it_keeps_under_a_number_above_the_written_one() {
    let alone = |bench: &mut Bench| {
        bench.core.scouted(vec![fixed("c", 9)], bench.now());
        bench.core.scouted(Vec::new(), bench.now());
        bench.pass(BOUND);
        assert_eq!(bench.core.role(), Role::Autonomous);
        // What it heard of in term 9 it never got; it goes on by its own probes.
        bench.bad("a-1", 3);
    };
    let mut bench = elected_after(alone, HealthState::Up, 8);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 40, 9));
}

#[test]
fn a_follower_without_the_store_keeps_its_stream_and_then_probes_for_itself() {
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), vec![bench.up("a-1", (7, 1))]);
    bench.lose_store();
    let (view, _) = bench.evaluate();
    assert_eq!((view.node.role, view.node.store, view.node.degraded), (Role::Follower, StoreState::Lost, true));
    // Its leader goes on as static leader: results keep coming for as long as they do.
    bench.secs += 1000;
    bench.delta(("other", 7), vec![bench.down("a-1", (7, 2))]);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
    assert_eq!(bench.core.role(), Role::Follower);
    bench.core.stream_lost("silent", bench.now());
    bench.pass(BOUND - 4);
    assert_eq!(bench.core.role(), Role::Follower);
    let effects = bench.pass(4);
    assert_eq!(bench.core.role(), Role::Autonomous);
    assert_eq!(effects.targets.map(|t| t.len()), Some(1));
    assert!(bench.core.serving().is_none() && !bench.core.sends_outputs(), "nobody follows it");
    bench.good("a-1", 2);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 3));
    // It goes on trying, from a full frame on.
    assert_eq!(bench.core.whom().unwrap().node.as_str(), "other");
    bench.pass(1);
    assert!(bench.core.dials().is_some());
    let effects = bench.full(("other", 7), vec![bench.down("a-1", (7, 2))]);
    assert_eq!((bench.core.role(), effects.targets), (Role::Follower, Some(Vec::new())));
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2), "what it found alone gives way");
}

#[test]
fn on_the_stores_return_own_results_stay_until_the_leader_speaks() {
    let alone = || {
        let mut bench = Bench::following(&[A]);
        bench.status("a-1", HealthState::Up, 1);
        bench.lose_store();
        bench.pass(BOUND);
        assert_eq!(bench.core.role(), Role::Autonomous);
        bench.bad("a-1", 3);
        assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
        let back = Standing { term: 40, ..standing(false, Some("b"), StoreState::Ok) };
        let effects = bench.core.stand(back, bench.now());
        assert_eq!((bench.core.role(), effects.targets), (Role::Follower, Some(Vec::new())));
        assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
        bench
    };
    let mut bench = alone();
    bench.full(("b", 40), vec![bench.up("a-1", (7, 1))]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 1));
    // No stream comes: the store's word counts after a while.
    let mut bench = alone();
    bench.pass(1);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
    bench.pass(3);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 1));
    assert!(matches!(bench.evaluate().0.cluster.results, ResultsFrom::Store { .. }));
}

#[test]
fn a_value_older_than_what_the_leader_said_over_its_stream_turns_nobody_back() {
    // The leader, without the store for a while, said it over its stream alone; then that was lost, and the node was alone.
    let mut bench = Bench::alone_after_a_stream();
    bench.pass(BOUND);
    bench.bad("a-1", 1);
    // The store is back, and the leader still leads.
    bench.stand(false, Some("other"), StoreState::Ok);
    bench.pass(1);
    bench.pass(4);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2), "its word is on its way to the store");
    bench.status("a-1", HealthState::Down, 2);
    bench.status("a-1", HealthState::Up, 3);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 3));
}

#[test]
fn a_mark_alone_is_no_finding_that_gives_way() {
    let mut bench = Bench::alone_after_a_stream();
    bench.core.roles.last = None;
    bench.core.age_followed(
        Now { mono: bench.now().mono.plus(Duration::from_secs(130)), ..bench.now() },
        &mut Effects::default(),
    );
    assert!(bench.evaluate().0.health[0].stale);
    assert!(!bench.core.entries[0].own);
}

#[test]
fn nobody_can_take_the_key() {
    let mut bench = Bench::synced(&[A]);
    bench.stand(false, None, StoreState::Ok);
    bench.pass(BOUND);
    let (view, _) = bench.evaluate();
    assert_eq!((view.node.role, view.node.store, view.node.degraded), (Role::Autonomous, StoreState::Ok, true));
    bench.stand(false, Some("b"), StoreState::Ok);
    assert_eq!(bench.core.role(), Role::Follower);
}

#[test]
fn a_leader_key_of_an_earlier_term_than_one_that_was_seen_is_of_another_history() {
    let mut bench = Bench::following(&[A]);
    bench.revision = 37;
    bench.sync(&[A, (LEADER, r#"{"node":"other","url":"http://other"}"#)]);
    assert_eq!(bench.core.contradicted(50), None);
    let later = Standing { term: 39, ..standing(false, Some("other"), StoreState::Ok) };
    bench.core.stand(later.clone(), bench.now());
    assert_eq!(bench.core.contradicted(38), None, "the list is older than that term");
    assert_eq!(bench.core.contradicted(50), Some(39));
    bench.core.stand(Standing { generation: 2, ..later }, bench.now());
    assert_eq!(bench.core.contradicted(50), None, "the keys are of the history before");
}

#[test]
fn a_restored_backup_turns_nothing_that_is_known_better() {
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), vec![bench.down("a-1", (7, 2))]);
    bench.full(("other", 7), vec![bench.up("a-1", (7, 3))]);
    let restored = |term| Standing { generation: 2, term, ..standing(false, None, StoreState::Ok) };
    bench.core.stand(restored(0), bench.now());
    bench.core.store_was_reset();
    // The backup has it down, once with the leader key that it was written under, and once without.
    bench.sync(&[A, (LEADER, r#"{"node":"other","url":"http://other"}"#)]);
    bench.status("a-1", HealthState::Down, 2);
    assert_eq!(bench.seen("a-1").0, HealthState::Up);
    bench.delete(&[LEADER]);
    bench.status("a-1", HealthState::Down, 2);
    assert_eq!(bench.seen("a-1").0, HealthState::Up);
    // A leader of this history says more.
    let term = bench.revision;
    bench.core.stand(restored(term), bench.now());
    let value =
        StatusValue { v: 1, health: HealthState::Down, since: bench.now().wall, reason: "r".to_owned(), term, n: 1 };
    bench.put(&status_key("a-1"), &serde_json::to_string(&value).unwrap());
    assert_eq!(bench.seen("a-1"), (HealthState::Down, term, 1));
}

#[test]
fn another_history_of_the_store_begins_with_its_own_terms() {
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), vec![bench.down("a-1", (7, 9))]);
    bench.evaluate();
    let restored = Standing { generation: 2, term: 3, ..standing(false, Some("other"), StoreState::Ok) };
    bench.core.stand(restored.clone(), bench.now());
    bench.core.store_was_reset();
    let (view, _) = bench.evaluate();
    assert_eq!((view.node.term, view.health[0].state), (3, HealthState::Down), "what is down stays down");
    bench.revision = 3;
    bench.full(("other", 3), vec![bench.up("a-1", (3, 10))]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 3, 10), "a lower number of a new history is no old news");
    // And so for a leader of the new history.
    bench.core.stand(Standing { generation: 3, term: 2, leads: true, ..restored }, bench.now());
    bench.bad("a-1", 3);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 2, 11));
}

#[test]
fn the_leader_says_every_five_seconds_what_its_region_is_like() {
    let summaries = |effects: &Effects| {
        let summary = |w: &Write| if let Write::Summary(s) = w { Some(s.clone()) } else { None };
        effects.writes.iter().filter_map(summary).collect::<Vec<_>>()
    };
    let mut bench = Bench::led(&[A]);
    bench.good("a-1", 2);
    bench.evaluate();
    let told = summaries(&bench.pass(1));
    assert_eq!((told[0].up, told[0].viable, told[0].term, told[0].now), (1, true, 7, bench.now().wall));
    assert_eq!(told[0].probed_at, Some(Timestamp::from_millis(102_000)));
    assert!((0..4).all(|_| summaries(&bench.pass(1)).is_empty()));
    assert_eq!(summaries(&bench.pass(1)).len(), 1);
    bench.put(SUMMARY, &serde_json::to_string(&told[0]).unwrap());
    bench.put(LEADER, r#"{"node":"n1","url":"http://n1"}"#);
    bench.put("regions/eu/nodes/n1", r#"{"v":1,"node":"n1","url":"http://n1","version":"1","ready":true}"#);
    bench.put(
        "regions/us/status/targets/z-1",
        r#"{"v":1,"health":"down","since":"2026-01-01T00:00:00Z","reason":"r","term":3,"n":4}"#,
    );
    bench.put("regions/us/latches/read", r#"{"by":"x","at":"2026-01-01T00:00:00Z","reason":"r"}"#);
    bench.put("regions/us/enabled", "false");
    let (view, _) = bench.evaluate();
    let (eu, us) = (&view.regions["eu"], &view.regions["us"]);
    assert_eq!((eu.leader.as_ref().unwrap().as_str(), eu.summary.as_ref(), eu.enabled), ("n1", Some(&told[0]), true));
    assert_eq!((eu.nodes.len(), view.cluster.nodes.len(), eu.seen), (1, 1, Some(bench.now().wall)));
    assert_eq!((us.down[0].target.as_str(), us.latched.len(), us.enabled), ("z-1", 1, false));
    assert!(Arc::ptr_eq(&view.regions, &bench.evaluate().0.regions), "made anew only after a change");
    bench.put(
        "regions/us/status/targets/z-1",
        r#"{"v":1,"health":"up","since":"2026-01-01T00:00:00Z","reason":"r","term":3,"n":5}"#,
    );
    bench.delete(&["regions/us/latches/read", LEADER]);
    let (view, _) = bench.evaluate();
    assert!(view.regions["us"].down.is_empty() && view.regions["us"].latched.is_empty());
    assert_eq!((view.regions["eu"].leader.as_ref(), view.regions["eu"].term), (None, 7));
    assert_eq!(view.cluster.leader.as_ref().unwrap().node.as_str(), "n1", "the session says so");
}
