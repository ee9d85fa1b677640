//! The shapes of JSON values that people write, as data, and one walk that compares a value with its shape: types,
//! known fields, words, bounds. What a well-shaped value means is left to `check` and `placement`.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    problem::{Path, Problem, Problems},
    words,
};
use crate::model::{CategoryName, NameError, RegionName, ServiceName, TargetName, duration};

/// Highest version of a value that this program reads (design section 3: v and v − 1).
pub const VERSION: u64 = 1;

/// Which names a text or the fields of a table must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// A target's name.
    Target,
    /// A category's name.
    Category,
    /// A service's name.
    Service,
    /// A region's name.
    Region,
}

impl Noun {
    fn check(self, text: &str) -> Result<(), NameError> {
        match self {
            Self::Target => TargetName::new(text).map(|_| ()),
            Self::Category => CategoryName::new(text).map(|_| ()),
            Self::Service => ServiceName::new(text).map(|_| ()),
            Self::Region => RegionName::new(text).map(|_| ()),
        }
    }
}

/// What names are made of, for messages.
pub const NAME_EXPECTED: &str = "1 to 128 of A-Z a-z 0-9 . _ -";

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Any text.
    Text,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A boolean, or a word for one.
    Flag,
    /// A whole number within bounds, both included.
    Int(u64, u64),
    /// The version of the value.
    Version,
    /// A duration within bounds in milliseconds, both included.
    Time(u64, u64),
    /// A name.
    Name(Noun),
    /// A list; false: must not be empty.
    List(&'static Shape, bool),
    /// Fields with free names.
    Table(&'static Shape),
    /// Fields with names of a kind; an empty value is an empty object.
    Named(Noun, &'static Shape),
    /// Fields with known names; all are optional here.
    Object(&'static [(&'static str, Shape)]),
    /// Anything.
    Any,
    /// A rule of its own.
    Rule(fn(&mut Value, &Path, &mut Problems)),
}

/// Compares a value with its shape. Empty (null) fields are removed, words for booleans become booleans.
pub fn walk(value: &mut Value, shape: &Shape, path: &Path, out: &mut Problems) {
    match shape {
        Shape::Any => {}
        Shape::Rule(rule) => rule(value, path, out),
        Shape::Text => {
            if !value.is_string() {
                let quoted = if value.is_number() || value.is_boolean() { " (in quotes)" } else { "" };
                out.add(path, format!("it is {}", kind_of(value)), format!("text{quoted}"));
            }
        }
        Shape::Word(known) => word(value, known, path, out),
        Shape::Flag => flag(value, path, out),
        Shape::Int(min, max) => {
            if value.as_u64().is_none_or(|n| n < *min || n > *max) {
                out.add(path, is_no(value), format!("a whole number from {min} to {max}"));
            }
        }
        Shape::Version => {
            if value.as_u64().is_none_or(|v| v > VERSION) {
                out.add(
                    path,
                    format!("version {} cannot be read", short(value)),
                    format!("{VERSION} (or leave it out)"),
                );
            }
        }
        Shape::Time(min, max) => time(value, *min, *max, path, out),
        Shape::Name(noun) => match value.as_str() {
            None => out.add(path, format!("it is {}", kind_of(value)), "a name as text"),
            Some(text) => name(*noun, text, path, false, out),
        },
        Shape::List(inner, may_be_empty) => list(value, inner, *may_be_empty, path, out),
        Shape::Table(inner) => {
            if let Some(map) = object(value, path, out) {
                for (field, inner_value) in map {
                    walk(inner_value, inner, &path.field(field), out);
                }
            }
        }
        Shape::Named(noun, inner) => {
            if let Some(map) = object(value, path, out) {
                for (field, inner_value) in map {
                    name(*noun, field, &path.field(field), true, out);
                    if inner_value.is_null() {
                        *inner_value = Value::Object(Map::new());
                    }
                    walk(inner_value, inner, &path.field(field), out);
                }
            }
        }
        Shape::Object(fields) => fields_of(value, fields, path, out),
    }
}

