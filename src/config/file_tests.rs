//! Tests of files and documents: what an operator reads when something is mistyped, and that nothing is lost on the way.

use std::collections::BTreeMap;

use super::{diff::diff, document, parse_catalog};

const MISTAKES: [&str; 24] = [
    "targets:\n  foo-1:\n    timout: 5s\n",
    "targets:\n  foo-1:\n    expect:\n      json:\n        - pointer: /status\n          op: \"=>\"\n          value: 1\n",
    "targets:\n  foo-1:\n    kind: htttp\n",
    "targets:\n  foo-1:\n    url: localhost:8080/health\n",
    "targets:\n  foo-1:\n    url: https://foo:99999/\n    timeout: 10min\n",
    "targets:\n  foo-1:\n    kind: tcp\n    url: http://foo/\n",
    "targets:\n  foo-1:\n    url: tcp://foo:1\n    method: GET\n    expect: {status: 200}\n",
    "targets:\n  foo 1:\n    path: /x\n",
    "targets:\n  foo-1:\n    path: __health\n    severity: 4\n    rise: 0\n",
    "categories:\n  read:\n    period_seconds: 0\n    is_resillient: true\n    enabled: fasle\n",
    "services:\n  a:\n    depends_on: [b]\n  b:\n    depends_on: [{service: a}]\n",
    "services:\n  a:\n    failback: automatic\n    min_healthy: 120%\n    min_active: 2\n    max_active: 1\n",
    "regions:\n  eu:\n    enabled: maybe\n    overlay:\n      services/a/spec: '{}'\n      healthcheck/foo/pth: /x\n",
    "target:\n  foo-1: {}\n",
    "targets:\n  foo-1:\n\t path: /x\n",
    "targets:\n  foo-1: {path: /x}\n  foo-1: {path: /y}\n",
    "targets: [foo-1, foo-2]\n",
    "{\"targets\": {\"foo-1\": {\"path\": \"/x\", \"interval\": \"10ms\"}}",
    "targets:\n  foo-1:\n    auth: {basic: {user: me}}\n    headers: {\"Bad Name\": x, Connection: close}\n",
    "targets:\n  foo-1:\n    expect: {status: \"200-\", json: [{pointer: status, value: UP}]}\n    method: FETCH\n",
    "targets:\n  foo-1:\n    ack: {mesage: seen, until: tomorrow}\n",
    "v: 2\ntargets: {}\n",
    "just some text\n",
    "",
];

#[test]
fn messages_for_typical_mistakes() {
    let mut shown = String::new();
    for mistake in MISTAKES {
        shown.push_str(mistake);
        for fault in parse_catalog("catalog.yaml", mistake).expect_err(mistake) {
            shown.push_str(&format!("  → {fault}\n"));
        }
        shown.push('\n');
    }
    insta::assert_snapshot!(shown);
}

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const FULL: &str = r#"
v: 1
targets:
  foo-1:
  foo-2:
    path: /health
    categories: [read, publish]
    ack: seen
    url: https://foo.{region}.example/h
    regions: [eu, no]
    headers: {X-Key: hunter2, X-File: {file: /etc/key}}
    auth: {basic: {user: me, password: hunter3}}
    expect: {status: 200-299, json: [{pointer: /a/b, op: ">=", value: 3}, {pointer: /n, value: null}]}
    interval: 1m30s
    timeout: 0.5
categories:
  read: {period_seconds: 10, is_resilient: yes, enabled: off}
services:
  foo: {regions: [eu, us], max_active: 1, failback: 10m, min_healthy: 50%, failover: us}
regions:
  eu:
    enabled: true
    properties: {primary: true}
    overlay: {healthcheck/foo-1/path: /eu, healthcheck-categories/read/period_seconds: 5}
cluster_ack: {message: all seen, by: ann}
"#;

#[test]
fn a_document_becomes_keys_and_back() {
    let document = parse_catalog("x", FULL).unwrap();
    let keys = document::to_keys(&document).unwrap();
    let get = |key: &str| keys.get(key).map(String::as_str);
    assert_eq!(get("healthcheck/foo-1/path"), Some("/__health"), "a target exists when a key does");
    assert_eq!(get("healthcheck/foo-2/categories"), Some("read,publish"));
    assert_eq!(get("healthcheck-categories/read/is_resilient"), Some("true"));
    assert_eq!(get("healthcheck-categories/read/enabled"), Some("false"));
    assert_eq!(get("services/foo/failover"), Some("us"));
    assert_eq!(get("regions/eu/overlay/healthcheck-categories/read/period_seconds"), Some("5"));
    assert!(get("healthcheck/foo-2/spec").unwrap().contains("hunter2"), "keys hold the secrets");
    assert!(get("healthcheck/foo-2/spec").unwrap().contains("hunter3"));
    let back = document::from_keys(keys.iter().map(|(k, v)| (k.as_str(), v.as_bytes())));
    assert_eq!(document::to_keys(&back).unwrap(), keys);
    assert_eq!(back.targets["foo-2"], document.targets["foo-2"]);
    assert_eq!(diff(&keys, &document::to_keys(&back).unwrap(), true).unwrap(), []);
}

