//! Blocks of the documentation that tests try: those behind a line `<!-- tested: NAME -->`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

/// A block of docs/operations.md.
pub fn operations(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let page = std::fs::read_to_string(path).unwrap();
    let marker = format!("<!-- tested: {name} -->");
    let (_, rest) = page.split_once(&marker).unwrap_or_else(|| panic!("docs/operations.md has no {marker}"));
    let (_, rest) = rest.split_once("```").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (block, _) = rest.split_once("\n```").unwrap();
    format!("{block}\n")
}
