//! One key's raw value to what it means, or to the problems that make it unreadable (the table of design section 3).
//! What happens to a value that cannot be read is left to `builder`.

use std::{sync::Arc, time::Duration};

use serde_json::Value as Json;

use super::{
    check::{self, Surroundings},
    endpoint::{self, Gateway},
    placement,
    problem::{Path, Problem, Problems, name_reason},
    schema::{Shape, walk},
    shapes, words,
};
use crate::model::{
    Ack, CategoryName, RegionName, duration,
    key::{CategoryField, Key, TargetField},
    spec::{RegionSpec, ServiceSpec, TargetSpec},
};

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A target's health path.
    Path(Arc<str>),
    /// A target's categories, `default` among them, sorted.
    Categories(Arc<[CategoryName]>),
    /// A target's or the cluster's ack; an empty one is none.
    Ack(Option<Ack>),
    /// A target's spec.
    Target(Arc<TargetSpec>),
    /// A category's period.
    Period(Duration),
    /// A switch or flag.
    Flag(bool),
    /// A service's spec.
    Service(Arc<ServiceSpec>),
    /// A region to fail over to; an empty one is none.
    Failover(Option<RegionName>),
    /// A region's spec.
    Region(Arc<RegionSpec>),
}

/// A gateway for judging a spec by itself: whether there is one is not the spec's business.
fn any_gateway() -> Option<Gateway> {
    Gateway::parse("gateway:80").ok()
}

/// Reads the value of a key.
///
/// # Errors
/// Every problem found in it.
pub fn decode(key: &Key, raw: &[u8], region: &RegionName) -> Result<Value, Problems> {
    let word = key.to_string().rsplit('/').next().unwrap_or_default().to_owned();
    let at = Path::of(&word);
    let mut out = Problems::default();
    let Ok(text) = std::str::from_utf8(raw) else {
        out.add(&at, "it is no UTF-8 text", "text");
        return Err(out);
    };
    let value = read(key, text, region, &at, &mut out);
    match value {
        Some(value) if out.is_good() => Ok(value),
        _ => Err(out),
    }
}

fn read(key: &Key, text: &str, region: &RegionName, at: &Path, out: &mut Problems) -> Option<Value> {
    match key {
        Key::Target(_, TargetField::Path) => path(text, at, out).map(Value::Path),
        Key::Target(_, TargetField::Categories) => categories(text, at, out).map(Value::Categories),
        Key::Target(_, TargetField::Ack) | Key::ClusterAck => ack(text, at, out).map(Value::Ack),
        Key::Target(_, TargetField::Spec) => {
            target_spec(json(text, at, out)?, region, at, out).map(Arc::new).map(Value::Target)
        }
        Key::Category(_, CategoryField::PeriodSeconds) => period(text, at, out).map(Value::Period),
        Key::Category(..) | Key::RegionEnabled(_) => flag(text, at, out).map(Value::Flag),
        Key::ServiceSpec(_) => service_spec(json(text, at, out)?, at, out).map(Arc::new).map(Value::Service),
        Key::RegionSpec(_) => region_spec(json(text, at, out)?, at, out).map(Arc::new).map(Value::Region),
        Key::ServiceFailover(_) => failover(text, at, out).map(Value::Failover),
        // The overlaid key is decoded by its own kind; see `builder`.
        Key::Overlay(..) => None,
    }
}

fn path(text: &str, at: &Path, out: &mut Problems) -> Option<Arc<str>> {
    let path = text.trim();
    match endpoint::check_path(path) {
        Ok(()) => Some(Arc::from(path)),
        Err(reason) => {
            let with_slash = format!("/{path}");
            let near = (!path.is_empty() && endpoint::check_path(&with_slash).is_ok() && !path.starts_with('/'))
                .then_some(with_slash.as_str());
            out.add_near(at, reason, "a path such as /__health", near);
            None
        }
    }
}

fn categories(text: &str, at: &Path, out: &mut Problems) -> Option<Arc<[CategoryName]>> {
    let mut names = vec![CategoryName::default_category()];
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match CategoryName::new(word) {
            Ok(name) => names.push(name),
            Err(e) => out.add(at, name_reason(&e), "names separated by commas, each of A-Z a-z 0-9 . _ -"),
        }
    }
    names.sort_unstable();
    names.dedup();
    out.is_good().then(|| names.into())
}

