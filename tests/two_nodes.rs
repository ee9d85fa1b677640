//! Two real nodes at one real etcd: one leads, the other answers all the same and takes over.
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

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(15);

struct Stage {
    etcd: etcd::Member,
    gateway: Gateway,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { etcd: etcd::Member::single(&[]), gateway: Gateway::start() };
        wait_for("etcd", SOON, || std::net::TcpStream::connect(("127.0.0.1", stage.etcd.port)), Result::is_ok).unwrap();
        stage.put("/ft/healthcheck-categories/read/period_seconds", "1");
        stage.put("/ft/healthcheck-categories/read/sticky", "true");
        stage.put("/ft/healthcheck/foo-1/categories", "read");
        stage
    }

    fn put(&self, key: &str, value: &str) {
        etcd_ctl::etcdctl(&self.etcd.url, &["put", key, value]);
    }

    fn node(&self, name: &str) -> Node {
        let vulcand = self.gateway.addr.to_string();
        let args = ["--etcd-endpoints", &self.etcd.url, "--vulcand", &vulcand, "--node", name, "--region", "eu"];
        let node = Node::start(&args);
        wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
        node
    }

    /// The leader's node, then the follower's.
    fn pair(&self) -> (Node, Node) {
        let (a, b) = (self.node("a"), self.node("b"));
        let both = || [status(&a), status(&b)];
        let one = |s: &[serde_json::Value; 2]| {
            s.iter().filter(|s| s["role"] == "leader").count() == 1
                && s.iter().filter(|s| s["role"] == "follower").count() == 1
                && s[0]["leader"] == s[1]["leader"]
                && s[0]["term"] == s[1]["term"]
        };
        let both = wait_for("one leader, known to both", SOON, both, one);
        let leader = both[0]["leader"].as_str().unwrap();
        assert_eq!(both.iter().find(|s| s["role"] == "leader").unwrap()["node"], leader);
        if leader == "a" { (a, b) } else { (b, a) }
    }
}

fn status(node: &Node) -> serde_json::Value {
    get_json(node.addr, "/api/v1/node")
}

/// How many probes this node has made.
fn probes(node: &Node) -> u64 {
    let page = get(node.addr, "/metrics").body;
    let counts = page.lines().filter_map(|line| line.strip_prefix("bellwether_probes_total{")?.rsplit_once(' '));
    counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

/// Asks again and again; every answer must be 200.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Asker {
    fn start(node: &Node) -> Self {
        let (addr, stop) = (node.addr, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut asked, mut wrong) = (0, Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                asked += 1;
                match http::request(addr, "GET", "/__gtg?categories=read", &[], "") {
                    Ok(answer) if answer.status == 200 => {}
                    other => wrong.push(format!("{other:?}")),
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            (asked, wrong)
        });
        Self { stop, thread }
    }

    fn end(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        let (asked, wrong) = self.thread.join().unwrap();
        assert!(wrong.is_empty(), "{} of {asked}: {:?}", wrong.len(), wrong.first());
        asked
    }
}

#[test]
fn the_follower_leads_after_a_kill_and_answers_meanwhile() {
    let stage = Stage::new();
    let (leader, follower) = stage.pair();
    let before = status(&leader);
    let asker = Asker::start(&follower);
    let began = Instant::now();
    leader.kill();
    let after = wait_for("the other leads", Duration::from_secs(8), || status(&follower), |s| s["role"] == "leader");
    println!("took over after SIGKILL in {:?}; {} good answers meanwhile", began.elapsed(), asker.end());
    assert!(after["term"].as_i64() > before["term"].as_i64(), "{before} {after}");
    assert_eq!(after["leader"], after["node"]);
    // One that joins follows.
    let third = stage.node("c");
    wait_for("the third follows", SOON, || status(&third), |s| s["role"] == "follower" && s["leader"] == after["node"]);
}

#[test]
fn the_lead_is_handed_over_at_sigterm() {
    let stage = Stage::new();
    let (leader, follower) = stage.pair();
    let asker = Asker::start(&follower);
    let began = Instant::now();
    let ending = std::thread::spawn(move || leader.terminate());
    wait_for("the other leads", Duration::from_secs(1), || status(&follower), |s| s["role"] == "leader");
    println!("took over after SIGTERM in {:?}; {} good answers meanwhile", began.elapsed(), asker.end());
    assert_eq!(ending.join().unwrap(), Some(0));
    let nodes = etcd_ctl::etcdctl(&stage.etcd.url, &["get", "--prefix", "--keys-only", "/ft/regions/eu/nodes/"]);
    assert_eq!(nodes.lines().filter(|l| !l.is_empty()).count(), 1, "its lease is given back: {nodes}");
}

