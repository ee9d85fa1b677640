//! The one immutable value that readers get, swapped whole. Answers that are asked for often are prepared in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Catalog, CategoryName, Cell, Evaluation, Health, Latch, Mono, NodeStatus, Now,
    cluster::{ClusterStatus, Regions},
};

/// What every output reads.
#[derive(Debug)]
pub struct View {
    /// When it was built.
    pub built: Now,
    /// What operators wrote.
    pub catalog: Arc<Catalog>,
    /// Aligned with `catalog.targets`.
    pub health: Arc<[Health]>,
    /// Latest observations, aligned with `catalog.targets`; their contents move on under the view.
    pub cells: Arc<[Arc<Cell>]>,
    /// Verdicts.
    pub evaluation: Arc<Evaluation>,
    /// Latches in the store or held by this node.
    pub latches: Arc<BTreeMap<CategoryName, Latch>>,
    /// This node.
    pub node: NodeStatus,
    /// This node's region, as it sees it.
    pub cluster: Arc<ClusterStatus>,
    /// All regions.
    pub regions: Arc<Regions>,
    /// Prepared `/__gtg` answers.
    pub gtg: PreparedGtg,
}

impl View {
    /// When the newest result came in that is in the cells; looks at every target's.
    #[must_use]
    pub fn newest_result(&self) -> Option<Now> {
        self.cells.iter().filter_map(|cell| cell.load()).map(|seen| seen.at).max_by_key(|at| at.mono)
    }
}

/// Prepared `/__gtg` answers: by the raw `categories` value, and by service.
#[derive(Debug, Default)]
pub struct PreparedGtg {
    /// No `categories` asked for.
    pub default: GtgAnswer,
    /// One entry for each known category, and for combinations asked for lately.
    pub categories: HashMap<Box<str>, GtgAnswer>,
    /// One entry for each known service.
    pub services: HashMap<Box<str>, GtgAnswer>,
}

/// One `/__gtg` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtgAnswer {
    /// 200, 503, 400 or 404.
    pub status: u16,
    /// `OK`, or one line with the reason.
    pub body: Bytes,
    /// Unknown categories that were ignored, joined by commas (`Bellwether-Unknown`).
    pub unknown: Option<Bytes>,
    /// Since when the oldest stale target behind it has had no result (`Bellwether-Stale`).
    pub stale_since: Option<Mono>,
    /// The answer must not be given at or after this instant (slots).
    pub valid_until: Option<Mono>,
}

impl Default for GtgAnswer {
    /// Fails closed.
    fn default() -> Self {
        Self {
            status: 503,
            body: Bytes::from_static(b"the node is starting"),
            unknown: None,
            stale_since: None,
            valid_until: None,
        }
    }
}
