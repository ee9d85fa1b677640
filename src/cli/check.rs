//! `bellwether check FILE`: validates a catalog file without any node. How a document is read and judged is left to
//! `config`; here its faults become `file:line:column: message` lines, which editors understand.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

use super::output::tame;
use crate::{config::file, model::document::Document};

/// The largest catalog file read: a slip such as `check /dev/zero` must end.
const MAX_FILE: u64 = file::MAX_BYTES as u64;

/// Flags of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Catalog files, YAML or JSON; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A file's text and the name to show for it; `-` is standard input.
///
/// # Errors
/// When it cannot be read, is too large, or is no UTF-8.
pub fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let stdin = file == Path::new("-");
    let name = if stdin { "<stdin>".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let taken = if stdin {
        std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    let size = taken.with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(
        u64::try_from(size).is_ok_and(|s| s <= MAX_FILE),
        "{name} is too large: a catalog has at most 64 MiB"
    );
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is no text"))?;
    Ok((name, text))
}

/// Checks every file; returns the exit code: 1 when one has a fault.
///
/// # Errors
/// When a file cannot be read, or nobody reads the output.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut code = 0;
    for file in &args.files {
        let (name, text) = read(file)?;
        match file::parse_catalog(&name, &text) {
            Ok(document) => writeln!(out, "{name}: ok: {}", summary(&document))?,
            Err(faults) => {
                code = 1;
                show(&faults, out)?;
            }
        }
    }
    Ok(code)
}

/// One line a fault.
///
/// # Errors
/// The writer's.
pub fn show(faults: &[file::FileFault], out: &mut dyn Write) -> anyhow::Result<()> {
    for fault in faults {
        writeln!(out, "{}", tame(&fault.to_string(), 2000))?;
    }
    Ok(())
}

fn summary(document: &Document) -> String {
    let count = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    [
        count(document.targets.len(), "target", "targets"),
        count(document.categories.len(), "category", "categories"),
        count(document.services.len(), "service", "services"),
        count(document.regions.len(), "region", "regions"),
    ]
    .join(", ")
}
