//! The dashboards under `docker/`: Graphite's is loaded into a real graphite-web and drawn from what a real node sent to a real
//! carbon; Grafana's are read and their queries asked of what they are made for; Prometheus' rules are checked by promtool, and
//! a real Prometheus scrapes a real node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

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

use gateway::{Behaviour, Gateway};
use http::{get, get_json, wait_for};
use node::Node;
use publish::Carbon;

/// Python and Django need half a minute to start on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A program that is killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn catalog(dir: &Path, gateway: &Gateway) -> String {
    let file = dir.join("services.yaml");
    let target = |name: &str, category: &str| {
        let addr = gateway.addr;
        format!(
            "  {name}:\n    url: http://{addr}/health/{name}/__health\n    categories: [{category}]\n    format: ft\n    fall: 1\n"
        )
    };
    let text = format!(
        "targets:\n{}{}{}categories:\n  read: {{period_seconds: 1}}\n  publish: {{period_seconds: 1}}\n",
        target("api-1", "read"),
        target("api-2", "read"),
        target("writer.x", "publish"),
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

const SETTINGS: &str = "import os
BASE = os.environ['GW_BASE']
SECRET_KEY = 'only on loopback'
GRAPHITE_ROOT = '/usr/share/graphite-web'
CONF_DIR = STORAGE_DIR = LOG_DIR = BASE
LOG_ROTATION = False
INDEX_FILE = BASE + '/index'
WHISPER_DIR = os.environ['GW_WHISPER']
STANDARD_DIRS = [WHISPER_DIR]
CARBONLINK_HOSTS = []
TIME_ZONE = 'UTC'
DATABASES = {'default': {'NAME': BASE + '/graphite.db', 'ENGINE': 'django.db.backends.sqlite3'}}
";
const SERVE: &str = "import sys
from django.core.management import call_command
from graphite.wsgi import application
call_command('migrate', run_syncdb=True, verbosity=0)
from wsgiref.simple_server import make_server
server = make_server('127.0.0.1', 0, application)
open(sys.argv[1] + '.new', 'w').write(str(server.server_port))
import os
os.rename(sys.argv[1] + '.new', sys.argv[1])
server.serve_forever()
";

/// Debian's graphite-web over these whisper files.
struct GraphiteWeb {
    url: String,
    _server: Server,
    dir: tempfile::TempDir,
}

impl GraphiteWeb {
    fn start(whisper: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("gw_settings.py"), SETTINGS).unwrap();
        std::fs::write(at("serve.py"), SERVE).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let server = Command::new("/usr/bin/python3")
            .arg(at("serve.py"))
            .arg(at("port"))
            .env("GW_BASE", dir.path())
            .env("GW_WHISPER", whisper)
            .env("PYTHONPATH", dir.path())
            .env("GRAPHITE_SETTINGS_MODULE", "gw_settings")
            .env("DJANGO_SETTINGS_MODULE", "graphite.settings")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("python3 (Debian: graphite-web)");
        let server = Server(server);
        let port = || std::fs::read_to_string(at("port")).ok();
        let port = wait_for("graphite-web listens", LONG, port, Option::is_some).unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), _server: server, dir }
    }

    fn curl(&self, path: &str, args: &[String]) -> Vec<u8> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "60"]).args(args);
        let output = curl.arg(format!("{}{path}", self.url)).output().expect("curl");
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{path}: {}\n{}", String::from_utf8_lossy(&output.stderr), log());
        output.stdout
    }

    /// Asks for a graph of the dashboard, over the last seconds.
    fn render(&self, graph: &Value, seconds: i64, format: &str) -> Vec<u8> {
        let mut args = vec!["-G".to_owned()];
        let mut add = |key: &str, value: &str| args.extend(["--data-urlencode".to_owned(), format!("{key}={value}")]);
        for (key, value) in graph[1].as_object().unwrap() {
            match value {
                Value::Array(targets) => targets.iter().for_each(|t| add(key, t.as_str().unwrap())),
                _ if key == "from" => add(key, &format!("-{seconds}s")),
                Value::Number(number) => add(key, &number.to_string()),
                _ => add(key, value.as_str().unwrap()),
            }
        }
        add("format", format);
        self.curl("/render", &args)
    }
}

/// Name and values of each row of a graph.
fn rows(answer: &[u8]) -> Vec<(String, Vec<f64>)> {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let values = |row: &Value| row["datapoints"].as_array().unwrap().iter().filter_map(|p| p[0].as_f64()).collect();
    answer.as_array().unwrap().iter().map(|row| (row["target"].as_str().unwrap().to_owned(), values(row))).collect()
}

fn now() -> i64 {
    bellwether::clock::Clock::system().now().wall.as_secs()
}

