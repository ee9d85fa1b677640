//! A catalog as text, YAML or JSON, to a `Document`; each fault with its line, column and field. Reading the file is
//! left to others.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy};

use super::{
    document,
    problem::{Path, Problem, Problems, Step},
    schema, shapes,
};
use crate::model::document::Document;

/// Longest text that is read, in bytes.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most faults that are listed; a file of the wrong kind has thousands.
pub const MAX_FAULTS: usize = 100;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The file's name as given.
    pub file: String,
    /// Line from 1; 0 where it is not known.
    pub line: u64,
    /// Column from 1, in characters; 0 where it is not known.
    pub column: u64,
    /// The field, such as `targets.foo-1.expect.json[0].op`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub expected: String,
    /// The nearest known word.
    pub nearest: Option<String>,
}

impl fmt::Display for FileFault {
    /// `catalog.yaml:3:5: targets.foo.timout: unknown field; did you mean "timeout"?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)?;
        // A long list of words helps only where none of them is near.
        if !self.expected.is_empty() && (self.nearest.is_none() || self.expected.len() <= 80) {
            write!(f, "; expected {}", self.expected)?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean {nearest:?}?")?;
        }
        Ok(())
    }
}

/// A place in the text: line and column from 1.
type At = (u64, u64);

/// A value with its place.
struct Node {
    at: At,
    kind: Kind,
}

enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, At, Node)>),
}

