//! `/api/v1/`, and who may edit.

use bellwether::{
    model::{Ack, Role, TargetName},
    web::{
        Doors, Options, Token,
        port::{Alone, ApplyOptions, ClusterError, ClusterPort, Edit, EditError, Lines},
    },
};
use serde_json::json;

use super::{web_server::*, web_view::*};

pub fn fixture() -> Fixture {
    let mut acked = down("mail-1", &["bad"]);
    acked.ack = Some(Ack { message: "known".to_owned(), by: Some("ann".to_owned()), until: None, v: None });
    Fixture {
        disabled: vec!["off"],
        latched: vec!["stuck"],
        faults: vec![fault(), hint()],
        ..Fixture::of(vec![up("cart-1", &["read", "off"]), up("cart-2", &["read", "stuck"]), acked])
    }
}

async fn put(server: &Running, path: &str, body: &str) -> Reply {
    ask(server.address, "PUT", path, &[("Content-Type", "application/json")], body).await
}

#[track_caller]
fn problem(reply: &Reply, status: u16, detail: &str) {
    let doc = reply.json();
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/problem+json")), "{reply:?}");
    assert_eq!(doc["status"], status);
    assert!(doc["type"].as_str().unwrap().starts_with("urn:bellwether:problem:"));
    assert!(!doc["title"].as_str().unwrap().is_empty());
    assert!(doc["detail"].as_str().unwrap().contains(detail), "{doc}");
}

#[tokio::test]
async fn reads() {
    let server = start(fixture().view()).await;
    let get = async |path: &str| {
        let reply = get(server.address, path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}: {reply:?}");
        assert!(!reply.body.contains("top-secret"), "{path}");
        reply.json()
    };
    let targets = get("/api/v1/targets").await;
    assert_eq!(targets.as_array().unwrap().len(), 3);
    let mail = &targets[2];
    assert_eq!((&mail["name"], &mail["service"], &mail["ok"]), (&json!("mail-1"), &json!("mail"), &json!(false)));
    assert_eq!((&mail["health"]["state"], &mail["ack"]["by"]), (&json!("down"), &json!("ann")));
    assert_eq!((&mail["interval"], &mail["last"]["age"]), (&json!(10), &json!(4)));
    for (query, count) in [
        ("categories=read", 2),
        ("service=mail", 1),
        ("state=up", 2),
        ("state=up,down", 3),
        ("categories=read&state=down", 0),
    ] {
        assert_eq!(get(&format!("/api/v1/targets?{query}")).await.as_array().unwrap().len(), count, "{query}");
    }
    let cart = get("/api/v1/targets/cart-1").await;
    assert_eq!(cart["check"]["headers"]["x-key"], "***");
    assert_eq!((&cart["check"]["auth"], &cart["check"]["fast_interval"]), (&json!("bearer"), &json!(1.5)));
    assert_eq!(cart["checks"][0]["check_output"], "fine");
    let services = get("/api/v1/services").await;
    assert_eq!(
        (&services[0]["name"], &services[0]["up"], &services[0]["total"]),
        (&json!("cart"), &json!(2), &json!(2))
    );
    assert_eq!(get("/api/v1/services/mail").await["ok"], true, "its failure is acked");
    let stuck = get("/api/v1/categories/stuck").await;
    assert_eq!(
        (&stuck["healthy"], &stuck["ok"], &stuck["latch"]["by"]),
        (&json!(true), &json!(false), &json!("node-a"))
    );
    assert_eq!(stuck["reasons"][0]["kind"], "latched");
    let categories = get("/api/v1/categories").await;
    assert_eq!(categories.as_array().unwrap().len(), 5);
    let faults = get("/api/v1/faults").await;
    assert_eq!((&faults[0]["level"], &faults[1]["nearest"]), (&json!("fault"), &json!("path")));
    assert_eq!(get("/api/v1/acks").await, json!([{"target": "mail-1", "message": "known", "by": "ann"}]));
    assert_eq!(get("/api/v1/cluster-ack").await, json!(null));
    let node = get("/api/v1/node").await;
    for field in ["node", "region", "role", "term", "leader", "ready", "degraded", "since", "store"] {
        assert!(node.get(field).is_some(), "{field}");
    }
    assert!(node["since"].as_str().unwrap().ends_with('Z'));
}

/// A node that was frozen: its view says that it leads, its authority is over.
struct Thawed;

