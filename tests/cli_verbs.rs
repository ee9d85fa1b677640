//! The real binary against a canned node on loopback: what each verb sends, prints and exits with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/ports.rs"]
mod ports;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// `METHOD path`, `Authorization`, body.
type Seen = (String, Option<String>, String);

/// A node that answers from a table and remembers what it was asked. It ends with the test's process.
struct Node {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Node {
    fn start(answers: Vec<(&str, u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Vec<(String, u16, String)> = answers.into_iter().map(|(k, s, b)| (k.to_owned(), s, b)).collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length, mut token) = (String::new(), 0, None);
                reader.read_line(&mut line).unwrap();
                let what = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    let Some((name, value)) = header.trim().split_once(": ") else { break };
                    match name.to_lowercase().as_str() {
                        "content-length" => length = value.parse().unwrap(),
                        "authorization" => token = Some(value.to_owned()),
                        _ => {}
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let found = answers.iter().find(|(key, _, _)| *key == what);
                let (status, text) = found.map_or((404, "{}".to_owned()), |(_, s, t)| (*s, t.clone()));
                log.lock().unwrap().push((what, token, String::from_utf8(body).unwrap()));
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close", text.len());
                let _ = write!(stream, "{head}\r\n\r\n{text}");
            }
        });
        Self { address, seen }
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        run(&format!("http://{}", self.address), words)
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

fn command(server: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(words).env_clear().env("BELLWETHER_SERVER", server).env("USER", "ada").stdin(Stdio::null());
    command
}

fn run(server: &str, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(server, words).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// As `web` writes it.
fn target(name: &str, state: &str, category: &str) -> Value {
    json!({"name": name, "service": name, "categories": ["default", category], "path": "/", "ok": state == "up",
           "acked": false, "ack": null, "severity": 2, "interval": 5,
           "health": {"state": state, "since": "2026-01-31T12:00:00Z", "reason": "HTTP 503", "stale": false,
                      "flapping": false, "term": 0, "n": 1},
           "last": {"outcome": "good", "output": "fine", "at": "2026-01-31T12:00:00Z", "age": 1, "latency": 0.002,
                    "status": 200, "days_left": null}})
}

fn node_with(gtg: u16, targets: Vec<Value>) -> Node {
    let categories = json!([{"name": "read", "ok": gtg == 200, "healthy": gtg == 200, "enabled": true, "latch": null,
        "reasons": [{"kind": "target_failed", "text": "it is so"}], "targets": ["a-1"]}]);
    let about = json!({"node": "n1", "region": "default", "role": "leader", "store": "ok", "degraded": false});
    let cluster = json!({"node": "n1", "term": 7, "transitions": 1, "last_reason": "it was vacant",
        "leader": {"node": "n2", "url": "http://n2", "since": "2026-01-31T12:00:00Z"}, "nodes": [{"node": "n1"}, {"node": "n2"}],
        "results": {"from": "own", "followers": 1}, "newest_result_age": 0.5,
        "notes": [{"what": "It is degraded", "meaning": "So."}]});
    let said = if gtg == 200 { "OK" } else { "b-1 is down: HTTP 503" }.to_owned();
    Node::start(vec![
        ("GET /__gtg", gtg, said.clone()),
        ("GET /__gtg?categories=read", gtg, said),
        ("GET /api/v1/node", 200, about.to_string()),
        ("GET /api/v1/cluster", 200, cluster.to_string()),
        ("GET /api/v1/categories", 200, categories.to_string()),
        ("GET /api/v1/targets", 200, Value::from(targets).to_string()),
    ])
}

#[test]
fn status_says_it_in_four_exit_codes() {
    let well = node_with(200, vec![target("a-1", "up", "read")]);
    let (code, out, _) = well.run(&["status"]);
    assert!(code == 0 && out.starts_with("OK: good to go\n"), "{code} {out}");

    let troubled = node_with(200, vec![target("a-1", "up", "read"), target("b-1", "down", "write")]);
    let (code, out, _) = troubled.run(&["status"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.find("b-1").unwrap() < out.find("a-1").unwrap(), "failing targets first:\n{out}");
    assert_eq!(troubled.run(&["status", "--categories", "read"]).0, 0, "b-1 is not in read");

    let bad = node_with(503, vec![target("b-1", "down", "read")]);
    let (code, out, _) = bad.run(&["status"]);
    assert!(code == 2 && out.starts_with("NOT GOOD TO GO: b-1 is down: HTTP 503\n"), "{code} {out}");
    let (code, out, _) = bad.run(&["status", "--output", "json"]);
    let read: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &read["ok"], &read["code"]), (2, &json!(false), &json!(2)));
    assert_eq!(read["cluster"]["leader"]["node"], "n2");
    let (_, out, _) = bad.run(&["status"]);
    for line in
        ["cluster: led by n2 at http://n2 for ", "\nnodes: n1 (asked), n2 (leads)\n", "\n! It is degraded. So.\n"]
    {
        assert!(out.contains(line), "{line}\n{out}");
    }

    let gone = ports::nobody();
    let (code, _, err) = run(&format!("http://{gone}"), &["status"]);
    assert!(code == 3 && err.contains("connection refused") && err.contains("--server"), "{code} {err}");
    let stranger = Node::start(vec![("GET /__gtg", 200, "hello".into()), ("GET /api/v1/node", 200, "<html>".into())]);
    let (code, _, err) = stranger.run(&["status"]);
    assert!(code == 3 && err.contains("not Bellwether's"), "{code} {err}");
}

#[test]
fn an_acked_failure_is_still_one_that_is_good_to_go() {
    let mut seen = target("b-1", "down", "read");
    seen["acked"] = json!(true);
    seen["ack"] = json!({"message": "on it", "by": "bob"});
    let (code, out, _) = node_with(200, vec![seen]).run(&["status"]);
    assert!(code == 1 && out.contains("on it (bob)") && out.contains("0 failing, 1 failing but acked"), "{code} {out}");
}

#[test]
fn edits_send_the_shapes_of_the_design() {
    let node = Node::start(vec![
        ("PUT /api/v1/acks/a-1", 204, String::new()),
        ("DELETE /api/v1/acks/a-1", 204, String::new()),
        ("PUT /api/v1/categories/read/enabled", 200, "{}".into()),
        ("PUT /api/v1/cluster-ack", 200, "{}".into()),
        ("DELETE /api/v1/cluster-ack", 200, "{}".into()),
    ]);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let file = token.path().to_str().unwrap();
    let until = "2026-01-31T12:00:00.000Z";
    let (code, out, err) = node.run(&["ack", "a-1", "-m", "on it", "--until", until, "--token-file", file]);
    assert_eq!(code, 0, "{out}{err}");
    let (what, auth, body) = node.last();
    assert_eq!((what.as_str(), auth.as_deref()), ("PUT /api/v1/acks/a-1", Some("Bearer s3cret")));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({"message": "on it", "by": "ada", "until": until}));

