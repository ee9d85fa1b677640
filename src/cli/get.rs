//! `bellwether get`: one resource of the API as a table, JSON or YAML. Fields that a node does not send show as `-`,
//! so that versions may differ.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    http::{Client, query, segment},
    output::{self, Format, age_of, cell, tame},
};
use crate::{clock::Clock, model::Timestamp};

/// Flags of `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    #[command(subcommand)]
    what: What,
    /// Form of the output [default: table; yaml for the catalog]
    #[arg(long, short, global = true)]
    output: Option<Format>,
}

/// What can be read.
#[derive(Subcommand, Clone, Debug)]
enum What {
    /// All targets with their health
    Targets {
        /// Only of these categories, separated by commas
        #[arg(long, short, value_name = "NAMES")]
        categories: Option<String>,
    },
    /// One target, everything known of it
    Target {
        /// Its name
        name: String,
    },
    /// All services with their verdicts
    Services,
    /// All categories with their verdicts
    Categories,
    /// Refused and doubtful values
    Faults,
    /// Acks in force
    Acks,
    /// The node itself
    Node,
    /// The node's region: who leads, who is there
    Cluster,
    /// All regions, as they say themselves
    Regions,
    /// The catalog as a document, as `apply -f` reads it
    Catalog,
}

/// Columns of a table: heading and field.
type Columns = &'static [(&'static str, &'static str)];

const TARGETS: Columns = &[
    ("name", "name"),
    ("service", "service"),
    ("state", "state"),
    ("since", "@since"),
    ("checked", "@checked_at"),
    ("acked", "acked"),
    ("severity", "severity"),
    ("categories", "categories"),
    ("output", "output"),
];
const SERVICES: Columns =
    &[("name", "name"), ("ok", "ok"), ("up", "up"), ("total", "total"), ("severity", "severity"), ("why", "reasons")];
const CATEGORIES: Columns = &[
    ("name", "name"),
    ("ok", "ok"),
    ("healthy", "healthy"),
    ("enabled", "enabled"),
    ("latch", "latch"),
    ("sticky", "sticky"),
    ("resilient", "resilient"),
    ("period", "period"),
    ("targets", "#targets"),
    ("why", "reasons"),
];
const FAULTS: Columns = &[
    ("key", "key"),
    ("level", "level"),
    ("value", "value"),
    ("reason", "reason"),
    ("expected", "expected"),
    ("nearest", "nearest"),
    ("since", "@since"),
];
const REGIONS: Columns = &[
    ("name", "name"),
    ("state", "state"),
    ("enabled", "enabled"),
    ("leader", "leader"),
    ("term", "term"),
    ("nodes", "#nodes"),
    ("heard", "@seen"),
    ("down", "#down"),
    ("latched", "latched"),
];
const ACKS: Columns = &[("target", "target"), ("message", "message"), ("by", "by"), ("until", "until")];

