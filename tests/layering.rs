//! Reads the sources: a room imports only rooms of lower rank (design section 2), files stay readable, and the
//! system's clocks are read in `src/clock.rs` alone (tests may measure).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Rooms and ranks of design section 2.
const RANKS: [(&str, u8); 21] = [
    ("bugs", 0),
    ("model", 0),
    ("evaluation", 1),
    ("config", 1),
    ("clock", 1),
    ("latest", 1),
    ("chance", 1),
    ("disk", 1),
    ("meters", 1),
    ("store", 2),
    ("probe", 2),
    ("replication", 2),
    ("publish", 2),
    ("web", 2),
    ("registry", 2),
    ("client", 2),
    ("controller", 3),
    ("runtime", 4),
    ("simulation", 5),
    ("cli", 5),
    ("main", 5),
];

/// Longest file: what a reader can hold.
const MAX_LINES: usize = 600;

/// Calls that read the system's clocks. The names are put together here so that this file does not hold them.
fn clock_calls() -> Vec<String> {
    ["SystemTime", "Instant"].map(|name| format!("{name}::now")).into()
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

/// The room of a file: the part of its path after `src/`.
fn room_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split(['/', '.']).next().unwrap_or(inner)
}

/// The code alone: comments out, string and character literals emptied, line breaks kept.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut out, mut i) = (String::with_capacity(text.len()), 0);
    while i < chars.len() {
        let raw = at(i) == 'r' && !(i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_'));
        let hashes = if raw { (i + 1..).take_while(|j| at(*j) == '#').count() } else { 0 };
        let end = if at(i) == '/' && at(i + 1) == '/' {
            (i..chars.len()).find(|j| at(*j) == '\n').unwrap_or(chars.len())
        } else if at(i) == '/' && at(i + 1) == '*' {
            (i + 2..chars.len()).find(|j| at(*j) == '*' && at(j + 1) == '/').map_or(chars.len(), |j| j + 2)
        } else if raw && at(i + 1 + hashes) == '"' {
            let closes = |j: &usize| at(*j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            (i + 2 + hashes..chars.len()).find(closes).map_or(chars.len(), |j| j + 1 + hashes)
        } else if at(i) == '"' {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            j + 1
        } else if at(i) == '\'' && (at(i + 2) == '\'' || at(i + 1) == '\\') {
            (i + 2..chars.len()).find(|j| at(*j) == '\'' && *j > i + 1).map_or(chars.len(), |j| j + 1)
        } else {
            out.push(at(i));
            i += 1;
            continue;
        };
        let end = end.min(chars.len());
        out.extend(chars[i..end].iter().filter(|c| **c == '\n'));
        out.push(' ');
        i = end.max(i + 1);
    }
    out
}

/// Rooms that a text names as `crate::x`, `bellwether::x` (the binary), or in braces after either, with the line.
fn imports(code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for root in ["crate", "bellwether"] {
        for (start, _) in code.match_indices(root) {
            let whole = !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            let rest = code[start + root.len()..].trim_start();
            let (Some(rest), true) = (rest.strip_prefix("::"), whole) else { continue };
            let line = code[..start].matches('\n').count() + 1;
            let rest = rest.trim_start();
            let names = match rest.strip_prefix('{') {
                Some(group) => first_names(group),
                None => vec![ident(rest)],
            };
            found.extend(names.into_iter().filter(|n| !n.is_empty()).map(|n| (line, n)));
        }
    }
    found
}

/// Rooms that a file reaches by climbing out with `super::super::…`, with the line.
fn climbs(path: &str, code: &str) -> BTreeSet<(usize, String)> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inner.split('/').count();
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("super::") {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let (mut rest, mut steps) = (&code[start..], 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, steps) = (next, steps + 1);
        }
        if steps >= depth {
            let names = rest.strip_prefix('{').map_or_else(|| vec![ident(rest)], first_names);
            let line = code[..start].matches('\n').count() + 1;
            found.extend(names.into_iter().map(|n| (line, n)));
        }
    }
    found
}

