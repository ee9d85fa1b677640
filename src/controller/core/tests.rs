//! Tests of the controller's core: facts in, effects out, time by hand.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    config::Settings,
    model::{
        FaultLevel, HealthState, Mono, NodeName, Observation, Outcome, RegionName, Role, StoreState, Timestamp, View,
    },
    probe::Observed,
    store::Pair,
};

const LATCH: &str = "regions/eu/latches/read";
const ENABLED: &str = "healthcheck-categories/read/enabled";

fn status_key(target: &str) -> String {
    format!("regions/eu/status/targets/{target}")
}

/// A core with a store that only counts revisions.
struct Bench {
    core: Core,
    secs: u64,
    revision: i64,
}

fn identity(region_named: bool) -> Identity {
    Identity {
        node: NodeName::new("n1").unwrap(),
        region: RegionName::new("eu").unwrap(),
        region_named,
        environment: "test".to_owned(),
        started: Timestamp::from_millis(0),
        version: "0",
    }
}

fn builder() -> CatalogBuilder {
    CatalogBuilder::new(Settings {
        root: "/ft".to_owned(),
        region: RegionName::new("eu").unwrap(),
        gateway: Some("localhost:8080".to_owned()),
        sev_1_apps: Vec::new(),
        mass_removal_hold: Duration::from_secs(30),
    })
}

fn category(name: &str) -> CategoryName {
    CategoryName::new(name).unwrap()
}

fn target(name: &str) -> TargetName {
    TargetName::new(name).unwrap()
}

fn standing(leads: bool, leader: Option<&str>, store: StoreState) -> Standing {
    let leader_url = leader.map(|l| format!("http://{l}"));
    let leader = leader.map(|l| NodeName::new(l).unwrap());
    let session = store == StoreState::Ok;
    Standing { leads, session, term: 7, generation: 1, leader, leader_url, store, ..Standing::default() }
}

impl Bench {
    fn starting(region_named: bool, own: BTreeMap<CategoryName, Latch>) -> Self {
        let core = Core::new(identity(region_named), builder(), own).reached_at("http://n1".to_owned());
        Self { core, secs: 100, revision: 10 }
    }

    /// Synced with these keys; a follower.
    fn synced(keys: &[(&str, &str)]) -> Self {
        let mut bench = Self::starting(true, BTreeMap::new());
        bench.sync(keys);
        bench
    }

    /// Synced with these keys, and leading.
    fn led(keys: &[(&str, &str)]) -> Self {
        let mut bench = Self::synced(keys);
        bench.lead();
        bench.evaluate();
        bench
    }

    /// One target `foo-1` in the sticky category `read`, up, led by this node.
    fn leading() -> Self {
        let mut bench = Self::synced(&Self::STICKY);
        bench.lead();
        bench.good("foo-1", 2);
        bench.evaluate();
        assert!(bench.ok("read"));
        bench
    }

    const STICKY: [(&'static str, &'static str); 2] =
        [("healthcheck/foo-1/categories", "read"), ("healthcheck-categories/read/sticky", "true")];

    fn now(&self) -> Now {
        Now {
            wall: Timestamp::from_millis(i64::try_from(self.secs).unwrap() * 1000),
            mono: Mono::from_origin(Duration::from_secs(self.secs)),
        }
    }

    fn put_event(&self, key: &str, value: &str) -> Event {
        Event::Put(Pair {
            key: key.to_owned(),
            value: Bytes::copy_from_slice(value.as_bytes()),
            create_revision: self.revision,
            mod_revision: self.revision,
            lease: None,
        })
    }

    fn sync(&mut self, keys: &[(&str, &str)]) -> Effects {
        self.revision += 1;
        let events: Vec<Event> = keys.iter().map(|(k, v)| self.put_event(k, v)).collect();
        let mut effects = self.core.apply(self.revision, &events, true, self.now());
        effects.changes.extend(self.stand(false, None, StoreState::Ok).changes);
        effects
    }