impl Node {
    fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::value).collect(),
            Kind::Map(fields) => {
                Value::Object(fields.iter().map(|(k, _, v)| (k.clone(), v.value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The place of a problem: the field's name or its value; the innermost known place where the path leads nowhere.
    fn find(&self, problem: &Problem) -> At {
        let (mut here, mut at) = (self, self.at);
        for step in problem.path.steps() {
            match (step, &here.kind) {
                (Step::Field(name), Kind::Map(fields)) => match fields.iter().find(|(field, ..)| field == name) {
                    Some((_, key_at, inner)) => {
                        here = inner;
                        // A block below its key is best shown at the key.
                        let is_block = !matches!(inner.kind, Kind::Scalar(_));
                        at = if problem.at_key || is_block { *key_at } else { inner.at };
                    }
                    None => return at,
                },
                (Step::Index(index), Kind::List(items)) => match items.get(*index) {
                    Some(inner) => {
                        here = inner;
                        at = inner.at;
                    }
                    None => return at,
                },
                _ => return at,
            }
        }
        at
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let at = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { at, kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyKind;
        impl<'de> Visitor<'de> for AnyKind {
            type Value = Kind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Kind, E> {
                Ok(Kind::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Kind, E> {
                Ok(Kind::Scalar(Value::Null))
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
                Kind::deserialize(deserializer)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Kind, E> {
                Ok(Kind::Scalar(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Kind, E> {
                Ok(Kind::Scalar(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Kind, E> {
                Ok(Kind::Scalar(v.into()))
            }
            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Kind, E> {
                Number::from_f64(v).map(|n| Kind::Scalar(n.into())).ok_or_else(|| E::custom("the number is not finite"))
            }
            fn visit_str<E>(self, v: &str) -> Result<Kind, E> {
                Ok(Kind::Scalar(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Kind::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<Spanned<Kind>>()? {
                    let name = match key.value {
                        Kind::Scalar(Value::String(text)) => text,
                        Kind::Scalar(Value::Null) => "null".to_owned(),
                        Kind::Scalar(other) => other.to_string(),
                        Kind::List(_) | Kind::Map(_) => return Err(A::Error::custom("a field's name must be text")),
                    };
                    let at = (key.referenced.line(), key.referenced.column());
                    fields.push((name, at, map.next_value()?));
                }
                Ok(Kind::Map(fields))
            }
        }
        deserializer.deserialize_any(AnyKind)
    }
}

/// Reads a catalog from YAML or JSON and judges it wholly: types, unknown fields, values, contradictions, circles.
///
/// # Errors
/// Every fault found (at most 100), in the order of the text.
pub fn parse_catalog(name: &str, text: &str) -> Result<Document, Vec<FileFault>> {
    let whole = |at: At, reason: String, expected: &str| {
        let (file, path, expected) = (name.to_owned(), String::new(), expected.to_owned());
        vec![FileFault { file, line: at.0, column: at.1, path, reason, expected, nearest: None }]
    };
    if text.len() > MAX_BYTES {
        return Err(whole((1, 1), format!("the text has {} bytes", text.len()), "at most 32 MiB"));
    }
    if text.trim().is_empty() {
        return Err(whole((1, 1), "the text is empty".to_owned(), "a catalog, such as targets: {}"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let node: Node = serde_saphyr::from_str_with_options(text, options()).map_err(|e| {
        let at = e.location().map_or((0, 0), |l| (l.line(), l.column()));
        whole(at, sentence(&e.without_snippet().to_string()), "valid YAML or JSON")
    })?;
    let mut value = node.value();
    let mut problems = Problems::default();
    schema::walk(&mut value, &shapes::DOCUMENT, &Path::default(), &mut problems);
    let well_shaped = problems.0.is_empty();
    if !well_shaped {
        leave_out(&mut value, &problems);
    }
    match serde_json::from_value::<Document>(value) {
        Ok(read) => match document::judge(&read) {
            Ok(_) if well_shaped => return Ok(read),
            Ok(_) => {}
            Err(more) => problems.0.extend(more.0),
        },
        Err(_) if !well_shaped => {}
        // The walk has seen every field; serde's message might repeat a secret.
        Err(_) => problems.add(&Path::default(), "it cannot be read as a whole", "the fields as documented"),
    }
    Err(faults(name, &node, problems))
}

/// Takes the badly shaped fields out, so that the rest can be judged in the same run; with a field of a target's spec
/// goes the whole spec, whose fields only have a meaning together.
fn leave_out(value: &mut Value, problems: &Problems) {
    const ALONE: [&str; 3] = ["path", "categories", "ack"];
    let step = |problem: &Problem, n: usize| match problem.path.steps().get(n) {
        Some(Step::Field(name)) => Some(name.clone()),
        _ => None,
    };
    for problem in &problems.0 {
        let (Some(room), Some(root)) = (step(problem, 0), value.as_object_mut()) else { continue };
        let entries = root.get_mut(&room).and_then(Value::as_object_mut);
        let (Some(name), Some(entries)) = (step(problem, 1), entries) else {
            root.remove(&room);
            continue;
        };
        let entry = entries.get_mut(&name).and_then(Value::as_object_mut);
        let (Some(field), Some(entry)) = (step(problem, 2), entry) else {
            entries.remove(&name);
            continue;
        };
        entry.remove(&field);
        if room == "targets" && !ALONE.contains(&field.as_str()) {
            entry.retain(|other, _| ALONE.contains(&other.as_str()));
        }
    }
}

fn faults(name: &str, node: &Node, problems: Problems) -> Vec<FileFault> {
    let mut faults: Vec<FileFault> = problems
        .0
        .into_iter()
        .map(|problem| {
            let (line, column) = node.find(&problem);
            let (file, path) = (name.to_owned(), problem.path.to_string());
            let Problem { reason, expected, nearest, .. } = problem;
            FileFault { file, line, column, path, reason, expected, nearest }
        })
        .collect();
    faults.sort_by_key(|f| (f.line, f.column));
    faults.truncate(MAX_FAULTS);
    faults
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 4_000_000,
            max_nodes: 2_000_000,
            max_documents: 1,
            max_depth: 64,
            max_merge_keys: 100_000,
            // Thousands of targets that share one anchor are no bomb; what aliases may replay is bounded below.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 200_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // `no` is a region's name as likely as a boolean: where a boolean is meant, the words are taken anyway.
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The parser's message without the place, which is told apart.
fn sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    // Advice for those who write programs, not catalogs.
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or(line);
    super::words::cut(line.trim_end_matches([' ', ':', ',']), 256)
}
