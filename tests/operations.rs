//! What docs/operations.md tells people to paste: the load balancers' files run as they stand but for addresses, with two
//! regions behind them; and the systemd unit is valid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/docs.rs"]
mod docs;
#[path = "support/http.rs"]
mod http;
#[path = "support/node.rs"]
mod node;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use http::{request, wait_for};
use node::Node;

const SOON: Duration = Duration::from_secs(60);

/// A service that says where it is.
fn service(region: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{region}", region.len());
        }
    });
    addr
}

/// Two nodes in `eu`, which share nothing but their catalog file, one in `us`; a service in each region.
struct World {
    dir: tempfile::TempDir,
    eu: Vec<Node>,
    us: Node,
    services: [SocketAddr; 2],
    front: SocketAddr,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let services = [service("eu"), service("us")];
        let start = |name: &str, region: &str, target: SocketAddr| {
            let file = dir.path().join(format!("{region}.yaml"));
            let text = format!(
                "targets:\n  shop-1: {{url: \"http://{target}/\", categories: [read]}}\ncategories:\n  read: {{period_seconds: 1}}\n"
            );
            std::fs::write(&file, text).unwrap();
            Node::start(&["--catalog", file.to_str().unwrap(), "--node", name])
        };
        let eu = vec![start("eu-1", "eu", services[0]), start("eu-2", "eu", services[0])];
        let us = start("us-1", "us", services[1]);
        for node in eu.iter().chain([&us]) {
            let ask = || http::get(node.addr, "/__gtg?categories=read").status;
            wait_for("good to go", SOON, ask, |status| *status == 200);
        }
        Self { dir, eu, us, services, front: ports::nobody() }
    }

    /// The page's block, with the addresses of this world in place of its own.
    fn configuration(&self, block: &str) -> String {
        let (own, other) = (ports::nobody().to_string(), ports::nobody().to_string());
        let port = |text: &str| text.split_once(':').unwrap().1.to_owned();
        let mut text = docs::operations(block);
        for (from, to) in [
            ("192.0.2.11:8080", self.eu[0].addr.to_string()),
            ("192.0.2.12:8080", self.eu[1].addr.to_string()),
            ("198.51.100.11:8080", self.us.addr.to_string()),
            ("198.51.100.12:8080", self.us.addr.to_string()),
            ("192.0.2.21:80", self.services[0].to_string()),
            ("198.51.100.21:80", self.services[1].to_string()),
            ("127.0.0.1:8181", own.clone()),
            ("127.0.0.1:8182", other.clone()),
            ("port 8181", format!("port {}", port(&own))),
            ("port 8182", format!("port {}", port(&other))),
            ("bind :8000", format!("bind {}", self.front)),
            ("listen 8000", format!("listen {}", self.front)),
            ("/var/cache/nginx/gtg", self.dir.path().join("cache").display().to_string()),
        ] {
            text = text.replace(from, &to);
        }
        assert!(!text.contains("192.0.2.") && !text.contains("198.51.100."), "{text}");
        text
    }

    /// Traffic goes to eu, to us when an operator switches eu off, and stays in eu while one of its nodes goes.
    fn fails_over(mut self) {
        let front = self.front;
        let ask = || request(front, "GET", "/", &[], "").map_or_else(|e| e.to_string(), |a| a.body);
        wait_for("eu", SOON, ask, |body| body == "eu");
        let switch = |node: &Node, on: bool| {
            let body = format!("{{\"enabled\": {on}}}");
            let json = [("Content-Type", "application/json")];
            let done = request(node.addr, "PUT", "/api/v1/categories/read/enabled", &json, &body).unwrap();
            assert!(done.status < 300, "{done:?}");
        };
        self.eu.iter().for_each(|node| switch(node, false));
        wait_for("us", SOON, ask, |body| body == "us");
        self.eu.iter().for_each(|node| switch(node, true));
        wait_for("eu again", SOON, ask, |body| body == "eu");
        self.eu.remove(0).kill();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            assert_eq!(ask(), "eu", "one node of the region is left");
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[&str], check: &str) -> Running {
    let tried = Command::new(program).args(args).arg(check).output().expect("scripts/install tests has it");
    assert!(tried.status.success(), "{program} {check}: {}", String::from_utf8_lossy(&tried.stderr));
    Running(Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn saved(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn haproxy_as_the_page_has_it() {
    let world = World::new();
    let file = saved(world.dir.path(), "haproxy.cfg", &world.configuration("haproxy"));
    let _haproxy = run("haproxy", &["-db", "-f", &file], "-c");
    world.fails_over();
}

#[test]
fn nginx_as_the_page_has_it() {
    let world = World::new();
    let text = world.configuration("nginx");
    // In the foreground, with its files in our directory.
    let dir = world.dir.path().display().to_string();
    let own = format!("daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\n{text}");
    let own = own.replace("http {", &format!("http {{\n    access_log off;\n    client_body_temp_path {dir}/body;\n    proxy_temp_path {dir}/proxy;\n    fastcgi_temp_path {dir}/fastcgi;\n    uwsgi_temp_path {dir}/uwsgi;\n    scgi_temp_path {dir}/scgi;"));
    let file = saved(world.dir.path(), "nginx.conf", &own);
    let nginx = ["nginx", "/usr/sbin/nginx"].into_iter().find(|n| Command::new(n).arg("-v").output().is_ok());
    let _nginx = run(nginx.expect("scripts/install tests has it"), &["-c", &file], "-t");
    world.fails_over();
}

#[test]
fn the_systemd_unit_is_valid_and_stops_within_its_bound() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/bellwether.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let setting = |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("{name}="))).unwrap();
    assert_eq!(setting("Type"), "exec", "the program does not notify");
    let bound: u64 = setting("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_bellwether")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let drain = help.split_once("--drain-delay").unwrap().1.split_once("[default: ").unwrap().1;
    let drain: u64 = drain.split_once('s').unwrap().0.parse().unwrap();
    assert!(bound >= drain + 10, "TimeoutStopSec={bound}s, --drain-delay {drain}s");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    // Where it is installed is this test's: the binary need not be on this machine.
    let dir = tempfile::tempdir().unwrap();
    let here = text.replace("/usr/local/bin/bellwether", env!("CARGO_BIN_EXE_bellwether"));
    let file = saved(dir.path(), "bellwether.service", &here);
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no", &file]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // It also speaks of other units of the machine.
    let own: Vec<_> = said.lines().filter(|l| l.contains("bellwether")).collect();
    assert!(verified.status.success() && own.is_empty(), "{said}");
    let offline = ["security", "--offline=yes", "--threshold=20", &file];
    let exposed = Command::new("systemd-analyze").args(offline).output().unwrap();
    assert!(exposed.status.success(), "exposure above 2.0: {}", String::from_utf8_lossy(&exposed.stdout));
}