#[async_trait::async_trait]
impl ClusterPort for Thawed {
    fn subscribe(&self, after: Option<(i64, u64)>) -> Result<Lines, ClusterError> {
        Alone.subscribe(after)
    }
    async fn refresh(&self, targets: Vec<TargetName>) -> Result<bytes::Bytes, ClusterError> {
        Alone.refresh(targets).await
    }
    async fn witness(&self, targets: Vec<TargetName>) -> Result<bytes::Bytes, ClusterError> {
        Alone.witness(targets).await
    }
    fn may_write(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_role_is_leader_only_while_it_may_write() {
    let role = async |cluster: std::sync::Arc<dyn ClusterPort>| {
        let mut view = fixture().view();
        view.node.role = Role::Leader;
        let server = start_cluster(view, options(), Doors::default(), cluster).await;
        let node = get(server.address, "/api/v1/node").await.json();
        (node["role"].clone(), node["degraded"].clone(), node["leader"].is_null())
    };
    assert_eq!(role(std::sync::Arc::new(Alone)).await.0, "leader");
    assert_eq!(role(std::sync::Arc::new(Thawed)).await, (json!("follower"), json!(true), true));
}

#[tokio::test]
async fn names_that_are_not_there_and_methods_that_are_not_allowed() {
    let server = start(fixture().view()).await;
    problem(&get(server.address, "/api/v1/targets/cart-l").await, 404, "did you mean \"cart-1\"");
    problem(&get(server.address, "/api/v1/services/crat").await, 404, "did you mean \"cart\"");
    problem(&get(server.address, "/api/v1/categories/raed").await, 404, "did you mean \"read\"");
    problem(&get(server.address, "/api/v1/nothing").await, 404, "openapi");
    problem(&get(server.address, "/api/v1/targets?stat=up").await, 400, "expected categories, service or state");
    problem(&get(server.address, "/api/v1/targets?state=well").await, 400, "expected unknown, up or down");
    let reply = ask(server.address, "POST", "/api/v1/acks/cart-1", &[], "").await;
    problem(&reply, 405, "POST is not allowed");
    assert_eq!(reply.header("allow"), Some("PUT, DELETE"));
    let reply = ask(server.address, "POST", "/api/v1/catalog", &[], "").await;
    assert_eq!(reply.header("allow"), Some("GET, HEAD, PUT"));
}

#[tokio::test]
async fn edits_reach_the_port() {
    let server = start(fixture().view()).await;
    let until = "2026-12-31T12:00:00.000Z";
    let body = format!(r#"{{"message": " fixing ", "by": "bob", "until": "{until}"}}"#);
    let reply = put(&server, "/api/v1/acks/cart-1", &body).await;
    assert_eq!((reply.status, &reply.json()["until"]), (200, &json!(until)));
    assert_eq!(put(&server, "/api/v1/acks/cart-1", r#"{"message": " "}"#).await.status, 204);
    assert_eq!(ask(server.address, "DELETE", "/api/v1/acks/cart-1", &[], "").await.status, 204);
    let reply =
        put(&server, "/api/v1/categories/read/enabled", r#"{"enabled": false, "by": "bob", "reason": "os"}"#).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"category": "read", "enabled": false})));
    assert_eq!(put(&server, "/api/v1/cluster-ack", r#"{"message": "seen", "by": "bob"}"#).await.status, 200);
    assert_eq!(ask(server.address, "DELETE", "/api/v1/cluster-ack", &[], "").await.status, 204);
    let cart = || "cart-1".parse().unwrap();
    let by = Some("bob".to_owned());
    let ack = Ack { message: "fixing".to_owned(), by: by.clone(), until: until.parse().ok(), v: None };
    let whole = Ack { message: "seen".to_owned(), by: by.clone(), until: None, v: None };
    let category = "read".parse().unwrap();
    assert_eq!(
        *server.port.edits.lock().unwrap(),
        [
            Edit::Ack(cart(), ack),
            Edit::Unack(cart()),
            Edit::Unack(cart()),
            Edit::Enabled { category, enabled: false, by, reason: Some("os".to_owned()) },
            Edit::ClusterAck(whole),
            Edit::ClearClusterAck,
        ]
    );
}

#[tokio::test]
async fn bad_edits_name_the_field_and_what_was_expected() {
    let server = start(fixture().view()).await;
    let ack = "/api/v1/acks/cart-1";
    problem(&put(&server, ack, r#"{"mesage": "x"}"#).await, 400, "unknown field \"mesage\"; did you mean \"message\"?");
    problem(&put(&server, ack, r#"{"by": "x"}"#).await, 400, "message: expected a text; it is missing");
    problem(&put(&server, ack, r#"{"message": 5}"#).await, 400, "message: expected a text");
    problem(&put(&server, ack, r#"{"message": "x", "until": "soon"}"#).await, 400, "until: expected a time such as");
    problem(&put(&server, ack, r#"{"message": "x", "until": "2020-01-01T00:00:00Z"}"#).await, 400, "is past");
    problem(&put(&server, ack, "[]").await, 400, "must be an object");
    problem(&put(&server, ack, "{").await, 400, "no JSON");
    problem(&put(&server, "/api/v1/acks/a%20b", r#"{"message": "x"}"#).await, 400, "no valid target name");
    problem(&put(&server, "/api/v1/categories/read/enabled", r#"{"enabled": "no"}"#).await, 400, "true or false");
    let reply = ask(server.address, "PUT", ack, &[("Content-Type", "text/xml")], "<a/>").await;
    problem(&reply, 415, "expected application/json");
    problem(&put(&server, ack, &format!(r#"{{"message": "{}"}}"#, "x".repeat(70_000))).await, 413, "larger than 65536");
    assert!(server.port.edits.lock().unwrap().is_empty());
    for (error, status) in [
        (EditError::StoreLost("etcd is away".to_owned()), 503),
        (EditError::NotFound { what: "target", name: "x".to_owned(), nearest: Some("y".to_owned()) }, 404),
        (EditError::Invalid { faults: vec![fault()] }, 422),
        (EditError::Conflict, 409),
        (EditError::Other("no".to_owned()), 500),
    ] {
        *server.port.fail.lock().unwrap() = Some(error);
        problem(&put(&server, ack, r#"{"message": "x"}"#).await, status, "");
    }
}

#[tokio::test]
async fn the_catalog_as_json_and_yaml() {
    let server = start(fixture().view()).await;
    let yaml = "targets:\n  a:\n    path: /x\n    categories: [read]\n    interval: 5s\n    headers: {X-Key: top-secret}\ncategories:\n  read: {sticky: true}\n";
    let headers = [("Content-Type", "application/yaml; charset=utf-8")];
    let reply = ask(server.address, "PUT", "/api/v1/catalog?dry_run=true&prune=true", &headers, yaml).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!((&reply.json()["dry_run"], &reply.json()["changes"][0]["new"]), (&json!(true), &json!("/x")));
    let (document, options) = server.port.applied.lock().unwrap().remove(0);
    assert_eq!(options, ApplyOptions { dry_run: true, prune: true });
    assert_eq!(document.targets["a"].spec.interval, Some(std::time::Duration::from_secs(5)));
    *server.port.document.lock().unwrap() = document.clone();
    let json = get(server.address, "/api/v1/catalog").await;
    assert_eq!(
        json.json()["targets"]["a"],
        json!({"path": "/x", "categories": ["read"], "interval": 5, "headers": {"X-Key": "***"}})
    );
    let written = ask(server.address, "GET", "/api/v1/catalog", &[("Accept", "application/yaml")], "").await;
    assert_eq!(written.header("content-type"), Some("application/yaml"));
    assert!(written.body.contains("path: /x") && !written.body.contains("top-secret"), "{}", written.body);
    // What it writes it reads.
    let again = ask(server.address, "PUT", "/api/v1/catalog", &headers, &written.body).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(put(&server, "/api/v1/catalog", &json.body).await.status, 200);
    assert_eq!(server.port.applied.lock().unwrap().len(), 2);

    problem(&put(&server, "/api/v1/catalog?dryrun=true", "{}").await, 400, "expected dry_run or prune");
    problem(&put(&server, "/api/v1/catalog?dry_run=maybe", "{}").await, 400, "true or false");
    let reply = put(&server, "/api/v1/catalog", r#"{"targets": {"a": {"intervall": 1}}, "categoris": {}}"#).await;
    problem(&reply, 422, "did you mean");
    let faults = reply.json()["faults"].clone();
    assert_eq!((&faults[0]["key"], &faults[0]["nearest"]), (&json!("targets.a.intervall"), &json!("interval")));
    assert_eq!((&faults[1]["key"], &faults[1]["nearest"]), (&json!("categoris"), &json!("categories")));
    assert!(faults[0]["reason"].as_str().unwrap().starts_with("line 1, column 20: "), "{faults}");
    let wrong = "targets:\n  a:\n    expect:\n      sttus: [200]\n";
    let reply = ask(server.address, "PUT", "/api/v1/catalog", &headers, wrong).await;
    problem(&reply, 422, "body:4:7: targets.a.expect.sttus: ");
    problem(&ask(server.address, "PUT", "/api/v1/catalog", &headers, "a: [").await, 422, "body:");
    problem(&put(&server, "/api/v1/catalog?prune=true", "").await, 422, "empty");
    assert_eq!(server.port.applied.lock().unwrap().len(), 2, "what is faulty is not handed on");
    problem(&put(&server, "/api/v1/catalog", r#"{"targets": {"a": {"interval": "soon"}}}"#).await, 422, "targets");
    problem(
        &put(&server, "/api/v1/catalog", r#"{"categories": {"a": {"sticky": "x"}}}"#).await,
        422,
        "categories.a.sticky",
    );
    let reply = ask(server.address, "PUT", "/api/v1/catalog", &[("Content-Type", "text/csv")], "a").await;
    problem(&reply, 415, "yaml");
    let large = format!(r#"{{"v": 1}}{}"#, " ".repeat(7 * 1024 * 1024));
    assert_eq!(put(&server, "/api/v1/catalog", &large).await.status, 200);
    let larger = format!(r#"{{"v": 1}}{}"#, " ".repeat(9 * 1024 * 1024));
    problem(&put(&server, "/api/v1/catalog", &larger).await, 413, "larger");
}

const BODY: &str = r#"{"message": "x"}"#;

async fn ack(address: std::net::SocketAddr, headers: &[(&str, &str)]) -> Reply {
    ask(address, "PUT", "/api/v1/acks/cart-1", headers, BODY).await
}

#[tokio::test]
async fn without_a_token_only_loopback_under_its_own_name_edits() {
    let server = start(fixture().view()).await;
    let own = format!("http://{}", server.address);
    let host = server.address.to_string();
    for good in [
        &[("Host", "localhost")][..],
        &[("Host", "127.0.0.1:8080")],
        &[("Host", "[::1]")],
        &[("Host", &host), ("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
    ] {
        assert_eq!(ack(server.address, good).await.status, 200, "{good:?}");
    }
    for bad in [
        &[("Host", "evil.example")][..],
        &[("Host", "localhost.evil.example")],
        &[("Forwarded", "for=1.2.3.4")],
        &[("X-Forwarded-For", "1.2.3.4")],
        &[("X-Real-IP", "1.2.3.4")],
        &[("Via", "1.1 proxy")],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
    ] {
        problem(&ack(server.address, bad).await, 403, "loopback");
    }
    let absolute = format!(
        "PUT http://evil.example/api/v1/acks/cart-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    problem(&raw(server.address, absolute.as_bytes()).await, 403, "loopback");
    let no_host = format!("PUT /api/v1/acks/cart-1 HTTP/1.0\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    problem(&raw(server.address, no_host.as_bytes()).await, 403, "loopback");
    assert_eq!(server.port.edits.lock().unwrap().len(), 4);
    let reads = ask(server.address, "GET", "/api/v1/acks", &[("Host", "evil.example"), ("Via", "x")], "").await;
    assert_eq!(reads.status, 200, "reading is free");
}

#[tokio::test]
async fn with_a_token_only_the_token_edits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "geheim\n").unwrap();
    let options = Options { reload_every: std::time::Duration::from_millis(20), ..options() };
    let server =
        start_with(fixture().view(), options, Some(Token::from_file("--admin-token-file", &file).unwrap())).await;
    let none = ack(server.address, &[]).await;
    problem(&none, 401, "admin token");
    assert!(none.header("www-authenticate").unwrap().starts_with("Bearer"));
    problem(&ack(server.address, &[("Authorization", "Basic geheim")]).await, 401, "Bearer");
    problem(&ack(server.address, &[("Authorization", "Bearer wrong")]).await, 403, "wrong");
    problem(&ack(server.address, &[("Authorization", "Bearer geheim2")]).await, 403, "wrong");
    let through_proxy = [("Authorization", "Bearer geheim"), ("Host", "ops.example"), ("X-Forwarded-For", "1.2.3.4")];
    assert_eq!(ack(server.address, &through_proxy).await.status, 200);
    assert_eq!(ack(server.address, &[("Authorization", "bearer geheim")]).await.status, 200);
    // An empty file keeps the old token; another one takes its place.
    std::fs::write(&file, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(ack(server.address, &[("Authorization", "Bearer geheim")]).await.status, 200);
    std::fs::write(&file, "neu").unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while ack(server.address, &[("Authorization", "Bearer neu")]).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the new token was not taken");
    }
    problem(&ack(server.address, &[("Authorization", "Bearer geheim")]).await, 403, "wrong");
    std::fs::write(&file, " ").unwrap();
    assert!(Token::from_file("--admin-token-file", &file).unwrap_err().to_string().contains("--admin-token-file"));
}

#[tokio::test]
async fn with_an_admin_listener_the_public_one_takes_no_edits() {
    let options = Options { admin_listen: Some("127.0.0.1:0".parse().unwrap()), ..options() };
    let server = start_with(fixture().view(), options, Some(Token::fixed("geheim"))).await;
    let admin = server.admin.unwrap();
    let token = [("Authorization", "Bearer geheim")];
    problem(&ack(server.address, &token).await, 403, &admin.to_string());
    assert_eq!(ack(admin, &token).await.status, 200);
    problem(&ack(admin, &[]).await, 401, "token");
    assert_eq!(get(admin, "/__gtg?categories=read").await.status, 200);
    assert_eq!(get(server.address, "/api/v1/acks").await.status, 200);
}
