//! Tests of a follower: frames and written values by (term, n), ages and times by the leader.

use super::*;
use crate::{
    evaluation::health::Counters,
    model::{Health, cluster::ResultsFrom, cluster::Summary},
    replication::{self, Frame, Head},
};

pub(super) const LEADER: &str = "regions/eu/leader";
pub(super) const SUMMARY: &str = "regions/eu/summary";

pub(super) fn entry(name: &str, state: HealthState, (term, n): (i64, u64), at: Now) -> replication::Entry {
    let (good, bad) = if state == HealthState::Down { (0, 3) } else { (2, 0) };
    let outcome = if state == HealthState::Down { Outcome::Bad } else { Outcome::Good };
    let reason: Arc<str> = Arc::from(format!("{} in {term}/{n}", state.word()));
    let health = Health { state, since: at.wall, reason: Arc::clone(&reason), stale: false, flapping: false, term, n };
    replication::Entry {
        target: target(name),
        health,
        counters: Counters { good, bad, changes: 0, last_result: Some(at.wall), shared: false },
        observation: Some(Arc::new(Observation::plain(outcome, Duration::ZERO, reason, at))),
    }
}

impl Bench {
    /// A follower of `other`, which leads in term 7, synced with these keys.
    pub(super) fn following(keys: &[(&str, &str)]) -> Self {
        let mut bench = Self::synced(keys);
        bench.stand(false, Some("other"), StoreState::Ok);
        bench.evaluate();
        bench
    }

    pub(super) fn head(&self, node: &str, term: i64) -> Head {
        let node = NodeName::new(node).unwrap();
        Head { node, term, seq: 1, now: self.now().wall, degraded: false, graphite_mark: None }
    }

    pub(super) fn full(&mut self, (node, term): (&str, i64), entries: Vec<replication::Entry>) -> Effects {
        let head = self.head(node, term);
        self.core.frame(Frame::Full(head, entries), self.now())
    }

    pub(super) fn delta(&mut self, (node, term): (&str, i64), entries: Vec<replication::Entry>) -> Effects {
        let head = self.head(node, term);
        self.core.frame(Frame::Delta(head, entries), self.now())
    }

    pub(super) fn seen(&mut self, name: &str) -> (HealthState, i64, u64) {
        let (view, _) = self.evaluate();
        let health = &view.health[view.catalog.index_of(name).unwrap()];
        (health.state, health.term, health.n)
    }

    pub(super) fn summary(&mut self, term: i64, probed_at: Timestamp) {
        let summary = Summary {
            v: 1,
            node: NodeName::new("other").unwrap(),
            term,
            now: self.now().wall,
            probed_at: Some(probed_at),
            viable: true,
            up: 1,
            down: 0,
            unknown: 0,
            graphite_mark: None,
        };
        self.put(SUMMARY, &serde_json::to_string(&summary).unwrap());
    }
}

const A: (&str, &str) = ("healthcheck/a-1/path", "/x");
const B: (&str, &str) = ("healthcheck/b-1/path", "/x");

