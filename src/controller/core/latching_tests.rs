//! Tests of sticky latches, as the core makes, writes and clears them.

use super::*;

#[test]
fn the_leader_latches_with_the_transition_that_caused_it() {
    let mut bench = Bench::leading();
    let told = bench.bad("foo-1", 3);
    assert!(matches!(told.changes[..], [Change::Target { to: HealthState::Down, .. }]), "{told:?}");
    let (view, effects) = bench.evaluate();
    assert_eq!(latches(&effects.writes), [("read", false)], "a named region leaves the plain flag alone");
    assert_eq!(statuses(&effects.writes), [("foo-1", HealthState::Down)], "in the same effects");
    let verdict = &view.evaluation.categories["read"];
    assert!(
        !verdict.ok && verdict.latch.is_some() && view.latches.contains_key("read"),
        "visible at once: {verdict:?}"
    );
    assert_eq!(view.gtg.categories["read"].status, 503);
    assert!(effects.own_latches_changed && bench.core.own_latches().contains_key("read"));
    assert!(effects.changes.iter().any(|c| matches!(c, Change::Category { ok: false, .. })), "{:?}", effects.changes);
    // Once, not at each evaluation.
    let (_, again) = bench.evaluate();
    assert!(again.writes.is_empty(), "{again:?}");
    bench.echo(&effects.writes);
    assert!(bench.core.own_latches().is_empty(), "it is the store's now");
    // Healing does not clear it.
    bench.good("foo-1", 2);
    assert_eq!(bench.state("foo-1"), HealthState::Up);
    assert!(!bench.ok("read"));
    // The operator's later put does.
    bench.put(ENABLED, "true");
    let (view, effects) = bench.evaluate();
    assert!(view.evaluation.categories["read"].ok && unlatched(&effects.writes), "{effects:?}");
    bench.echo(&effects.writes);
    let (view, effects) = bench.evaluate();
    assert!(view.latches.is_empty() && effects.writes.is_empty());
}

#[test]
fn without_a_region_the_latch_puts_the_plain_flag_too() {
    let mut bench = Bench::starting(false, BTreeMap::new());
    bench.sync(&Bench::STICKY);
    bench.lead();
    bench.good("foo-1", 2);
    bench.evaluate();
    bench.bad("foo-1", 3);
    let (_, effects) = bench.evaluate();
    assert_eq!(latches(&effects.writes), [("read", true)]);
    bench.echo(&effects.writes);
    let (view, effects) = bench.evaluate();
    assert!(!view.evaluation.categories["read"].enabled && effects.writes.is_empty(), "its own put clears nothing");
    bench.good("foo-1", 2);
    bench.put(ENABLED, "true");
    assert!(bench.ok("read"), "the operator's later put does");
}

#[test]
fn a_latch_that_waits_to_be_written_is_taken_back_when_it_is_cleared() {
    let mut bench = Bench::leading();
    bench.bad("foo-1", 3);
    let (_, effects) = bench.evaluate();
    assert_eq!(latches(&effects.writes).len(), 1);
    // It is not written yet (no echo), and an operator switches the category on.
    bench.good("foo-1", 2);
    bench.put(ENABLED, "true");
    let (view, effects) = bench.evaluate();
    assert!(view.evaluation.categories["read"].ok);
    assert!(unlatched(&effects.writes), "it replaces the waiting latch: {effects:?}");
    assert!(effects.own_latches_changed && bench.core.own_latches().is_empty());
}

#[test]
fn a_follower_does_not_latch_and_drops_what_it_latched_alone() {
    let mut bench = Bench::synced(&Bench::STICKY);
    bench.stand(false, Some("other"), StoreState::Ok);
    bench.status("foo-1", HealthState::Up, 1);
    bench.evaluate();
    bench.status("foo-1", HealthState::Down, 2);
    let (view, effects) = bench.evaluate();
    assert_eq!(view.node.role, Role::Follower);
    assert!(latches(&effects.writes).is_empty() && view.latches.is_empty());
    assert!(!view.evaluation.categories["read"].ok, "its verdict is true all the same");
    // Alone it judges afresh and latches for itself.
    bench.stand(false, Some("other"), StoreState::Lost);
    let (view, effects) = bench.evaluate();
    assert_eq!(
        (view.node.role, view.node.store),
        (Role::Follower, StoreState::Lost),
        "without etcd every node latches"
    );
    assert!(view.latches.contains_key("read") && effects.own_latches_changed);
    // The store is back, another leads: its latches count.
    bench.stand(false, Some("other"), StoreState::Ok);
    let (view, effects) = bench.evaluate();
    assert!(view.latches.is_empty() && effects.own_latches_changed && bench.core.own_latches().is_empty());
    assert!(latches(&effects.writes).is_empty());
}

