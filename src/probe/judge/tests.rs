use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    model::target::{JsonExpect, JsonOp},
    probe::testing,
};

fn with(format: Format, status: u16, content_type: &str, body: &str) -> Judgement {
    let check = Check { format, ..testing::check() };
    judge(&check, &Reply { status, content_type: Some(content_type), body: body.as_bytes() })
}

fn is_good(format: Format, status: u16, content_type: &str, body: &str) -> bool {
    with(format, status, content_type, body).outcome.is_good()
}

const JSON: &str = "application/json; charset=utf-8";

#[test]
fn ft_is_200_json_and_every_check_ok() {
    let ft = |status, body: &str| with(Format::Ft, status, JSON, body);
    let good = |body: &str| ft(200, body).outcome.is_good();
    assert!(good(r#"{"checks":[{"name":"a","ok":true}]}"#));
    for healthy in ["{}", r#"{"checks":[]}"#, r#"{"checks":null}"#, r#"{"ok":false,"checks":[]}"#, "\u{feff}{}"] {
        assert!(good(healthy), "{healthy}: no failing check");
    }
    for bad in [
        "",
        "OK",
        "[]",
        "null",
        "{",
        r#"{"checks":[{"ok":true}]} x"#,
        r#"{"checks":"x"}"#,
        r#"{"checks":{"a":{"ok":true}}}"#,
        r#"{"checks":[{}]}"#,
        r#"{"checks":[{"ok":"true"}]}"#,
        r#"{"checks":[{"ok":1}]}"#,
        r#"{"checks":[true]}"#,
        r#"{"checks":[null]}"#,
    ] {
        assert!(!good(bad), "{bad}");
    }
    assert!(!ft(503, "{}").outcome.is_good());
    assert!(!ft(204, "{}").outcome.is_good(), "exactly 200");
    let bad = ft(
        503,
        r#"{"systemCode":"sys","checks":[{"name":"db","ok":false},{"id":"mq","ok":false},{"ok":false},{"name":"x","ok":true}]}"#,
    );
    assert_eq!(&*bad.output, "3 of 4 checks fail: db, mq, check 3; 503 Service Unavailable, expected 200");
    assert_eq!(bad.system_code.as_deref(), Some("sys"));
    let checks = bad.checks.unwrap();
    assert_eq!((&*checks[1].id, &*checks[1].name, &*checks[2].name), ("mq", "mq", "check 3"));
}

#[test]
fn health_json_words() {
    let good = |body: &str| is_good(Format::HealthJson, 200, "application/health+json", body);
    for word in ["pass", "ok", "UP", "warn"] {
        assert!(good(&format!(r#"{{"status":"{word}"}}"#)), "{word}");
    }
    for bad in [r#"{"status":"fail"}"#, r#"{"status":"down"}"#, r#"{"status":"?"}"#, r#"{"status":1}"#, "{}", "x"] {
        assert!(!good(bad), "{bad}");
    }
    assert!(!is_good(Format::HealthJson, 503, JSON, r#"{"status":"pass"}"#));
    let warn = with(Format::HealthJson, 200, JSON, r#"{"status":"warn","output":"disk at 90 %"}"#);
    assert_eq!((warn.outcome, &*warn.output), (Outcome::Good, "status warn: disk at 90 %"));
    let fail = with(
        Format::HealthJson,
        503,
        JSON,
        r#"{"status":"fail","serviceId":"s","checks":{"db:time":[{"status":"pass"},{"status":"fail","output":"slow"}],"x":{"status":"pass"}}}"#,
    );
    assert!(fail.output.starts_with("status fail; 1 of 2 failing: db:time; 503"), "{}", fail.output);
    assert_eq!(fail.system_code.as_deref(), Some("s"));
    assert_eq!(&*fail.checks.unwrap()[0].check_output, "slow");
}

#[test]
fn spring_words_and_components() {
    let kind = "application/vnd.spring-boot.actuator.v3+json";
    assert!(is_good(Format::Spring, 200, kind, r#"{"status":"UP"}"#));
    for word in ["DOWN", "OUT_OF_SERVICE", "UNKNOWN", "pass"] {
        assert!(!is_good(Format::Spring, 200, kind, &format!(r#"{{"status":"{word}"}}"#)), "{word}");
    }
    let body = r#"{"status":"DOWN","components":{"db":{"status":"DOWN","details":{"e":1}},"disk":{"status":"UP"},"x":{"status":"UNKNOWN"}}}"#;
    for format in [Format::Spring, Format::Auto] {
        let down = with(format, 503, kind, body);
        assert!(down.output.starts_with("status DOWN; 1 of 3 failing: db"), "{}", down.output);
        assert_eq!(down.checks.unwrap().len(), 3);
    }
}

#[test]
fn auto_tells_them_apart() {
    let good = |status, kind: &str, body: &str| is_good(Format::Auto, status, kind, body);
    assert!(good(200, "text/plain", "OK"));
    assert!(good(204, "", ""));
    assert!(good(200, "text/html", "<html>"));
    assert!(!good(503, "text/plain", "OK"));
    assert!(!good(301, "text/plain", ""));
    assert!(good(200, JSON, r#"{"version":"1"}"#), "JSON that is no health document: the status");
    assert!(good(200, JSON, r#"{"status":"shipped"}"#), "a status that is no health word");
    assert!(good(200, JSON, "[1]"));
    assert!(!good(200, JSON, r#"{"checks":[{"ok":false}]}"#));
    assert!(!good(202, JSON, r#"{"schemaVersion":1,"checks":[]}"#), "FT: exactly 200");
    assert!(!good(200, JSON, r#"{"status":"DOWN"}"#));
    assert!(good(200, JSON, r#"{"status":"UP"}"#));
    assert!(!good(200, JSON, r#"{"status":"fail"}"#));
    assert!(good(200, "application/health+json", r#"{"status":"pass","checks":{}}"#));
    assert!(!good(200, "application/health+json", r#"{"status":"gone"}"#));
    assert!(!good(200, JSON, r#"{"checks":[{"ok":true}"#), "half a document");
    assert!(good(200, "text/plain", "{not json"));
}

#[test]
fn expectations() {
    let mut check = Check { expect_status: vec![(200, 204), (418, 418)], format: Format::Status, ..testing::check() };
    let run =
        |check: &Check, status, body: &str| judge(check, &Reply { status, content_type: None, body: body.as_bytes() });
    assert!(run(&check, 418, "").outcome.is_good() && !run(&check, 205, "").outcome.is_good());
    assert_eq!(&*run(&check, 500, "").output, "500 Internal Server Error, expected 200-204,418");
    check.format = Format::Ft;
    assert!(run(&check, 418, "{}").outcome.is_good(), "the check's own ranges replace the format's rule");
    check.format = Format::Status;
    check.expect_body = Some("ll o".to_owned());
    assert!(run(&check, 200, "all ok").outcome.is_good());
    assert_eq!(&*run(&check, 200, "alll").output, "the body lacks the expected text");
    check.expect_body = None;
    let expect = |pointer: &str, op, value| JsonExpect { pointer: pointer.to_owned(), op, value };
    for (pointer, op, value, holds) in [
        ("/a", JsonOp::Eq, json!(1.0), true),
        ("/a", JsonOp::Ne, json!(2), true),
        ("/none", JsonOp::Ne, json!(2), false),
        ("/a", JsonOp::Lt, json!(1), false),
        ("/a", JsonOp::Le, json!(1), true),
        ("/a", JsonOp::Gt, json!(0.5), true),
        ("/b", JsonOp::Gt, json!(0), false),
        ("/b", JsonOp::Eq, json!("x"), true),
        ("/l/0", JsonOp::Exists, json!(null), true),
        ("/l/1", JsonOp::Absent, json!(null), true),
        ("/a", JsonOp::Absent, json!(null), false),
    ] {
        check.expect_json = vec![expect(pointer, op, value)];
        let j = run(&check, 200, r#"{"a":1,"b":"x","l":[0]}"#);
        assert_eq!(j.outcome.is_good(), holds, "{pointer} {op:?}: {}", j.output);
    }
    check.expect_json = vec![expect("/a", JsonOp::Ge, json!(5))];
    assert_eq!(&*run(&check, 200, r#"{"a":1}"#).output, "/a is 1, expected >= 5");
    assert_eq!(&*run(&check, 200, "x").output, "the body is no valid JSON");
    check.expect_json = vec![expect("/a", JsonOp::Exists, json!(null))];
    assert_eq!(&*run(&check, 200, "{}").output, "/a is nothing, expected to exist");
}

#[test]
fn properties_are_picked_and_bounded() {
    let mut check = testing::check();
    check.properties =
        [("v", "/version"), ("big", "/big"), ("no", "/no")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let body = json!({"version": 3, "big": "x".repeat(5000)}).to_string();
    let j = judge(&check, &Reply { status: 200, content_type: Some(JSON), body: body.as_bytes() });
    let picked = j.properties.unwrap();
    assert_eq!((picked.len(), &picked["v"]), (1, &json!(3)));
}

fn kept_bytes(j: &Judgement) -> usize {
    let field = |c: &DocumentCheck| {
        let texts =
            [&c.name, &c.business_impact, &c.technical_summary, &c.panic_guide, &c.check_output, &c.last_updated];
        texts.iter().map(|t| t.len()).sum::<usize>() + if c.id == c.name { 0 } else { c.id.len() }
    };
    j.checks.iter().flat_map(|c| c.iter()).map(field).sum()
}

#[test]
fn failing_checks_are_kept_first_and_the_rest_is_counted() {
    let entry = |i: usize, ok: bool| json!({"id": format!("c{i}"), "name": format!("check {i}"), "ok": ok, "panicGuide": "p".repeat(400)});
    let checks: Vec<_> = (0..50).map(|i| entry(i, i < 45)).collect();
    let j = with(Format::Ft, 200, JSON, &json!({ "checks": checks }).to_string());
    let kept = j.checks.clone().unwrap();
    assert_eq!(kept.iter().filter(|c| !c.ok).count(), 5, "all that fail");
    assert_eq!(kept.len() + j.checks_left_out as usize, 50);
    assert!(kept_bytes(&j) <= document::MAX_KEPT && kept.len() > 5);
    assert!(kept.windows(2).all(|w| w[0].name < w[1].name || w[0].name.len() < w[1].name.len()), "in order");
    let many = format!(r#"{{"checks":[{}]}}"#, vec![r#"{"ok":true}"#; 80_000].join(","));
    let j = with(Format::Ft, 200, JSON, &many);
    assert!(j.checks.unwrap().len() <= 64 && j.checks_left_out > 79_000);
}

#[test]
fn deep_and_odd_documents() {
    for body in ["[".repeat(900_000), "{\"a\":".repeat(180_000), format!("{{\"checks\":{}", "[".repeat(500_000))] {
        for format in [Format::Auto, Format::Ft, Format::HealthJson, Format::Spring, Format::Status] {
            let mut check = Check { format, ..testing::check() };
            check.properties = [("a".to_owned(), "/a".to_owned())].into();
            let j = judge(&check, &Reply { status: 200, content_type: Some(JSON), body: body.as_bytes() });
            assert!(j.output.len() <= text::MAX_OUTPUT);
        }
    }
    let deep = format!(r#"{{"x":{}1{},"checks":[{{"ok":true}}]}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let _ = with(Format::Ft, 200, JSON, &deep);
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i32>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        "(up|UP|fail|pass|\\PC{0,40}|.{0,40})".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let key = prop_oneof![
            Just("status"),
            Just("checks"),
            Just("components"),
            Just("ok"),
            Just("name"),
            Just("id"),
            Just("severity"),
            Just("x"),
            Just("systemCode"),
            Just("output"),
            Just("schemaVersion"),
            Just("checkOutput"),
            Just("panicGuide"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::Array),
            proptest::collection::vec((key, inner), 0..8).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Auto),
        Just(Format::Ft),
        Just(Format::HealthJson),
        Just(Format::Spring),
        Just(Format::Status)
    ]
}

fn assert_bounded(j: &Judgement) -> Result<(), TestCaseError> {
    prop_assert!(j.output.len() <= text::MAX_OUTPUT);
    prop_assert!(!j.output.chars().any(char::is_control));
    prop_assert!(kept_bytes(j) <= document::MAX_KEPT);
    for check in j.checks.iter().flat_map(|c| c.iter()) {
        prop_assert!(!check.name.is_empty() && !check.id.is_empty());
        prop_assert!(!check.check_output.chars().any(char::is_control));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_document_is_bounded(v in value(), format in format(), status in 100_u16..600, kind in "(application/json|application/health\\+json|.{0,10})") {
        let check = Check { format, ..testing::check() };
        let body = v.to_string();
        let reply = Reply { status, content_type: Some(&kind), body: body.as_bytes() };
        let j = judge(&check, &reply);
        assert_bounded(&j)?;
        prop_assert!(!j.outcome.is_good() || (200..300).contains(&status));
        prop_assert!(format != Format::Ft || !j.outcome.is_good() || j.checks.iter().flat_map(|c| c.iter()).all(|c| c.ok));
    }

    #[test]
    fn any_bytes_are_bounded(body in proptest::collection::vec(any::<u8>(), 0..300), format in format()) {
        let check = Check { format, expect_body: Some("x".to_owned()), ..testing::check() };
        assert_bounded(&judge(&check, &Reply { status: 200, content_type: None, body: &body }))?;
    }
}