fn ident(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// First word of each item of a brace group (its nested groups left out).
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                names.push(ident(&group[i..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Everything wrong with one file.
fn faults(path: &str, text: &str) -> Vec<String> {
    let room = room_of(path);
    let code = code_of(text);
    let mut faults = Vec::new();
    if path != "src/lib.rs" {
        match rank(room) {
            None => {
                faults.push(format!("{path}: the room {room:?} has no rank; give it one in design section 2 and here"))
            }
            Some(own) => {
                for (line, other) in imports(&code).into_iter().chain(climbs(path, &code)) {
                    // Items of the crate's root (macros) have no rank; a room always has.
                    if let Some(theirs) = rank(&other).filter(|_| other != room)
                        && theirs >= own
                    {
                        // The binary is `main` and `cli` is its library side: one pair of one rank.
                        if room == "main" && other == "cli" {
                            continue;
                        }
                        faults.push(format!("{path}:{line}: {room} (rank {own}) imports {other} (rank {theirs})"));
                    }
                }
            }
        }
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{path}: {lines} lines; at most {MAX_LINES}"));
    }
    if path != "src/clock.rs" && !is_test_file(path) {
        // Tests may measure; by rustfmt's and our own habit they come last in a file.
        let lines: Vec<&str> = code.lines().collect();
        let inline_tests =
            lines.windows(2).position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod ") && w[1].ends_with('{'));
        for (number, line) in lines.iter().take(inline_tests.unwrap_or(lines.len())).enumerate() {
            for call in clock_calls() {
                // tokio's clock can be paused by a test and stays allowed in the shell.
                let tokio = line.contains(&format!("tokio::time::{call}"));
                if line.replace(' ', "").contains(&call) && !tokio && !uses_tokio_instant(&code) {
                    faults.push(format!("{path}:{}: {call} outside src/clock.rs", number + 1));
                }
            }
        }
    }
    faults
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Whether a file's plain `Instant` is tokio's.
fn uses_tokio_instant(code: &str) -> bool {
    code.split("use ").skip(1).any(|item| {
        let item = item.split(';').next().unwrap_or_default();
        item.trim_start().starts_with("tokio") && item.contains("Instant")
    })
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_room_imports_only_lower_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 10, "the sources were not found");
    files.sort();
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            faults(&name, &std::fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn breaches_are_found_in_made_up_text() {
    let said = |path: &str, text: &str| faults(path, text).join("\n");
    assert!(said("src/model/a.rs", "use crate::store::Store;").contains("model (rank 0) imports store (rank 2)"));
    assert!(said("src/store/a.rs", "use crate::web::port;").contains("store (rank 2) imports web"), "same rank");
    assert!(said("src/web/a.rs", "use crate::{\n    model::{Ack, Fault},\n    controller::x,\n};").contains(":1:"));
    assert!(said("src/web/a.rs", "fn f() { crate::runtime::go(); }").contains("runtime"), "a path without use");
    assert!(said("src/web/a.rs", "use crate ::\n  { cli };").contains("cli"), "however it is laid out");
    assert!(
        said("src/probe.rs", "let x = '\"'; use crate::cli::x; let y = '\"';").contains("cli"),
        "quotes in characters"
    );
    assert!(said("src/probe.rs", "let x = r#\"\"\"#; use crate::cli::x;").contains("cli"), "quotes in raw strings");
    assert!(
        said("src/model/a.rs", "use super::super::store::Store;").contains("model (rank 0) imports store"),
        "by climbing"
    );
    assert!(said("src/attic/a.rs", "").contains("no rank"));
    assert!(said("src/model/a.rs", &"\n".repeat(601)).contains("601 lines"));
    for call in clock_calls() {
        assert!(said("src/web/a.rs", &format!("\nlet t = std::time::{call}();")).contains("src/web/a.rs:2:"), "{call}");
        assert!(said("src/web/a.rs", &format!("let t = {call}();")).contains("outside"), "{call}");
        let last = format!("fn f() {{ {call}(); }}\n#[cfg(test)]\nmod tests {{}}");
        assert!(said("src/web/a.rs", &last).contains("src/web/a.rs:1:"), "before the tests");
        let apart = format!("#[cfg(test)]\nmod tests;\nfn f() {{ {call}(); }}");
        assert!(said("src/web/a.rs", &apart).contains("src/web/a.rs:3:"), "after tests of another file");
        assert_eq!(said("src/web/a.rs", &format!("#[cfg(test)]\nmod tests {{\n    fn f() {{ {call}(); }}\n}}")), "");
        assert_eq!(said("src/web/tests.rs", &format!("let t = {call}();")), "");
        assert_eq!(said("src/clock.rs", &format!("let t = {call}();")), "");
        assert_eq!(said("src/web/a.rs", &format!("let t = tokio::time::{call}();")), "");
    }
}

#[test]
fn what_is_allowed_passes() {
    for (path, text) in [
        ("src/web/a.rs", "use crate::model::{Ack, View};\nuse crate::{clock::Clock, latest::Latest};"),
        ("src/web/a.rs", "use crate::web::port::Port; use super::x;"),
        ("src/model/a.rs", "//! see crate::store\n/* crate::web */ const X: &str = \"crate::cli::x\";"),
        ("src/web/api/a.rs", "use super::super::web::x; use super::store;"),
        ("src/model/a.rs", "use other_crate::store; use x::bellwether::web;"),
        ("src/runtime/a.rs", "use crate::{controller, web::{port::Port, serve}, store::etcd};"),
        ("src/main.rs", "fn main() { bellwether::cli::run(); }"),
        ("src/lib.rs", "pub mod web;"),
        ("src/web/a.rs", "use tokio::time::{Duration, Instant};\nlet t = Instant::now();"),
    ] {
        assert_eq!(faults(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
