//! Graphite's timelines over leader changes, by a real carbon-cache.

use std::time::{Duration, Instant};

use bellwether::clock::Clock;

use crate::{
    cluster::{Plan, SOON},
    figures::{self, Bound},
    hold,
    http::wait_for,
    publish::Carbon,
};

/// Seconds that share one value at carbon. Probes come each 2 s and a successor within 6 s, so a steady run fills each slot and
/// so must one whose leaders die.
const SLOT: i64 = 10;

fn now() -> i64 {
    Clock::system().now().wall.as_secs()
}

fn metric(target: &str) -> String {
    format!("coco.health.local.eu.services.{target}")
}

#[test]
#[ignore = "long: scripts/chaos"]
fn no_slot_of_graphite_is_empty_over_5_leader_kills() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut carbon = Carbon::keeping("10s:2h");
    runtime.block_on(carbon.start());
    let port = carbon.port.to_string();
    let mut plan = Plan::default();
    for arg in ["--graphite-host", "127.0.0.1", "--graphite-port", &port, "--graphite-interval", "5s"] {
        plan = plan.arg(arg);
    }
    let mut cluster = plan.start_empty();
    cluster.targets();
    for category in ["default", "steady", "dead", "flip"] {
        cluster.put(&format!("/ft/healthcheck-categories/{category}/period_seconds"), "2");
    }
    cluster.start_nodes();
    cluster.settled(SOON);
    cluster.good_everywhere("steady", true);
    let all = [("steady-1", Some(0)), ("steady-2", Some(0)), ("dead-1", Some(1)), ("flip-1", None)];
    let began = now();
    for (target, _) in all {
        let found = || carbon.read(&metric(target), began - 60, now() + 2).into_iter().next();
        wait_for(target, SOON, found, Option::is_some);
    }
    let first = now() / SLOT * SLOT;
    let mut took = Vec::new();
    for round in 0..5 {
        let (leader, term) = cluster.settled(SOON);
        // At another point of the slot and of the flush each time.
        hold(Duration::from_millis(12_700 + 1_300 * round));
        let killed = Instant::now();
        cluster.kill(&leader);
        cluster.flip(round % 2 == 1);
        let (next, _, time) = cluster.successor(term, killed, SOON);
        println!("{leader} killed at {}: {next} leads after {time:?}", now() % SLOT);
        took.push(time);
        cluster.good_everywhere("flip", round % 2 == 1);
        cluster.start_node(&leader);
    }
    figures::times("failover while Graphite is fed", &took, Bound::max(6000.0));
    let last = now() / SLOT * SLOT + SLOT;
    for (target, value) in all {
        let newest = || carbon.read(&metric(target), last, now() + 2).into_iter().next();
        wait_for(target, SOON, newest, Option::is_some);
        let held = carbon.read(&metric(target), first, last);
        let slots = (first..=last).step_by(SLOT as usize);
        let empty: Vec<i64> = slots.clone().filter(|slot| !held.contains_key(slot)).map(|slot| slot - first).collect();
        assert!(empty.is_empty(), "{target} has no value at {empty:?}: {held:?}");
        let wrong: Vec<_> = held.iter().filter(|(_, v)| value.is_some_and(|value| value != **v)).collect();
        assert!(wrong.is_empty(), "{target}: {wrong:?}");
        println!("{target}: {} slots, none empty", slots.count());
        if value.is_none() {
            assert!(held.values().any(|v| *v == 0) && held.values().any(|v| *v == 1), "both were seen: {held:?}");
        }
    }
}
