//! The OpenAPI document against the real server, both ways: every route is described, everything described is there, and
//! what is answered has the status, type and schema that it says.

use std::sync::Arc;

use bellwether::{
    model::cluster::ResultsFrom,
    web::{port::EditError, routes},
};
use serde_json::{Value, json};

use super::{
    api::fixture,
    web_cluster_view::{alone, following, with},
    web_server::*,
    web_view::*,
};

fn follow<'a>(doc: &'a Value, schema: &'a Value) -> &'a Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => doc.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} is nowhere")),
        None => schema,
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    }
}

/// The part of JSON Schema that the document uses; another word in it is an error.
fn check(doc: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = follow(doc, schema);
    let fail = |what: &str| Err(format!("{at}: {what}: {value}"));
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "type" => {
                let names: Vec<&str> = match rule {
                    Value::String(one) => vec![one],
                    Value::Array(several) => several.iter().map(|v| v.as_str().unwrap()).collect(),
                    other => panic!("{other}"),
                };
                if !names.iter().any(|n| is_type(value, n)) {
                    return fail(&format!("not of type {names:?}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => return fail("not in the enum"),
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        return fail(&format!("{name} is missing"));
                    }
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(doc, rule, item, &format!("{at}[{i}]"))?;
                }
            }
            "properties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    match (rule.get(name), &schema["additionalProperties"]) {
                        (Some(inner), _) => check(doc, inner, item, &format!("{at}.{name}"))?,
                        (None, Value::Bool(true)) => {}
                        (None, Value::Object(_)) => {
                            check(doc, &schema["additionalProperties"], item, &format!("{at}.{name}"))?;
                        }
                        (None, _) => return fail(&format!("{name} is not described")),
                    }
                }
            }
            "additionalProperties" if rule.is_object() && schema.get("properties").is_none() => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    check(doc, rule, item, &format!("{at}.{name}"))?;
                }
            }
            "oneOf" => {
                let ways = rule.as_array().unwrap();
                if ways.iter().filter(|w| check(doc, w, value, at).is_ok()).count() != 1 {
                    return fail("not exactly one of the forms");
                }
            }
            "minimum" if value.as_f64().is_some_and(|v| v < rule.as_f64().unwrap()) => return fail("too small"),
            "maximum" if value.as_f64().is_some_and(|v| v > rule.as_f64().unwrap()) => return fail("too large"),
            "format" if rule == "date-time" && value.is_string() => {
                let text = value.as_str().unwrap();
                if text.parse::<bellwether::model::Timestamp>().is_err() || !text.ends_with('Z') {
                    return fail("no time in UTC");
                }
            }
            "enum" | "additionalProperties" | "minimum" | "maximum" | "format" | "pattern" | "description" => {}
            other => panic!("{at}: the checker does not know {other}"),
        }
    }
    Ok(())
}

/// The answer is as described for its status.
#[track_caller]
fn described(doc: &Value, path: &str, method: &str, reply: &Reply) {
    let at = format!("{method} {path} {}", reply.status);
    let status = reply.status.to_string();
    let response = &doc["paths"][path][method.to_lowercase()]["responses"][&status];
    assert!(response.is_object(), "{at} is not described: {reply:?}");
    let Some(content) = response.get("content") else {
        assert!(reply.body.is_empty(), "{at}");
        return;
    };
    let media = reply.header("content-type").unwrap().split(';').next().unwrap();
    let form = content.get(media).unwrap_or_else(|| panic!("{at}: {media} is not described"));
    if media.ends_with("json") {
        check(doc, &form["schema"], &reply.json(), &at).unwrap();
    }
}

