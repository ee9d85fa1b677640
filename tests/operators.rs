//! An operator with nothing but `etcdctl`: every command of the README against a real etcd and a real node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "support/etcd.rs"]
mod etcd;
#[path = "support/etcd_ctl.rs"]
mod etcd_ctl;
#[path = "support/gateway.rs"]
mod gateway;
#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;

use std::time::Duration;

use bellwether::store::{Op, Store as _, Txn};
use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(10);

struct Stage {
    etcd: etcd::Member,
    gateway: Gateway,
    node: Node,
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }
    fn with(args: &[&str]) -> Self {
        let etcd = etcd::Member::single(&[]);
        let gateway = Gateway::start();
        let (endpoint, vulcand) = (etcd.url.clone(), gateway.addr.to_string());
        let mut all =
            vec!["--etcd-endpoints", &endpoint, "--vulcand", &vulcand, "--node", "n1", "--environment", "test"];
        all.extend(args);
        let node = Node::start(&all);
        Self { etcd, gateway, node }
    }
    fn ctl(&self, args: &[&str]) -> String {
        etcd_ctl::etcdctl(&self.etcd.url, args)
    }
    fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", key, value]);
    }
    fn gtg(&self, query: &str, status: u16) -> http::Answer {
        let target = format!("/__gtg{query}");
        wait_for(&format!("{target} = {status}"), SOON, || get(self.node.addr, &target), |a| a.status == status)
    }
    fn quick_category(&self, name: &str) {
        self.put(&format!("/ft/healthcheck-categories/{name}/period_seconds"), "1");
    }
}

#[test]
fn a_target_registered_by_etcdctl_is_probed_through_the_gateway() {
    let stage = Stage::new();
    // A fresh cluster has no target: not good to go, and it says so.
    let empty = |a: &http::Answer| a.status == 503 && a.body.trim() == "category default has no targets";
    wait_for("no targets yet", SOON, || get(stage.node.addr, "/__gtg"), empty);
    stage.quick_category("read");
    stage.put("/ft/healthcheck/foo-service-1/path", "/__health");
    stage.put("/ft/healthcheck/foo-service-1/categories", "read, write");
    assert_eq!(stage.gtg("?categories=read", 200).body, "OK");
    assert_eq!(stage.gateway.host_of("foo-service-1").as_deref(), Some("foo-service-1"));
    stage.gateway.set("foo-service-1", Behaviour::Failing);
    let bad = stage.gtg("?categories=read", 503);
    assert!(bad.body.contains("foo-service-1 is down") && bad.body.contains("database reachable"), "{}", bad.body);
    stage.gateway.set("foo-service-1", Behaviour::Good);
    stage.gtg("?categories=read", 200);
    // Gone from etcd: the category that only it named is unknown again.
    stage.ctl(&["del", "--prefix", "/ft/healthcheck/foo-service-1/"]);
    stage.gtg("?categories=write", 400);
}

