//! A real HAProxy takes the node in and out as the verdict of a category changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use gateway::{Behaviour, Gateway};
use http::{request, wait_for};
use node::Node;

struct HaProxy(Child);

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_follows_the_verdict() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let catalog = dir.path().join("services.yaml");
    std::fs::write(
        &catalog,
        format!(
            "targets:\n  shop-1:\n    url: http://{}/health/shop-1/__health\n    categories: [read]\n    format: ft\ncategories:\n  read: {{period_seconds: 1}}\n",
            gateway.addr
        ),
    )
    .unwrap();
    let node = Node::start(&["--catalog", catalog.to_str().unwrap()]);
    let (front, stats) = (ports::free(), ports::free());
    let config = dir.path().join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
             frontend front\n  bind 127.0.0.1:{front}\n  default_backend region\n\
             backend region\n  option httpchk GET /__gtg?categories=read\n  http-check expect status 200\n  \
             server node {} check inter 200 fall 1 rise 1\n\
             frontend stats\n  bind 127.0.0.1:{stats}\n  stats enable\n  stats uri /\n",
            node.addr
        ),
    )
    .unwrap();
    let child = Command::new("haproxy").args(["-f", config.to_str().unwrap(), "-db"]).stderr(Stdio::null()).spawn();
    let _haproxy = HaProxy(child.expect("haproxy starts (scripts/test installs it)"));
    let front = format!("127.0.0.1:{front}").parse().unwrap();
    let status = || request(front, "GET", "/__ping", &[], "").map(|a| a.status).unwrap_or(0);
    let bound = Duration::from_secs(15);
    wait_for("taken in", bound, status, |s| *s == 200);
    gateway.set("shop-1", Behaviour::Failing);
    wait_for("taken out", bound, status, |s| *s == 503);
    gateway.set("shop-1", Behaviour::Good);
    wait_for("taken in again", bound, status, |s| *s == 200);
    // The operator's switch works through the same door.
    let off = request(
        node.addr,
        "PUT",
        "/api/v1/categories/read/enabled",
        &[("Content-Type", "application/json")],
        r#"{"enabled": false, "reason": "maintenance"}"#,
    )
    .unwrap();
    assert!(matches!(off.status, 200 | 204), "{off:?}");
    wait_for("switched out", bound, status, |s| *s == 503);
}