#[test]
fn a_follower_answers_as_the_leader_details_and_time_included() {
    let mut bench = Bench::following(&[A, B]);
    bench.core.stream_connected();
    // The leader's clock is 5 s behind ours.
    let at = Now { wall: Timestamp::from_millis(93_000), mono: Mono::from_origin(Duration::from_secs(98)) };
    let entries = vec![entry("a-1", HealthState::Up, (7, 1), at), entry("b-1", HealthState::Down, (6, 4), at)];
    let head = Head { now: Timestamp::from_millis(95_000), ..bench.head("other", 7) };
    let effects = bench.core.frame(Frame::Full(head, entries.clone()), bench.now());
    assert_eq!(effects.targets, None);
    let (view, effects) = bench.evaluate();
    assert!(effects.writes.is_empty(), "{effects:?}");
    assert_eq!(&*view.health, [entries[0].health.clone(), entries[1].health.clone()]);
    let cell = view.cells[1].load().unwrap();
    assert_eq!((&*cell.output, cell.at), ("down in 6/4", at));
    assert!(matches!(&view.cluster.results, ResultsFrom::Stream { node, .. } if node.as_str() == "other"));
    let leader = (view.node.leader.as_ref().unwrap().as_str(), view.node.leader_url.as_deref().unwrap());
    assert_eq!((view.node.role, view.node.term, leader), (Role::Follower, 7, ("other", "http://other")));
    // An ack ends by the leader's clock, which goes on with ours.
    bench.put("healthcheck/b-1/ack", &format!(r#"{{"message":"m","until":"{}"}}"#, Timestamp::from_millis(97_000)));
    bench.secs += 1;
    assert_eq!(bench.evaluate().0.gtg.default.status, 200);
    assert_eq!(bench.core.next_due(bench.now()), Some(Duration::from_secs(1)));
    bench.secs += 1;
    bench.core.tick(bench.now());
    assert!(bench.core.is_dirty());
    assert_eq!(bench.evaluate().0.gtg.default.status, 503);
    // A delta with the same number carries marks and details alone.
    let same = entry("a-1", HealthState::Up, (7, 1), bench.now());
    let mut flapping = same.clone();
    flapping.health = Health { flapping: true, ..entries[0].health.clone() };
    assert!(bench.delta(("other", 7), vec![flapping]).changes.is_empty());
    let (view, _) = bench.evaluate();
    assert!(view.health[0].flapping && view.cells[0].load().unwrap().at == bench.now());
    // One that changes nothing but the details leaves the view alone.
    let mut quiet = same;
    quiet.health = Health { flapping: true, ..entries[0].health.clone() };
    bench.delta(("other", 7), vec![quiet]);
    assert!(!bench.core.is_dirty());
}

#[test]
fn the_higher_number_counts_on_both_paths() {
    let mut bench = Bench::following(&[A]);
    let now = bench.now();
    bench.full(("other", 7), vec![entry("a-1", HealthState::Up, (7, 3), now)]);
    bench.status("a-1", HealthState::Down, 2);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 3), "a late value turns nobody back");
    bench.status("a-1", HealthState::Down, 3);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 3), "the same number: the frame has it already");
    // The store may be first.
    bench.status("a-1", HealthState::Down, 4);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 4));
    assert!(bench.delta(("other", 7), vec![entry("a-1", HealthState::Up, (7, 3), now)]).changes.is_empty());
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 4));
    bench.delta(("other", 7), vec![entry("a-1", HealthState::Up, (7, 5), now)]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 5));
    // A delete of the status says nothing of the target.
    bench.delete(&[&status_key("a-1")]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 5));
}

#[test]
fn a_later_leaders_word_counts_whatever_its_numbers() {
    let mut bench = Bench::following(&[A]);
    let now = bench.now();
    bench.full(("other", 7), vec![entry("a-1", HealthState::Down, (7, 9), now)]);
    // The new leader was cut off before and never saw the last transitions.
    let new = Standing { term: 20, ..standing(false, Some("new"), StoreState::Ok) };
    bench.core.stand(new, bench.now());
    bench.full(("new", 20), vec![entry("a-1", HealthState::Up, (7, 5), now)]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 5), "all nodes agree with the leader");
    // What was written before it led is its predecessor's; what it writes itself counts by number.
    bench.status("a-1", HealthState::Down, 9);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 5));
    bench.revision = 20;
    bench.status("a-1", HealthState::Down, 6);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 6));
    // Frames of the old leader, of its old term, and of anybody else say nothing.
    for from in [("other", 7), ("other", 20), ("new", 7), ("stranger", 30)] {
        bench.delta(from, vec![entry("a-1", HealthState::Up, (30, 30), now)]);
        assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 6), "{from:?}");
    }
    assert_eq!(bench.evaluate().0.node.term, 20);
}