#[test]
fn what_is_printed_can_be_applied_and_changes_nothing() {
    let keys = document::to_keys(&parse_catalog("x", FULL).unwrap()).unwrap();
    let stored = document::from_keys(keys.iter().map(|(k, v)| (k.as_str(), v.as_bytes())));
    let shown = document::redact(stored);
    for text in [serde_json::to_string(&shown).unwrap(), serde_saphyr::to_string(&shown).unwrap()] {
        assert!(!text.contains("hunter"), "{text}");
        let read = parse_catalog("x", &text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        assert_eq!(diff(&keys, &document::to_keys(&read).unwrap(), true).unwrap(), [], "{text}");
    }
    assert!(!format!("{shown:?}").contains("hunter"));
}

#[test]
fn a_star_that_stands_for_no_stored_secret_is_refused_by_field() {
    let wanted = document::to_keys(&parse_catalog("x", "targets: {a: {headers: {K: '***'}}}").unwrap()).unwrap();
    let faults = diff(&BTreeMap::new(), &wanted, false).unwrap_err();
    assert!(faults[0].reason.starts_with("headers.K: ***"), "{faults:?}");
    let stored = keys(&[("healthcheck/a/spec", r#"{"headers": {"K": "hunter2"}, "rise": 3}"#)]);
    let changes = diff(&stored, &wanted, false).unwrap();
    assert!(changes[0].new.as_ref().unwrap().contains("hunter2"));
    assert!(!format!("{changes:?}").contains("hunter2"));
}

#[test]
fn equal_meaning_is_no_change_and_operators_keys_are_left_alone() {
    let stored = keys(&[
        ("healthcheck/a/spec", "{\n  \"timeout\": \"5s\"\n}"),
        ("healthcheck/a/ack", "seen"),
        ("healthcheck/b/path", "/x"),
        ("healthcheck/b/ack", "seen"),
        ("healthcheck-categories/c/enabled", "false"),
        ("healthcheck-categories/c/period_seconds", "30"),
        ("healthcheck-categories/d/enabled", "false"),
        ("healthcheck-categories/default/enabled", "false"),
        ("config/aggregate-healthcheck/cluster-ack", "seen"),
        ("services/a/failover", "us"),
        ("services/b/failover", "us"),
        ("services/a/servers/1", "10.0.0.1"),
        ("regions/eu/enabled", "false"),
        ("regions/eu/leader", "n1"),
        ("regions/eu/overlay/healthcheck/a/ack", "seen"),
        ("regions/eu/overlay/healthcheck/a/path", "/eu"),
    ]);
    let wanted = |text: &str| document::to_keys(&parse_catalog("x", text).unwrap()).unwrap();
    let text = "targets: {a: {timeout: 5, categories: [c]}}";
    let changed = |prune| -> Vec<String> {
        let changes = diff(&stored, &wanted(text), prune).unwrap();
        changes.into_iter().map(|c| format!("{}{}", if c.new.is_some() { "+" } else { "-" }, c.key)).collect()
    };
    assert_eq!(changed(false), ["+healthcheck/a/categories"]);
    assert_eq!(
        changed(true),
        [
            "-healthcheck-categories/c/period_seconds",
            "-healthcheck-categories/d/enabled",
            "+healthcheck/a/categories",
            "-healthcheck/b/ack",
            "-healthcheck/b/path",
            "-regions/eu/overlay/healthcheck/a/path",
            "-services/b/failover",
        ]
    );
    let clear = diff(&stored, &wanted("targets: {a: {ack: ''}}\ncluster_ack: ''"), false).unwrap();
    assert!(clear.iter().any(|c| c.key == "healthcheck/a/ack" && c.new.is_none()), "{clear:?}");
    assert!(clear.iter().any(|c| c.key.ends_with("cluster-ack") && c.new.is_none()));
}

#[test]
fn anchors_are_fine_and_alias_bombs_are_bounded() {
    let text = "targets:\n  a: &x {timeout: 1s}\n  b: *x\n  c: {<<: *x, rise: 4}\n";
    let document = parse_catalog("x", text).unwrap();
    assert_eq!(document.targets["a"], document.targets["b"]);
    assert_eq!(document.targets["c"].spec.rise, Some(4));
    assert_eq!(document.targets["c"].spec.timeout, document.targets["a"].spec.timeout);
    let many: String = (0..2000).map(|n| format!("  t{n}: {{<<: *x}}\n")).collect();
    assert_eq!(parse_catalog("x", &format!("{text}{many}")).unwrap().targets.len(), 2003);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let faults = parse_catalog("x", &bomb).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    let deep = "[".repeat(100_000);
    assert!(parse_catalog("x", &deep).is_err());
}