fn object<'a>(value: &'a mut Value, path: &Path, out: &mut Problems) -> Option<&'a mut Map<String, Value>> {
    if !value.is_object() {
        out.add(path, format!("it is {}", kind_of(value)), "an object (fields with values)");
    }
    value.as_object_mut()
}

fn fields_of(value: &mut Value, fields: &[(&'static str, Shape)], path: &Path, out: &mut Problems) {
    let Some(map) = object(value, path, out) else { return };
    map.retain(|_, v| !v.is_null());
    for (field, inner) in map {
        match fields.iter().find(|(known, _)| known == field) {
            Some((_, shape)) => walk(inner, shape, &path.field(field), out),
            None => {
                let known: Vec<&str> = fields.iter().map(|(n, _)| *n).filter(|n| *n != "v").collect();
                let near = words::nearest(field, known.iter().copied());
                let problem = Problem::new(&path.field(field), "unknown field", format!("one of {}", known.join(", ")));
                out.0.push(problem.near(near).at_key());
            }
        }
    }
}

fn list(value: &mut Value, inner: &Shape, may_be_empty: bool, path: &Path, out: &mut Problems) {
    match value.as_array_mut() {
        None => out.add(path, format!("it is {}", kind_of(value)), "a list"),
        Some(items) if items.is_empty() && !may_be_empty => out.add(path, "the list is empty", "at least one entry"),
        Some(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                walk(item, inner, &path.index(n), out);
            }
        }
    }
}

fn name(noun: Noun, text: &str, path: &Path, at_key: bool, out: &mut Problems) {
    if let Err(e) = noun.check(text) {
        let problem = Problem::new(path, super::problem::name_reason(&e), NAME_EXPECTED);
        out.0.push(if at_key { problem.at_key() } else { problem });
    }
}

fn word(value: &mut Value, known: &[&str], path: &Path, out: &mut Problems) {
    if value.as_str().is_some_and(|text| known.contains(&text)) {
        return;
    }
    let near = value.as_str().and_then(|text| words::nearest(text, known.iter().copied()));
    out.add_near(path, is_no(value), format!("one of {}", known.join(", ")), near);
}

fn flag(value: &mut Value, path: &Path, out: &mut Problems) {
    if value.is_boolean() {
        return;
    }
    match value.as_str().and_then(words::parse_bool) {
        Some(flag) => *value = Value::Bool(flag),
        None => {
            let near = value.as_str().and_then(words::nearest_bool);
            out.add_near(path, is_no(value), "true or false", near);
        }
    }
}

fn time(value: &Value, min: u64, max: u64, path: &Path, out: &mut Problems) {
    let parsed = match value {
        Value::String(text) => duration::parse(text).ok(),
        Value::Number(n) => n.as_f64().and_then(duration::from_secs),
        _ => None,
    };
    let bounds = format!("from {} to {}", spoken(min), spoken(max));
    match parsed {
        None => out.add(path, is_no(value), format!("seconds, or text such as 500ms, 10s, 5m, {bounds}")),
        Some(d) if d < Duration::from_millis(min) || d > Duration::from_millis(max) => {
            let side = if d < Duration::from_millis(min) { "too short" } else { "too long" };
            out.add(path, format!("{} is {side}", short(value)), format!("a duration {bounds}"));
        }
        Some(_) => {}
    }
}

fn spoken(millis: u64) -> String {
    match millis {
        m if m % 86_400_000 == 0 => format!("{}d", m / 86_400_000),
        m if m % 60_000 == 0 => format!("{}m", m / 60_000),
        m if m % 1000 == 0 => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}

/// `a number`, `text`, …
#[must_use]
pub const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as JSON, cut short.
#[must_use]
pub fn short(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
        other => words::cut(&other.to_string(), 64),
    }
}

fn is_no(value: &Value) -> String {
    format!("{} is not accepted", short(value))
}