    fn put(&mut self, key: &str, value: &str) -> Effects {
        self.revision += 1;
        let event = self.put_event(key, value);
        self.core.apply(self.revision, &[event], false, self.now())
    }

    /// What the leader, of term 7, wrote of a target.
    fn status(&mut self, name: &str, health: HealthState, n: u64) -> Effects {
        let since = self.now().wall;
        let value = StatusValue { v: 1, health, since, reason: format!("written {n}"), term: 7, n };
        self.put(&status_key(name), &serde_json::to_string(&value).unwrap())
    }

    fn delete(&mut self, keys: &[&str]) -> Effects {
        self.revision += 1;
        let revision = self.revision;
        let events: Vec<Event> = keys.iter().map(|k| Event::Delete { key: (*k).to_owned(), revision }).collect();
        self.core.apply(revision, &events, false, self.now())
    }

    /// What the store tells after this node's writes.
    fn echo(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Status(target, value) => {
                    let value = serde_json::to_string(value).unwrap();
                    self.put(&status_key(target.as_str()), &value);
                }
                Write::DropStatus(target) => drop(self.delete(&[&status_key(target.as_str())])),
                Write::Latch { category, latch, disable_plain } => {
                    self.put(&format!("regions/eu/latches/{category}"), &serde_json::to_string(latch).unwrap());
                    if *disable_plain {
                        self.revision -= 1;
                        self.put(&format!("healthcheck-categories/{category}/enabled"), "false");
                    }
                }
                Write::Unlatch { category, revision } => {
                    let held = self.core.store_latches.get(category).map(|l| l.revision);
                    if held == Some(*revision) {
                        self.delete(&[&format!("regions/eu/latches/{category}")]);
                    }
                }
                Write::LastGood(_) | Write::Summary(_) => {}
            }
        }
    }

    fn stand(&mut self, leads: bool, leader: Option<&str>, store: StoreState) -> Effects {
        self.core.stand(standing(leads, leader, store), self.now())
    }

    fn lead(&mut self) -> Effects {
        self.stand(true, Some("n1"), StoreState::Ok)
    }

    fn evaluate(&mut self) -> (View, Effects) {
        self.core.evaluate(&[], self.now())
    }

    fn observe(&mut self, name: &str, outcome: Outcome, times: usize) -> Effects {
        let mut all = Effects::default();
        for _ in 0..times {
            self.secs += 1;
            let check = Arc::clone(&self.core.catalog().target(name).unwrap().check);
            let observation =
                Observation::plain(outcome, Duration::ZERO, format!("{outcome:?} at {}", self.secs), self.now());
            let observation = Arc::new(observation);
            let effects =
                self.core.observe(&[Observed { target: target(name), place: 0, check, observation, refreshed: false }]);
            all.changes.extend(effects.changes);
            all.fast.extend(effects.fast);
            assert!(effects.writes.is_empty(), "writes come with the evaluation");
        }
        all
    }

    fn good(&mut self, name: &str, times: usize) -> Effects {
        self.observe(name, Outcome::Good, times)
    }

    fn bad(&mut self, name: &str, times: usize) -> Effects {
        self.observe(name, Outcome::Bad, times)
    }

    fn ok(&mut self, name: &str) -> bool {
        self.evaluate().0.evaluation.categories[name].ok
    }

    fn state(&mut self, name: &str) -> HealthState {
        let (view, _) = self.evaluate();
        view.health[view.catalog.index_of(name).unwrap()].state
    }
}

fn latches(writes: &[Write]) -> Vec<(&str, bool)> {
    let latch = |w: &'_ Write| matches!(w, Write::Latch { .. });
    let of = |w| match w {
        &Write::Latch { ref category, disable_plain, .. } => (category.as_str(), disable_plain),
        other => panic!("{other:?}"),
    };
    writes.iter().filter(|w| latch(w)).map(of).collect()
}