    let switch = "PUT /api/v1/categories/read/enabled";
    let off = json!({"enabled": false, "by": "ada", "reason": "maintenance"});
    let known = json!({"message": "known", "by": "ada"});
    for (words, what, body) in [
        (&["unack", "a-1"][..], "DELETE /api/v1/acks/a-1", None),
        (&["disable", "read", "-m", "maintenance"], switch, Some(off)),
        (&["enable", "read", "--by", "bob"], switch, Some(json!({"enabled": true, "by": "bob"}))),
        (&["cluster-ack", "-m", "known"], "PUT /api/v1/cluster-ack", Some(known)),
        (&["cluster-ack", "--clear"], "DELETE /api/v1/cluster-ack", None),
    ] {
        let (code, out, err) = node.run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        let seen = node.last();
        assert_eq!(seen.0, what);
        assert_eq!(serde_json::from_str::<Value>(&seen.2).ok(), body, "{words:?}");
    }
}

#[test]
fn an_ack_for_two_hours_ends_in_two_hours() {
    let node = Node::start(vec![("PUT /api/v1/acks/a-1", 200, String::new())]);
    assert_eq!(node.run(&["ack", "a-1", "-m", "x", "--for", "2h"]).0, 0);
    let body: Value = serde_json::from_str(&node.last().2).unwrap();
    let until: bellwether::model::Timestamp = body["until"].as_str().unwrap().parse().unwrap();
    let left = until.since(bellwether::clock::Clock::system().now().wall).as_secs();
    assert!((7100..=7200).contains(&left), "{left}");
}

