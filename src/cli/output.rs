//! How verbs print: to one buffered writer that ends quietly when the reader has gone, as tables, JSON or YAML.
//! Text from nodes comes from outside: control characters are taken out before it reaches a terminal.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use crate::model::Timestamp;

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For people who edit it.
    Yaml,
}

/// An error and its causes in one line. A cause that the text before it ends with already is not said twice.
#[must_use]
pub fn explained(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Whether an error says only that nobody reads any more (`bellwether get targets | head -1`).
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Makes hostile text harmless for a terminal: no control characters, one line, at most `max` characters.
#[must_use]
pub fn tame(text: &str, max: usize) -> String {
    // Direction overrides and line separators can disguise what a line says; they are no control characters to Unicode.
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut clean: String =
        text.chars().filter(|c| !hidden(*c)).map(|c| if c.is_control() { ' ' } else { c }).take(max + 1).collect();
    if clean.chars().count() > max {
        clean = clean.chars().take(max.saturating_sub(1)).chain(['…']).collect();
    }
    clean
}

/// Prints one JSON document, indented.
///
/// # Errors
/// The writer's.
pub fn json(out: &mut dyn Write, value: &Value) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Prints one YAML document.
///
/// # Errors
/// The writer's.
pub fn yaml(out: &mut dyn Write, value: &Value) -> anyhow::Result<()> {
    let text = serde_saphyr::to_string(value)?;
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        writeln!(out)?;
    }
    Ok(())
}

/// Prints a table without lines: it reads well, and `awk` can cut it.
///
/// # Errors
/// The writer's.
pub fn table(out: &mut dyn Write, header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    table.add_rows(rows);
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end()))?;
    }
    Ok(())
}

/// A JSON value in a table's cell.
#[must_use]
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(n) => n.to_string(),
        Value::String(s) if s.is_empty() => "-".to_owned(),
        Value::String(s) => tame(s, 80),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => tame(&list.iter().map(cell).collect::<Vec<_>>().join(","), 80),
        Value::Object(map) => {
            // A reason, an ack: its text says it.
            let text = ["text", "message", "name", "detail"].iter().find_map(|k| map.get(*k).and_then(Value::as_str));
            text.map_or_else(|| tame(&value.to_string(), 80), |t| tame(t, 80))
        }
    }
}

/// An age such as `5s`, `3m10s`, `2h5m`, `4d3h`.
#[must_use]
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// The age at `now` of an RFC 3339 time in JSON; `-` for anything else.
#[must_use]
pub fn age_of(value: Option<&Value>, now: Timestamp) -> String {
    let at = value.and_then(Value::as_str).and_then(|t| t.parse::<Timestamp>().ok());
    at.map_or_else(|| "-".to_owned(), |at| age(now.since(at).as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_move_the_cursor() {
        assert_eq!(tame("a\u{1b}[2Jb\nc\u{202e}d", 80), "a [2Jb cd");
        assert_eq!(tame("abcdef", 4), "abc…");
        assert_eq!(tame("abcd", 4), "abcd");
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("--listen: cannot listen: {source}")]
        struct Listen {
            source: std::io::Error,
        }
        let failed = || Listen { source: std::io::Error::other("in use") };
        let told = anyhow::Error::new(failed()).context("the node cannot start");
        assert_eq!(explained(&told), "the node cannot start: --listen: cannot listen: in use");
        let plain = anyhow::Error::new(std::io::Error::other("in use")).context("cannot listen");
        assert_eq!(explained(&plain), "cannot listen: in use");
    }

    #[test]
    fn ages_are_short() {
        let said: Vec<_> = [5, 190, 7500, 356_400].into_iter().map(age).collect();
        assert_eq!(said, ["5s", "3m10s", "2h5m", "4d3h"]);
    }

    #[test]
    fn a_table_is_plain_columns() {
        let mut out = Vec::new();
        table(&mut out, &["name", "ok"], vec![vec!["a-1".into(), "yes".into()]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME  OK\na-1   yes\n");
    }
}
