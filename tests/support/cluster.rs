//! A cluster of real processes on loopback: etcd members, nodes, and between them proxies that misbehave on command: one
//! for each pair of node and member, and one before each node, which is the address that other nodes know it by. What a
//! test asks of etcd itself is left to `cluster_etcd`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    etcd::{self, Member},
    farm::Farm,
    http,
    load::{Load, Truth},
    node::Node,
    proxy::{Mode, Proxy},
    roles::Roles,
};

/// Long enough for anything that is not a figure.
pub const SOON: Duration = Duration::from_secs(30);
/// TTL of the session lease in these tests, and by default.
pub const TTL: Duration = Duration::from_secs(5);

/// What a cluster is made of.
pub struct Plan {
    pub members: usize,
    pub etcd: Vec<String>,
    /// Node and region.
    pub nodes: Vec<(String, String)>,
    /// More arguments for each node.
    pub args: Vec<String>,
}

impl Default for Plan {
    /// 3 members, 3 nodes of the region `eu`.
    fn default() -> Self {
        let nodes = ["a", "b", "c"].map(|n| (n.to_owned(), "eu".to_owned())).into();
        Self { members: 3, etcd: Vec::new(), nodes, args: Vec::new() }
    }
}

impl Plan {
    #[must_use]
    pub fn etcd(mut self, arg: &str) -> Self {
        self.etcd.push(arg.to_owned());
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    #[must_use]
    pub fn nodes(mut self, names: &[(&str, &str)]) -> Self {
        self.nodes = names.iter().map(|(n, r)| ((*n).to_owned(), (*r).to_owned())).collect();
        self
    }

    /// Starts it with the targets of `Cluster::targets`, and waits until one node leads and all follow.
    pub fn start(self) -> Cluster {
        let cluster = self.start_empty();
        cluster.targets();
        let mut cluster = cluster;
        cluster.start_nodes();
        cluster.settled(SOON);
        cluster.good_everywhere("steady", true);
        cluster
    }

    /// Starts etcd alone.
    pub fn start_empty(self) -> Cluster {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let extra: Vec<&str> = self.etcd.iter().map(String::as_str).collect();
        let etcd = etcd::cluster(self.members, &extra, "http");
        let farm = Farm::new(runtime.handle().clone());
        let dir = tempfile::tempdir().unwrap();
        let mut slots = BTreeMap::new();
        for (name, region) in &self.nodes {
            let links = etcd.iter().map(|m| runtime.block_on(Proxy::start(m.port))).collect();
            let door = runtime.block_on(Proxy::start(1));
            let slot = Slot {
                region: region.clone(),
                data: dir.path().join(name),
                links,
                door,
                gateway: farm.door(name),
                args: self.args.clone(),
                node: None,
                paused: false,
            };
            slots.insert(name.clone(), slot);
        }
        let truth = Arc::new(Truth::default());
        let cluster = Cluster { slots, truth, farm, etcd, dir, runtime };
        cluster.etcd_answers();
        cluster
    }
}

struct Slot {
    region: String,
    data: PathBuf,
    links: Vec<Proxy>,
    door: Proxy,
    gateway: SocketAddr,
    args: Vec<String>,
    node: Option<Node>,
    paused: bool,
}

/// All processes end when it is dropped: nodes, then etcd.
pub struct Cluster {
    slots: BTreeMap<String, Slot>,
    pub truth: Arc<Truth>,
    pub farm: Farm,
    pub etcd: Vec<Member>,
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
}

impl Cluster {
    // ---- targets ----