/// Lets a target fail and come back, and waits until carbon holds both.
fn fail_and_recover(gateway: &Gateway, node: &Node, carbon: &Carbon) {
    for (behaviour, state, value) in [(Behaviour::Failing, "down", 1), (Behaviour::Good, "up", 0)] {
        gateway.set("api-2", behaviour);
        let ask = || get_json(node.addr, "/api/v1/targets/api-2");
        wait_for(state, LONG, ask, |t| t["health"]["state"] == state);
        let from = now();
        let points = || {
            let read = carbon.read("coco.health.test.services.api-2", from, now() + 2);
            read.into_values().filter(|v| *v == value).count()
        };
        wait_for("a few points", LONG, points, |count| *count >= 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn graphites_dashboard_is_drawn_from_what_a_node_sent() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let mut carbon = Carbon::new();
    carbon.start().await;
    let began = now();
    let port = carbon.port.to_string();
    let file = catalog(dir.path(), &gateway);
    let args = ["--catalog", &file, "--environment", "test", "--graphite-host", "127.0.0.1", "--graphite-port", &port];
    let node = Node::start(&[&args[..], &["--graphite-interval", "1s"]].concat());
    wait_for("good to go", LONG, || get(node.addr, "/__gtg"), |a| a.status == 200);
    let web = GraphiteWeb::start(&carbon.whisper());
    fail_and_recover(&gateway, &node, &carbon);

    let path = shipped("dashboards/graphite/bellwether.json");
    let state = format!("state@{}", path.display());
    web.curl("/dashboard/save/Bellwether", &["--data-urlencode".to_owned(), state]);
    let loaded: Value = serde_json::from_slice(&web.curl("/dashboard/load/Bellwether", &[])).unwrap();
    assert_eq!(loaded["state"]["graphs"], json(&path)["graphs"]);
    let graphs = loaded["state"]["graphs"].as_array().unwrap().clone();
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards");
    std::fs::create_dir_all(&pictures).unwrap();
    let seconds = now() - began + 1;
    for (number, graph) in graphs.iter().enumerate() {
        let title = graph[1]["title"].as_str().unwrap();
        let rows = rows(&web.render(graph, seconds, "json"));
        let with_data: Vec<&str> = rows.iter().filter(|(_, v)| !v.is_empty()).map(|(n, _)| n.as_str()).collect();
        assert!(!with_data.is_empty(), "{title}: no data in {rows:?}");
        let row = |name: &str| &rows.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{title}: {rows:?}")).1;
        let both = |values: &[f64]| values.contains(&1.0) && values.contains(&0.0);
        match number {
            0 => assert!(both(row("read")) && !row("publish")[3..].contains(&1.0), "{title}: {rows:?}"),
            1 => assert!(both(row("api-2")) && rows.len() == 1, "{title}: {rows:?}"),
            3 => assert!(row("without a region").iter().sum::<f64>() >= 2.0, "{title}: {rows:?}"),
            // While carbon has not got this second's points the last value is lower.
            5 => assert!(row("without a region").contains(&3.0), "{title}: {rows:?}"),
            4 => assert!(row("test").contains(&1.0), "{title}: {rows:?}"),
            _ => {}
        }
        let picture = web.render(graph, seconds, "png");
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 2000, "{title}: {} bytes", picture.len());
        std::fs::write(pictures.join(format!("{number}.png")), picture).unwrap();
    }
    println!("pictures: {}", pictures.display());
    // Grafana's dashboard asks graphite-web the same way.
    for target in targets(&json(&shipped("dashboards/grafana/bellwether-graphite.json")), "target") {
        let target = target.replace("$prefix", "coco").replace("$environment", "test");
        let graph = serde_json::json!([target, {"target": [target], "from": "-1h"}, ""]);
        let answer = rows(&web.render(&graph, seconds, "json"));
        assert!(!answer.is_empty() || target.contains("test.*"), "{target}");
    }
    assert_eq!(node.terminate(), Some(0));
}

/// The queries of a Grafana dashboard.
fn targets(dashboard: &Value, key: &str) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let all = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    all.map(|target| target[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    for (verb, file) in [("check", "prometheus/alerts.yml"), ("test", "prometheus/alerts_test.yml")] {
        let output = Command::new("promtool").args([verb, "rules"]).arg(shipped(file)).output();
        let output = output.expect("promtool (Debian: prometheus)");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

/// Asks Prometheus; the rows of its answer.
fn ask(prometheus: std::net::SocketAddr, query: &str) -> Vec<Value> {
    let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
    let Ok(answer) = http::request(prometheus, "GET", &format!("/api/v1/query?query={query}"), &[], "") else {
        return Vec::new();
    };
    let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    assert_ne!(answer["status"], "error", "{query}: {answer}");
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_a_node_and_answers_the_dashboard() {
    let gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let file = catalog(dir.path(), &gateway);
    let node = Node::start(&["--catalog", &file, "--metrics-targets"]);
    wait_for("good to go", LONG, || get(node.addr, "/__gtg"), |a| a.status == 200);
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: bellwether\n  static_configs: [{{targets: ['{}'], labels: {{region: here}}}}]\n",
        shipped("prometheus/alerts.yml").display(),
        node.addr
    );
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, config).unwrap();
    let prometheus = ports::nobody();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let server = Command::new("prometheus")
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={prometheus}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("prometheus (Debian: prometheus)");
    let _server = Server(server);
    let value = |query: &str| ask(prometheus, query).first().map(|row| row["value"][1].as_str().unwrap().to_owned());
    wait_for("scraped", LONG, || value("bellwether_node_ready"), |v| v.as_deref() == Some("1"));
    assert_eq!(value("bellwether_targets{state=\"up\"}").as_deref(), Some("3"));
    let grows = || value("sum(rate(bellwether_probes_total[1m]))").and_then(|v| v.parse::<f64>().ok());
    wait_for("probes are counted", LONG, grows, |v| v.is_some_and(|v| v > 0.0));
    let dashboard = json(&shipped("dashboards/grafana/bellwether-prometheus.json"));
    for query in targets(&dashboard, "expr") {
        let query = query.replace("$job", ".*");
        // Without Graphite and StatsD there are no figures of them.
        let rows = ask(prometheus, &query);
        assert!(!rows.is_empty() || query.contains("_graphite_") || query.contains("_statsd_"), "{query}");
    }
    wait_for("rules run", LONG, || ask(prometheus, "ALERTS").len(), |n| *n == 0);
    // promtool reads the page of a real node too.
    let page = get(node.addr, "/metrics").body;
    std::fs::write(dir.path().join("page"), page).unwrap();
    let page = std::fs::File::open(dir.path().join("page")).unwrap();
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(page).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(node.terminate(), Some(0));
}