#[test]
fn refusals_are_sentences() {
    let problem = |status: u16, detail: &str| json!({"type": "x", "title": "T", "status": status, "detail": detail});
    let node = Node::start(vec![
        ("DELETE /api/v1/acks/a-1", 503, problem(503, "edits need the store").to_string()),
        ("DELETE /api/v1/acks/b-1", 401, problem(401, "a token is needed").to_string()),
        ("DELETE /api/v1/acks/c-1", 403, problem(403, "only from loopback").to_string()),
        ("DELETE /api/v1/acks/d-1", 404, problem(404, "there is no target named \"d-1\"").to_string()),
    ]);
    for (name, said) in [
        ("a-1", "cannot do this now (503): edits need the store"),
        ("b-1", "--token-file"),
        ("c-1", "(403): only from loopback"),
        ("d-1", "there is no target named"),
    ] {
        let (code, _, err) = node.run(&["unack", name]);
        assert!(code == 1 && err.contains(said), "{code} {err}");
    }
}

#[test]
fn apply_sends_the_files_own_text_and_shows_the_diff() {
    let changes = json!({"changes": [{"key": "/ft/healthcheck/a/path", "old": null, "new": "/h"}]});
    let refused = json!({"status": 422, "detail": "no", "faults": [
        {"key": "targets.a.rise", "reason": "0 is too small", "expected": "at least 1", "nearest": null}]});
    let node = Node::start(vec![
        ("PUT /api/v1/catalog?dry_run=true&prune=false", 200, changes.to_string()),
        ("PUT /api/v1/catalog?dry_run=false&prune=true", 422, refused.to_string()),
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "targets:\n  a:\n    path: /h   # kept as written\n";
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, out, err) = node.run(&["apply", "-f", path, "--dry-run"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out, "+ /ft/healthcheck/a/path = /h\n1 added, 0 changed, 0 removed (dry run: nothing written)\n");
    assert_eq!(node.last().2, text, "secrets in it must not go through a reader that hides them");
    let (code, out, _) = node.run(&["apply", "-f", path, "--prune"]);
    assert!(code == 1 && out.contains("targets.a.rise: 0 is too small; expected at least 1"), "{code} {out}");
    std::fs::write(file.path(), "targets: [").unwrap();
    let (code, out, _) = node.run(&["apply", "-f", path]);
    assert!(code == 1 && out.starts_with(&format!("{path}:1:")), "{code} {out}");
}

#[test]
fn get_prints_tables_json_and_yaml() {
    let node = Node::start(vec![
        ("GET /api/v1/targets", 200, json!([target("a-1", "up", "read")]).to_string()),
        ("GET /api/v1/catalog", 200, json!({"v": 1, "targets": {"a-1": {"path": "/h"}}}).to_string()),
        ("GET /api/v1/faults", 200, "[]".into()),
        ("GET /api/v1/regions", 200, json!([{"name": "eu", "state": "good", "nodes": [1, 2]}]).to_string()),
        ("GET /api/v1/cluster", 200, json!({"term": 7, "leader": {"node": "n2"}}).to_string()),
        ("GET /api/v1/targets/a-1", 200, target("a-1", "up", "read").to_string()),
    ]);
    let (_, out, _) = node.run(&["get", "targets"]);
    assert!(out.starts_with("NAME  SERVICE  STATE") && out.contains("\na-1   a-1      up"), "{out}");
    assert!(out.contains("fine"), "{out}");
    let (_, out, _) = node.run(&["get", "targets", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()[0]["name"], json!("a-1"));
    assert_eq!(
        serde_saphyr::from_str::<Value>(&node.run(&["get", "catalog"]).1).unwrap(),
        json!({"v": 1, "targets": {"a-1": {"path": "/h"}}})
    );
    assert_eq!(node.run(&["get", "faults"]).1, "no faults\n");
    assert!(node.run(&["get", "regions"]).1.contains("\neu    good"));
    assert!(node.run(&["get", "cluster"]).1.contains("leader.node  n2"));
    assert!(node.run(&["get", "target", "a-1"]).1.contains("\nhealth.state"));
}

#[test]
fn health_asks_whether_the_node_lives() {
    let node = Node::start(vec![("GET /__live", 200, "OK".into())]);
    assert_eq!(node.run(&["health"]).0, 0);
    assert_eq!(Node::start(vec![("GET /__live", 500, String::new())]).run(&["health"]).0, 1);
    let gone = ports::nobody();
    assert_eq!(run(&format!("http://{gone}"), &["health"]).0, 1);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let node = node_with(200, (0..20_000).map(|i| target(&format!("a-{i}"), "up", "read")).collect());
    let mut child = command(&format!("http://{}", node.address), &["get", "targets"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(0), ""));
}

#[test]
fn check_names_the_place_and_exits_with_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "targets:\n  a:\n    rise: many\n").unwrap();
    let path = file.path().to_str().unwrap();
    let server = "http://127.0.0.1:1";
    let (code, out, _) = run(server, &["check", path]);
    assert!(code == 1 && out.starts_with(&format!("{path}:3:")), "{code} {out}");
    std::fs::write(file.path(), "targets:\n  a:\n    timeot: 3s\n").unwrap();
    let (code, out, _) = run(server, &["check", path]);
    assert!(
        code == 1 && out.contains(":3:5: targets.a.timeot: ") && out.contains("did you mean \"timeout\"?"),
        "{out}"
    );
    std::fs::write(file.path(), "targets:\n  a:\n    rise: 3\n").unwrap();
    let (code, out, _) = run(server, &["check", path]);
    assert!(code == 0 && out.contains("ok: 1 target,"), "{code} {out}");
    assert_eq!(run(server, &["check", "/nonexistent/x.yaml"]).0, 1);
}

#[test]
fn variables_are_flags_and_an_empty_one_is_not_set() {
    // What is wrong with the last flag is found after all others were read.
    let serve = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.env_clear().envs(variables.iter().copied()).args(["serve", "--tls-cert", "x"]);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let empty =
        ["ENVIRONMENT", "SOCKS_PROXY", "GRAPHITE_PORT", "ETCD_ENDPOINTS", "BELLWETHER_LISTEN", "BELLWETHER_LOG_FORMAT"];
    let (code, said) = serve(&empty.map(|name| (name, "")));
    assert!(code == 2 && said.contains("--tls-cert needs --tls-key"), "{code} {said}");
    let (code, said) = serve(&[("GRAPHITE_PORT", "carbon")]);
    assert!(code == 2 && said.contains("--graphite-port"), "{code} {said}");
    let (code, said) = serve(&[("ETCD_PEERS", "htp://etcd")]);
    assert!(code == 2 && said.contains("did you mean \"http\"?"), "{code} {said}");
    let (code, said) = serve(&[("BELLWETHER_TLS_KEY", "k"), ("BELLWETHER_CATALOG", "c"), ("ETCD_ENDPOINTS", "a")]);
    assert!(code == 2 && said.contains("bellwether apply -f"), "{code} {said}");
}