    /// Three categories, period 1 s: `steady` (two targets, up), `dead` (one target, down), `flip` (one target, for the test).
    /// One good or bad result is enough for `flip-1`.
    pub fn targets(&self) {
        let mut pairs = vec![("healthcheck-categories/default/period_seconds".to_owned(), "1".to_owned())];
        for category in ["steady", "dead", "flip"] {
            pairs.push((format!("healthcheck-categories/{category}/period_seconds"), "1".to_owned()));
        }
        for (target, category) in
            [("steady-1", "steady"), ("steady-2", "steady"), ("dead-1", "dead"), ("flip-1", "flip")]
        {
            pairs.push((format!("healthcheck/{target}/categories"), category.to_owned()));
        }
        pairs.push(("healthcheck/flip-1/spec".to_owned(), r#"{"rise":1,"fall":1}"#.to_owned()));
        self.farm.set("dead-1", false);
        self.put_all(pairs);
        for (category, good) in [("steady", true), ("dead", false), ("flip", true)] {
            self.truth.note(category, good);
        }
    }

    /// Sets `flip-1`, and notes it in the truth.
    pub fn flip(&self, good: bool) {
        self.farm.set("flip-1", good);
        self.truth.note("flip", good);
    }

    /// Waits until every live node answers so for the category.
    pub fn good_everywhere(&self, category: &str, good: bool) {
        let status = if good { 200 } else { 503 };
        for name in self.live() {
            let ask = || self.gtg(&name, category);
            http::wait_for(&format!("{status} of {name} for {category}"), SOON, ask, |a| {
                a.as_ref().is_some_and(|a| a.0 == status)
            });
        }
    }

    /// Status and body of `/__gtg`; `None`: no answer.
    pub fn gtg(&self, name: &str, category: &str) -> Option<(u16, String)> {
        let path = format!("/__gtg?categories={category}");
        http::request(self.address(name)?, "GET", &path, &[], "").ok().map(|a| (a.status, a.body))
    }

    /// A load on all live nodes.
    pub fn load(&self, per_second: u32, bound: Duration) -> Load {
        self.load_of(&["steady", "dead", "flip"], per_second, bound)
    }

    /// The same over these categories.
    pub fn load_of(&self, categories: &[&str], per_second: u32, bound: Duration) -> Load {
        let mut load = Load::new(&self.truth, categories, per_second, bound);
        for name in self.live() {
            load.on(&name, self.address(&name).unwrap());
        }
        load
    }

    /// Looks at the roles of all live nodes.
    pub fn roles(&self) -> Roles {
        self.roles_of(&self.live())
    }

    /// The same for these: nodes of one region.
    pub fn roles_of(&self, names: &[String]) -> Roles {
        let mut roles = Roles::default();
        for name in names {
            roles.on(name, self.address(name).unwrap());
        }
        roles
    }

    // ---- nodes ----

    pub fn names(&self) -> Vec<String> {
        self.slots.keys().cloned().collect()
    }

    /// Nodes that run and are not paused.
    pub fn live(&self) -> Vec<String> {
        self.slots.iter().filter(|(_, s)| s.node.is_some() && !s.paused).map(|(n, _)| n.clone()).collect()
    }

    fn slot(&mut self, name: &str) -> &mut Slot {
        self.slots.get_mut(name).unwrap()
    }

    pub fn node(&self, name: &str) -> &Node {
        self.slots[name].node.as_ref().unwrap()
    }

    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.slots[name].node.as_ref().map(|n| n.addr)
    }

    pub fn start_nodes(&mut self) {
        for name in self.names() {
            self.start_node(&name);
        }
    }

    /// Starts a node on its data, with what it had before; it listens when this returns.
    pub fn start_node(&mut self, name: &str) {
        self.start_node_with(name, &[]);
    }

    pub fn start_node_with(&mut self, name: &str, more: &[&str]) {
        let slot = self.slots.get_mut(name).unwrap();
        let endpoints = slot.links.iter().map(Proxy::url).collect::<Vec<_>>().join(",");
        let (gateway, data, door) = (slot.gateway.to_string(), slot.data.display().to_string(), slot.door.url());
        let mut args =
            vec!["--node", name, "--region", &slot.region, "--etcd-endpoints", &endpoints, "--vulcand", &gateway];
        args.extend(["--data-dir", &data, "--advertise-url", &door]);
        args.extend(slot.args.iter().map(String::as_str));
        args.extend(more);
        let node = Node::start(&args);
        slot.door.lead_to(node.addr.port());
        slot.node = Some(node);
        slot.paused = false;
    }

    /// SIGKILL; its connections to others are closed by the system.
    pub fn kill(&mut self, name: &str) {
        let slot = self.slot(name);
        slot.node.take().unwrap().kill();
        slot.paused = false;
    }

    /// SIGTERM; returns the exit code when the process has ended.
    pub fn terminate(&mut self, name: &str) -> Option<i32> {
        self.slot(name).node.take().unwrap().terminate()
    }

    /// The node itself, to end it while others are looked at.
    pub fn take(&mut self, name: &str) -> Node {
        self.slot(name).node.take().unwrap()
    }

    /// Waits until the node has its catalog on disk, and its states as they are now.
    pub fn kept(&self, name: &str) {
        let now = bellwether::clock::Clock::system().now().wall;
        let data = &self.slots[name].data;
        // By what the file says of its own time: it is written a moment after its content was taken.
        let saved = || {
            let text = std::fs::read(data.join(format!("kept-state-{name}.json"))).ok()?;
            let state: serde_json::Value = serde_json::from_slice(&text).ok()?;
            state["saved"].as_str()?.parse::<bellwether::model::Timestamp>().ok()
        };
        let both = || data.join(format!("kept-catalog-{name}.json")).exists() && saved().is_some_and(|at| at >= now);
        http::wait_for("catalog and states are kept", SOON, both, |b| *b);
    }

    /// Loses what the node has kept.
    pub fn wipe(&mut self, name: &str) {
        let _ = std::fs::remove_dir_all(&self.slot(name).data);
    }

    pub fn pause(&mut self, name: &str) {
        let slot = self.slot(name);
        slot.node.as_ref().unwrap().signal("STOP");
        slot.paused = true;
    }

    pub fn resume(&mut self, name: &str) {
        let slot = self.slot(name);
        slot.node.as_ref().unwrap().signal("CONT");
        slot.paused = false;
    }

    /// What becomes of all that a node says to etcd.
    pub fn etcd_links(&self, name: &str, mode: Mode) {
        for link in &self.slots[name].links {
            link.set(mode);
            if mode == Mode::Refuse {
                link.cut();
            }
        }
    }

    pub fn etcd_link(&self, name: &str, member: usize, mode: Mode) {
        self.slots[name].links[member].set(mode);
    }

    /// Closes connections that a blackhole has kept, and passes again.
    pub fn etcd_heal(&self, name: &str) {
        self.etcd_links(name, Mode::Refuse);
        self.etcd_links(name, Mode::Pass);
    }

    /// What becomes of all that other nodes say to this one.
    pub fn door(&self, name: &str, mode: Mode) {
        let door = &self.slots[name].door;
        door.set(mode);
        if mode == Mode::Refuse {
            door.cut();
        }
    }

    /// `/api/v1/node`; null: no answer.
    pub fn status(&self, name: &str) -> Value {
        self.api(name, "/api/v1/node")
    }

    pub fn api(&self, name: &str, path: &str) -> Value {
        let Some(address) = self.address(name) else { return Value::Null };
        let answer = http::request(address, "GET", path, &[("Accept", "application/json")], "");
        answer.ok().and_then(|a| serde_json::from_str(&a.body).ok()).unwrap_or(Value::Null)
    }

    pub fn statuses(&self) -> BTreeMap<String, Value> {
        self.live().into_iter().map(|n| (n.clone(), self.status(&n))).collect()
    }

    /// Waits until one live node leads with a live store and all others of the region follow it in its term.
    pub fn settled(&self, bound: Duration) -> (String, i64) {
        self.settled_in("eu", bound)
    }

    pub fn settled_in(&self, region: &str, bound: Duration) -> (String, i64) {
        let of_region = |all: BTreeMap<String, Value>| -> Vec<Value> {
            all.into_iter().filter(|(n, _)| self.slots[n].region == region).map(|(_, v)| v).collect()
        };
        let agreed = |all: &Vec<Value>| {
            let leaders: Vec<_> = all.iter().filter(|s| s["role"] == "leader").collect();
            let [leader] = leaders.as_slice() else { return false };
            all.iter().all(|s| {
                let role = s["role"] == "leader" || s["role"] == "follower";
                role && s["store"] == "ok"
                    && s["term"] == leader["term"]
                    && s["leader"] == leader["node"]
                    && s["ready"] == true
            })
        };
        let all = http::wait_for("one leader and all agree", bound, || of_region(self.statuses()), agreed);
        let leader = all.iter().find(|s| s["role"] == "leader").unwrap();
        (leader["node"].as_str().unwrap().to_owned(), leader["term"].as_i64().unwrap())
    }

    /// Waits, at a close watch, until a live node leads in a higher term. Returns who, the term, and how long it took.
    pub fn successor(&self, term: i64, since: Instant, bound: Duration) -> (String, i64, Duration) {
        self.successor_among(&self.live(), term, since, bound)
    }

    /// The same among these: nodes of one region.
    pub fn successor_among(
        &self,
        names: &[String],
        term: i64,
        since: Instant,
        bound: Duration,
    ) -> (String, i64, Duration) {
        let mut lines: Vec<_> = names.iter().cloned().map(|n| (self.address(&n).unwrap(), n)).collect();
        lines.sort();
        let mut lines: Vec<_> = lines.into_iter().map(|(a, n)| (crate::load::Line::new(a), n)).collect();
        loop {
            for (line, name) in &mut lines {
                let Ok((200, body)) = line.get("/api/v1/node") else { continue };
                let said: Value = serde_json::from_str(&body).unwrap_or_default();
                let its = said["term"].as_i64().unwrap_or(0);
                if said["role"] == "leader" && its > term {
                    return (name.clone(), its, since.elapsed());
                }
            }
            assert!(since.elapsed() < bound, "no successor within {bound:?}: {:#?}", self.statuses());
            std::thread::park_timeout(Duration::from_millis(4));
        }
    }

    /// All live nodes but these.
    pub fn others(&self, but: &[&str]) -> Vec<String> {
        self.live().into_iter().filter(|n| !but.contains(&n.as_str())).collect()
    }

    /// Health of each target as each live node of the region sees it, and as etcd has it: all alike.
    pub fn agree(&self, region: &str, targets: &[&str]) {
        for target in targets {
            let states = || -> BTreeMap<String, String> {
                let word = |v: &Value| v.as_str().unwrap_or("none").to_owned();
                let mut all: BTreeMap<String, String> = self
                    .live()
                    .into_iter()
                    .filter(|n| self.slots[n].region == region)
                    .map(|n| (n.clone(), word(&self.api(&n, &format!("/api/v1/targets/{target}"))["health"]["state"])))
                    .collect();
                let key = format!("/ft/regions/{region}/status/targets/{target}");
                let kept = self.list(&key).get(&key).map(|v| serde_json::from_str::<Value>(v).unwrap_or_default());
                all.insert("etcd".to_owned(), word(&kept.unwrap_or_default()["health"]));
                all
            };
            let alike = |all: &BTreeMap<String, String>| all.values().all(|s| Some(s) == all.values().next());
            http::wait_for(&format!("agreement over {target}"), SOON, states, alike);
        }
    }
}

impl Drop for Cluster {
    /// Keeps the nodes' logs where a test has failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos").join(test);
        let _ = std::fs::create_dir_all(&dir);
        for (name, slot) in &self.slots {
            if let Some(node) = &slot.node {
                let _ = std::fs::write(dir.join(format!("{name}.log")), node.log().join("\n"));
            }
        }
        eprintln!("the nodes' logs are in {}", dir.display());
    }
}
