//! Who may edit, through the real binary: token, admin listener, TLS with client certificates, and loopback trust that a
//! proxy on the same machine cannot lend to others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

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
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use gateway::Gateway;
use http::{get, get_json, request, wait_for};
use node::Node;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

const SOON: Duration = Duration::from_secs(15);
const ACK: &str = "/api/v1/acks/foo-1";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const BODY: &str = r#"{"message":"planned","by":"me"}"#;

struct Stage {
    _gateway: Gateway,
    dir: tempfile::TempDir,
    node: Node,
}

impl Stage {
    fn new(args: &[&str]) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), args)
    }

    fn in_dir(dir: tempfile::TempDir, args: &[&str]) -> Self {
        let gateway = Gateway::start();
        let catalog = dir.path().join("services.yaml");
        let url = format!("http://{}/health/foo-1/__health", gateway.addr);
        std::fs::write(&catalog, format!("targets:\n  foo-1: {{url: '{url}', format: ft}}\n")).unwrap();
        let mut all = vec!["--catalog", catalog.to_str().unwrap()];
        all.extend(args);
        let node = Node::start(&all);
        Self { _gateway: gateway, dir, node }
    }

    fn ready(&self) -> &Self {
        let known = |a: &http::Answer| a.body.contains("foo-1");
        wait_for("the catalog", SOON, || get(self.node.addr, "/api/v1/targets"), known);
        self
    }

    fn acked(&self) -> bool {
        get_json(self.node.addr, "/api/v1/targets/foo-1").to_string().contains("planned")
    }
}

fn ack(addr: SocketAddr, headers: &[(&str, &str)]) -> http::Answer {
    let mut all = vec![JSON];
    all.extend(headers);
    request(addr, "PUT", ACK, &all, BODY).unwrap()
}

fn admin(node: &Node) -> SocketAddr {
    let of = |line: &String| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        (value["message"] == "listening" && value["door"] == "admin")
            .then(|| value["address"].as_str()?.parse().ok())?
    };
    wait_for("the admin door", SOON, || node.log().iter().find_map(of), Option::is_some).unwrap()
}

#[test]
fn edits_need_the_token_once_one_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3same\n").unwrap();
    let stage = Stage::in_dir(dir, &["--admin-token-file", token.to_str().unwrap()]);
    let addr = stage.ready().node.addr;
    let none = ack(addr, &[]);
    assert_eq!((none.status, none.header("www-authenticate").is_some()), (401, true), "{none:?}");
    assert_eq!(none.json()["status"], 401);
    assert_eq!(ack(addr, &[("Authorization", "Bearer wrong")]).status, 403);
    assert!(!stage.acked());
    assert!(matches!(ack(addr, &[("Authorization", "Bearer s3same")]).status, 200 | 204));
    wait_for("acked", SOON, || stage.acked(), |a| *a);
    // The command line takes it from a file; from elsewhere than loopback a token is enough, so a forwarded one passes.
    let cli = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.env("BELLWETHER_SERVER", format!("http://{addr}")).args(["unack", "foo-1"]);
        command.arg("--token-file").arg(file).output().unwrap()
    };
    let wrong = stage.dir.path().join("wrong");
    std::fs::write(&wrong, "nope").unwrap();
    let refused = cli(&wrong);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("token"), "{refused:?}");
    assert!(cli(&token).status.success());
    wait_for("unacked", SOON, || stage.acked(), |a| !*a);
    let forwarded = [("Authorization", "Bearer s3same"), ("X-Forwarded-For", "192.0.2.7")];
    assert!(matches!(ack(addr, &forwarded).status, 200 | 204));
    // Nowhere is the token told.
    let log = stage.node.log().join("\n");
    assert!(!log.contains("s3same"), "{log}");
    // Reading needs none.
    assert_eq!(get(addr, "/api/v1/targets").status, 200);
}

#[test]
fn an_empty_or_missing_token_file_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, " \n").unwrap();
    for file in [empty, dir.path().join("missing")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        let output = command.arg("--admin-token-file").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(file.to_str().unwrap()), "{said}");
    }
}

#[test]
fn the_admin_listener_keeps_edits_off_the_public_one() {
    let stage = Stage::new(&["--admin-listen", "127.0.0.1:0"]);
    let (public, admin) = (stage.ready().node.addr, admin(&stage.node));
    let refused = ack(public, &[]);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("admin listener"), "{}", refused.body);
    assert!(!stage.acked());
    assert!(matches!(ack(admin, &[]).status, 200 | 204));
    wait_for("acked", SOON, || stage.acked(), |a| *a);
    assert_eq!(get(public, "/__gtg").status, get(admin, "/__gtg").status);
}

struct Proxy {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx kills its workers at a proper signal only.
        signal::send(&self.child, "TERM");
        let _ = self.child.wait();
    }
}

