//! StatsD: what is told, over a real socket; to a real server (Debian's collectd) that feeds a real carbon; and that a server
//! which is not there costs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether::{
    latest::Latest,
    meters::Timings,
    model::{NodeName, Outcome, View},
    publish::{
        NodeFigures,
        figures::{StatsdFigures, StoreFigures, Telemetry},
        statsd::{self, Look, StatsdOptions, StatsdStats, metrics::metrics},
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
#[path = "support/publish.rs"]
mod support;
use support::until;

fn figures(good: u64, latencies: &Timings) -> NodeFigures {
    let took = latencies.figures();
    NodeFigures {
        probes: vec![(Outcome::Good, good), (Outcome::Timeout, 3)],
        probes_queued: 5,
        newest_result_age: Some(0.25),
        telemetry: Telemetry {
            requests: vec![("gtg", "200", good * 100)],
            probe_latency: took.clone(),
            store: vec![StoreFigures { op: "txn", took, failed: good }],
            transitions: vec![("down", 2)],
            leader_changes: 1,
            ..Telemetry::default()
        },
        ..NodeFigures::default()
    }
}

fn names(view: &View, before: &NodeFigures, now: &NodeFigures) -> Vec<String> {
    metrics(view, before, now).into_iter().map(|m| format!("{} {:?}", m.name, m.value)).collect()
}

#[test]
fn counters_tell_what_came_since_gauges_what_is() {
    let view = support::view(&["a-1", "b-1"]);
    let latencies = Timings::default();
    latencies.record(Duration::from_micros(1250));
    let first = figures(7, &latencies);
    let told = names(&view, &NodeFigures::default(), &first);
    for line in [
        "probes.good Count(7)",
        "probes.timeout Count(3)",
        "requests.gtg.200 Count(700)",
        "transitions.targets.down Count(2)",
        "leader.changes Count(1)",
        "probes.latency Millis(1.25)",
        "store.txn.calls Count(1)",
        "store.txn.errors Count(7)",
        "store.txn.latency Millis(1.25)",
        "queues.probes_waiting Gauge(5.0)",
        "targets.up Gauge(2.0)",
        "node.leader Gauge(1.0)",
    ] {
        assert!(told.iter().any(|t| t == line), "{line}: {told:#?}");
    }
    let again = names(&view, &first, &first);
    assert!(again.iter().all(|t| t.contains("Gauge")), "nothing happened: {again:#?}");
    (0..100).for_each(|_| latencies.record(Duration::from_millis(2)));
    let later = names(&view, &first, &figures(9, &latencies));
    assert!(later.contains(&"probes.good Count(2)".to_owned()));
    assert_eq!(later.iter().filter(|t| t.starts_with("probes.latency")).count(), 32, "bounded");
}

struct Sending {
    stats: Arc<StatsdStats>,
    figures: Arc<Mutex<NodeFigures>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn send(host: &str, port: u16) -> Sending {
    let mut options = StatsdOptions::new(host, port, "bw", NodeName::new("n.1").unwrap());
    options.interval = Duration::from_millis(20);
    let view = Latest::new(support::view(&["a-1"]));
    let figures = Arc::new(Mutex::new(NodeFigures::default()));
    let look: Look = {
        let figures = Arc::clone(&figures);
        Arc::new(move || (view.load(), figures.lock().unwrap().clone()))
    };
    let (stats, stop) = (Arc::default(), CancellationToken::new());
    let task = tokio::spawn(statsd::run(options, look, Arc::clone(&stats), stop.clone()));
    Sending { stats, figures, stop, task }
}

impl Sending {
    fn stats(&self) -> StatsdFigures {
        StatsdFigures::from(&*self.stats)
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("ends").unwrap();
    }
}

#[tokio::test]
async fn datagrams_hold_whole_lines_of_the_protocol() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let sending = send("127.0.0.1", server.local_addr().unwrap().port());
    let latencies = Timings::default();
    (0..200).for_each(|_| latencies.record(Duration::from_micros(1500)));
    until("the first were sent", || sending.stats().sent > 0).await;
    *sending.figures.lock().unwrap() = figures(7, &latencies);
    let mut lines: Vec<String> = Vec::new();
    let mut read = || {
        let mut buffer = [0_u8; 4096];
        while let Ok(length) = server.recv(&mut buffer) {
            assert!(length <= 1432, "{length}");
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        let has = |line: &str| lines.iter().any(|l| l == line);
        has("bw.n-1.requests.gtg.200:700|c") && has("bw.n-1.probes.good:7|c") && has("bw.n-1.probes.latency:1.5|ms")
    };
    until("the counters came", &mut read).await;
    for line in &lines {
        let (name, rest) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
        let (value, kind) = rest.split_once('|').unwrap();
        assert!(
            name.starts_with("bw.n-1.") && value.parse::<f64>().is_ok() && ["c", "g", "ms"].contains(&kind),
            "{line}"
        );
    }
    assert_eq!(sending.stats().dropped, 0);
    sending.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_nothing() {
    // A closed port: datagrams vanish.
    let sending = send("127.0.0.1", ports::free());
    until("sent into the void", || sending.stats().sent > 50).await;
    sending.end().await;
    // A name that nobody knows: counted, tried again later, and the node ends at once.
    let sending = send("no-such-host.invalid", 8125);
    until("dropped", || sending.stats().dropped > 20).await;
    assert_eq!(sending.stats().sent, 0);
    sending.end().await;
}

/// A real StatsD server: Debian's collectd, which sends what it has to carbon each second.
struct Collectd {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Collectd {
    async fn start(carbon: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = ports::free();
        let base = dir.path().display();
        let conf = format!(
            "Hostname \"c\"\nFQDNLookup false\nInterval 1\nBaseDir \"{base}\"\nPIDFile \"{base}/pid\"\n\
             PluginDir \"/usr/lib/collectd\"\nTypesDB \"/usr/share/collectd/types.db\"\nLoadPlugin logfile\n\
             <Plugin logfile>\nFile \"{base}/log\"\n</Plugin>\nLoadPlugin statsd\n<Plugin statsd>\nHost \"127.0.0.1\"\n\
             Port \"{port}\"\nTimerCount true\n</Plugin>\nLoadPlugin write_graphite\n<Plugin write_graphite>\n\
             <Node \"carbon\">\nHost \"127.0.0.1\"\nPort \"{carbon}\"\nProtocol \"tcp\"\nEscapeCharacter \".\"\n\
             StoreRates false\n</Node>\n</Plugin>\n"
        );
        let file = dir.path().join("collectd.conf");
        std::fs::write(&file, conf).unwrap();
        let child = Command::new("/usr/sbin/collectd")
            .arg("-f")
            .arg("-C")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("collectd (Debian: collectd-core)");
        let log = dir.path().join("log");
        let started = || std::fs::read_to_string(&log).unwrap_or_default().contains("Initialization complete");
        until("collectd runs", started).await;
        Self { child, port, _dir: dir }
    }
}

impl Drop for Collectd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stands before the server: hands every datagram on, and keeps its lines.
struct Tap {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Tap {
    /// Its thread ends with the test's process.
    fn before(server: u16) -> Self {
        let (tap, lines) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (port, keep) = (tap.local_addr().unwrap().port(), Arc::clone(&lines));
        std::thread::spawn(move || {
            let mut datagram = [0; 65_536];
            while let Ok(length) = tap.recv(&mut datagram) {
                let _ = tap.send_to(&datagram[..length], ("127.0.0.1", server));
                let text = String::from_utf8_lossy(&datagram[..length]);
                keep.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { port, lines }
    }

    /// Whether a duration of this name, above nought, went by.
    fn timed(&self, name: &str) -> bool {
        let millis =
            |line: &String| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("|ms")?.parse::<f64>().ok();
        self.lines.lock().unwrap().iter().filter_map(millis).any(|millis| millis > 0.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_and_a_real_carbon_get_a_nodes_figures() {
    let mut carbon = support::Carbon::new();
    carbon.start().await;
    let collectd = Collectd::start(carbon.port).await;
    let gateway = gateway::Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let catalog = dir.path().join("services.yaml");
    let text = format!(
        "targets:\n  foo-1:\n    url: http://{}/health/foo-1/__health\n    categories: [read]\ncategories:\n  read: {{period_seconds: 1}}\n",
        gateway.addr
    );
    std::fs::write(&catalog, text).unwrap();
    let began = bellwether::clock::Clock::system().now().wall.as_secs() - 1;
    let tap = Tap::before(collectd.port);
    let server = format!("127.0.0.1:{}", tap.port);
    let node = node::Node::start(&["--catalog", catalog.to_str().unwrap(), "--node", "n1", "--statsd", &server]);
    let good = |a: &http::Answer| a.status == 200;
    http::wait_for("good to go", Duration::from_secs(20), || http::get(node.addr, "/__gtg?categories=read"), good);
    let now = || bellwether::clock::Clock::system().now().wall.as_secs() + 2;
    // Two of collectd's intervals may lie in one second of carbon's, and then the later one, a nought perhaps, is what is
    // kept; so what happens on edits has to go on happening.
    let mut acked = false;
    let mut values = |metric: &str| {
        acked = !acked;
        let (method, body) = if acked { ("PUT", r#"{"message":"known"}"#) } else { ("DELETE", "") };
        let json = ("Content-Type", "application/json");
        let edit = http::request(node.addr, method, "/api/v1/acks/foo-1", &[json], body).unwrap();
        assert!([200, 204].contains(&edit.status), "{edit:?}");
        carbon.read(metric, began, now())
    };
    for metric in [
        "c.statsd.derive-bellwether.n1.probes.good",
        "c.statsd.derive-bellwether.n1.requests.gtg.200",
        "c.statsd.derive-bellwether.n1.transitions.targets.up",
        "c.statsd.gauge-bellwether.n1.targets.up",
        "c.statsd.gauge-bellwether.n1.categories.read.ok",
    ] {
        until(metric, || values(metric).values().any(|v| *v > 0)).await;
    }
    // collectd reads whole milliseconds and does not count a nought: what takes less arrives there by its name alone.
    for timer in ["probes.latency", "evaluation.time", "publish.latency", "store.txn.latency"] {
        until(timer, || tap.timed(&format!("bellwether.n1.{timer}"))).await;
        let metric = format!("c.statsd.gauge-bellwether.n1.{timer}-count");
        until(&metric, || !values(&metric).is_empty()).await;
    }
    let page = http::get(node.addr, "/metrics").body;
    assert!(page.contains("bellwether_statsd_metrics_dropped_total 0"), "{page}");
    assert_eq!(node.terminate(), Some(0));
}
