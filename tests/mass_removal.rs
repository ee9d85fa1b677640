//! Somebody deletes most of the targets: it is held and announced before it is applied.
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

use std::time::{Duration, Instant};

use gateway::Gateway;
use http::{get, get_json, request, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(15);

struct Stage {
    etcd: etcd::Member,
    node: Node,
    _gateway: Gateway,
}

impl Stage {
    /// Twenty targets, fifteen of them `shop-…`, up.
    fn new(hold: &str) -> Self {
        let etcd = etcd::Member::single(&[]);
        let gateway = Gateway::start();
        wait_for("etcd", SOON, || std::net::TcpStream::connect(("127.0.0.1", etcd.port)), Result::is_ok).unwrap();
        let stage_put = |key: &str, value: &str| etcd_ctl::etcdctl(&etcd.url, &["put", key, value]);
        stage_put("/ft/healthcheck-categories/default/period_seconds", "1");
        for i in 0..20 {
            let name = if i < 15 { "shop" } else { "till" };
            stage_put(&format!("/ft/healthcheck/{name}-{i}/path"), "/__health");
        }
        let vulcand = gateway.addr.to_string();
        let args = ["--etcd-endpoints", &etcd.url, "--vulcand", &vulcand, "--mass-removal-hold", hold, "--node", "n1"];
        let node = Node::start(&args);
        let stage = Self { etcd, node, _gateway: gateway };
        stage.targets(20);
        wait_for("good to go", SOON, || get(stage.node.addr, "/__gtg"), |a| a.status == 200);
        stage
    }

    fn ctl(&self, args: &[&str]) -> String {
        etcd_ctl::etcdctl(&self.etcd.url, args)
    }

    fn count(&self) -> usize {
        get_json(self.node.addr, "/__health")["checks"].as_array().map_or(0, Vec::len)
    }

    fn targets(&self, n: usize) {
        wait_for(&format!("{n} targets"), SOON, || self.count(), |c| *c == n);
    }

    /// What the faults say of a held removal.
    fn announced(&self) -> Option<String> {
        let faults = get_json(self.node.addr, "/api/v1/faults");
        let held = |f: &&serde_json::Value| f["reason"].as_str().is_some_and(|r| r.contains("15"));
        faults.as_array().unwrap().iter().find(held).map(ToString::to_string)
    }

    fn page(&self) -> String {
        request(self.node.addr, "GET", "/", &[("Accept", "text/html")], "").unwrap().body
    }
}

#[test]
fn a_mass_removal_is_announced_then_applied() {
    let stage = Stage::new("3s");
    let began = Instant::now();
    stage.ctl(&["del", "--prefix", "/ft/healthcheck/shop-"]);
    let fault = wait_for("announced", SOON, || stage.announced(), Option::is_some).unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    println!("{fault}");
    assert_eq!(stage.count(), 20, "all stay for now");
    let page = stage.page();
    assert!(page.contains("removal"), "{page}");
    assert!(page.contains("shop-3"), "they are still shown");
    stage.targets(5);
    assert!(began.elapsed() >= Duration::from_secs(3), "not before its time: {:?}", began.elapsed());
    wait_for("no longer announced", SOON, || stage.announced(), Option::is_none);
    assert!(!stage.page().contains("shop-3"));
    assert_eq!(get(stage.node.addr, "/__gtg").status, 200);
}

#[test]
fn targets_that_are_put_back_end_the_hold() {
    let stage = Stage::new("60s");
    let since = |t: &serde_json::Value| t["health"]["since"].clone();
    let before = get_json(stage.node.addr, "/api/v1/targets/shop-3");
    stage.ctl(&["del", "--prefix", "/ft/healthcheck/shop-"]);
    wait_for("announced", SOON, || stage.announced(), Option::is_some);
    for i in 0..15 {
        stage.ctl(&["put", &format!("/ft/healthcheck/shop-{i}/path"), "/__health"]);
    }
    wait_for("the hold ends", SOON, || get_json(stage.node.addr, "/api/v1/faults"), |f| f == &serde_json::json!([]));
    assert_eq!(stage.count(), 20);
    let after = get_json(stage.node.addr, "/api/v1/targets/shop-3");
    assert_eq!(since(&after), since(&before), "nothing flipped");
    // A smaller removal goes at once.
    stage.ctl(&["del", "/ft/healthcheck/shop-3/path"]);
    stage.targets(19);
}

#[test]
fn a_node_that_starts_during_the_hold_sees_the_same() {
    let stage = Stage::new("60s");
    stage.ctl(&["del", "--prefix", "/ft/healthcheck/shop-"]);
    wait_for("announced", SOON, || stage.announced(), Option::is_some);
    let published = || stage.ctl(&["get", "--print-value-only", "/ft/regions/default/status/catalog"]);
    wait_for("published", SOON, published, |v| v.contains("shop-3"));
    let late = Node::start(&["--etcd-endpoints", &stage.etcd.url, "--node", "n2"]);
    let checks = || get_json(late.addr, "/__health")["checks"].as_array().map_or(0, Vec::len);
    wait_for("the same targets", SOON, checks, |n| *n == 20);
}
