//! `/__health` in its forms, `/__agghealth`, and the node's own endpoints.

use std::sync::Arc;

use bellwether::model::{Ack, HealthState, Observation, Timestamp, View};
use serde_json::json;

use super::{web_server::*, web_view::*};

fn mixed() -> Fixture {
    let mut acked = down("mail-1", &["bad"]);
    acked.ack = Some(Ack {
        message: "known, <fixing>".to_owned(),
        by: Some("ann".to_owned()),
        until: Some(Timestamp::from_millis(NOW + 60_000)),
        v: None,
    });
    let mut stale = up("stale-1", &["old"]);
    stale.stale = true;
    stale.seen = Some(good(40));
    let mut top = down("top-1", &["read"]);
    top.severity = 1;
    Fixture {
        disabled: vec!["off"],
        latched: vec!["stuck"],
        ..Fixture::of(vec![up("cart-1", &["off", "stuck"]), acked, stale, top, unknown("new-1", &["bad"])])
    }
}

const JSON: &str = "application/json";

async fn health(server: &Running, path: &str, accept: &str) -> Reply {
    ask(server.address, "GET", path, &[("Accept", accept)], "").await
}

#[tokio::test]
async fn the_ft_document() {
    let server = start(mixed().view()).await;
    for path in ["/__health", "/", "/__health?categories=default"] {
        let reply = health(&server, path, JSON).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(JSON)), "{path}");
        assert_eq!(reply.header("vary"), Some("Accept"));
        assert_eq!(reply.header("bellwether-stale"), Some("40"));
        let doc = reply.json();
        assert_eq!(doc["schemaVersion"], 1);
        assert_eq!(doc["systemCode"], "bellwether");
        assert_eq!(doc["name"], "prod <eu> cluster health");
        assert_eq!((&doc["ok"], &doc["severity"]), (&json!(false), &json!(1)));
        let checks = doc["checks"].as_array().unwrap();
        let names: Vec<&str> = checks.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["cart-1", "mail-1", "new-1", "stale-1", "top-1"]);
        assert_eq!(
            checks[1],
            json!({
                "id": "mail-1", "name": "mail-1", "ok": false, "severity": 2, "businessImpact": "Readers see nothing",
                "technicalSummary": "Asks the service", "panicGuide": "https://runbooks.example/<x>",
                "checkOutput": "ACKED - 503 Service Unavailable", "lastUpdated": ago(4).wall.to_string(),
                "ack": "known, <fixing>", "ackBy": "ann", "ackUntil": Timestamp::from_millis(NOW + 60_000).to_string()
            })
        );
        assert_eq!(checks[2]["checkOutput"], "not probed yet");
        assert!(checks[3]["checkOutput"].as_str().unwrap().contains("stale"));
        assert!(checks[0].get("ack").is_none());
    }
    let doc = health(&server, "/__health?categories=off,stuck", JSON).await.json();
    assert_eq!((&doc["ok"], doc.get("severity")), (&json!(true), None), "health and switch are two facts");
    assert_eq!((&doc["disabledCategories"], &doc["latchedCategories"]), (&json!(["off"]), &json!(["stuck"])));
    let head = ask(server.address, "HEAD", "/__health", &AS_JSON, "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 500);
}

fn many(impact: &str) -> bellwether::model::View {
    let targets: Vec<T> = (0..1200).map(|i| up(&format!("svc-{i}"), &["many"])).collect();
    let mut view = Fixture::of(targets).view();
    let mut catalog = (*view.catalog).clone();
    for target in &mut catalog.targets {
        Arc::make_mut(target).business_impact = impact.to_owned();
    }
    view.catalog = Arc::new(catalog);
    view
}

#[tokio::test]
async fn a_large_report_is_whole_and_true() {
    let server = start(many("quote \" and <tag>")).await;
    for impact in ["quote \" and <tag>", "another"] {
        server.view.store(Arc::new(many(impact)));
        let reply = health(&server, "/__health", JSON).await;
        let length = reply.header("content-length").unwrap().to_owned();
        assert_eq!(length, reply.body.len().to_string());
        let doc = reply.json();
        let checks = doc["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 1200);
        assert!(checks.iter().all(|c| c["businessImpact"] == impact && c["id"] == c["name"] && c["ok"] == true));
        assert_eq!(checks[7]["lastUpdated"], ago(3).wall.to_string());
        let head = ask(server.address, "HEAD", "/__health", &AS_JSON, "").await;
        assert_eq!((head.status, head.header("content-length")), (200, Some(length.as_str())));
    }
    // Results move on under the same catalog.
    let view = server.view.load();
    view.cells[0].store(Arc::new(bad(0, "late \"news\"")));
    let doc = health(&server, "/__health?cache=false", JSON).await.json();
    assert_eq!(doc["checks"][0]["checkOutput"], "late \"news\"");
    let agg = get(server.address, "/__agghealth").await;
    assert_eq!(agg.json()["checks"].as_array().unwrap().len(), 1199 * 2 + 1);
    for path in ["/api/v1/targets", "/api/v1/services", "/api/v1/categories", "/api/v1/categories/many", "/"] {
        let reply = get(server.address, path).await;
        assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string(), "{path}");
        assert!(reply.status == 200 && reply.body.len() > 10_000, "{path}: {}", reply.body.len());
    }
}

