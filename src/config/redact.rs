//! Values as they may be shown: secrets replaced, long ones cut. What is not known to be harmless is not shown.

use serde_json::{Map, Value};

use super::{schema::Shape, shapes, words};
use crate::model::{
    key::{self, Key, Parsed, TargetField},
    secret::REDACTED,
};

/// Longest value shown in a fault, in characters.
pub const SHOWN: usize = 256;

/// A key's value without its secrets; the key is relative to ROOT. A target spec that is no JSON and might hold a
/// secret is replaced whole.
#[must_use]
pub fn value(relative: &str, text: &str) -> String {
    if !holds_secrets(relative) {
        return text.to_owned();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(mut spec) => {
            target_spec(&mut spec);
            spec.to_string()
        }
        Err(_) if looks_secret(text) => format!("({} bytes, not shown: it may hold secrets)", text.len()),
        Err(_) => text.to_owned(),
    }
}

fn holds_secrets(relative: &str) -> bool {
    match key::parse(relative) {
        Parsed::Key(Key::Target(_, TargetField::Spec)) => true,
        Parsed::Key(Key::Overlay(_, inner)) => holds_secrets(&inner),
        // A misspelt word below a target: it may well be a spec.
        Parsed::UnknownWord { target, .. } => target.is_some(),
        _ => false,
    }
}

fn looks_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    ["auth", "head", "pass", "bear", "basic", "token", "secret", "key", "@"].iter().any(|word| lower.contains(word))
}

/// Bytes as shown in a fault: secrets replaced, cut to 256 characters, bytes that are no UTF-8 marked.
#[must_use]
pub fn shown(relative: &str, raw: &[u8]) -> String {
    words::cut(&value(relative, &String::from_utf8_lossy(raw)), SHOWN)
}

/// Replaces the secrets of a target's spec in place; values of unknown fields are taken for secrets too.
pub fn target_spec(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else {
        if spec.is_string() || spec.is_array() {
            *spec = Value::String(REDACTED.to_owned());
        }
        return;
    };
    let Shape::Object(known) = shapes::TARGET_SPEC else { return };
    for (field, inner) in map {
        match field.as_str() {
            "headers" => each(inner),
            "auth" => each(inner),
            "url" => {
                if let Some(text) = inner.as_str() {
                    *inner = Value::String(url(text));
                }
            }
            other if known.iter().any(|(name, _)| *name == other) => {}
            _ => hide(inner),
        }
    }
}

fn each(value: &mut Value) {
    match value.as_object_mut() {
        Some(map) => map.iter_mut().for_each(|(name, v)| {
            if name != "user" {
                hide(v)
            }
        }),
        None => hide(value),
    }
}

/// Replaces a secret, but not the name of a file that holds one.
fn hide(value: &mut Value) {
    match value {
        Value::Object(map) if is_file(map) => {}
        Value::Object(map) => map.iter_mut().for_each(|(name, v)| {
            if name != "user" {
                hide(v)
            }
        }),
        Value::Null => {}
        other => *other = Value::String(REDACTED.to_owned()),
    }
}

fn is_file(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.get("file").is_some_and(Value::is_string)
}

/// A URL without what stands before an `@`.
#[must_use]
pub fn url(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(s, r)| (s, r));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let place = rest.get(..end).unwrap_or_default();
    // A password may hold a slash: then what looks like a port is none.
    let no_port = place.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()));
    let at = place.rfind('@').or_else(|| rest.rfind('@').filter(|_| no_port && !place.starts_with('[')));
    match at {
        None => text.to_owned(),
        Some(at) => {
            let tail = rest.get(at..).unwrap_or_default();
            let sep = if scheme.is_empty() { "" } else { "://" };
            format!("{scheme}{sep}{REDACTED}{tail}")
        }
    }
}