#[test]
fn entries_wait_for_the_catalog_and_a_full_frame_takes_nothing_that_is_newer() {
    let mut bench = Bench::following(&[A]);
    let now = bench.now();
    bench.status("a-1", HealthState::Down, 4);
    bench.full(("other", 7), vec![entry("b-1", HealthState::Up, (7, 1), now)]);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 4), "not in the frame");
    bench.secs += 3;
    bench.put(B.0, B.1);
    assert_eq!(bench.seen("b-1"), (HealthState::Up, 7, 1));
    let (view, _) = bench.evaluate();
    assert_eq!(view.cells[1].load().unwrap().at, now, "with its details");
    let many = (0..MAX_ASIDE + 5).map(|i| entry(&format!("x-{i}"), HealthState::Up, (7, 1), now)).collect();
    bench.delta(("other", 7), many);
    assert_eq!(bench.core.following.kept_aside(), MAX_ASIDE, "bounded");
}

#[test]
fn a_lost_stream_leaves_verdicts_to_the_store_and_marks_by_its_probed_at() {
    let mut bench = Bench::following(&[A]);
    let now = bench.now();
    bench.full(("other", 7), vec![entry("a-1", HealthState::Up, (7, 1), now)]);
    bench.core.stream_lost("silent", bench.now());
    // interval 60 s, timeout 5 s: stale after 125 s.
    bench.secs += 120;
    bench.summary(7, bench.now().wall);
    bench.secs += 120;
    bench.core.tick(bench.now());
    let (view, _) = bench.evaluate();
    assert!(!view.health[0].stale, "the leader still probes");
    assert!(matches!(&view.cluster.results, ResultsFrom::Store { reason } if &**reason == "silent"));
    bench.secs += 6;
    bench.core.tick(bench.now());
    assert!(bench.evaluate().0.health[0].stale);
    bench.secs += 6000;
    let effects = bench.core.tick(bench.now());
    assert!(effects.changes.is_empty(), "a follower computes no transition: {effects:?}");
    bench.status("a-1", HealthState::Down, 2);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
    // It is back, with what was missed.
    let now = bench.now();
    bench.delta(("other", 7), vec![entry("a-1", HealthState::Up, (7, 3), now)]);
    let (view, _) = bench.evaluate();
    assert!(view.health[0].state == HealthState::Up && !view.health[0].stale);
}

