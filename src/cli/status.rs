//! `bellwether status`: is it good to go, and what fails. The exit code says it too (design section 6): 0 all well,
//! 1 something fails but it is good to go, 2 not good to go, 3 no answer.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    get::{field, flat_target, list},
    http::{Client, ClientError, query},
    output::{self, age_of, cell, tame},
};
use crate::{clock::Clock, model::Timestamp};

/// Most nodes that are named.
const MAX_NODES: usize = 20;

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only these categories, separated by commas [default: the node's whole list, judged by `default`]
    #[arg(long, short, value_name = "NAMES")]
    categories: Option<String>,
    /// Form of the output
    #[arg(long, short, default_value = "table")]
    output: StatusFormat,
    /// Show it again every two seconds, until interrupted
    #[arg(long, short)]
    watch: bool,
}

/// What one look found.
#[derive(Debug)]
struct Status {
    code: u8,
    /// `__gtg`'s answer, one line.
    reason: String,
    node: Value,
    /// Null from a node that does not tell it.
    cluster: Value,
    categories: Vec<Value>,
    targets: Vec<Value>,
}

/// Shows the status; returns the exit code.
///
/// # Errors
/// When nothing answers (exit code 3), or nobody reads the output.
pub fn run(args: &StatusArgs, client: &Client, clock: &Clock, out: &mut dyn Write) -> anyhow::Result<u8> {
    if !args.watch {
        let status = look(args, client)?;
        show(args, &status, clock.now().wall, out)?;
        return Ok(status.code);
    }
    let terminal = std::io::stdout().is_terminal();
    // Nobody sends: the wait between two looks is for the reader's eyes, and ends with the process.
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    loop {
        let looked = look(args, client);
        if terminal && args.output == StatusFormat::Table {
            write!(out, "\x1b[H\x1b[2J")?;
        }
        match looked {
            Ok(status) => show(args, &status, clock.now().wall, out)?,
            Err(e) => writeln!(out, "{e}")?,
        }
        out.flush()?;
        let _ = never.recv_timeout(Duration::from_secs(2));
    }
}

fn look(args: &StatusArgs, client: &Client) -> Result<Status, ClientError> {
    let asked: Option<Vec<&str>> = args
        .categories
        .as_deref()
        .map(|text| text.split(',').map(str::trim).filter(|w| !w.is_empty()).collect::<Vec<_>>())
        .filter(|words| !words.is_empty());
    let path = match &asked {
        Some(words) => format!("/__gtg?categories={}", query(&words.join(","))),
        None => "/__gtg".to_owned(),
    };
    let gtg = client.get(&path)?;
    let node = client.get_json("/api/v1/node")?;
    let cluster = client.get("/api/v1/cluster")?;
    let cluster = match cluster.status {
        200 => serde_json::from_str(&cluster.text).unwrap_or_default(),
        _ => Value::Null,
    };
    let mut categories = list(client.get_json("/api/v1/categories")?, "categories");
    let answer = client.get_json("/api/v1/targets")?;
    let mut targets: Vec<Value> = list(answer, "targets").into_iter().map(flat_target).collect();
    if let Some(words) = &asked {
        categories.retain(|c| words.contains(&field(c, "name")));
        targets.retain(|t| match t.get("categories").and_then(Value::as_array) {
            Some(of) => of.iter().filter_map(Value::as_str).any(|name| words.contains(&name)),
            None => true,
        });
    }
    targets.sort_by_key(|t| (rank(t), field(t, "name").to_owned()));
    // An acked failure counts nowhere, and yet something fails. A node that has lost its store goes on, and is not well.
    let troubled = targets.iter().any(|t| field(t, "state") != "up")
        || categories.iter().any(|c| !truth(c, "ok"))
        || truth(&node, "degraded");
    let code = match (gtg.status, troubled) {
        (200, false) => 0,
        (200, true) => 1,
        _ => 2,
    };
    let reason = tame(gtg.text.lines().next().unwrap_or_default().trim(), 300);
    Ok(Status { code, reason, node, cluster, categories, targets })
}

