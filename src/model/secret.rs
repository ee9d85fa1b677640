//! Values that must not be shown, logged or replicated.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// A header or auth value: given in place, or read from a file at each probe run. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// The text itself.
    Inline(String),
    /// A file that holds it (a trailing line break is cut).
    File {
        /// The file's path on the node.
        file: PathBuf,
    },
}

/// What stands in place of a secret in every output.
pub const REDACTED: &str = "***";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str(REDACTED),
            Self::File { file } => write!(f, "file {}", file.display()),
        }
    }
}

impl Serialize for Secret {
    /// Writes `***`, or the file's name: the text itself never leaves the process.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct File<'a> {
            file: &'a PathBuf,
        }
        match self {
            Self::Inline(_) => s.serialize_str(REDACTED),
            Self::File { file } => File { file }.serialize(s),
        }
    }
}