#[tokio::test]
async fn categories_and_unknown_ones() {
    let server = start(mixed().view()).await;
    let reply = health(&server, "/__health?categories=old,nope", JSON).await;
    assert_eq!((reply.status, reply.header("bellwether-unknown")), (200, Some("nope")));
    assert_eq!(reply.json()["checks"].as_array().unwrap().len(), 1);
    for accept in [JSON, "application/health+json"] {
        let reply = health(&server, "/__health?categories=nope", accept).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, Some("application/problem+json")));
        assert!(reply.json()["detail"].as_str().unwrap().contains("nope"));
    }
    let reply = health(&server, "/__health?categories=nope,%3Cb%3E", "text/html").await;
    assert_eq!((reply.status, reply.header("content-type")), (400, Some("text/plain; charset=utf-8")));
}

#[tokio::test]
async fn the_cluster_ack_makes_health_ok_and_is_told() {
    let server = start(Fixture { cluster_ack: Some(Ack::text("we know")), ..mixed() }.view()).await;
    let doc = health(&server, "/__health", JSON).await.json();
    assert_eq!((&doc["ok"], &doc["severity"]), (&json!(true), &json!(1)));
    assert!(doc["description"].as_str().unwrap().ends_with("we know"));
}

#[tokio::test]
async fn cache_false_shows_the_raw_results() {
    let view = mixed().view();
    let (cells, index) = (Arc::clone(&view.cells), view.catalog.index_of("top-1").unwrap());
    let server = start(view).await;
    *server.port.on_refresh.lock().unwrap() = Some(Box::new(move || cells[index].store(Arc::new(good(0)))));
    *server.port.not_refreshed.lock().unwrap() = vec!["top-1".parse().unwrap()];
    let reply = health(&server, "/__health?categories=read&cache=false", JSON).await;
    assert_eq!(reply.header("bellwether-not-refreshed"), Some("top-1"));
    let doc = reply.json();
    assert_eq!((&doc["ok"], &doc["checks"][0]["checkOutput"]), (&json!(true), &json!("200 OK, 2 checks pass")));
    let doc = health(&server, "/__health?categories=read", JSON).await.json();
    assert_eq!((&doc["ok"], &doc["checks"][0]["checkOutput"]), (&json!(false), &json!("503 Service Unavailable")));
}

#[tokio::test]
async fn forms_by_accept() {
    let server = start(mixed().view()).await;
    for (accept, expected) in [
        ("*/*", "text/html; charset=utf-8"),
        ("text/html, application/json", "text/html; charset=utf-8"),
        ("text/html;q=0.5, application/json", JSON),
        ("application/health+json", "application/health+json"),
    ] {
        let reply = health(&server, "/__health", accept).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(expected)), "{accept}");
    }
    assert_eq!(get(server.address, "/").await.header("content-type"), Some("text/html; charset=utf-8"));
}

#[tokio::test]
async fn the_health_json_draft() {
    let server = start(mixed().view()).await;
    let doc = health(&server, "/__health", "application/health+json").await.json();
    assert_eq!((&doc["status"], &doc["serviceId"]), (&json!("fail"), &json!("bellwether")));
    let status = |name: &str| doc["checks"][name][0]["status"].clone();
    let all: Vec<_> = ["cart-1", "mail-1", "new-1", "stale-1", "top-1"].map(status).to_vec();
    assert_eq!(all, ["pass", "warn", "fail", "warn", "fail"]);
    assert!(doc["checks"]["cart-1"][0].get("output").is_none());
    let doc = health(&server, "/__health?categories=old", "application/health+json").await.json();
    assert_eq!(doc["status"], "warn");
}

#[tokio::test]
async fn the_aggregated_document() {
    let mut failing = down("doc-1", &["read"]);
    let mut seen = bad(2, "1 of 2 checks fails: queue");
    seen.checks = Some(Arc::from([check("db", true), check("queue", false)]));
    seen.system_code = Some(Arc::from("doc-system"));
    failing.seen = Some(seen);
    let server = start(
        Fixture::of(vec![failing, up("cart-1", &["write"]), down("dead-1", &["write"]), unknown("new-1", &["write"])])
            .view(),
    )
    .await;
    let reply = get(server.address, "/__agghealth").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some(JSON)));
    let doc = reply.json();
    assert_eq!((&doc["schemaVersion"], &doc["aggregationSystemCode"]), (&json!(1), &json!("aggregate-healthcheck")));
    let rows: Vec<_> = doc["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["checkSystemCode"].as_str().unwrap(), c["id"].as_str().unwrap(), c["ok"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        rows,
        [
            ("sys-code", "db-id", true),
            ("sys-code", "queue-id", true),
            ("dead-1", "dead-1", false),
            ("doc-system", "db-id", true),
            ("doc-system", "queue-id", false),
            ("new-1", "new-1", false),
        ]
    );
    let keys: Vec<&String> = doc["checks"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    let doc = get(server.address, "/__agghealth?categories=read").await.json();
    assert_eq!(doc["checks"].as_array().unwrap().len(), 2);
    assert_eq!(get(server.address, "/__agghealth?categories=nope").await.status, 400);
}