/// A target as a node shows it, without what depends on the moment of asking.
fn shown(node: &Node, target: &str) -> serde_json::Value {
    let mut shown = get_json(node.addr, &format!("/api/v1/targets/{target}"));
    if let Some(last) = shown["last"].as_object_mut() {
        last.remove("age");
    }
    shown
}

#[test]
fn the_follower_answers_as_the_leader_does_and_does_not_probe() {
    let stage = Stage::new();
    let (leader, follower) = stage.pair();
    let from = |s: &serde_json::Value| s["results"]["from"] == "stream";
    wait_for("the stream", SOON, || get_json(follower.addr, "/api/v1/cluster"), from);
    // Details included: the latest result is the same on both between two probes.
    let both = || (shown(&leader, "foo-1"), shown(&follower, "foo-1"));
    let both = wait_for("the same", SOON, both, |(a, b)| a == b && !a["last"].is_null());
    assert_eq!(both.1["checks"][0]["name"], "database reachable", "{}", both.1);
    // The leader's probes are all that arrive; it counts one when it has ended, so that one may be under way.
    let own = [probes(&leader), probes(&follower)];
    let before = stage.gateway.hits("foo-1");
    wait_for("probes", SOON, || stage.gateway.hits("foo-1"), |hits| *hits >= before + 6);
    wait_for("six probes of the leader", SOON, || probes(&leader), |n| *n >= own[0] + 6);
    let arrived = stage.gateway.hits("foo-1") - before;
    let made = probes(&leader) - own[0];
    assert!(arrived <= made + 1, "{arrived} arrived, the leader made {made}");
    assert_eq!(probes(&follower), own[1], "two nodes probe");
    // Fresh results come through the leader.
    let fresh = || {
        let before = stage.gateway.hits("foo-1");
        let answer = get(follower.addr, "/__gtg?categories=read&cache=false");
        (answer.status, answer.header("bellwether-not-refreshed").is_none(), stage.gateway.hits("foo-1") > before)
    };
    wait_for("a fresh result", SOON, fresh, |f| *f == (200, true, true));
    // A failure flips both, and for one reason.
    stage.gateway.set("foo-1", Behaviour::Failing);
    let health = |node: &Node| shown(node, "foo-1")["health"].clone();
    wait_for("down", SOON, || health(&follower), |h| h["state"] == "down");
    wait_for("the same", SOON, || (health(&leader), health(&follower)), |(a, b)| a == b && a["state"] == "down");
}

#[test]
fn a_result_is_on_the_follower_soon_after_the_leader_has_it() {
    let stage = Stage::new();
    for i in 2..=10 {
        stage.put(&format!("/ft/healthcheck/foo-{i}/categories"), "read");
    }
    let (_leader, follower) = stage.pair();
    let mut seen = std::collections::BTreeMap::new();
    let mut late: Vec<Duration> = Vec::new();
    let clock = bellwether::clock::Clock::system();
    let mut look = || {
        let targets = get_json(follower.addr, "/api/v1/targets");
        let now = clock.now().wall;
        for target in targets["targets"].as_array().or(targets.as_array()).unwrap() {
            let Some(at) = target["last"]["at"].as_str() else { continue };
            let known = seen.insert(target["name"].to_string(), at.to_owned());
            if known.is_some_and(|known| known != at) {
                late.push(now.since(at.parse().unwrap()));
            }
        }
        late.len()
    };
    wait_for("results", Duration::from_secs(60), &mut look, |n| *n >= 60);
    late.sort();
    let (p50, max) = (late[late.len() / 2], late[late.len() - 1]);
    println!("result on the follower after: n {}, p50 {p50:?}, max {max:?}", late.len());
    assert!(p50 < Duration::from_secs(1), "{late:?}");
}