fn listens(child: Child, port: u16) -> Proxy {
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Proxy { child, addr };
    wait_for("the proxy", SOON, || TcpStream::connect(addr), Result::is_ok).unwrap();
    proxy
}

fn haproxy(dir: &Path, to: SocketAddr) -> Proxy {
    let port = ports::free();
    let config = dir.join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n  option forwardfor\n\
         frontend front\n  bind 127.0.0.1:{port}\n  default_backend node\nbackend node\n  server node {to}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(&config).args(["-db"]).stderr(Stdio::null());
    listens(command.spawn().expect("haproxy starts (scripts/test installs it)"), port)
}

fn nginx(dir: &Path, to: SocketAddr) -> Proxy {
    let (port, root) = (ports::free(), dir.display());
    let config = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\nerror_log {root}/nginx.log;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {root}/body;\n  proxy_temp_path {root}/proxy;\n  fastcgi_temp_path {root}/f;\n  \
         uwsgi_temp_path {root}/u;\n  scgi_temp_path {root}/s;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{\n      proxy_pass http://{to};\n      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&config).stderr(Stdio::null());
    listens(command.spawn().expect("nginx starts (scripts/test installs it)"), port)
}

#[test]
fn loopback_trust_cannot_be_borrowed() {
    let stage = Stage::new(&[]);
    let addr = stage.ready().node.addr;
    let (haproxy, nginx) = (haproxy(stage.dir.path(), addr), nginx(stage.dir.path(), addr));
    for (name, proxy) in [("haproxy", &haproxy), ("nginx", &nginx)] {
        wait_for(name, SOON, || get(proxy.addr, "/__live").status, |s| *s == 200);
        let refused = ack(proxy.addr, &[]);
        assert_eq!(refused.status, 403, "{name}: {refused:?}");
        assert!(refused.body.contains("x-forwarded-for"), "{name}: {}", refused.body);
        for (method, path, body) in [
            ("PUT", "/api/v1/cluster-ack", BODY),
            ("DELETE", ACK, ""),
            ("PUT", "/api/v1/categories/default/enabled", r#"{"enabled":false}"#),
            ("PUT", "/api/v1/catalog", r#"{"v":1,"targets":{}}"#),
        ] {
            let refused = request(proxy.addr, method, path, &[JSON], body).unwrap();
            assert_eq!(refused.status, 403, "{name} {method} {path}: {refused:?}");
        }
    }
    // A page of another site in a browser on this machine.
    assert_eq!(ack(addr, &[("Origin", "https://evil.example")]).status, 403);
    assert_eq!(ack(addr, &[("Sec-Fetch-Site", "cross-site")]).status, 403);
    let mut stream = TcpStream::connect(addr).unwrap();
    let rebound = format!(
        "PUT {ACK} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    std::io::Write::write_all(&mut stream, rebound.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!stage.acked());
    assert!(matches!(ack(addr, &[]).status, 200 | 204), "and from here itself it is taken");
}

fn curl(args: &[&str], files: &[(&str, &PathBuf)]) -> (bool, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10"]).args(args);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    let output = command.output().expect("curl");
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

#[test]
fn tls_with_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let issuer = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let leaf = |issuer: &CertifiedIssuer<'_, KeyPair>, name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        std::fs::write(path(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    let (ours, theirs) = (issuer("ours"), issuer("theirs"));
    std::fs::write(path("ca.pem"), ours.pem()).unwrap();
    leaf(&ours, "server");
    leaf(&ours, "client");
    leaf(&theirs, "stranger");
    let files = [path("server.pem"), path("server.key"), path("ca.pem"), path("client.pem"), path("client.key")];
    let [cert, key, ca, client, client_key] = files;
    let (stranger, stranger_key) = (path("stranger.pem"), path("stranger.key"));
    let text = |p: &PathBuf| p.to_str().unwrap().to_owned();
    let (cert_flag, key_flag, ca_flag) = (text(&cert), text(&key), text(&ca));
    let flags = ["--tls-cert", &cert_flag, "--tls-key", &key_flag, "--client-ca", &ca_flag];
    let node = Node::start(&flags);
    let url = format!("https://localhost:{}/__live", node.addr.port());
    let (ok, said) = curl(&[&url], &[("--cacert", &ca), ("--cert", &client), ("--key", &client_key)]);
    assert!(ok, "{said}");
    let (ok, said) = curl(&[&url], &[("--cacert", &ca)]);
    assert!(!ok, "without a certificate: {said}");
    let (ok, said) = curl(&[&url], &[("--cacert", &ca), ("--cert", &stranger), ("--key", &stranger_key)]);
    assert!(!ok, "with another's certificate: {said}");
    let (ok, said) = curl(&[&url], &[("--cert", &client), ("--key", &client_key)]);
    assert!(!ok, "the server's own chain is checked too: {said}");
    let plain = request(node.addr, "GET", "/__live", &[], "");
    assert!(plain.is_err(), "plain HTTP is not answered: {plain:?}");
}