/// A field's text; empty where it is none.
#[must_use]
pub fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The list in an answer: the answer itself, its field of that name, or an object by name.
#[must_use]
pub fn list(answer: Value, name: &str) -> Vec<Value> {
    match answer {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove(name) {
            Some(Value::Array(list)) => list,
            Some(Value::Object(by_name)) => by_name
                .into_iter()
                .map(|(key, mut value)| {
                    if let Some(fields) = value.as_object_mut() {
                        fields.entry("name").or_insert(Value::String(key));
                    }
                    value
                })
                .collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A target with its health's and its last result's fields beside its own: one level is what a table can show.
#[must_use]
pub fn flat_target(mut target: Value) -> Value {
    const INNER: [(&str, &str, &str); 7] = [
        ("health", "state", "state"),
        ("health", "since", "since"),
        ("health", "reason", "reason"),
        ("health", "stale", "stale"),
        ("health", "flapping", "flapping"),
        ("last", "output", "output"),
        ("last", "at", "checked_at"),
    ];
    for (group, inner, outer) in INNER {
        let found = target.get(group).and_then(|g| g.get(inner)).cloned();
        if let (Some(value), Some(fields)) = (found, target.as_object_mut()) {
            fields.entry(outer).or_insert(value);
        }
    }
    target
}

/// Reads and prints.
///
/// # Errors
/// When the node does not answer or refuses, or nobody reads the output.
pub fn run(args: &GetArgs, client: &Client, clock: &Clock, out: &mut dyn Write) -> anyhow::Result<()> {
    let (path, columns) = match &args.what {
        What::Targets { categories: Some(names) } => {
            (format!("/api/v1/targets?categories={}", query(names)), Some(("targets", TARGETS)))
        }
        What::Targets { categories: None } => ("/api/v1/targets".to_owned(), Some(("targets", TARGETS))),
        What::Target { name } => (format!("/api/v1/targets/{}", segment(name)), None),
        What::Services => ("/api/v1/services".to_owned(), Some(("services", SERVICES))),
        What::Categories => ("/api/v1/categories".to_owned(), Some(("categories", CATEGORIES))),
        What::Faults => ("/api/v1/faults".to_owned(), Some(("faults", FAULTS))),
        What::Acks => ("/api/v1/acks".to_owned(), Some(("acks", ACKS))),
        What::Node => ("/api/v1/node".to_owned(), None),
        What::Cluster => ("/api/v1/cluster".to_owned(), None),
        What::Regions => ("/api/v1/regions".to_owned(), Some(("regions", REGIONS))),
        What::Catalog => ("/api/v1/catalog".to_owned(), None),
    };
    let default = if matches!(args.what, What::Catalog) { Format::Yaml } else { Format::Table };
    let answer = client.get_json(&path)?;
    match (args.output.unwrap_or(default), columns) {
        (Format::Json, _) => output::json(out, &answer),
        (Format::Yaml, _) => output::yaml(out, &answer),
        (Format::Table, Some((name, columns))) => {
            let rows: Vec<Value> = list(answer, name).into_iter().map(flat_target).collect();
            if rows.is_empty() {
                writeln!(out, "no {name}")?;
                return Ok(());
            }
            let now = clock.now().wall;
            let header: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
            output::table(out, &header, rows.iter().map(|r| row(r, columns, now)).collect())
        }
        (Format::Table, None) => fields(&answer, out),
    }
}

fn row(value: &Value, columns: Columns, now: Timestamp) -> Vec<String> {
    columns
        .iter()
        .map(|(_, name)| match name.split_at_checked(1) {
            // An instant, shown as its age.
            Some(("@", instant)) => age_of(value.get(instant), now),
            // A list, shown as its length.
            Some(("#", list)) => match value.get(list).and_then(Value::as_array) {
                Some(items) => items.len().to_string(),
                None => value.get(list).map_or_else(|| "-".to_owned(), cell),
            },
            _ => value.get(name).map_or_else(|| "-".to_owned(), cell),
        })
        .collect()
}

/// One object: a field a line, inner objects by dotted names.
fn fields(answer: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    lines("", answer, &mut rows);
    output::table(out, &["field", "value"], rows)
}

fn lines(at: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let Value::Object(map) = value else {
        rows.push(vec![tame(at, 80), cell(value)]);
        return;
    };
    for (name, inner) in map {
        lines(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, inner, rows);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_found_in_every_form() {
        assert_eq!(list(json!([1]), "x"), [json!(1)]);
        assert_eq!(list(json!({"x": [1]}), "x"), [json!(1)]);
        assert_eq!(list(json!({"x": {"a": {"ok": true}}}), "x"), [json!({"name": "a", "ok": true})]);
        assert!(list(json!(null), "x").is_empty());
    }

    #[test]
    fn a_targets_inner_fields_are_lifted() {
        let target =
            json!({"name": "a", "health": {"state": "down", "since": "s"}, "last": {"output": "o", "at": "t"}});
        let flat = flat_target(target);
        let read: Vec<_> = ["state", "since", "output", "checked_at"].map(|f| field(&flat, f)).into();
        assert_eq!(read, ["down", "s", "o", "t"]);
        assert_eq!(flat_target(json!({"name": "a", "last": null})), json!({"name": "a", "last": null}));
    }

    #[test]
    fn missing_fields_show_as_a_dash() {
        let now = "2026-01-31T12:00:10Z".parse().unwrap();
        let line = row(&json!({"name": "a", "since": "2026-01-31T12:00:00Z"}), TARGETS, now);
        assert_eq!(
            line.iter().map(String::as_str).collect::<Vec<_>>(),
            ["a", "-", "-", "10s", "-", "-", "-", "-", "-"]
        );
    }
}