fn truth(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn acked(target: &Value) -> bool {
    target.get("acked").and_then(Value::as_bool).unwrap_or_else(|| target.get("ack").is_some_and(|a| !a.is_null()))
}

/// An acked failure does not count, anywhere (design section 6).
fn counts_as_failed(target: &Value) -> bool {
    field(target, "state") != "up" && !acked(target)
}

/// Failing first, then acked failures, then what is doubtful, then the rest.
fn rank(target: &Value) -> u8 {
    match (field(target, "state"), acked(target)) {
        ("down", false) => 0,
        ("up", _) if truth(target, "stale") || truth(target, "flapping") => 3,
        ("up", _) => 4,
        (_, false) => 1,
        (_, true) => 2,
    }
}

fn show(args: &StatusArgs, status: &Status, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.output {
        StatusFormat::Json => output::json(
            out,
            &json!({
                "ok": status.code < 2,
                "code": status.code,
                "reason": status.reason,
                "node": status.node,
                "cluster": status.cluster,
                "categories": status.categories,
                "targets": status.targets,
            }),
        ),
        StatusFormat::Table => show_table(status, now, out),
    }
}

fn show_table(status: &Status, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    let failing = status.targets.iter().filter(|t| counts_as_failed(t)).count();
    let up = status.targets.iter().filter(|t| field(t, "state") == "up").count();
    let acked = status.targets.len().saturating_sub(failing + up);
    let headline = match status.code {
        0 => "OK: good to go".to_owned(),
        1 => "WARNING: good to go, but not all is well".to_owned(),
        _ => format!("NOT GOOD TO GO: {}", status.reason),
    };
    writeln!(out, "{headline}")?;
    let node = |name: &str| status.node.get(name).map_or_else(|| "-".to_owned(), cell);
    let degraded = if truth(&status.node, "degraded") { ", degraded" } else { "" };
    let targets = match status.targets.len() {
        1 => "1 target".to_owned(),
        n => format!("{n} targets"),
    };
    writeln!(
        out,
        "node {} in region {}: {}{degraded}, store {}; {targets}: {up} up, {failing} failing, {acked} failing but acked",
        node("node"),
        node("region"),
        node("role"),
        node("store"),
    )?;
    for line in cluster_lines(&status.cluster, now) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    output::table(out, &["category", "ok", "switch", "why"], status.categories.iter().map(category_row).collect())?;
    if !status.targets.is_empty() {
        writeln!(out)?;
        let rows = status.targets.iter().map(|t| target_row(t, now)).collect();
        output::table(out, &["target", "state", "since", "checked", "ack", "what"], rows)?;
    }
    Ok(())
}

/// Who leads, who is there, where the results come from, and what is lost; empty where the node does not tell it.
fn cluster_lines(cluster: &Value, now: Timestamp) -> Vec<String> {
    if !cluster.is_object() {
        return Vec::new();
    }
    let get = |name: &str| cluster.get(name).map_or_else(|| "-".to_owned(), cell);
    let leader = cluster.get("leader").filter(|l| l.is_object());
    let leads = leader.map(|l| field(l, "node"));
    let who = match leader {
        Some(l) => {
            let url = field(l, "url");
            let at = if url.is_empty() { String::new() } else { format!(" at {}", tame(url, 80)) };
            format!("led by {}{at} for {}", tame(field(l, "node"), 128), age_of(l.get("since"), now))
        }
        None => "leader not known".to_owned(),
    };
    let reason = Some(get("last_reason")).filter(|r| r != "-").map(|r| format!(" ({r})")).unwrap_or_default();
    let changes = match cluster.get("transitions").and_then(Value::as_u64) {
        Some(1) => "1 change".to_owned(),
        n => format!("{} changes", n.unwrap_or(0)),
    };
    let mut lines = vec![format!("cluster: {who}, term {}; {changes} seen{reason}", get("term"))];
    let nodes = cluster.get("nodes").and_then(Value::as_array).filter(|n| !n.is_empty());
    if let Some(nodes) = nodes {
        let named = |of: &Value| {
            let name = field(of, "node");
            let marks = [(name == field(cluster, "node"), "asked"), (leads == Some(name), "leads")];
            let marks: Vec<&str> = marks.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
            let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
            format!("{}{marks}", tame(name, 128))
        };
        let all: Vec<String> = nodes.iter().take(MAX_NODES).map(named).collect();
        let more = nodes.len().saturating_sub(all.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("nodes: {}{more}", all.join(", ")));
    }
    lines.push(format!("results: {}", results_line(cluster)));
    let notes = cluster.get("notes").and_then(Value::as_array).into_iter().flatten();
    lines.extend(notes.map(|n| match field(n, "meaning") {
        "" => format!("! {}", tame(field(n, "what"), 300)),
        meaning => format!("! {}. {}", tame(field(n, "what"), 300), tame(meaning, 300)),
    }));
    lines
}

fn results_line(cluster: &Value) -> String {
    let results = cluster.get("results").unwrap_or(&Value::Null);
    let from = match field(results, "from") {
        "own" => match results.get("followers").and_then(Value::as_u64) {
            None | Some(0) => "its own probes".to_owned(),
            Some(1) => "its own probes, followed by 1 node".to_owned(),
            Some(n) => format!("its own probes, followed by {n} nodes"),
        },
        "stream" => format!("the stream of {}", tame(field(results, "node"), 128)),
        "store" => "the store, without details".to_owned(),
        _ => "nothing new".to_owned(),
    };
    match cluster.get("newest_result_age").and_then(Value::as_f64) {
        Some(seconds) => {
            let age = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
            format!("{from}; the newest is {} old", output::age(age.as_secs()))
        }
        None => format!("{from}; none yet"),
    }
}

fn category_row(category: &Value) -> Vec<String> {
    let get = |name: &str| category.get(name).map_or_else(|| "-".to_owned(), cell);
    let latched = category.get("latch").is_some_and(|l| !l.is_null());
    let switch = match (category.get("enabled").and_then(Value::as_bool), latched) {
        (_, true) => "latched",
        (Some(false), _) => "disabled",
        _ => "on",
    };
    let why = category.get("reasons").and_then(Value::as_array).and_then(|r| r.first()).map_or("-".to_owned(), cell);
    vec![get("name"), get("ok"), switch.to_owned(), why]
}

fn target_row(target: &Value, now: Timestamp) -> Vec<String> {
    let get = |name: &str| target.get(name).map_or_else(|| "-".to_owned(), cell);
    let mut state = get("state");
    for mark in ["stale", "flapping"] {
        if truth(target, mark) {
            state = format!("{state} ({mark})");
        }
    }
    let ack = match target.get("ack") {
        Some(Value::Object(ack)) => {
            let message = ack.get("message").and_then(Value::as_str).unwrap_or("yes");
            let by = ack.get("by").and_then(Value::as_str);
            tame(&by.map_or_else(|| message.to_owned(), |by| format!("{message} ({by})")), 50)
        }
        Some(other) => cell(other),
        None => "-".to_owned(),
    };
    let what = if field(target, "state") == "up" { get("output") } else { get("reason") };
    vec![get("name"), state, age_of(target.get("since"), now), age_of(target.get("checked_at"), now), ack, what]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_in_lines() {
        let now: Timestamp = "2026-01-31T12:03:10Z".parse().unwrap();
        let mut cluster = json!({
            "node": "a", "term": 42, "transitions": 2, "last_reason": "b took\u{1b}[2J over",
            "leader": {"node": "b", "url": "http://b:8080", "since": "2026-01-31T12:00:00Z"},
            "nodes": [{"node": "a"}, {"node": "b"}, {"node": "c"}],
            "results": {"from": "stream", "node": "b"}, "newest_result_age": 3.2, "notes": [],
        });
        let lines = cluster_lines(&cluster, now);
        let expected = [
            "cluster: led by b at http://b:8080 for 3m10s, term 42; 2 changes seen (b took [2J over)",
            "nodes: a (asked), b (leads), c",
            "results: the stream of b; the newest is 3s old",
        ];
        assert_eq!(lines, expected);
        cluster["leader"] = Value::Null;
        cluster["results"] = json!({"from": "own", "followers": 0});
        cluster["notes"] = json!([{"what": "The store does not answer", "meaning": "Verdicts go on."}]);
        let lines = cluster_lines(&cluster, now);
        assert!(lines[0].starts_with("cluster: leader not known, term 42"), "{lines:?}");
        assert_eq!(lines[3], "! The store does not answer. Verdicts go on.");
        assert!(cluster_lines(&Value::Null, now).is_empty(), "an older node does not tell it");
    }

    #[test]
    fn failing_targets_come_first() {
        let mut targets = [
            json!({"name": "good", "state": "up"}),
            json!({"name": "seen", "state": "down", "ack": {"message": "m"}}),
            json!({"name": "new", "state": "unknown"}),
            json!({"name": "old", "state": "up", "stale": true}),
            json!({"name": "bad", "state": "down", "ack": null}),
        ];
        targets.sort_by_key(rank);
        let names: Vec<_> = targets.iter().map(|t| field(t, "name")).collect();
        assert_eq!(names, ["bad", "new", "seen", "old", "good"]);
    }

    #[test]
    fn an_acked_failure_does_not_count() {
        assert!(counts_as_failed(&json!({"state": "down"})));
        assert!(counts_as_failed(&json!({})), "fields that are missing fail closed");
        assert!(!counts_as_failed(&json!({"state": "down", "acked": true})));
        assert!(counts_as_failed(&json!({"state": "down", "acked": false, "ack": {"message": "expired"}})));
    }
}
