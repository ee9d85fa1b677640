//! What the leader publishes so that every node, and one that has just started, sees the same catalog: the last good
//! values of faulty keys, and a held removal (`ROOT/regions/<region>/status/catalog`).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::{TargetName, Timestamp};

/// Most bytes of values that are published with a held removal: a store refuses requests above 1.5 MiB. Targets beyond
/// are named, but a node that starts meanwhile cannot bring them back.
pub const MAX_HELD_BYTES: usize = 768 * 1024;

/// The published value. Its keys' values may hold secrets (they are the operators' own keys): never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastGood {
    /// Version of the value.
    pub v: u32,
    /// Faulty keys, relative to ROOT, and their last good raw values.
    pub values: BTreeMap<String, String>,
    /// A removal that waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<LastHeld>,
}

/// A held removal with what is needed to keep its targets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastHeld {
    /// Targets that would go.
    pub targets: Vec<TargetName>,
    /// When it was seen.
    pub since: Timestamp,
    /// When it is applied.
    pub until: Timestamp,
    /// The deleted keys, relative to ROOT, and their values.
    pub values: BTreeMap<String, String>,
}

impl LastGood {
    /// Whether there is nothing to publish.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.held.is_none()
    }
}

impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.values.keys().collect();
        f.debug_struct("LastGood").field("keys", &keys).field("held", &self.held).finish()
    }
}

impl fmt::Debug for LastHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastHeld")
            .field("targets", &self.targets)
            .field("since", &self.since)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
