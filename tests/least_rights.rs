//! The etcd roles of docs/operations.md, taken from its own commands: with them a node does all of its work; with one right
//! less it names the key, and goes on with what it can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/docs.rs"]
mod docs;
#[allow(dead_code)]
#[path = "support/etcd.rs"]
mod etcd;
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

use std::{process::Command, time::Duration};

use gateway::{Behaviour, Gateway};
use http::{get, get_json, request, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(60);
/// What the page calls the password's file.
const PASSWORD: &str = "/etc/bellwether/etcd-password";

struct Stage {
    etcd: etcd::Member,
    gateway: Gateway,
    dir: tempfile::TempDir,
}

impl Stage {
    /// An etcd with auth on and these roles of the page; `sick-1` fails from the start and latches its category.
    fn new(roles: &[&str]) -> Self {
        // Cheap passwords: etcd checks one for each connection, and the default takes long on a busy machine.
        let etcd = etcd::Member::single(&["--bcrypt-cost=4"]);
        let stage = Self { etcd, gateway: Gateway::start(), dir: tempfile::tempdir().unwrap() };
        wait_for("etcd", SOON, || std::net::TcpStream::connect(("127.0.0.1", stage.etcd.port)), Result::is_ok).unwrap();
        std::fs::write(stage.password(), "secret").unwrap();
        for (category, sticky) in [("read", "true"), ("sick", "true"), ("turn", "false")] {
            stage.etcd.ctl(&["put", &format!("/ft/healthcheck-categories/{category}/period_seconds"), "1"]);
            stage.etcd.ctl(&["put", &format!("/ft/healthcheck-categories/{category}/sticky"), sticky]);
        }
        stage.etcd.ctl(&["put", "/ft/healthcheck/foo-1/categories", "read"]);
        stage.etcd.ctl(&["put", "/ft/healthcheck/sick-1/categories", "sick"]);
        stage.etcd.ctl(&["put", "/ft/healthcheck/turn-1/categories", "turn"]);
        stage.gateway.set("sick-1", Behaviour::Failing);
        for block in roles.iter().chain(&["auth on"]) {
            stage.run(&docs::operations(block), &[]);
        }
        stage
    }

    fn password(&self) -> String {
        self.dir.path().join("password").display().to_string()
    }

    /// Runs commands of the page as they stand, but for where etcd and the password are.
    fn run(&self, commands: &str, env: &[(&str, &str)]) {
        let commands = commands.replace(PASSWORD, &self.password());
        let output = Command::new("sh")
            .args(["-euc", &commands])
            .envs([("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", &self.etcd.url)])
            .envs(env.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// etcdctl as a user of the page; what it printed, `None` where it failed.
    fn ctl(&self, user: &str, args: &[&str]) -> Option<String> {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.etcd.url, "--user", &format!("{user}:secret")])
            .args(args)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn root(&self, args: &[&str]) -> String {
        self.ctl("root", args).unwrap_or_else(|| panic!("etcdctl {args:?}"))
    }

    fn value(&self, key: &str) -> String {
        self.root(&["get", "--prefix", "--print-value-only", key])
    }

    fn node(&self, name: &str, region: &str, user: &str) -> Node {
        let (gateway, password) = (self.gateway.addr.to_string(), self.password());
        Node::start(&[
            "--etcd-endpoints",
            &self.etcd.url,
            "--etcd-user",
            user,
            "--etcd-password-file",
            &password,
            "--vulcand",
            &gateway,
            "--node",
            name,
            "--region",
            region,
            // This is about rights, not about how soon: a busy machine must not change who leads.
            "--session-ttl",
            "15s",
        ])
    }
}

fn role(node: &Node) -> String {
    get_json(node.addr, "/api/v1/node")["role"].as_str().unwrap_or_default().to_owned()
}

fn faults(node: &Node) -> Vec<serde_json::Value> {
    get_json(node.addr, "/api/v1/faults").as_array().cloned().unwrap_or_default()
}

fn keys(faults: &[serde_json::Value]) -> Vec<String> {
    faults.iter().map(|f| f["key"].as_str().unwrap().to_owned()).collect()
}

fn gtg(node: &Node, category: &str, status: u16) {
    let ask = || get(node.addr, &format!("/__gtg?categories={category}"));
    wait_for(&format!("{category} {status}"), SOON, ask, |a| a.status == status);
}

fn edit(node: &Node, method: &str, path: &str, body: &str) -> http::Answer {
    request(node.addr, method, path, &[("Content-Type", "application/json")], body).unwrap()
}

#[test]
fn with_the_roles_of_the_page_everything_works() {
    let stage = Stage::new(&["role of a node", "role for edits", "role of an operator", "role of a dashboard"]);
    let a = stage.node("a", "eu", "bellwether-eu");
    wait_for("a leads", SOON, || role(&a), |r| r == "leader");
    gtg(&a, "read", 200);
    let b = stage.node("b", "eu", "bellwether-eu");
    wait_for(
        "b follows",
        SOON,
        || get_json(b.addr, "/api/v1/cluster"),
        |c| c["leader"]["node"] == "a" && c["results"]["from"] == "stream",
    );
    gtg(&b, "read", 200);
    // The leader's writes: states, summary, events, a latch.
    for key in ["status/targets/foo-1", "status/targets/sick-1", "summary", "latches/sick", "nodes/b", "leader"] {
        wait_for(key, SOON, || stage.value(&format!("/ft/regions/eu/{key}")), |v| v.contains('{'));
    }
    wait_for("events", SOON, || stage.value("/ft/events/eu/"), |v| v.contains("sick-1"));
    // Edits by the API: an ack, the switch that clears the latch, the cluster ack.
    assert!(edit(&b, "PUT", "/api/v1/acks/sick-1", r#"{"message": "known"}"#).status < 300);
    assert!(edit(&b, "PUT", "/api/v1/categories/sick/enabled", r#"{"enabled": true}"#).status < 300);
    gtg(&a, "sick", 200);
    gtg(&b, "sick", 200);
    wait_for("the latch goes", SOON, || stage.value("/ft/regions/eu/latches/sick"), String::is_empty);
    assert!(edit(&b, "PUT", "/api/v1/cluster-ack", r#"{"message": "all is expected"}"#).status < 300);
    assert!(edit(&b, "DELETE", "/api/v1/cluster-ack", "").status < 300);
    assert!(edit(&b, "DELETE", "/api/v1/acks/sick-1", "").status < 300);
    gtg(&a, "sick", 503);
    // Another region, by the same commands.
    stage.run(&for_region("us", &docs::operations("role of a node")), &[("ETCDCTL_USER", "root:secret")]);
    let c = stage.node("c", "us", "bellwether-us");
    wait_for("c leads its region", SOON, || role(&c), |r| r == "leader");
    wait_for("a sees it", SOON, || get(a.addr, "/api/v1/regions").body, |r| r.contains("\"us\""));
    // An operator drains a region and overlays a key; a dashboard reads all and writes nothing.
    assert!(
        stage
            .ctl("operator", &["put", "/ft/regions/eu/overlay/healthcheck-categories/read/enabled", "false"])
            .is_some()
    );
    gtg(&a, "read", 503);
    gtg(&c, "read", 200);
    assert!(stage.ctl("operator", &["del", "/ft/regions/eu/overlay/healthcheck-categories/read/enabled"]).is_some());
    gtg(&b, "read", 200);
    assert!(stage.ctl("operator", &["put", "/ft/regions/eu/enabled", "false"]).is_some());
    gtg(&b, "read", 503);
    assert!(stage.ctl("operator", &["put", "/ft/regions/eu/leader", "me"]).is_none());
    assert!(stage.ctl("dashboard", &["get", "--prefix", "/ft/"]).unwrap().contains("/ft/regions/eu/leader"));
    assert!(stage.ctl("dashboard", &["put", "/ft/healthcheck/foo-1/ack", "x"]).is_none());
    for node in [&a, &b, &c] {
        assert_eq!(keys(&faults(node)), Vec::<String>::new());
    }
    // The follower takes over with the same rights.
    a.kill();
    wait_for("b leads", SOON, || role(&b), |r| r == "leader");
}

fn for_region(region: &str, commands: &str) -> String {
    commands
        .replace("bellwether-eu", &format!("bellwether-{region}"))
        .replace("/regions/eu/", &format!("/regions/{region}/"))
        .replace("/events/eu/", &format!("/events/{region}/"))
}

/// One right of the page: the words of its command.
struct Right {
    prefix: bool,
    kind: String,
    key: String,
}

fn rights() -> Vec<Right> {
    let commands = docs::operations("role of a node");
    let granted = commands.lines().filter_map(|l| l.strip_prefix("etcdctl role grant-permission "));
    let right = |line: &str| {
        let prefix = line.starts_with("--prefix=true ");
        let words: Vec<_> = line.trim_start_matches("--prefix=true ").split_whitespace().collect();
        Right { prefix, kind: words[1].to_owned(), key: words[2].to_owned() }
    };
    granted.map(right).collect()
}

#[test]
fn with_a_right_less_the_node_names_the_key_and_goes_on() {
    let stage = Stage::new(&["role of a node"]);
    let rights = rights();
    assert!(rights.len() >= 11, "the page grants {}", rights.len());
    for (n, right) in rights.iter().enumerate() {
        let flag: &[&str] = if right.prefix { &["--prefix=true"] } else { &[] };
        stage.root(&[&["role", "revoke-permission"], flag, &["bellwether-eu", &right.key]].concat());
        let node = stage.node(&format!("n{n}"), "eu", "bellwether-eu");
        // States and latches are as the nodes before left them: something must change to be written.
        match right.key.as_str() {
            "/ft/events/eu/" => stage.gateway.set("turn-1", Behaviour::Failing),
            "/ft/regions/eu/latches/" => _ = stage.root(&["put", "/ft/healthcheck-categories/sick/enabled", "true"]),
            _ => {}
        }
        let named = |faults: &Vec<serde_json::Value>| faults.iter().any(|f| f["key"] == *right.key);
        let told = wait_for(&right.key, SOON, || faults(&node), named);
        let fault = told.iter().find(|f| f["key"] == *right.key).unwrap();
        let text = |field: &str| fault[field].as_str().unwrap().to_owned();
        assert!(text("reason").contains(&right.key) && text("reason").contains("etcd user bellwether-eu"), "{fault}");
        assert!(
            text("expected").starts_with("etcdctl role grant-permission ") && text("expected").ends_with(&right.key),
            "{fault}"
        );
        let line = |l: &String| l.contains("den") && l.contains(right.key.trim_start_matches("/ft/"));
        wait_for(&format!("{} in the log", right.key), SOON, || node.log(), |log| log.iter().any(line));
        assert_eq!(get_json(node.addr, "/api/v1/node")["degraded"], true, "{}", right.key);
        assert_eq!(get(node.addr, "/__live").status, 200);
        if right.kind == "read" {
            // A part of the catalog is none: it does not answer from the rest as if that were all.
            assert_eq!(get(node.addr, "/__gtg?categories=read").status, 503, "{}", right.key);
        } else {
            gtg(&node, "read", 200);
            gtg(&node, "sick", 503);
        }
        stage.root(&[&["role", "grant-permission"], flag, &["bellwether-eu", &right.kind, &right.key]].concat());
        gtg(&node, "read", 200);
        // What is not written again by itself is told until it is.
        if !right.key.starts_with("/ft/events/") {
            let gone = |faults: &Vec<serde_json::Value>| keys(faults).is_empty();
            wait_for(&format!("{} is allowed again", right.key), SOON, || faults(&node), gone);
        }
        node.terminate();
    }
}