#[test]
fn only_the_leaders_latch_is_written() {
    let stage = Stage::new();
    let (leader, follower) = stage.pair();
    let name = status(&leader)["node"].as_str().unwrap().to_owned();
    stage.gateway.set("foo-1", Behaviour::Failing);
    let latched = |node: &Node| {
        let bad = |a: &http::Answer| a.status == 503 && a.body.contains("sticky latch");
        wait_for("latched", SOON, || get(node.addr, "/__gtg?categories=read"), bad);
    };
    latched(&leader);
    latched(&follower);
    // Both have seen the failure for themselves.
    for node in [&leader, &follower] {
        wait_for("down", SOON, || get_json(node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "down");
    }
    let latch = etcd_ctl::etcdctl(&stage.etcd.url, &["get", "-w", "json", "/ft/regions/eu/latches/read"]);
    let latch: serde_json::Value = serde_json::from_str(&latch).unwrap();
    assert_eq!(latch["kvs"][0]["version"], 1, "written once: {latch}");
    let value = etcd_ctl::etcdctl(&stage.etcd.url, &["get", "--print-value-only", "/ft/regions/eu/latches/read"]);
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    assert_eq!(value["by"], name, "{value}");
    // In one transaction with the transition that caused it.
    let transition = etcd_ctl::etcdctl(&stage.etcd.url, &["get", "-w", "json", "/ft/regions/eu/status/targets/foo-1"]);
    let transition: serde_json::Value = serde_json::from_str(&transition).unwrap();
    assert_eq!(transition["kvs"][0]["mod_revision"], latch["kvs"][0]["mod_revision"]);
    // Healed: latched on both until the operator's put.
    stage.gateway.set("foo-1", Behaviour::Good);
    for node in [&leader, &follower] {
        wait_for("up", SOON, || get_json(node.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "up");
        assert_eq!(get(node.addr, "/__gtg?categories=read").status, 503);
    }
    stage.put("/ft/healthcheck-categories/read/enabled", "true");
    for node in [&leader, &follower] {
        wait_for("good to go", SOON, || get(node.addr, "/__gtg?categories=read"), |a| a.status == 200);
    }
}

#[test]
fn the_leaders_latch_from_the_time_without_etcd_is_written_on_return() {
    let mut stage = Stage::new();
    let leader = stage.node("a");
    wait_for("leads", SOON, || status(&leader), |s| s["role"] == "leader");
    stage.etcd.kill();
    wait_for("alone", SOON, || status(&leader), |s| s["role"] == "autonomous");
    stage.gateway.set("foo-1", Behaviour::Failing);
    wait_for("latched", SOON, || get(leader.addr, "/__gtg?categories=read"), |a| a.body.contains("sticky latch"));
    stage.gateway.set("foo-1", Behaviour::Good);
    wait_for("up", SOON, || get_json(leader.addr, "/api/v1/targets/foo-1"), |t| t["health"]["state"] == "up");
    stage.etcd.restart();
    wait_for("leads again", SOON, || status(&leader), |s| s["role"] == "leader" && s["store"] == "ok");
    let key = "/ft/regions/eu/latches/read";
    wait_for("written", SOON, || etcd_ctl::etcdctl(&stage.etcd.url, &["get", key]), |v| v.contains("foo-1"));
    assert_eq!(get(leader.addr, "/__gtg?categories=read").status, 503);
}

#[test]
fn a_node_that_ends_answers_until_its_lease_is_given_back() {
    let stage = Stage::new();
    let leader = stage.node("a");
    wait_for("leads", SOON, || status(&leader), |s| s["role"] == "leader");
    // An etcd that is silent makes giving back last.
    stage.etcd.pause();
    let addr = leader.addr;
    let began = Instant::now();
    let ending = std::thread::spawn(move || leader.terminate());
    let ask = |path: &str| http::request(addr, "GET", path, &[], "").map(|a| a.status);
    wait_for("not ready", SOON, || ask("/__ready").unwrap_or(0), |s| *s == 503);
    let mut last = Duration::ZERO;
    while let Ok(status) = ask("/__gtg?categories=read") {
        assert_eq!(status, 200, "true to the last");
        last = began.elapsed();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    println!("answered for {last:?} after SIGTERM; ended after {:?}", began.elapsed());
    assert_eq!(ending.join().unwrap(), Some(0));
    assert!(last > Duration::from_millis(300), "{last:?}");
    stage.etcd.resume();
}

#[test]
fn a_data_directory_takes_one_node_of_a_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let etcd = etcd::Member::single(&[]);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let args = ["--etcd-endpoints", &etcd.url, "--node", "n1", "--data-dir", data];
    let first = Node::start(&args);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another bellwether runs a node of this name here"), "{said}");
    let mode = std::fs::metadata(dir.path().join("instance-n1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "data files are for their owner alone");
    // Gone with the process, so a killed node starts again.
    first.kill();
    let again = Node::start(&args);
    assert_eq!(again.terminate(), Some(0));
}