#[test]
fn the_leaders_own_latches_are_written_when_it_leads_again() {
    let mut bench = Bench::leading();
    // etcd goes: authority runs out after the feed has told it.
    bench.stand(true, Some("n1"), StoreState::Lost);
    bench.stand(false, Some("n1"), StoreState::Lost);
    bench.bad("foo-1", 3);
    let (view, effects) = bench.evaluate();
    assert_eq!(view.node.role, Role::Autonomous);
    assert!(view.node.degraded && bench.core.sends_outputs(), "who led last goes on sending");
    assert!(effects.own_latches_changed && view.latches.contains_key("read"));
    // It is back. Until somebody leads, nothing is dropped.
    bench.stand(false, Some("n1"), StoreState::Ok);
    let (view, _) = bench.evaluate();
    assert_eq!(view.node.role, Role::Autonomous, "it goes on until somebody leads");
    assert!(view.latches.contains_key("read"), "kept until it is known who leads");
    bench.lead();
    let (view, effects) = bench.evaluate();
    assert_eq!(latches(&effects.writes), [("read", false)]);
    assert_eq!(statuses(&effects.writes), [("foo-1", HealthState::Down)]);
    assert!(view.latches.contains_key("read"));
    assert!(latches(&bench.evaluate().1.writes).is_empty(), "once");
}

#[test]
fn own_latches_from_disk_hold_and_are_written_by_the_leader_only_if_not_cleared_meanwhile() {
    let latch = Latch { v: 1, by: "n1".into(), at: Timestamp::from_millis(0), reason: "x".into(), revision: 5 };
    let own = BTreeMap::from([(category("read"), latch)]);
    let mut bench = Bench::starting(true, own.clone());
    bench.sync(&[Bench::STICKY[0], Bench::STICKY[1]]);
    bench.status("foo-1", HealthState::Up, 1);
    assert!(!bench.ok("read"), "it outlives the restart");
    bench.lead();
    assert_eq!(latches(&bench.evaluate().1.writes), [("read", false)]);
    // The same with an operator's later put in the store.
    let mut bench = Bench::starting(true, own);
    bench.sync(&[Bench::STICKY[0], Bench::STICKY[1], (ENABLED, "true")]);
    bench.lead();
    let (view, effects) = bench.evaluate();
    assert!(latches(&effects.writes).is_empty() && effects.own_latches_changed, "{effects:?}");
    assert!(view.evaluation.categories["read"].latch.is_none());
}

#[test]
fn a_new_leader_latches_what_turned_bad_while_nobody_led() {
    let down = |revision: i64| StatusValue {
        v: 1,
        health: HealthState::Down,
        since: Timestamp::from_millis(revision),
        reason: "3 bad in a row".to_owned(),
        term: 3,
        n: 4,
    };
    let json = |health| serde_json::to_string(&StatusValue { health, ..down(0) }).unwrap();
    // (status, then enabled, in this order; `None`: not there) and whether it latches.
    let cases = [
        (Some((HealthState::Down, 20)), None, true),
        (Some((HealthState::Down, 20)), Some(15), true),
        (Some((HealthState::Down, 20)), Some(25), false),
        // The failure that is seen here is newer than anything that was written.
        (Some((HealthState::Up, 20)), Some(25), true),
        (None, Some(25), true),
    ];
    for (status, enabled, expected) in cases {
        let mut bench = Bench::starting(true, BTreeMap::new());
        let mut keys: Vec<(i64, String, String)> =
            Bench::STICKY.iter().map(|(k, v)| (1, (*k).to_owned(), (*v).to_owned())).collect();
        keys.extend(status.map(|(health, revision)| (revision, status_key("foo-1"), json(health))));
        keys.extend(enabled.map(|revision| (revision, ENABLED.to_owned(), "true".to_owned())));
        let events: Vec<Event> = keys
            .iter()
            .map(|(revision, key, value)| {
                bench.revision = *revision;
                bench.put_event(key, value)
            })
            .collect();
        bench.revision = 30;
        bench.core.apply(30, &events, true, bench.now());
        // Without a store it probes for itself; then it leads.
        bench.stand(false, None, StoreState::Lost);
        bench.secs += 200;
        bench.core.tick(bench.now());
        bench.bad("foo-1", 3);
        bench.lead();
        let (_, effects) = bench.evaluate();
        assert_eq!(!latches(&effects.writes).is_empty(), expected, "status {status:?}, enabled at {enabled:?}");
        assert!(latches(&bench.evaluate().1.writes).is_empty());
    }
}

#[test]
fn an_unreadable_latch_or_status_stops_nothing() {
    let mut bench = Bench::leading();
    bench.put(LATCH, "{");
    bench.put(&status_key("foo-1"), "[]");
    bench.put("regions/us/latches/read", r#"{"by":"x","at":"2026-01-01T00:00:00Z","reason":"theirs"}"#);
    assert!(bench.ok("read"), "another region's latch is not ours");
    bench.put(LATCH, r#"{"by":"x","at":"2026-01-01T00:00:00Z","reason":"ours"}"#);
    assert!(!bench.ok("read"));
    bench.delete(&[LATCH]);
    assert!(bench.ok("read"));
}