/// Text, or the JSON form; `Some(None)` is an empty one.
fn ack(text: &str, at: &Path, out: &mut Problems) -> Option<Option<Ack>> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(None);
    }
    // JSON that does not parse, or is no object, is text.
    let Some(mut value) = serde_json::from_str::<Json>(trimmed).ok().filter(Json::is_object) else {
        return Some(Some(Ack::text(trimmed)));
    };
    walk(&mut value, &shapes::ACK, at, out);
    if value.get("message").is_none() {
        out.add(at, "it has no message", "text, or JSON such as {\"message\": …, \"by\": …, \"until\": …}");
    }
    if !out.is_good() {
        return None;
    }
    let ack: Ack = typed(value, at, out)?;
    let ack = Ack { message: ack.message.trim().to_owned(), v: None, ..ack };
    Some(Some(ack).filter(|a| !a.message.is_empty()))
}

fn period(text: &str, at: &Path, out: &mut Problems) -> Option<Duration> {
    let trimmed = text.trim();
    let seconds = trimmed.parse::<u64>().ok().filter(|s| (1..=shapes::LONGEST_PERIOD).contains(s));
    if seconds.is_none() {
        let near = duration::parse(trimmed).ok().map(|d| d.as_secs()).filter(|s| *s >= 1 && !trimmed.starts_with('+'));
        let near = near.map(|s| s.min(shapes::LONGEST_PERIOD).to_string());
        let shown = words::cut(trimmed, 64);
        let reason = format!("{shown:?} is no period");
        out.add_near(at, reason, "a whole number of seconds, at least 1, such as 60", near.as_deref());
    }
    seconds.map(Duration::from_secs)
}

fn flag(text: &str, at: &Path, out: &mut Problems) -> Option<bool> {
    let flag = words::parse_bool(text);
    if flag.is_none() {
        let shown = words::cut(text.trim(), 64);
        out.add_near(at, format!("{shown:?} is no boolean"), words::BOOL_WORDS, words::nearest_bool(text));
    }
    flag
}

fn failover(text: &str, at: &Path, out: &mut Problems) -> Option<Option<RegionName>> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(None);
    }
    match RegionName::new(trimmed) {
        Ok(region) => Some(Some(region)),
        Err(e) => {
            out.add(at, name_reason(&e), "a region's name; delete the key to end the failover");
            None
        }
    }
}

fn json(text: &str, at: &Path, out: &mut Problems) -> Option<Json> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(e) => {
            let reason = if text.trim().is_empty() { "it is empty".to_owned() } else { format!("it is no JSON: {e}") };
            out.add(at, reason, "a JSON object; delete the key to have the defaults");
            None
        }
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: Json, at: &Path, out: &mut Problems) -> Option<T> {
    // The walk has seen every field; this is the net below it. serde's message might repeat a secret.
    match serde_json::from_value(value) {
        Ok(typed) => Some(typed),
        Err(_) => {
            out.add(at, "it cannot be read as a whole", "the fields as documented");
            None
        }
    }
}

fn shaped<T: serde::de::DeserializeOwned>(mut value: Json, shape: &Shape, at: &Path, out: &mut Problems) -> Option<T> {
    let before = out.0.len();
    walk(&mut value, shape, at, out);
    if out.0.iter().skip(before).any(|p| p.level == crate::model::FaultLevel::Fault) {
        return None;
    }
    typed(value, at, out)
}

/// A target's spec, wholly checked.
#[must_use]
pub fn target_spec(value: Json, region: &RegionName, at: &Path, out: &mut Problems) -> Option<TargetSpec> {
    let spec: TargetSpec = shaped(value, &shapes::TARGET_SPEC, at, out)?;
    let gateway = any_gateway();
    let around = Surroundings { target: "target", path: "/", region, gateway: gateway.as_ref() };
    check::build(&spec, around, at, out).map(|_| spec)
}

/// A service's spec, checked by itself.
#[must_use]
pub fn service_spec(value: Json, at: &Path, out: &mut Problems) -> Option<ServiceSpec> {
    let spec: ServiceSpec = shaped(value, &shapes::SERVICE_SPEC, at, out)?;
    let before = out.0.len();
    placement::check_service(&spec, at, out);
    (out.0.len() == before).then_some(spec)
}

/// A region's spec, checked by itself.
#[must_use]
pub fn region_spec(value: Json, at: &Path, out: &mut Problems) -> Option<RegionSpec> {
    shaped(value, &shapes::REGION_SPEC, at, out)
}

/// The problem of a word that is not known below a target or category.
#[must_use]
pub fn unknown_word(word: &str, known: &[&str]) -> Problem {
    let reason = format!("nothing reads a key named {:?} here", words::cut(word, 64));
    let near = words::nearest(word, known.iter().copied());
    Problem::new(&Path::of(word), reason, format!("one of {}", known.join(", "))).near(near).hint()
}
