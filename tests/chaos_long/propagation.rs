//! How fast: acks to every node, a result to the followers' answers, a start from disk.

use std::time::{Duration, Instant};

use bellwether::store::{Op, Store as _, Txn};

use crate::{
    cluster::{Cluster, Plan, SOON},
    figures::{self, Bound},
    hold,
    http::wait_for,
    load::Line,
};

fn lines(cluster: &Cluster, names: &[String]) -> Vec<Line> {
    names.iter().map(|n| Line::new(cluster.address(n).unwrap())).collect()
}

/// Asks all until each has given this status; when the last did.
fn until(lines: &mut [Line], path: &str, status: u16) -> Vec<Instant> {
    let began = Instant::now();
    let mut seen: Vec<Option<Instant>> = vec![None; lines.len()];
    while seen.iter().any(Option::is_none) {
        assert!(began.elapsed() < SOON, "{status} for {path}");
        for (line, seen) in lines.iter_mut().zip(&mut seen).filter(|(_, seen)| seen.is_none()) {
            if line.get(path).unwrap().0 == status {
                *seen = Some(Instant::now());
            }
        }
        std::thread::park_timeout(Duration::from_micros(300));
    }
    seen.into_iter().flatten().collect()
}

#[test]
#[ignore = "long: scripts/chaos"]
fn f01_ack_to_every_answer() {
    let cluster = Plan::default().start();
    let (store, mut lines) = (cluster.store(), lines(&cluster, &cluster.names()));
    let (mut all, mut each) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let key = "healthcheck/dead-1/ack".to_owned();
        let put = round % 2 == 0;
        let op = if put { Op::Put { key, value: "known".into(), lease: None } } else { Op::Delete(key) };
        let began = Instant::now();
        cluster.runtime.block_on(store.txn(Txn { compares: Vec::new(), ops: vec![op] })).unwrap();
        let seen = until(&mut lines, "/__gtg?categories=dead", if put { 200 } else { 503 });
        each.extend(seen.iter().map(|s| s.duration_since(began)));
        all.push(seen.iter().max().unwrap().duration_since(began));
        // Evaluations are 10 ms apart at least; a change at the heels of another would measure that.
        hold(Duration::from_millis(25));
    }
    figures::times("ack put at etcd → the last of 3 nodes' answers", &all, Bound::p50_p99(10.0, 50.0));
    figures::times("the same, each node", &each, Bound::NONE);
    // As an operator does it: the process etcdctl and its connection count in.
    let mut typed = Vec::new();
    for round in 0..20 {
        let began = Instant::now();
        let put = round % 2 == 0;
        let args: &[&str] =
            if put { &["put", "/ft/healthcheck/dead-1/ack", "known"] } else { &["del", "/ft/healthcheck/dead-1/ack"] };
        cluster.ctl(args);
        let seen = until(&mut lines, "/__gtg?categories=dead", if put { 200 } else { 503 });
        typed.push(seen.iter().max().unwrap().duration_since(began));
    }
    figures::times(
        "ack by the etcdctl process, its start included → the last of 3 nodes' answers",
        &typed,
        Bound::NONE,
    );
}

#[test]
#[ignore = "long: scripts/chaos"]
fn f02_result_to_followers() {
    const ROUNDS: usize = 60;
    let cluster = Plan::default().start();
    // Each target changes once: one that goes to and fro is flapping, and held.
    cluster.put_all((0..ROUNDS).flat_map(|i| {
        [
            (format!("healthcheck-categories/once-{i}/period_seconds"), "1".to_owned()),
            (format!("healthcheck/once-{i}/categories"), format!("once-{i}")),
            (format!("healthcheck/once-{i}/spec"), r#"{"rise":1,"fall":1}"#.to_owned()),
        ]
    }));
    for i in 0..ROUNDS {
        cluster.good_everywhere(&format!("once-{i}"), true);
    }
    let (leader, _) = cluster.settled(SOON);
    let mut followers = lines(&cluster, &cluster.others(&[&leader]));
    let mut took = Vec::new();
    for i in 0..ROUNDS {
        let target = format!("once-{i}");
        cluster.farm.set(&target, false);
        let answered = wait_for("probed", SOON, || cluster.farm.first_answer(&target), Option::is_some).unwrap();
        let seen = until(&mut followers, &format!("/__gtg?categories={target}"), 503);
        took.extend(seen.iter().map(|s| s.saturating_duration_since(answered)));
        // Half of all down would be looked into before it is believed.
        cluster.farm.set(&target, true);
    }
    figures::times(
        "target's answer to the leader's probe → each follower's answer",
        &took,
        Bound::p50_p99(200.0, 500.0),
    );
    // Without the stream it goes through etcd: see s06_stream_lost_and_etcd_there.
}

#[test]
#[ignore = "long: scripts/chaos"]
fn f03_cold_start_without_etcd() {
    let mut cluster = Plan::default().start_empty();
    cluster.targets();
    let many = (0..1000).map(|i| (format!("healthcheck/many-{i}/categories"), "many".to_owned()));
    cluster.put_all(many);
    cluster.start_nodes();
    cluster.settled(SOON);
    cluster.good_everywhere("steady", true);
    cluster.good_everywhere("many", true);
    cluster.kept("a");
    for name in cluster.names() {
        cluster.kill(&name);
    }
    cluster.etcd_kill();
    let mut took = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        cluster.start_node("a");
        let mut line = lines(&cluster, &["a".to_owned()]);
        until(&mut line, "/__gtg?categories=many", 200);
        took.push(began.elapsed());
        println!("first answers: {:?}", cluster.gtg("a", "many"));
        cluster.kill("a");
    }
    figures::times("start without etcd → 200 from what was kept (1,000 targets)", &took, Bound::max(1000.0));
}