async fn the_document(server: &Running) -> Value {
    let reply = get(server.address, "/api/v1/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

#[tokio::test]
async fn the_document_and_the_routes_are_the_same() {
    let server = start(following(fixture().view())).await;
    let doc = the_document(&server).await;
    assert_eq!(doc["openapi"], "3.1.0");
    let mut described: Vec<(String, Vec<String>)> = doc["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect()))
        .collect();
    let mut routed: Vec<(String, Vec<String>)> = routes::table()
        .into_iter()
        .map(|(path, methods)| (path.to_owned(), methods.into_iter().map(str::to_owned).collect()))
        .collect();
    for list in [&mut described, &mut routed] {
        list.sort();
        list.iter_mut().for_each(|(_, methods)| methods.sort());
    }
    assert_eq!(described, routed);
    // Every reference leads somewhere.
    let text = doc.to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let path = part.split('"').next().unwrap();
        assert!(doc.pointer(path).is_some(), "{path}");
    }
}

/// Every described operation is asked, well and badly; HEAD answers like GET; other methods get 405 with just these.
#[tokio::test]
async fn everything_described_answers_as_described() {
    let server = start(following(fixture().view())).await;
    let doc = the_document(&server).await;
    for (path, item) in doc["paths"].as_object().unwrap() {
        let known = if path.contains("categories") {
            "stuck"
        } else if path.contains("targets") || path.contains("acks") {
            "mail-1"
        } else if path.contains("regions") {
            "us-east"
        } else {
            "cart"
        };
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        for name in [known, "nobody"] {
            let real = path.replace("{name}", name);
            for method in methods.iter().filter(|_| path != "/api/v1/events") {
                for accept in ["application/json", "application/health+json", "text/html", "application/yaml"] {
                    let body = if method == "PUT" || method == "POST" { good_body(path) } else { "" };
                    let reply = ask(server.address, method, &real, &[("Accept", accept)], body).await;
                    described(&doc, path, method, &reply);
                    if name == known {
                        assert!(reply.status < 300 || reply.status == 503, "{method} {real}: {reply:?}");
                    }
                }
                if method == "GET" {
                    let head = ask(server.address, "HEAD", &real, &[], "").await;
                    let got = get(server.address, &real).await;
                    assert_eq!((head.status, head.body.as_str()), (got.status, ""), "{real}");
                } else {
                    bad_edits(&server, &doc, path, &real, method).await;
                }
            }
        }
        let real = path.replace("{name}", known);
        for method in ["GET", "PUT", "DELETE", "POST", "PATCH", "OPTIONS"] {
            if methods.iter().any(|m| m == method) {
                continue;
            }
            let reply = ask(server.address, method, &real, &[], "").await;
            assert_eq!(reply.status, 405, "{method} {real}");
            let mut allow: Vec<&str> = reply.header("allow").unwrap().split(", ").filter(|m| *m != "HEAD").collect();
            let mut expected: Vec<&str> = methods.iter().map(String::as_str).collect();
            allow.sort_unstable();
            expected.sort_unstable();
            assert_eq!(allow, expected, "{method} {real}");
        }
    }
}

/// Where results come from has several forms, and nobody may lead.
#[tokio::test]
async fn a_cluster_is_described_in_each_of_its_states() {
    let view = || fixture().view();
    let from = |results| with(following(view()), |c| c.results = results);
    let cut = ResultsFrom::Store { reason: "refused".into() };
    let server = start(view()).await;
    let doc = the_document(&server).await;
    for view in [view(), following(view()), alone(view(), true), from(cut), from(ResultsFrom::Kept)] {
        server.view.store(Arc::new(view));
        for path in ["/api/v1/cluster", "/api/v1/node", "/api/v1/regions"] {
            described(&doc, path, "GET", &get(server.address, path).await);
        }
    }
}

/// Described parameters are taken; where a route refuses unknown ones, that is seen too.
#[tokio::test]
async fn described_parameters_are_taken() {
    let server = start(following(fixture().view())).await;
    let doc = the_document(&server).await;
    let mut seen = 0;
    for (path, item) in doc["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query") {
                let name = parameter["name"].as_str().unwrap();
                let value = match name {
                    "categories" => "stuck",
                    "service" => "cart",
                    "state" => "up",
                    "cache" => "false",
                    "after" => "5.7",
                    "dry_run" | "prune" => "true",
                    other => panic!("{path}: a parameter that the test does not know: {other}"),
                };
                let (method, real) = (method.to_uppercase(), path.replace("{name}", "cart"));
                let body = if method == "PUT" || method == "POST" { good_body(path) } else { "" };
                let reply = ask(server.address, &method, &format!("{real}?{name}={value}"), &[], body).await;
                assert!(matches!(reply.status, 200 | 503), "{method} {real} {name}: {reply:?}");
                described(&doc, path, &method, &reply);
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

fn good_body(path: &str) -> &'static str {
    if path.contains("replication") {
        r#"{"v": 1, "targets": ["mail-1"], "later": 1}"#
    } else if path.ends_with("enabled") {
        r#"{"enabled": true, "by": null}"#
    } else if path.ends_with("catalog") {
        r#"{"v": 1, "targets": {"a": {"path": "/x"}}}"#
    } else {
        r#"{"message": "seen", "by": "ann"}"#
    }
}

async fn bad_edits(server: &Running, doc: &Value, path: &str, real: &str, method: &str) {
    let body = if method == "PUT" || method == "POST" { good_body(path) } else { "" };
    let mut errors = vec![EditError::StoreLost("away".to_owned()), EditError::Conflict];
    if path.contains("{name}") {
        errors.push(EditError::NotFound { what: "target", name: "x".to_owned(), nearest: None });
    }
    if path.ends_with("catalog") {
        errors.push(EditError::Invalid { faults: vec![fault(), hint()] });
    }
    for error in errors {
        *server.port.fail.lock().unwrap() = Some(error);
        described(doc, path, method, &ask(server.address, method, real, &[], body).await);
    }
    described(doc, path, method, &ask(server.address, method, real, &[("Via", "x")], body).await);
    if method == "PUT" {
        for (content_type, body) in [("text/csv", "a"), ("application/json", "{"), ("application/json", r#"{"x": 1}"#)]
        {
            let reply = ask(server.address, method, real, &[("Content-Type", content_type)], body).await;
            assert!((400..500).contains(&reply.status), "{reply:?}");
            described(doc, path, method, &reply);
        }
    }
}

#[tokio::test]
async fn the_catalog_it_writes_and_the_empty_lists_are_as_described() {
    let server = start(Fixture::default().view()).await;
    let doc = the_document(&server).await;
    for path in ["/api/v1/targets", "/api/v1/services", "/api/v1/acks", "/api/v1/faults", "/api/v1/cluster-ack"] {
        described(&doc, path, "GET", &get(server.address, path).await);
    }
    *server.port.document.lock().unwrap() = serde_json::from_value(json!({
        "v": 1,
        "targets": {"a": {
            "path": "/x", "categories": ["read"], "ack": {"message": "m"}, "service": "s", "interval": "5s",
            "headers": {"X-Key": "secret", "X-File": {"file": "/run/key"}}, "auth": {"bearer": "secret"},
            "expect": {"status": "200-299", "json": [{"pointer": "/a", "value": 1}]}, "kind": "http"
        }},
        "categories": {"read": {"period_seconds": 10, "sticky": true}},
        "services": {"s": {"max_active": 1, "hold": 5}},
        "regions": {"eu": {"enabled": true, "overlay": {"healthcheck/a/path": "/y"}, "properties": {"primary": true}}},
        "cluster_ack": "seen"
    }))
    .unwrap();
    let reply = get(server.address, "/api/v1/catalog").await;
    assert!(!reply.body.contains("secret"), "{}", reply.body);
    described(&doc, "/api/v1/catalog", "GET", &reply);
}
