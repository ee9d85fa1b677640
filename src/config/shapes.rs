//! The schema of targets, categories, services, regions and the whole document, as data (design sections 3, 5, 7).
//! One table serves keys, files and the API.

use serde_json::Value;

use super::{
    placement,
    problem::{Path, Problems},
    schema::{
        Noun,
        Shape::{self, Any, Flag, Int, List, Name, Named, Object, Rule, Table, Text, Time, Version, Word},
        kind_of, walk,
    },
};

/// Words for `kind`.
pub const KINDS: [&str; 7] = ["http", "https", "tcp", "tls", "grpc", "grpcs", "heartbeat"];
/// Words for `format`.
pub const FORMATS: [&str; 5] = ["auto", "status", "ft", "health+json", "spring"];
/// Words for `connection`.
pub const CONNECTIONS: [&str; 2] = ["fresh", "reuse"];
/// Words for `method`.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Words for the relation of a JSON comparison.
pub const OPS: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "exists", "absent"];

const YEAR: u64 = 366 * 86_400_000;

const JSON_EXPECT: Shape = Object(&[("pointer", Rule(pointer)), ("op", Word(&OPS)), ("value", Any)]);
const EXPECT: Shape = Object(&[
    ("status", Rule(status)),
    ("body", Text),
    ("json", List(&Rule(json_expect), true)),
    ("min_days_left", Int(0, 3650)),
]);
const TLS: Shape = Object(&[("verify", Flag), ("server_name", Text), ("ca", Text)]);

macro_rules! target_fields {
    ($($extra:expr),*) => {
        Object(&[
            $($extra,)*
            ("v", Version),
            ("service", Name(Noun::Service)),
            ("regions", List(&Name(Noun::Region), false)),
            ("url", Text),
            ("kind", Word(&KINDS)),
            ("method", Rule(method)),
            ("headers", Table(&Rule(secret))),
            ("expect", EXPECT),
            ("format", Word(&FORMATS)),
            ("interval", Time(100, YEAR)),
            ("timeout", Time(1, 300_000)),
            ("rise", Int(1, 100)),
            ("fall", Int(1, 100)),
            ("fast_interval", Time(100, YEAR)),
            ("connection", Word(&CONNECTIONS)),
            ("redirects", Int(0, 10)),
            ("severity", Int(1, 3)),
            ("business_impact", Text),
            ("technical_summary", Text),
            ("panic_guide", Text),
            ("properties", Table(&Rule(pointer))),
            ("auth", Rule(auth)),
            ("tls", TLS),
            ("grpc_service", Text),
        ])
    };
}
macro_rules! service_fields {
    ($($extra:expr),*) => {
        Object(&[
            $($extra,)*
            ("v", Version),
            ("regions", List(&Name(Noun::Region), false)),
            ("max_active", Int(1, 1000)),
            ("min_active", Int(0, 1000)),
            ("failback", Rule(placement::failback)),
            ("hold", Time(0, YEAR)),
            ("depends_on", List(&Rule(placement::dependency), true)),
            ("colocate_with", List(&Name(Noun::Service), true)),
            ("min_healthy", Rule(placement::count_or_percent)),
            ("when", Text),
            ("priority", Text),
            ("notify", List(&Text, true)),
        ])
    };
}
macro_rules! region_fields {
    ($($extra:expr),*) => {
        Object(&[
            $($extra,)*
            ("v", Version),
            ("properties", Table(&Any)),
            ("minimum", Rule(placement::minimum)),
            ("failback", Rule(placement::failback)),
        ])
    };
}

/// `healthcheck/<target>/spec`.
pub const TARGET_SPEC: Shape = target_fields!();
/// `services/<service>/spec`.
pub const SERVICE_SPEC: Shape = service_fields!();
/// `regions/<region>/spec`.
pub const REGION_SPEC: Shape = region_fields!();
/// The JSON form of an ack.
pub const ACK: Shape = Object(&[("v", Version), ("message", Text), ("by", Text), ("until", Rule(until))]);

const TARGET: Shape =
    target_fields!(("path", Text), ("categories", List(&Name(Noun::Category), true)), ("ack", Rule(ack)));
const CATEGORY: Shape =
    Object(&[("period_seconds", Int(1, YEAR / 1000)), ("is_resilient", Flag), ("sticky", Flag), ("enabled", Flag)]);
const SERVICE: Shape = service_fields!(("failover", Name(Noun::Region)));
const REGION: Shape = region_fields!(("enabled", Flag), ("overlay", Table(&Rule(overlay_value))));

/// The whole document.
pub const DOCUMENT: Shape = Object(&[
    ("v", Version),
    ("targets", Named(Noun::Target, &TARGET)),
    ("categories", Named(Noun::Category, &CATEGORY)),
    ("services", Named(Noun::Service, &SERVICE)),
    ("regions", Named(Noun::Region, &REGION)),
    ("cluster_ack", Rule(ack)),
]);

/// Longest period, in seconds.
pub const LONGEST_PERIOD: u64 = YEAR / 1000;