#[test]
fn a_node_that_starts_believes_a_living_leader_or_a_fresh_summary() {
    let up = r#"{"v":1,"health":"up","since":"1970-01-01T00:00:10Z","reason":"r","term":3,"n":4}"#;
    let a = status_key("a-1");
    let start = |more: &[(&str, String)]| {
        let mut bench = Bench::starting(true, BTreeMap::new());
        let more: Vec<(&str, &str)> = more.iter().map(|(k, v)| (*k, v.as_str())).collect();
        bench.sync(&[&[A, (a.as_str(), up)], &more[..]].concat());
        bench
    };
    let summary = |now: i64, probed_at: i64| {
        let (now, probed_at) = (Timestamp::from_millis(now), Timestamp::from_millis(probed_at));
        let json = serde_json::json!({"node": "other", "term": 3, "now": now, "probed_at": probed_at, "viable": true,
            "up": 1, "down": 0, "unknown": 0});
        (SUMMARY, json.to_string())
    };
    let leader = |node: &str| (LEADER, format!(r#"{{"node":"{node}","url":"http://{node}"}}"#));
    assert_eq!(start(&[]).state("a-1"), HealthState::Unknown, "it fails closed");
    assert_eq!(start(&[leader("n1")]).state("a-1"), HealthState::Unknown, "its own earlier life leads no more");
    assert_eq!(start(&[summary(60_000, 60_000)]).state("a-1"), HealthState::Unknown, "an old summary");
    // We are at 100 s.
    assert_eq!(start(&[summary(95_000, 94_000)]).state("a-1"), HealthState::Up);
    let mut bench = start(&[leader("other"), summary(95_000, 40_000)]);
    assert_eq!(bench.state("a-1"), HealthState::Up);
    // As old as it is: 60 s when it came, 125 s are stale, 600 s unknown.
    bench.lead();
    bench.secs += 64;
    bench.core.tick(bench.now());
    assert!(!bench.evaluate().0.health[0].stale);
    bench.secs += 2;
    bench.core.tick(bench.now());
    assert!(bench.evaluate().0.health[0].stale);
    bench.secs += 475;
    bench.core.tick(bench.now());
    assert_eq!(bench.state("a-1"), HealthState::Unknown);
}

/// The names of 20 targets, the keys that declare them, and those of their states.
fn twenty() -> [Vec<String>; 3] {
    let names: Vec<String> = (0..20).map(|i| format!("t-{i}")).collect();
    let paths = names.iter().map(|n| format!("healthcheck/{n}/path")).collect();
    let keys = names.iter().map(|n| status_key(n)).collect();
    [names, paths, keys]
}

#[test]
fn who_starts_from_a_summary_and_leads_does_not_probe_all_at_once() {
    let [_, paths, keys] = twenty();
    let up = r#"{"v":1,"health":"up","since":"1970-01-01T00:00:10Z","reason":"r","term":3,"n":4}"#;
    let summary = r#"{"node":"n1","term":3,"now":"1970-01-01T00:01:35Z","probed_at":"1970-01-01T00:01:34Z","viable":true,
        "up":1,"down":0,"unknown":0}"#;
    let mut all: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), "/x")).collect();
    all.extend(keys.iter().map(|k| (k.as_str(), up)));
    all.push((SUMMARY, summary));
    let mut bench = Bench::starting(true, BTreeMap::new());
    bench.sync(&all);
    assert_eq!(bench.state("t-1"), HealthState::Up);
    // It saw one of them itself.
    let seen = bench.now().mono;
    bench.stand(false, Some("other"), StoreState::Ok);
    let entry = entry("t-3", HealthState::Up, (7, 5), bench.now());
    bench.full(("other", 7), vec![entry]);
    bench.secs += 2;
    let effects = bench.core.stand(Standing { term: 9, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    let due = |last: &Mono| last.plus(Duration::from_secs(60)).since(bench.now().mono);
    let dues: std::collections::BTreeSet<Duration> =
        effects.last.iter().filter(|(n, _)| n.as_str() != "t-3").map(|(_, last)| due(last)).collect();
    assert!(dues.len() == 19 && dues.iter().all(|d| d.as_secs() < 60), "{dues:?}");
    assert!(dues.last().unwrap().as_secs() > 30, "over the whole interval: {dues:?}");
    assert!(effects.last.contains(&(target("t-3"), seen)), "its phase goes on");
}

#[test]
fn a_target_made_again_is_followed_by_who_missed_its_removal() {
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), vec![entry("a-1", HealthState::Down, (7, 5), bench.now())]);
    bench.delta(("other", 7), vec![entry("a-1", HealthState::Up, (7, 1), bench.now())]);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 5), "an older number");
    bench.delete(&[&status_key("a-1")]);
    bench.delta(("other", 7), vec![entry("a-1", HealthState::Up, (7, 1), bench.now())]);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 1));
}

#[test]
fn a_target_made_again_in_one_term_has_a_number_above_its_old_one() {
    let mut leader = Bench::led(&[A]);
    leader.bad("a-1", 3);
    leader.good("a-1", 2);
    assert_eq!(leader.seen("a-1"), (HealthState::Up, 7, 2));
    leader.delete(&[A.0]);
    leader.evaluate();
    leader.put(A.0, A.1);
    // Before its first result as well: a follower that holds the old state takes this.
    assert_eq!(leader.seen("a-1"), (HealthState::Unknown, 7, 3));
    leader.good("a-1", 2);
    assert_eq!(leader.seen("a-1"), (HealthState::Up, 7, 4));
    leader.put("healthcheck/b-1/path", "/");
    assert_eq!(leader.seen("b-1"), (HealthState::Unknown, 7, 3), "any name: they are not remembered one by one");
}

