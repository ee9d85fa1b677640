//! The leader dies, goes, freezes.

use std::time::{Duration, Instant};

use crate::{
    SEEN_OVER_FAILOVER,
    cluster::{Plan, SOON, TTL},
    figures::{self, Bound},
    hold,
    http::wait_for,
    load::Line,
};

#[test]
#[ignore = "long: scripts/chaos"]
fn s01_leader_killed_20_times() {
    let mut cluster = Plan::default().start();
    let (audit, mut roles, mut load) = (cluster.audit(), cluster.roles(), cluster.load(250, SEEN_OVER_FAILOVER));
    let (mut took, mut meanwhile) = (Vec::new(), 0);
    for round in 0..20 {
        let (leader, term) = cluster.settled(SOON);
        load.leave(&leader);
        roles.off(&leader);
        let before = load.so_far().answers;
        let began = Instant::now();
        cluster.kill(&leader);
        // What changes while nobody leads is seen as well.
        cluster.flip(round % 2 == 1);
        let (next, new_term, time) = cluster.successor(term, began, SOON);
        meanwhile += load.so_far().answers - before;
        println!("round {round}: {leader} of term {term} killed; {next} leads in {new_term} after {time:?}");
        took.push(time);
        cluster.good_everywhere("flip", round % 2 == 1);
        cluster.start_node(&leader);
        assert_eq!(cluster.settled(SOON).1, new_term, "the one that comes back follows");
        cluster.good_everywhere("steady", true);
        cluster.good_everywhere("flip", round % 2 == 1);
        let address = cluster.address(&leader).unwrap();
        load.on(&leader, address);
        roles.on(&leader, address);
    }
    cluster.agree("eu", &["flip-1", "steady-1", "dead-1"]);
    let report = load.end();
    figures::times("failover after kill -9", &took, Bound { p50: Some(5000.0), p99: None, max: Some(6000.0) });
    figures::record("answers of survivors between kill and successor", "answers", &[meanwhile as f64], Bound::NONE);
    figures::record(
        "answers in the whole run (500/s on two, 750/s on three nodes)",
        "answers",
        &[report.answers as f64],
        Bound::NONE,
    );
    figures::record("failed answers", "answers", &[report.failed as f64], Bound::max(0.0));
    figures::record("wrong answers", "answers", &[report.wrong as f64], Bound::max(0.0));
    figures::times("/__gtg under that load", &report.took, Bound::NONE);
    report.assert_clean(10_000);
    roles.assert_clean();
    println!("{} leader writes looked at; leaders {:?}", audit.assert_clean(), audit.leaders("eu"));
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s02_leader_terminated_20_times() {
    let mut cluster = Plan::default().arg("--drain-delay").arg("1s").start();
    let (audit, mut roles, mut load) = (cluster.audit(), cluster.roles(), cluster.load(250, SEEN_OVER_FAILOVER));
    let (mut took, mut ended) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let (leader, term) = cluster.settled(SOON);
        roles.off(&leader);
        let node = cluster.take(&leader);
        let mut line = Line::new(node.addr);
        let began = Instant::now();
        node.signal("TERM");
        let (next, _, time) = cluster.successor(term, began, SOON);
        println!("round {round}: {leader} terminated; {next} leads after {time:?}");
        took.push(time);
        // A load balancer takes the node out when it is no longer ready; until then it must get its answers.
        while line.get("/__ready").is_ok_and(|a| a.0 == 200) {
            assert!(began.elapsed() < SOON, "still ready");
        }
        load.off(&leader);
        assert_eq!(node.end(), Some(0));
        ended.push(began.elapsed());
        cluster.start_node(&leader);
        cluster.settled(SOON);
        for category in ["steady", "flip"] {
            cluster.good_everywhere(category, true);
        }
        let address = cluster.address(&leader).unwrap();
        load.on(&leader, address);
        roles.on(&leader, address);
    }
    figures::times("failover after SIGTERM", &took, Bound { p50: None, p99: Some(250.0), max: None });
    figures::times("SIGTERM to exit, drain delay 1 s", &ended, Bound::NONE);
    load.end().assert_clean(10_000);
    roles.assert_clean();
    audit.assert_clean();
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s03_leader_frozen_longer_than_its_lease() {
    let mut cluster = Plan::default().start();
    let (audit, mut roles, mut load) = (cluster.audit(), cluster.roles(), cluster.load(100, SEEN_OVER_FAILOVER));
    let mut took = Vec::new();
    for round in 0..5 {
        let good = round % 2 == 1;
        let (leader, term) = cluster.settled(SOON);
        load.leave(&leader);
        let began = Instant::now();
        cluster.pause(&leader);
        cluster.flip(good);
        let (next, new_term, time) = cluster.successor(term, began, SOON);
        took.push(time);
        cluster.good_everywhere("flip", good);
        hold((TTL + Duration::from_secs(3)).saturating_sub(began.elapsed()));
        cluster.resume(&leader);
        let mut line = Line::new(cluster.address(&leader).unwrap());
        let (_, first) = line.get("/api/v1/node").unwrap();
        assert!(!first.contains(r#""role":"leader""#), "thawed, and still leads: {first}");
        assert_eq!(cluster.settled(SOON), (next, new_term), "it follows");
        cluster.good_everywhere("flip", good);
        load.on(&leader, cluster.address(&leader).unwrap());
        roles.on(&leader, cluster.address(&leader).unwrap());
    }
    figures::times("failover after SIGSTOP", &took, Bound::NONE);
    cluster.agree("eu", &["flip-1", "steady-1"]);
    load.end().assert_clean(1000);
    roles.assert_clean();
    audit.assert_clean();
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s04_leader_frozen_shorter_than_its_lease() {
    let mut cluster = Plan::default().start();
    let (audit, before) = (cluster.audit(), cluster.settled(SOON));
    let mut load = cluster.load(100, SEEN_OVER_FAILOVER);
    load.leave(&before.0);
    for round in 0..20 {
        cluster.pause(&before.0);
        hold(Duration::from_secs(2));
        cluster.resume(&before.0);
        assert_eq!(cluster.settled(SOON), before, "round {round}");
        hold(Duration::from_millis(1500));
    }
    load.end().assert_clean(1000);
    audit.assert_clean();
    assert_eq!(audit.leaders("eu").len(), 1);
}

/// Frozen at once when a target's decisive answer was given, that is with a transition decided and not yet written; thawed
/// when another leads.
#[test]
#[ignore = "long: scripts/chaos"]
fn s20_frozen_between_decision_and_write() {
    let mut cluster = Plan::default().start();
    let (audit, roles) = (cluster.audit(), cluster.roles());
    for round in 0..8_u64 {
        let good = round % 2 == 1;
        let (leader, term) = cluster.settled(SOON);
        cluster.good_everywhere("flip", !good);
        cluster.flip(good);
        wait_for("asked", SOON, || cluster.farm.first_answer("flip-1"), Option::is_some);
        hold(Duration::from_millis(round % 4));
        let began = Instant::now();
        cluster.pause(&leader);
        let (_, new_term, _) = cluster.successor(term, began, SOON);
        cluster.resume(&leader);
        assert_eq!(cluster.settled(SOON).1, new_term);
        cluster.good_everywhere("flip", good);
        cluster.agree("eu", &["flip-1"]);
    }
    roles.assert_clean();
    println!("{} leader writes looked at", audit.assert_clean());
}

#[test]
#[ignore = "long: scripts/chaos"]
fn s22_leaders_killed_one_after_the_other() {
    let mut cluster = Plan::default().start();
    let (audit, mut roles) = (cluster.audit(), cluster.roles());
    let mut last = cluster.settled(SOON);
    for _ in 0..3 {
        // Two leaders killed as soon as each leads; the third has to do it alone.
        for _ in 0..2 {
            roles.off(&last.0);
            let began = Instant::now();
            cluster.kill(&last.0);
            let (next, term, _) = cluster.successor(last.1, began, SOON);
            last = (next, term);
        }
        cluster.good_everywhere("steady", true);
        for name in cluster.names() {
            if cluster.address(&name).is_none() {
                cluster.start_node(&name);
                roles.on(&name, cluster.address(&name).unwrap());
            }
        }
        assert_eq!(cluster.settled(SOON), last, "those that come back follow");
        let told = cluster.api(&last.0, "/api/v1/cluster");
        println!("told by the last: {told}");
    }
    assert_eq!(audit.leaders("eu").len(), 7, "each term has one leader");
    roles.assert_clean();
    audit.assert_clean();
}

/// The leader gets a tenth of its time: it keeps its lease or loses it, but does not lie and writes nothing out of term.
#[test]
#[ignore = "long: scripts/chaos"]
fn s28_starved_leader() {
    let mut cluster = Plan::default().start();
    let (audit, roles) = (cluster.audit(), cluster.roles());
    let (leader, _) = cluster.settled(SOON);
    let mut load = cluster.load(100, SEEN_OVER_FAILOVER);
    load.leave(&leader);
    for round in 0..20 {
        cluster.pause(&leader);
        hold(Duration::from_millis(900));
        cluster.resume(&leader);
        hold(Duration::from_millis(100));
        if round % 5 == 0 {
            cluster.flip(round % 2 == 1);
        }
    }
    cluster.settled(SOON);
    cluster.agree("eu", &["flip-1", "steady-1"]);
    println!("leaders meanwhile: {:?}", audit.leaders("eu"));
    load.end().assert_clean(1000);
    roles.assert_clean();
    audit.assert_clean();
}

/// A node without data joins, and all others die at once.
#[test]
#[ignore = "long: scripts/chaos"]
fn s29_a_cold_node_is_all_that_is_left() {
    for _ in 0..3 {
        let mut cluster = Plan::default().start();
        let (leader, term) = cluster.settled(SOON);
        let cold = cluster.others(&[&leader]).pop().unwrap();
        cluster.kill(&cold);
        cluster.wipe(&cold);
        let mut roles = cluster.roles();
        cluster.start_node(&cold);
        roles.on(&cold, cluster.address(&cold).unwrap());
        let load = {
            // Dead is dead for all, from the first answer on; not yet seen is not good to go either.
            let mut load = cluster.load_of(&["dead"], 100, Duration::ZERO);
            cluster.others(&[&cold]).iter().for_each(|n| load.off(n));
            load
        };
        for other in cluster.others(&[&cold]) {
            roles.off(&other);
            cluster.kill(&other);
        }
        let (next, _, took) = cluster.successor(term, Instant::now(), SOON);
        println!("{next} leads after {took:?}");
        cluster.good_everywhere("steady", true);
        load.end().assert_clean(100);
        roles.assert_clean();
    }
}