fn unlatched(writes: &[Write]) -> bool {
    writes.iter().any(|w| matches!(w, Write::Unlatch { .. }))
}

fn statuses(writes: &[Write]) -> Vec<(&str, HealthState)> {
    writes
        .iter()
        .filter_map(|w| match w {
            Write::Status(target, value) => Some((target.as_str(), value.health)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_node_that_starts_answers_503_and_a_synced_one_by_its_targets() {
    let mut bench = Bench::starting(true, BTreeMap::new());
    let (view, _) = bench.evaluate();
    assert_eq!((view.gtg.default.status, view.node.role, view.node.ready), (503, Role::Starting, false));
    let keys = [("healthcheck/foo-1/path", "/x")];
    let effects = bench.sync(&keys);
    assert_eq!(effects.targets, None, "a follower does not probe");
    let (view, _) = bench.evaluate();
    assert_eq!(
        (view.gtg.default.status, view.node.role, view.node.ready),
        (503, Role::Follower, true),
        "not seen up yet"
    );
    bench.good("foo-1", 2);
    assert_eq!(bench.evaluate().0.gtg.default.status, 503, "whose result would that be?");
    let effects = bench.lead();
    assert_eq!(effects.targets.map(|t| t.len()), Some(1), "the probes are told");
    bench.good("foo-1", 2);
    assert_eq!(bench.evaluate().0.gtg.default.status, 200);
}

#[test]
fn an_unchanged_target_keeps_everything_over_changes_of_the_catalog() {
    let mut bench = Bench::led(&[("healthcheck/m-1/path", "/x")]);
    bench.good("m-1", 2);
    let fast = bench.bad("m-1", 2).fast;
    assert_eq!(fast, [(target("m-1"), true)], "two of three: it is changing");
    let (before, _) = bench.evaluate();
    // Neighbours on both sides come and go; an ack of its own comes too.
    let effects = bench.put("healthcheck/a-1/path", "/x");
    assert_eq!(effects.fast, [(target("m-1"), true)], "its speed is told again with the new list");
    assert_eq!(effects.targets.unwrap().len(), 2);
    bench.put("healthcheck/z-1/path", "/x");
    bench.put("healthcheck/m-1/ack", "seen");
    bench.delete(&["healthcheck/a-1/path"]);
    let (after, _) = bench.evaluate();
    let index = after.catalog.index_of("m-1").unwrap();
    assert_eq!(after.health[index], before.health[0]);
    assert!(Arc::ptr_eq(&after.cells[index], &before.cells[0]), "the cell is the same");
    assert_eq!(after.cells[index].load().unwrap().at, bench.now());
    bench.bad("m-1", 1);
    assert_eq!(bench.state("m-1"), HealthState::Down, "the third bad one in a row: the count went on");
}

#[test]
fn a_changed_check_keeps_health_and_results_of_the_old_one_are_ignored() {
    let mut bench = Bench::led(&[("healthcheck/foo-1/path", "/old")]);
    bench.good("foo-1", 2);
    let old = Arc::clone(&bench.core.catalog().target("foo-1").unwrap().check);
    let effects = bench.put("healthcheck/foo-1/path", "/new");
    assert!(effects.targets.is_some());
    assert_eq!(bench.state("foo-1"), HealthState::Up);
    for _ in 0..5 {
        bench.secs += 1;
        let observation = Arc::new(Observation::plain(Outcome::Bad, Duration::ZERO, "late", bench.now()));
        let late =
            Observed { target: target("foo-1"), place: 0, check: Arc::clone(&old), observation, refreshed: false };
        assert!(bench.core.observe(&[late]).changes.is_empty());
    }
    let (view, _) = bench.evaluate();
    assert_eq!(view.health[0].state, HealthState::Up);
    assert_ne!(&*view.cells[0].load().unwrap().output, "late");
    bench.bad("foo-1", 3);
    assert_eq!(bench.state("foo-1"), HealthState::Down);
    // A target that is gone: its result is nobody's.
    bench.delete(&["healthcheck/foo-1/path"]);
    let observation = Arc::new(Observation::plain(Outcome::Bad, Duration::ZERO, "late", bench.now()));
    bench.core.observe(&[Observed { target: target("foo-1"), place: 0, check: old, observation, refreshed: false }]);
    assert!(bench.evaluate().0.health.is_empty());
}

#[test]
fn a_restart_restores_down_but_never_up() {
    let json = |health: &str, n: u64| {
        format!(r#"{{"v":1,"health":"{health}","since":"2026-01-01T00:00:00Z","reason":"r","term":3,"n":{n}}}"#)
    };
    let (up, down) = (json("up", 4), json("down", 9));
    let gone = status_key("gone-1");
    let (a, b) = (status_key("a-1"), status_key("b-1"));
    let keys = [
        ("healthcheck/a-1/path", "/x"),
        ("healthcheck/b-1/path", "/x"),
        (a.as_str(), up.as_str()),
        (b.as_str(), down.as_str()),
        (gone.as_str(), down.as_str()),
    ];
    let mut bench = Bench::synced(&keys);
    let (view, _) = bench.evaluate();
    let seen: Vec<_> = view.health.iter().map(|h| (h.state, h.n, h.term)).collect();
    assert_eq!(seen, [(HealthState::Unknown, 4, 3), (HealthState::Down, 9, 3)]);
    assert_eq!(view.health[1].since.to_string(), "2026-01-01T00:00:00.000Z");
    // Leading writes nothing that the store has, and deletes what is of nobody.
    bench.lead();
    let (_, effects) = bench.evaluate();
    assert!(statuses(&effects.writes).is_empty(), "{effects:?}");
    assert!(effects.writes.contains(&Write::DropStatus(target("gone-1"))), "{effects:?}");
    bench.good("a-1", 2);
    let (view, effects) = bench.evaluate();
    assert_eq!((view.health[0].n, view.health[0].term), (5, 7), "its number goes on");
    assert_eq!(statuses(&effects.writes), [("a-1", HealthState::Up)]);
}

#[test]
fn a_new_leader_writes_the_states_that_the_store_has_not() {
    let mut bench = Bench::led(&[("healthcheck/a-1/path", "/x"), ("healthcheck/b-1/path", "/x")]);
    bench.good("a-1", 2);
    bench.bad("b-1", 3);
    let (_, effects) = bench.evaluate();
    assert_eq!(statuses(&effects.writes), [("a-1", HealthState::Up), ("b-1", HealthState::Down)]);
    let written: Vec<Write> =
        effects.writes.into_iter().filter(|w| !statuses(std::slice::from_ref(w)).is_empty()).take(1).collect();
    bench.echo(&written);
    bench.core.writes_lost();
    bench.lead();
    let (_, effects) = bench.evaluate();
    assert_eq!(statuses(&effects.writes), [("b-1", HealthState::Down)]);
    assert!(effects.writes.iter().any(|w| matches!(w, Write::LastGood(_))));
    // Writes that could not be made are made anew.
    bench.core.writes_lost();
    bench.lead();
    assert_eq!(statuses(&bench.evaluate().1.writes), [("b-1", HealthState::Down)]);
}

#[test]
fn a_removed_target_is_not_written_after_its_removal() {
    let mut bench = Bench::synced(&[("healthcheck/a-1/path", "/x"), ("healthcheck/b-1/path", "/x")]);
    bench.lead();
    bench.evaluate();
    bench.good("a-1", 2);
    bench.delete(&["healthcheck/a-1/path"]);
    let (_, effects) = bench.evaluate();
    let last = effects.writes.iter().rev().find(|w| matches!(w, Write::Status(..) | Write::DropStatus(_)));
    assert_eq!(last, Some(&Write::DropStatus(target("a-1"))), "{effects:?}");
}

#[test]
fn a_target_made_again_while_its_status_is_being_deleted_is_written_again() {
    let mut bench = Bench::led(&[("healthcheck/foo-1/path", "/x")]);
    bench.bad("foo-1", 3);
    let written = bench.evaluate().1.writes;
    bench.echo(&written);
    bench.delete(&["healthcheck/foo-1/path"]);
    let drops = bench.evaluate().1.writes;
    assert!(matches!(&drops[..], [Write::DropStatus(_)]), "{drops:?}");
    bench.put("healthcheck/foo-1/path", "/x");
    let writes = bench.evaluate().1.writes;
    bench.echo(&drops);
    assert_eq!(statuses(&writes), [("foo-1", HealthState::Down)], "it goes on as down, and so says the store");
    bench.echo(&writes);
    assert!(bench.core.statuses.contains_key(&target("foo-1")));
}

#[test]
fn a_draining_node_is_not_ready_and_tells_the_truth() {
    let mut bench = Bench::leading();
    let draining = Standing { draining: true, ..standing(true, Some("n1"), StoreState::Ok) };
    bench.core.stand(draining, bench.now());
    assert!(bench.core.is_dirty());
    let (view, _) = bench.evaluate();
    assert!(!view.node.ready);
    assert_eq!(view.gtg.default.status, 200, "true to the last");
    bench.bad("foo-1", 3);
    assert_eq!(bench.evaluate().0.gtg.default.status, 503);
}

#[test]
fn a_mass_removal_is_held_then_applied() {
    let names: Vec<String> = (0..20).map(|i| format!("healthcheck/t-{i}/path")).collect();
    let keys: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "/x")).collect();
    let mut bench = Bench::synced(&keys);
    bench.lead();
    bench.evaluate();
    let going: Vec<&str> = names.iter().take(15).map(String::as_str).collect();
    let effects = bench.delete(&going);
    assert!(effects.changes.iter().any(|c| matches!(c, Change::FaultAppeared(_))), "announced: {effects:?}");
    let (view, effects) = bench.evaluate();
    assert_eq!(view.catalog.targets.len(), 20, "held");
    assert_eq!(view.catalog.held.as_ref().unwrap().targets.len(), 15);
    let published = effects.writes.iter().find_map(|w| match w {
        Write::LastGood(value) => Some(value.clone()),
        _ => None,
    });
    let published = published.expect("published for the other nodes");
    assert!(bench.core.next_due(bench.now()).unwrap() <= Duration::from_secs(30));
    // A node that starts meanwhile sees the same.
    let left: Vec<(&str, &str)> = keys.iter().skip(15).copied().collect();
    let published = serde_json::to_string(&published).unwrap();
    let mut late = Bench::starting(true, BTreeMap::new());
    let mut all = left.clone();
    all.push(("regions/eu/status/catalog", &published));
    late.sync(&all);
    assert_eq!(late.evaluate().0.catalog.targets.len(), 20);
    bench.secs += 31;
    let effects = bench.core.tick(bench.now());
    assert!(effects.changes.iter().any(|c| matches!(c, Change::FaultGone(_))), "{effects:?}");
    assert_eq!(effects.targets.unwrap().len(), 5);
    assert_eq!(bench.evaluate().0.catalog.targets.len(), 5);
    late.secs += 31;
    late.core.tick(late.now());
    assert_eq!(late.evaluate().0.catalog.targets.len(), 5);
}

#[test]
fn faults_appear_and_vanish_once() {
    let mut bench = Bench::synced(&[("healthcheck/a-1/path", "/x")]);
    let appeared = |e: &Effects| e.changes.iter().filter(|c| matches!(c, Change::FaultAppeared(_))).count();
    let gone = |e: &Effects| e.changes.iter().filter(|c| matches!(c, Change::FaultGone(_))).count();
    let effects = bench.put("healthcheck-categories/read/period_seconds", "soon");
    assert_eq!((appeared(&effects), gone(&effects)), (1, 0), "{effects:?}");
    let effects = bench.put("healthcheck/a-1/categories", "read");
    assert_eq!((appeared(&effects), gone(&effects)), (0, 0), "{effects:?}");
    // Another source's faults stand beside.
    let fault = Fault {
        key: "catalog.yaml:1:1".to_owned(),
        level: FaultLevel::Fault,
        value: String::new(),
        reason: "bad".to_owned(),
        expected: "good".to_owned(),
        nearest: None,
        since: bench.now().wall,
    };
    let effects = bench.core.set_faults("catalog file", vec![fault], bench.now());
    assert_eq!((appeared(&effects), gone(&effects)), (1, 0), "{effects:?}");
    assert_eq!(bench.evaluate().0.catalog.faults.len(), 2);
    let effects = bench.put("healthcheck-categories/read/period_seconds", "5");
    assert_eq!((appeared(&effects), gone(&effects)), (0, 1), "{effects:?}");
    let effects = bench.core.set_faults("catalog file", Vec::new(), bench.now());
    assert_eq!((appeared(&effects), gone(&effects)), (0, 1), "{effects:?}");
    assert!(bench.evaluate().0.catalog.faults.is_empty());
}

#[test]
fn outputs_come_from_the_leader_and_without_the_store_from_who_led_last() {
    let mut bench = Bench::synced(&[]);
    let mut sends = |leads, leader, store| {
        bench.stand(leads, leader, store);
        bench.core.sends_outputs()
    };
    assert!(!sends(false, Some("other"), StoreState::Ok), "a follower");
    assert!(!sends(false, Some("other"), StoreState::Lost), "a follower alone");
    assert!(sends(true, Some("n1"), StoreState::Ok), "the leader");
    // A silent cut: authority runs out before the feed knows.
    assert!(!sends(false, Some("n1"), StoreState::Ok));
    assert!(sends(false, Some("n1"), StoreState::Lost), "it led last");
    assert!(!sends(false, Some("other"), StoreState::Ok), "another leads");
    assert!(!sends(false, Some("other"), StoreState::Lost));
}

#[test]
fn time_alone_makes_a_target_stale_then_unknown() {
    let mut bench = Bench::led(&[("healthcheck/a-1/path", "/x")]);
    bench.good("a-1", 2);
    bench.evaluate();
    bench.secs += 130;
    bench.core.tick(bench.now());
    let (view, _) = bench.evaluate();
    assert!(view.health[0].stale && view.health[0].state == HealthState::Up);
    bench.secs += 600;
    let effects = bench.core.tick(bench.now());
    assert!(matches!(effects.changes[..], [Change::Target { to: HealthState::Unknown, .. }]), "{effects:?}");
    assert_eq!(bench.evaluate().0.gtg.default.status, 503);
}

#[test]
fn an_ack_ends_by_itself() {
    let mut bench = Bench::led(&[("healthcheck/a-1/path", "/x")]);
    bench.bad("a-1", 3);
    let until = Timestamp::from_millis(i64::try_from(bench.secs).unwrap() * 1000 + 2000);
    bench.put("healthcheck/a-1/ack", &format!(r#"{{"message":"m","until":"{until}"}}"#));
    assert_eq!(bench.evaluate().0.gtg.default.status, 200);
    assert_eq!(bench.core.next_due(bench.now()), Some(Duration::from_secs(2)));
    bench.secs += 2;
    assert!(!bench.core.is_dirty());
    bench.core.tick(bench.now());
    assert!(bench.core.is_dirty());
    assert_eq!(bench.evaluate().0.gtg.default.status, 503);
}

#[path = "latching_tests.rs"]
mod latching;

#[path = "following_tests.rs"]
mod following;

#[path = "roles_tests.rs"]
mod roles;

#[path = "guard_tests.rs"]
mod guard;