#[test]
fn who_missed_a_removal_takes_the_new_target_of_the_name() {
    let mut leader = Bench::led(&[A]);
    leader.bad("a-1", 3);
    leader.good("a-1", 2);
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), leader.core.full(leader.now()));
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 2));
    leader.delete(&[A.0]);
    leader.put(A.0, A.1);
    leader.bad("a-1", 3);
    bench.full(("other", 7), leader.core.full(leader.now()));
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 4));
}

#[test]
fn a_new_leader_that_has_not_seen_a_target_yet_turns_nobody() {
    let mut bench = Bench::following(&[A]);
    bench.full(("other", 7), vec![entry("a-1", HealthState::Up, (7, 2), bench.now())]);
    let leader = Standing { term: 9, ..standing(false, Some("other"), StoreState::Ok) };
    bench.core.stand(leader, bench.now());
    for (term, n) in [(7, 2), (7, 1), (0, 0)] {
        bench.full(("other", 9), vec![entry("a-1", HealthState::Unknown, (term, n), bench.now())]);
        assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 2), "({term}, {n})");
    }
    bench.status("a-1", HealthState::Down, 1);
    assert_eq!(bench.seen("a-1"), (HealthState::Up, 7, 2), "a late value turns nobody either");
    // What it has seen counts, also that it has had no result for too long.
    bench.delta(("other", 9), vec![entry("a-1", HealthState::Down, (9, 1), bench.now())]);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 9, 1));
    bench.delta(("other", 9), vec![entry("a-1", HealthState::Unknown, (9, 2), bench.now())]);
    assert_eq!(bench.seen("a-1"), (HealthState::Unknown, 9, 2));
}

#[test]
fn times_of_a_leader_whose_clock_was_ahead_do_not_make_all_targets_due_at_once() {
    let [names, paths, keys] = twenty();
    let up = r#"{"v":1,"health":"up","since":"1970-01-01T00:00:10Z","reason":"r","term":7,"n":1}"#;
    let mut all: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), "/x")).collect();
    let mut bench = Bench::following(&all);
    let now = bench.now();
    let ahead = Now { wall: now.wall.plus(Duration::from_secs(38)), mono: now.mono };
    // They were probed a second after another.
    let ages: Vec<Duration> = (0..20).map(Duration::from_secs).collect();
    let probed = |age: &Duration| Now { wall: ahead.wall.minus(*age), ..ahead };
    let entries = names.iter().zip(&ages).map(|(n, age)| entry(n, HealthState::Up, (7, 1), probed(age))).collect();
    let head = Head { now: ahead.wall, ..bench.head("other", 7) };
    bench.core.frame(Frame::Full(head, entries), now);
    // The store is restored: with the leader its clock is gone, and all keys come anew.
    let another = |leads| Standing { generation: 2, ..standing(leads, None, StoreState::Ok) };
    bench.secs += 2;
    bench.core.stand(another(false), bench.now());
    bench.core.store_was_reset();
    all.extend(keys.iter().map(|k| (k.as_str(), up)));
    let events: Vec<Event> = all.iter().map(|(k, v)| bench.put_event(k, v)).collect();
    bench.core.apply(5, &events, true, bench.now());
    let effects = bench.core.stand(another(true), bench.now());
    let lasts: std::collections::BTreeSet<&Mono> = effects.last.iter().map(|(_, last)| last).collect();
    assert_eq!((effects.last.len(), lasts.len()), (20, 20), "{lasts:?}");
    let age = |last: &&Mono| now.mono.since(**last);
    assert_eq!(
        lasts.iter().rev().map(age).collect::<Vec<_>>(),
        ages,
        "each goes on where it was: its age is of no clock's"
    );
}

#[test]
fn a_step_of_the_leaders_clock_makes_no_result_older() {
    let mut leader = Bench::led(&[A]);
    leader.good("a-1", 2);
    let seen = leader.core.full(leader.now())[0].counters.last_result;
    let stepped = Now { wall: leader.now().wall.plus(Duration::from_secs(600)), ..leader.now() };
    let told = leader.core.full(stepped)[0].counters.last_result;
    assert_eq!(
        told,
        seen.map(|at| at.plus(Duration::from_secs(600))),
        "as old as it is, by the clock that the frame is of"
    );
}