fn pointer(value: &mut Value, path: &Path, out: &mut Problems) {
    let expected = "a JSON pointer such as /status or /checks/0/ok (~ is written ~0, / inside a name ~1)";
    let Some(text) = value.as_str() else {
        return out.add(path, format!("it is {}", kind_of(value)), expected);
    };
    let escapes = text.split('~').skip(1).all(|tail| tail.starts_with(['0', '1']));
    if !escapes || !(text.is_empty() || text.starts_with('/')) {
        let near = (!text.starts_with('/') && escapes).then(|| format!("/{}", text.replace('.', "/")));
        out.add_near(path, format!("{text:?} is no JSON pointer"), expected, near.as_deref());
    }
}

fn json_expect(value: &mut Value, path: &Path, out: &mut Problems) {
    let given = value.get("value").is_some_and(|v| !v.is_null());
    let has_value = value.get("value").is_some();
    let null_value = value.get("value").filter(|v| v.is_null()).cloned();
    walk(value, &JSON_EXPECT, path, out);
    let Some(map) = value.as_object_mut() else { return };
    // A comparison with null is a comparison, not an empty field.
    if let Some(null) = null_value {
        map.insert("value".to_owned(), null);
    }
    if !map.contains_key("pointer") {
        out.add(path, "it has no pointer", "an object with pointer, op and value");
    }
    match map.get("op").and_then(Value::as_str).unwrap_or("==") {
        "exists" | "absent" if given => out.add(&path.field("value"), "this op compares with no value", "no value"),
        "<" | "<=" | ">" | ">=" if !map.get("value").is_some_and(Value::is_number) => {
            out.add(&path.field("value"), "this op compares numbers", "a number");
        }
        "==" | "!=" if !has_value => {
            out.add(path, "it has no value to compare with", "a value, or op exists or absent")
        }
        _ => {}
    }
}

/// Status codes and ranges as written; `None` when one is none.
#[must_use]
pub fn status_ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    let code = |t: &str| t.trim().parse::<u16>().ok().filter(|c| (100..=599).contains(c));
    text.split(',')
        .map(|part| match part.split_once('-') {
            None => code(part).map(|c| (c, c)),
            Some((low, high)) => Some((code(low)?, code(high)?)).filter(|(low, high)| low <= high),
        })
        .collect()
}

fn status(value: &mut Value, path: &Path, out: &mut Problems) {
    let text = match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    if text.as_deref().and_then(status_ranges).is_none() {
        let shown = super::schema::short(value);
        out.add(
            path,
            format!("{shown} is not accepted"),
            "status codes from 100 to 599: 200, \"200-299\" or \"200,204-206\"",
        );
    }
}

fn method(value: &mut Value, path: &Path, out: &mut Problems) {
    if let Some(upper) = value.as_str().map(str::to_ascii_uppercase) {
        *value = Value::String(upper);
    }
    walk(value, &Word(&METHODS), path, out);
}

/// A header or auth value. Its text is never repeated in a message.
fn secret(value: &mut Value, path: &Path, out: &mut Problems) {
    let ok = match value {
        Value::String(_) => true,
        Value::Object(map) => map.len() == 1 && map.get("file").is_some_and(Value::is_string),
        _ => false,
    };
    if !ok {
        out.add(path, format!("it is {}", kind_of(value)), "text (in quotes), or {\"file\": \"/path\"}");
    }
}

fn auth(value: &mut Value, path: &Path, out: &mut Problems) {
    let expected = "one of {\"basic\": {\"user\": …, \"password\": …}} and {\"bearer\": …}";
    walk(
        value,
        &Object(&[("basic", Object(&[("user", Text), ("password", Rule(secret))])), ("bearer", Rule(secret))]),
        path,
        out,
    );
    let Some(map) = value.as_object() else { return };
    if map.len() != 1 {
        out.add(path, "it needs exactly one form", expected);
    }
    if let Some(basic) = map.get("basic").and_then(Value::as_object) {
        for field in ["user", "password"] {
            if !basic.contains_key(field) {
                out.add(&path.field("basic"), format!("it has no {field}"), "user and password");
            }
        }
    }
}

fn until(value: &mut Value, path: &Path, out: &mut Problems) {
    let good = value.as_str().is_some_and(|t| t.parse::<crate::model::Timestamp>().is_ok());
    if !good {
        let shown = super::schema::short(value);
        out.add(path, format!("{shown} is no time"), "a time such as 2026-01-31T12:00:00Z");
    }
}

/// Text, or the JSON form with a message.
fn ack(value: &mut Value, path: &Path, out: &mut Problems) {
    if value.is_string() {
        return;
    }
    walk(value, &ACK, path, out);
    if value.as_object().is_some_and(|map| !map.contains_key("message")) {
        out.add(path, "it has no message", "text, or an object with message, by, until");
    }
}

fn overlay_value(value: &mut Value, path: &Path, out: &mut Problems) {
    // Overlays hold whole key values: what YAML reads as a number or boolean is meant as its text.
    match value {
        Value::Number(n) => *value = Value::String(n.to_string()),
        Value::Bool(b) => *value = Value::String(b.to_string()),
        Value::Object(_) => *value = Value::String(value.to_string()),
        _ => {}
    }
    walk(value, &Text, path, out);
}