#[tokio::test]
async fn the_nodes_own_endpoints() {
    let server = start(mixed().view()).await;
    let text = Some("text/plain; charset=utf-8");
    for (path, content_type, body) in [
        ("/__live", text, "OK"),
        ("/__ready", text, "OK"),
        ("/__ping", text, "pong"),
        ("/__build-info", Some(JSON), r#"{"name":"bellwether","version":"0.1.0","revision":"abc"}"#),
        ("/metrics", Some("text/plain; version=0.0.4; charset=utf-8"), "bellwether_up 1\n"),
    ] {
        let reply = get(server.address, path).await;
        assert_eq!((reply.status, reply.header("content-type"), reply.body.as_str()), (200, content_type, body));
        let head = ask(server.address, "HEAD", path, &[], "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
        let other = ask(server.address, "POST", path, &[], "").await;
        assert_eq!((other.status, other.header("allow")), (405, Some("GET, HEAD")));
        assert_eq!(other.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn a_draining_node_turns_ready_first_and_goes_on_answering() {
    let server = start(mixed().view()).await;
    server.draining.cancel();
    let ready = get(server.address, "/__ready").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "the node is draining"));
    // Without `Connection: close` from the client the server says it.
    for path in ["/__gtg?categories=old", "/__live"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let reply = raw(server.address, request.as_bytes()).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{path}");
    }
    assert_eq!(get(server.address, "/api/v1/node").await.json()["ready"], false);
}

/// Most checks of a large report are taken over from the one before it. What is written that way is what would be written anew.
#[tokio::test]
async fn a_large_report_is_the_same_however_often_it_was_asked_for() {
    const CHANGED: usize = 300;
    let names: Vec<String> = (0..600).map(|i| format!("t{i:03}-1")).collect();
    let mut targets: Vec<T> = names.iter().map(|name| up(name, &["read"])).collect();
    let first = Fixture::of(targets.clone()).view();
    let (catalog, cells) = (Arc::clone(&first.catalog), Arc::clone(&first.cells));
    let server = start(first).await;
    let (said, longer) = (bad(2, "503 \"quoted\""), bad(1, "503 and much more than it said before"));
    let steps: [(&str, HealthState, Option<Observation>, bool, bool); 9] = [
        ("as it was", HealthState::Up, None, false, false),
        ("a bad result, still up", HealthState::Up, Some(said), false, false),
        ("down with it", HealthState::Down, None, false, false),
        ("another bad result", HealthState::Down, Some(longer), false, false),
        ("a good one, still down", HealthState::Down, Some(good(1)), false, false),
        ("up with it", HealthState::Up, None, false, false),
        ("stale", HealthState::Up, None, true, false),
        ("flapping", HealthState::Up, None, false, true),
        ("well again", HealthState::Up, None, false, false),
    ];
    for (what, state, seen, stale, flapping) in steps {
        // Observed where the others are, at its index.
        let index = catalog.index_of(&names[CHANGED]).unwrap();
        let target = &mut targets[CHANGED];
        (target.state, target.stale, target.flapping) = (state, stale, flapping);
        if let Some(seen) = seen {
            cells[index].store(Arc::new(seen.clone()));
            target.seen = Some(seen);
        }
        let fresh = start(Fixture::of(targets.clone()).view()).await;
        let wanted = ask(fresh.address, "GET", "/__health", &AS_JSON, "").await;
        let fixture = Fixture::of(targets.clone()).view();
        server.view.store(Arc::new(View { catalog: Arc::clone(&catalog), cells: Arc::clone(&cells), ..fixture }));
        for turn in 0..2 {
            let got = ask(server.address, "GET", "/__health", &AS_JSON, "").await;
            assert!(got.body == wanted.body, "{what}, turn {turn}: {}", difference(&got.body, &wanted.body));
        }
        // A part of the targets says the same as well.
        let got = ask(server.address, "GET", "/__health?categories=read", &AS_JSON, "").await;
        assert!(got.body == wanted.body, "{what}, one category: {}", difference(&got.body, &wanted.body));
    }
}

/// Where two texts part.
fn difference(a: &str, b: &str) -> String {
    let at = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| text.get(at.saturating_sub(60)..text.len().min(at + 60)).unwrap_or_default().to_owned();
    format!("{} against {}", part(a), part(b))
}