#[test]
fn a_value_of_another_clock_makes_no_known_result_older() {
    let mut bench = Bench::following(&[A]);
    bench.secs += 2_000;
    bench.full(("other", 7), vec![entry("a-1", HealthState::Up, (7, 1), bench.now())]);
    // Written by a leader whose clock is far behind, read by one that is far ahead.
    let down = r#"{"v":1,"health":"down","since":"1970-01-01T00:30:00Z","reason":"r","term":7,"n":2}"#;
    bench.core.stream_lost("silent", bench.now());
    bench.secs += 1;
    bench.core.frame(
        Frame::Heartbeat(Head { now: bench.now().wall.plus(Duration::from_secs(900)), ..bench.head("other", 7) }),
        bench.now(),
    );
    bench.put(&status_key("a-1"), down);
    assert_eq!(bench.seen("a-1"), (HealthState::Down, 7, 2));
    bench.core.stand(Standing { term: 9, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    bench.core.tick(bench.now());
    assert_eq!(bench.state("a-1"), HealthState::Down, "no result is missing");
}

#[test]
fn a_shared_time_stays_one_over_values_frames_and_a_takeover() {
    let [names, paths, keys] = twenty();
    let mut all: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), "/x")).collect();
    let up =
        |n: u64| format!(r#"{{"v":1,"health":"up","since":"1970-01-01T00:00:10Z","reason":"r","term":7,"n":{n}}}"#);
    let first = up(1);
    all.extend(keys.iter().map(|k| (k.as_str(), first.as_str())));
    let mut bench = Bench::following(&all);
    bench.summary(7, bench.now().wall);
    for key in &keys {
        bench.put(key, &up(2));
        bench.put(key, &up(3));
    }
    let lasts = |bench: &mut Bench| {
        let standing = Standing { term: 9, ..standing(true, Some("n1"), StoreState::Ok) };
        let effects = bench.core.stand(standing, bench.now());
        effects.last.into_iter().map(|(_, last)| last).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(lasts(&mut bench), names.len(), "after values");
    let mut next = Bench::following(&all[..20]);
    next.full(("other", 7), bench.core.full(bench.now()));
    assert_eq!(lasts(&mut next), names.len(), "from a leader that had not probed them yet");
}

#[test]
fn frames_that_were_held_up_date_no_result() {
    let [names, paths, _] = twenty();
    let all: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), "/x")).collect();
    let mut bench = Bench::following(&all);
    bench.full(("other", 7), Vec::new());
    // It was stopped for 20 s: all that was said meanwhile comes at once.
    let began = bench.now();
    bench.secs += 20;
    for (name, second) in names.iter().zip(1..) {
        let wall = began.wall.plus(Duration::from_secs(second));
        let head = Head { now: wall, ..bench.head("other", 7) };
        let said = entry(name, HealthState::Up, (7, 1), Now { wall, ..began });
        bench.core.frame(Frame::Delta(head, vec![said]), bench.now());
    }
    let effects = bench.core.stand(Standing { term: 9, ..standing(true, Some("n1"), StoreState::Ok) }, bench.now());
    let lasts: std::collections::BTreeSet<Mono> = effects.last.iter().map(|(_, last)| *last).collect();
    assert_eq!((effects.last.len(), lasts.len()), (20, 20), "they do not come all at once");
}

#[test]
fn what_waits_for_the_catalog_goes_with_its_target() {
    let mut bench = Bench::following(&[A]);
    bench.status("b-1", HealthState::Down, 2);
    bench.delta(("other", 7), vec![entry("b-1", HealthState::Down, (7, 2), bench.now())]);
    bench.delete(&[&status_key("b-1")]);
    bench.put(B.0, B.1);
    assert_eq!(bench.seen("b-1"), (HealthState::Unknown, 0, 0), "made again, it is another");
}