#[test]
fn acks_by_etcdctl_alone() {
    let stage = Stage::new();
    stage.quick_category("read");
    stage.put("/ft/healthcheck/foo-1/categories", "read");
    stage.gateway.set("foo-1", Behaviour::Status(503));
    stage.gtg("?categories=read", 503);
    wait_for("down", SOON, || get_json(stage.node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "down");
    stage.put("/ft/healthcheck/foo-1/ack", "we know, ticket 7");
    stage.gtg("?categories=read", 200);
    let health = get_json(stage.node.addr, "/__health");
    assert_eq!(health["checks"][0]["ack"], "we know, ticket 7");
    assert!(health["checks"][0]["checkOutput"].as_str().unwrap().starts_with("ACKED - "), "{health}");
    // JSON with an owner and an end that has passed: the failure counts again.
    stage.put("/ft/healthcheck/foo-1/ack", r#"{"message":"short","by":"ann","until":"2020-01-01T00:00:00Z"}"#);
    stage.gtg("?categories=read", 503);
    stage.put("/ft/healthcheck/foo-1/ack", r#"{"message":"long","by":"ann","until":"2100-01-01T00:00:00Z"}"#);
    stage.gtg("?categories=read", 200);
    stage.ctl(&["del", "/ft/healthcheck/foo-1/ack"]);
    stage.gtg("?categories=read", 503);
    // The cluster ack changes /__health and leaves /__gtg alone.
    stage.put("/ft/config/aggregate-healthcheck/cluster-ack", "planned failover");
    let acked = wait_for("cluster ack", SOON, || get_json(stage.node.addr, "/__health"), |h| h["ok"] == true);
    assert!(acked["description"].as_str().unwrap().contains("planned failover"), "{acked}");
    assert_eq!(get(stage.node.addr, "/__gtg?categories=read").status, 503);
}

#[test]
fn the_switch_and_the_sticky_latch_by_etcdctl_alone() {
    let stage = Stage::new();
    stage.quick_category("read");
    stage.put("/ft/healthcheck/foo-1/categories", "read");
    stage.gtg("?categories=read", 200);
    stage.put("/ft/healthcheck-categories/read/enabled", "false");
    assert!(stage.gtg("?categories=read", 503).body.contains("disabled"));
    stage.put("/ft/healthcheck-categories/read/enabled", "true");
    stage.gtg("?categories=read", 200);
    // A mistyped kill switch must not fail open.
    stage.put("/ft/healthcheck-categories/read/enabled", "flase");
    stage.gtg("?categories=read", 503);
    let faults = get_json(stage.node.addr, "/api/v1/faults");
    assert_eq!(faults[0]["key"], "/ft/healthcheck-categories/read/enabled", "{faults}");
    assert_eq!(faults[0]["nearest"], "false", "{faults}");
    stage.put("/ft/healthcheck-categories/read/enabled", "true");
    stage.gtg("?categories=read", 200);
    // Sticky: one failure switches it off, and healing does not switch it on.
    stage.put("/ft/healthcheck-categories/read/sticky", "true");
    stage.gateway.set("foo-1", Behaviour::Failing);
    stage.gtg("?categories=read", 503);
    wait_for(
        "FT's plain flag is off",
        SOON,
        || stage.ctl(&["get", "--print-value-only", "/ft/healthcheck-categories/read/enabled"]),
        |v| v.trim() == "false",
    );
    let latch = stage.ctl(&["get", "--print-value-only", "/ft/regions/default/latches/read"]);
    assert!(latch.contains("foo-1"), "{latch}");
    stage.gateway.set("foo-1", Behaviour::Good);
    wait_for("up", SOON, || get_json(stage.node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "up");
    let still = get(stage.node.addr, "/__gtg?categories=read");
    assert_eq!(still.status, 503, "{}", still.body);
    // The operator's own command clears it.
    stage.put("/ft/healthcheck-categories/read/enabled", "true");
    stage.gtg("?categories=read", 200);
    wait_for("the latch is gone", SOON, || stage.ctl(&["get", "/ft/regions/default/latches/read"]), |v| v.is_empty());
}

#[test]
fn a_named_region_latches_for_itself_and_is_overlaid() {
    let stage = Stage::with(&["--region", "eu"]);
    stage.quick_category("read");
    stage.put("/ft/healthcheck-categories/read/sticky", "true");
    stage.put("/ft/healthcheck/foo-1/categories", "read");
    stage.gtg("?categories=read", 200);
    stage.put("/ft/regions/us/overlay/healthcheck-categories/read/enabled", "false");
    stage.put("/ft/regions/eu/overlay/healthcheck/foo-1/ack", "seen here");
    stage.gateway.set("foo-1", Behaviour::Failing);
    wait_for("down", SOON, || get_json(stage.node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "down");
    assert_eq!(
        get(stage.node.addr, "/__gtg?categories=read").status,
        200,
        "acked in this region, and us's switch is not ours"
    );
    stage.ctl(&["del", "/ft/regions/eu/overlay/healthcheck/foo-1/ack"]);
    stage.gtg("?categories=read", 503);
    wait_for("latched", SOON, || stage.ctl(&["get", "/ft/regions/eu/latches/read"]), |v| v.contains("foo-1"));
    assert_eq!(
        stage.ctl(&["get", "/ft/healthcheck-categories/read/enabled"]),
        "",
        "a named region leaves FT's plain flag alone"
    );
    // A region drained by an operator.
    stage.put("/ft/regions/eu/enabled", "false");
    wait_for("drained", SOON, || get(stage.node.addr, "/__gtg"), |a| a.status == 503 && a.body.contains("region eu"));
}

#[test]
fn etcd_away_for_a_while() {
    let mut stage = Stage::new();
    stage.quick_category("read");
    stage.put("/ft/healthcheck/foo-1/categories", "read");
    stage.gtg("?categories=read", 200);
    let before = get_json(stage.node.addr, "/api/v1/targets/foo-1");
    stage.etcd.kill();
    let lost = |n: &serde_json::Value| n["store"] == "lost" && n["role"] == "autonomous" && n["degraded"] == true;
    wait_for("lost", Duration::from_secs(15), || get_json(stage.node.addr, "/api/v1/node"), lost);
    let edit = http::request(
        stage.node.addr,
        "PUT",
        "/api/v1/acks/foo-1",
        &[("Content-Type", "application/json")],
        r#"{"message":"x"}"#,
    )
    .unwrap();
    assert_eq!(edit.status, 503, "{}", edit.body);
    assert!(edit.header("content-type").unwrap().starts_with("application/problem+json"), "{edit:?}");
    assert_eq!(get(stage.node.addr, "/__ready").status, 200, "readiness does not hang on etcd");
    // Verdicts stay accurate, both ways. BELLWETHER_AWAY_SECONDS=60 gives the issue's whole minute.
    let away = std::env::var("BELLWETHER_AWAY_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let clock = bellwether::clock::Clock::system();
    let (until, mut asked) = (clock.mono().plus(Duration::from_secs(away)), 0);
    while clock.mono() < until {
        assert_eq!(get(stage.node.addr, "/__gtg?categories=read").status, 200, "after {asked} good answers");
        asked += 1;
        std::thread::park_timeout(Duration::from_millis(50));
    }
    println!("{asked} good answers in {away} s without etcd");
    let after = get_json(stage.node.addr, "/api/v1/targets/foo-1");
    assert_eq!(
        (&after["health"]["state"], &after["health"]["since"]),
        (&before["health"]["state"], &before["health"]["since"]),
        "nothing flipped"
    );
    stage.gateway.set("foo-1", Behaviour::Failing);
    stage.gtg("?categories=read", 503);
    stage.gateway.set("foo-1", Behaviour::Good);
    stage.gtg("?categories=read", 200);
    stage.etcd.restart();
    let back = |n: &serde_json::Value| n["store"] == "ok" && n["role"] == "leader" && n["degraded"] == false;
    wait_for("back", Duration::from_secs(20), || get_json(stage.node.addr, "/api/v1/node"), back);
    assert_eq!(get(stage.node.addr, "/__gtg?categories=read").status, 200);
    stage.put("/ft/healthcheck-categories/read/enabled", "false");
    stage.gtg("?categories=read", 503);
}

/// One connection that stays open: asks for `/__gtg?categories=read` and returns the status.
struct Poller(std::io::BufReader<std::net::TcpStream>);

impl Poller {
    fn new(addr: std::net::SocketAddr) -> Self {
        let stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(std::io::BufReader::new(stream))
    }

    fn status(&mut self) -> u16 {
        use std::io::{BufRead as _, Read as _, Write as _};
        self.0.get_mut().write_all(b"GET /__gtg?categories=read HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the connection was kept open");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.to_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap();
            } else if line == "\r\n" {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
        status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_of_a_key() {
    // Issue: a key written is in force at p99 ≤ 50 ms. Printed, and bounded loosely: speed is shown by the benchmark.
    const ROUNDS: usize = 200;
    let stage = Stage::new();
    stage.put("/ft/healthcheck/foo-1/categories", "read");
    stage.gtg("?categories=read", 200);
    let store = stage.etcd.store();
    let mut poller = Poller::new(stage.node.addr);
    let (mut took, mut stored) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (value, status) = if round % 2 == 0 { ("false", 503) } else { ("true", 200) };
        let key = "healthcheck-categories/read/enabled".to_owned();
        let put = Op::Put { key, value: value.into(), lease: None };
        let began = std::time::Instant::now();
        store.txn(Txn { compares: Vec::new(), ops: vec![put] }).await.unwrap();
        stored.push(began.elapsed());
        while poller.status() != status {
            assert!(began.elapsed() < Duration::from_secs(2), "{value} in force within 2 s");
        }
        took.push(began.elapsed());
        // The node evaluates at most each 10 ms: puts at its heels would measure that pause.
        let pause = began + took[round] + Duration::from_millis(20);
        while std::time::Instant::now() < pause {
            assert_eq!(poller.status(), status);
        }
    }
    for (what, mut times) in [("etcd's own reply", stored), ("changed answer", took)] {
        times.sort_unstable();
        let at = |percent: usize| times[(ROUNDS * percent / 100).min(ROUNDS - 1)];
        println!("put to {what}, {ROUNDS} times: p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), times[ROUNDS - 1]);
    }
}
