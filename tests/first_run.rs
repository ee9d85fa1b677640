//! The first minutes of a newcomer: `bellwether demo`, a flip, an ack; and a node whose catalog is a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/gateway.rs"]
mod gateway;
#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/signal.rs"]
mod signal;

use std::{process::Command, time::Duration};

use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(15);

fn bellwether(node: &Node, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .env("BELLWETHER_SERVER", format!("http://{}", node.addr))
        .args(args)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

fn catalog(gateway: &Gateway, extra: &str) -> String {
    let target = |name: &str, categories: &str| {
        format!(
            "  {name}: {{url: 'http://{}/health/{name}/__health', categories: [{categories}], format: ft}}\n",
            gateway.addr
        )
    };
    format!(
        "targets:\n{}{}{}{extra}categories:\n  read: {{period_seconds: 1}}\n  write: {{period_seconds: 1, is_resilient: true}}\n",
        target("shop-1", "read"),
        target("till-1", "write"),
        target("till-2", "write"),
    )
}

#[test]
fn a_catalog_file_is_watched_and_a_faulty_one_changes_nothing() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("services.yaml");
    std::fs::write(&path, catalog(&gateway, "")).unwrap();
    let node = Node::start(&["--catalog", path.to_str().unwrap()]);
    wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read,write"), |a| a.status == 200);
    // One of two tills fails: the resilient category stays, the service says what it is.
    gateway.set("till-1", Behaviour::Failing);
    wait_for("down", SOON, || get_json(node.addr, "/api/v1/targets/till-1"), |t| t["health"]["state"] == "down");
    assert_eq!(get(node.addr, "/__gtg?categories=write").status, 200);
    assert_eq!(get(node.addr, "/__gtg/till").status, 200);
    gateway.set("till-2", Behaviour::Failing);
    wait_for("the service failed", SOON, || get(node.addr, "/__gtg?categories=write"), |a| a.status == 503);
    assert_eq!(get(node.addr, "/__gtg/till").status, 503);
    // A broken file: the old catalog stays and the fault is shown.
    std::fs::write(&path, catalog(&gateway, "  bad-1: {intervall: 5s}\n")).unwrap();
    let faults = wait_for(
        "fault",
        SOON,
        || get_json(node.addr, "/api/v1/faults"),
        |f| f.as_array().is_some_and(|f| !f.is_empty()),
    );
    assert!(faults.to_string().contains("intervall") && faults.to_string().contains("interval"), "{faults}");
    assert_eq!(get_json(node.addr, "/api/v1/targets/shop-1")["health"]["state"], "up");
    std::fs::write(&path, catalog(&gateway, "  more-1: {url: 'tcp://127.0.0.1:1', categories: [other]}\n")).unwrap();
    wait_for("mended", SOON, || get_json(node.addr, "/api/v1/faults"), |f| f.as_array().is_some_and(Vec::is_empty));
    wait_for("new target", SOON, || get(node.addr, "/__gtg?categories=other"), |a| a.status == 503);
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn the_verbs_of_the_command_line() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("services.yaml");
    let node = Node::start(&[]);
    std::fs::write(&path, catalog(&gateway, "")).unwrap();
    let file = path.to_str().unwrap();
    assert_eq!(bellwether(&node, &["check", file]).0, Some(0));
    let (code, dry) = bellwether(&node, &["apply", "-f", file, "--dry-run"]);
    assert_eq!(code, Some(0), "{dry}");
    assert!(dry.contains("shop-1"), "{dry}");
    assert_eq!(get_json(node.addr, "/api/v1/targets").as_array().map(Vec::len), Some(0), "a dry run writes nothing");
    let (code, text) = bellwether(&node, &["apply", "-f", file]);
    assert_eq!(code, Some(0), "{text}");
    wait_for("status 0", SOON, || bellwether(&node, &["status"]), |(code, _)| *code == Some(0));
    gateway.set("shop-1", Behaviour::Failing);
    let (_, table) = wait_for("status 2", SOON, || bellwether(&node, &["status"]), |(code, _)| *code == Some(2));
    assert!(table.contains("shop-1"), "{table}");
    let (code, text) = bellwether(&node, &["ack", "shop-1", "-m", "ticket 7", "--by", "ann", "--for", "2h"]);
    assert_eq!(code, Some(0), "{text}");
    // It still fails, and somebody should know; but it is good to go.
    wait_for("status 1", SOON, || bellwether(&node, &["status"]), |(code, _)| *code == Some(1));
    assert_eq!(get(node.addr, "/__gtg").status, 200, "an acked failure does not count");
    let (code, text) = bellwether(&node, &["get", "acks"]);
    assert!(code == Some(0) && text.contains("ticket 7") && text.contains("ann"), "{text}");
    assert_eq!(bellwether(&node, &["unack", "shop-1"]).0, Some(0));
    wait_for("status 2 again", SOON, || bellwether(&node, &["status"]), |(code, _)| *code == Some(2));
    let (code, text) = bellwether(&node, &["ack", "shpo-1", "-m", "x"]);
    assert!(code != Some(0) && text.contains("shop-1"), "the nearest name is told: {text}");
    gateway.set("shop-1", Behaviour::Good);
    wait_for("status 0 again", SOON, || bellwether(&node, &["status"]), |(code, _)| *code == Some(0));
    assert_eq!(bellwether(&node, &["disable", "read", "-m", "maintenance"]).0, Some(0));
    wait_for(
        "disabled",
        SOON,
        || get(node.addr, "/__gtg?categories=read"),
        |a| a.status == 503 && a.body.contains("disabled"),
    );
    assert_eq!(bellwether(&node, &["enable", "read"]).0, Some(0));
    wait_for("enabled", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
    assert_eq!(bellwether(&node, &["cluster-ack", "-m", "all known"]).0, Some(0));
    wait_for(
        "cluster ack",
        SOON,
        || get_json(node.addr, "/__health"),
        |h| h["description"].to_string().contains("all known"),
    );
    assert_eq!(bellwether(&node, &["cluster-ack", "--clear"]).0, Some(0));
    // What `get catalog` prints, `apply` takes, and it changes nothing.
    let (code, printed) = bellwether(&node, &["get", "catalog"]);
    assert_eq!(code, Some(0), "{printed}");
    let again = dir.path().join("again.yaml");
    std::fs::write(&again, &printed).unwrap();
    let (code, diff) = bellwether(&node, &["apply", "-f", again.to_str().unwrap(), "--dry-run", "--prune"]);
    assert_eq!(code, Some(0), "{diff}");
    assert!(!diff.contains("shop-1"), "nothing changes: {diff}");
    assert_eq!(node.terminate(), Some(0));
    let dead = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(["--server", "http://127.0.0.1:1", "status"])
        .output()
        .unwrap();
    let dead = if dead.status.code() == Some(2) {
        // The flag belongs to the verb.
        Command::new(env!("CARGO_BIN_EXE_bellwether"))
            .args(["status", "--server", "http://127.0.0.1:1"])
            .output()
            .unwrap()
    } else {
        dead
    };
    assert_eq!(dead.status.code(), Some(3), "{}", String::from_utf8_lossy(&dead.stderr));
}

#[test]
fn acks_and_switches_of_the_embedded_store_outlive_a_restart() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = (dir.path().join("services.yaml"), dir.path().join("data"));
    std::fs::write(&path, catalog(&gateway, "")).unwrap();
    let args = ["--catalog", path.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let node = Node::start(&args);
    wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
    assert_eq!(bellwether(&node, &["disable", "read", "-m", "x"]).0, Some(0));
    assert_eq!(bellwether(&node, &["ack", "till-1", "-m", "known"]).0, Some(0));
    wait_for("disabled", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 503);
    assert_eq!(node.terminate(), Some(0));
    let node = Node::start(&args);
    wait_for("up again", SOON, || get_json(node.addr, "/api/v1/targets/shop-1"), |t| t["health"]["state"] == "up");
    assert!(get(node.addr, "/__gtg?categories=read").body.contains("disabled"));
    assert!(get_json(node.addr, "/api/v1/targets/till-1")["ack"].to_string().contains("known"));
    node.kill();
}
