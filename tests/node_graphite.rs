//! A node with a real carbon-cache: what whisper holds is what the node saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/gateway.rs"]
mod gateway;
#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/publish.rs"]
mod publish;
#[path = "support/signal.rs"]
mod signal;

use std::time::{Duration, Instant};

use bellwether::clock::Clock;
use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;
use publish::Carbon;

const SOON: Duration = Duration::from_secs(15);
const FOO: &str = "coco.health.test.services.foo-1";
const PILOT: &str = "coco.health.test.pilot-light";

fn now() -> i64 {
    Clock::system().now().wall.as_secs()
}

fn node(gateway: &Gateway, carbon: &Carbon, dir: &std::path::Path, extra: &[&str]) -> Node {
    let catalog = dir.join("services.yaml");
    let text = format!(
        "targets:\n  foo-1:\n    url: http://{}/health/foo-1/__health\n    categories: [read]\n    format: ft\n    fall: 1\ncategories:\n  read: {{period_seconds: 1}}\n",
        gateway.addr
    );
    std::fs::write(&catalog, text).unwrap();
    let port = carbon.port.to_string();
    let mut args =
        vec!["--catalog", catalog.to_str().unwrap(), "--environment", "test", "--graphite-host", "127.0.0.1"];
    args.extend(["--graphite-port", &port, "--graphite-interval", "1s"]);
    args.extend(extra);
    Node::start(&args)
}

/// Waits until whisper holds a point with this value at or after `from`.
fn holds(carbon: &Carbon, metric: &str, from: i64, value: u8) -> i64 {
    let newest = || carbon.read(metric, from, now() + 2).into_iter().find(|(_, v)| *v == value);
    wait_for(&format!("{metric} {value}"), SOON, newest, Option::is_some).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn whisper_holds_what_the_node_saw() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let mut carbon = Carbon::new();
    carbon.start().await;
    let began = now();
    let node = node(&gateway, &carbon, dir.path(), &[]);
    wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
    holds(&carbon, FOO, began, 0);
    holds(&carbon, PILOT, began, 1);
    gateway.set("foo-1", Behaviour::Failing);
    wait_for("down", SOON, || get_json(node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "down");
    let bad = holds(&carbon, FOO, began, 1);
    gateway.set("foo-1", Behaviour::Good);
    let good = holds(&carbon, FOO, bad + 1, 0);
    // No second between the two without a point.
    let seconds: Vec<i64> = carbon.read(FOO, bad, good).into_keys().collect();
    let gaps: Vec<i64> = seconds.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|gap| *gap <= 2), "a point for each interval: {seconds:?}");
    assert_eq!(node.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_carbon_delays_nothing_and_gets_its_points_later() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let mut carbon = Carbon::new();
    let began = (now(), Instant::now());
    let node = node(&gateway, &carbon, dir.path(), &["--region", "eu"]);
    wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
    println!("good to go {:?} after its start with a dead carbon", began.1.elapsed());
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(get(node.addr, "/__gtg?categories=read").status, 200);
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }
    let first = now();
    wait_for("a few seconds on", SOON, now, |n| *n >= first + 3);
    carbon.start().await;
    let metric = "coco.health.test.eu.services.foo-1";
    let point = holds(&carbon, metric, began.0, 0);
    assert!(point <= first + 3, "what waited is sent: {point}, dead until after {first}");
    carbon.kill();
    let asked = Instant::now();
    assert_eq!(node.terminate(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(8), "a dead carbon does not hold up the end: {:?}", asked.elapsed());
}
