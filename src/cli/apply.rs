//! `bellwether apply -f FILE`: brings the catalog to what a file says, and shows what changes, key by key. The file is
//! judged here first, for the sake of lines and columns, then by the node, which does the work.

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde_json::Value;

use super::{
    check,
    get::{field, list},
    http::{Client, ClientError},
    output::tame,
};
use crate::config::file;

/// Flags of `apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// Catalog file, YAML or JSON; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Also delete what the file does not name
    #[arg(long)]
    prune: bool,
}

/// Applies the file; returns the exit code: 1 when the file has a fault.
///
/// # Errors
/// When the file cannot be read, the node does not answer or refuses, or nobody reads the output.
pub fn run(args: &ApplyArgs, client: &Client, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (name, text) = check::read(&args.file)?;
    if let Err(faults) = file::parse_catalog(&name, &text) {
        check::show(&faults, out)?;
        return Ok(1);
    }
    // The text itself is sent: read and written again, secrets in it would come out as `***`.
    let media =
        if args.file.extension().is_some_and(|e| e == "json") { "application/json" } else { "application/yaml" };
    let path = format!("/api/v1/catalog?dry_run={}&prune={}", args.dry_run, args.prune);
    let answer = match client.edit("PUT", &path, Some((media, text.into_bytes()))) {
        Ok(answer) => answer,
        Err(ClientError::Refused { problem, .. }) if has_faults(&problem) => {
            for fault in list(problem, "faults") {
                writeln!(out, "{name}: {}", tame(&fault_line(&fault), 2000))?;
            }
            return Ok(1);
        }
        Err(e) => return Err(e.into()),
    };
    let changes = list(answer, "changes");
    show(&changes, args.dry_run, out)?;
    Ok(0)
}

fn has_faults(problem: &Value) -> bool {
    problem.get("faults").and_then(Value::as_array).is_some_and(|f| !f.is_empty())
}

fn fault_line(fault: &Value) -> String {
    let mut line = format!("{}: {}", field(fault, "key"), field(fault, "reason"));
    if !field(fault, "expected").is_empty() {
        line.push_str(&format!("; expected {}", field(fault, "expected")));
    }
    if !field(fault, "nearest").is_empty() {
        line.push_str(&format!("; did you mean {:?}?", field(fault, "nearest")));
    }
    line
}

/// `+ key = new`, `- key = old`, `~ key: old -> new`, and a count.
fn show(changes: &[Value], dry_run: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut added, mut changed, mut removed) = (0, 0, 0);
    for change in changes {
        let key = tame(field(change, "key"), 400);
        let side = |name: &str| change.get(name).and_then(Value::as_str).map(|t| tame(t, 400));
        match (side("old"), side("new")) {
            (None, Some(new)) => {
                added += 1;
                writeln!(out, "+ {key} = {new}")?;
            }
            (Some(old), None) => {
                removed += 1;
                writeln!(out, "- {key} = {old}")?;
            }
            (old, new) => {
                changed += 1;
                writeln!(out, "~ {key}: {} -> {}", old.unwrap_or_default(), new.unwrap_or_default())?;
            }
        }
    }
    let end = if dry_run { " (dry run: nothing written)" } else { "" };
    if changes.is_empty() {
        writeln!(out, "nothing to change{end}")?;
    } else {
        writeln!(out, "{added} added, {changed} changed, {removed} removed{end}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_diff_shows_each_key_once() {
        let mut out = Vec::new();
        let changes = [
            json!({"key": "/ft/healthcheck/a/path", "old": null, "new": "/h"}),
            json!({"key": "/ft/healthcheck/b/path", "old": "/h", "new": null}),
            json!({"key": "/ft/healthcheck/c/path", "old": "/h", "new": "/i"}),
        ];
        show(&changes, true, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "+ /ft/healthcheck/a/path = /h\n- /ft/healthcheck/b/path = /h\n~ /ft/healthcheck/c/path: /h -> /i\n\
             1 added, 1 changed, 1 removed (dry run: nothing written)\n"
        );
    }
}
