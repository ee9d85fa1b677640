//! A node killed in the middle of its writes: what it said it has, it has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/signal.rs"]
mod signal;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use http::{get_json, request, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(20);
const ROUNDS: u32 = 5;
const TARGETS: u32 = 8;

/// Acks targets in turn until the node is gone; returns what was acknowledged, the last of each target.
fn ack_until_gone(node: &Node, round: u32, gone: &AtomicBool, done: &AtomicU32) -> BTreeMap<String, (String, bool)> {
    let mut acked = BTreeMap::new();
    for n in 0_u32.. {
        let target = format!("t-{}", n % TARGETS);
        let message = format!("round {round} ack {n}");
        let body = serde_json::json!({ "message": message }).to_string();
        let path = format!("/api/v1/acks/{target}");
        let answer = request(node.addr, "PUT", &path, &[("Content-Type", "application/json")], &body);
        match answer {
            Ok(answer) if answer.status < 300 => {
                acked.insert(target, (message, true));
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(answer) => panic!("{answer:?}"),
            Err(error) => {
                assert!(gone.load(Ordering::SeqCst), "{error}");
                // The one that was under way may or may not have happened.
                acked.insert(target, (message, false));
                break;
            }
        }
    }
    acked
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("services.yaml");
    let targets: String =
        (0..TARGETS).map(|n| format!("  t-{n}: {{url: 'http://127.0.0.1:9/', categories: [shop]}}\n")).collect();
    std::fs::write(&file, format!("targets:\n{targets}categories:\n  shop: {{period_seconds: 3600}}\n")).unwrap();
    let dir = data.path().join("node");
    let dir = dir.to_str().unwrap();
    let start = |args: &[&str]| Node::start(&[&["--data-dir", dir], args].concat());
    let first = start(&["--catalog", file.to_str().unwrap()]);
    let known = |node: &Node| {
        wait_for("the catalog", SOON, || get_json(node.addr, "/api/v1/targets/t-7"), |t| t["name"] == "t-7")
    };
    known(&first);
    first.kill();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let node = start(&[]);
        known(&node);
        for (target, message) in &before {
            let found = get_json(node.addr, &format!("/api/v1/targets/{target}"));
            assert_eq!(found["ack"]["message"], message.as_str(), "{target} in round {round}: {found}");
        }
        let (gone, done) = (AtomicBool::new(false), AtomicU32::new(0));
        let acked = std::thread::scope(|scope| {
            let acks = scope.spawn(|| ack_until_gone(&node, round, &gone, &done));
            // Killed after another number of acks in each round, wherever the next write stands then.
            let enough = || done.load(Ordering::SeqCst) >= 10 + 7 * round || acks.is_finished();
            wait_for("acks", SOON, enough, |enough| *enough);
            gone.store(true, Ordering::SeqCst);
            node.kill_now();
            acks.join().unwrap()
        });
        drop(node);
        for (target, (message, sure)) in acked {
            if sure {
                before.insert(target, message);
            } else {
                before.remove(&target);
            }
        }
        assert!(before.len() >= 7, "{before:?}");
    }
    let node = start(&[]);
    known(&node);
    for (target, message) in &before {
        assert_eq!(get_json(node.addr, &format!("/api/v1/targets/{target}"))["ack"]["message"], message.as_str());
    }
}
