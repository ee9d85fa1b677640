//! The result of one probe, and the cell that holds a target's latest one outside the view.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use super::{Now, Severity};

/// Good or bad, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It answered as expected.
    Good,
    /// It answered, and the answer is bad (status, body, failing checks, certificate).
    Bad,
    /// The deadline passed.
    Timeout,
    /// No connection (refused, reset, unreachable, name not found, TLS failure).
    Unreachable,
    /// It answered with something that is not the protocol.
    Protocol,
}

impl Outcome {
    /// Whether it counts towards `rise`.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Good)
    }

    /// As metrics name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Protocol => "protocol",
        }
    }
}

/// One probe's result. Text in it comes from outside: hostile, bounded, to be escaped.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Good or bad.
    pub outcome: Outcome,
    /// How long the whole exchange took.
    pub latency: Duration,
    /// One line that says what was seen; at most 512 bytes.
    pub output: Arc<str>,
    /// When the probe ended.
    pub at: Now,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// Days until the certificate expires, where there was one.
    pub days_left: Option<i64>,
    /// Checks of the target's own health document, at most 4 KiB together.
    pub checks: Option<Arc<[DocumentCheck]>>,
    /// Checks left out by that bound.
    pub checks_left_out: u32,
    /// The document's system code, for `/__agghealth`.
    pub system_code: Option<Arc<str>>,
    /// Values picked from the body for the rules.
    pub properties: Option<Arc<BTreeMap<String, serde_json::Value>>>,
}

impl Observation {
    /// A result without details.
    #[must_use]
    pub fn plain(outcome: Outcome, latency: Duration, output: impl Into<Arc<str>>, at: Now) -> Self {
        Self {
            outcome,
            latency,
            output: output.into(),
            at,
            status: None,
            days_left: None,
            checks: None,
            checks_left_out: 0,
            system_code: None,
            properties: None,
        }
    }
}

/// One check of a target's own health document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentCheck {
    /// Its id, or its name where it has none.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Whether it passes.
    pub ok: bool,
    /// How bad its failure is.
    pub severity: Severity,
    /// FT: what a failure means for the business.
    pub business_impact: Arc<str>,
    /// FT: what is checked.
    pub technical_summary: Arc<str>,
    /// FT: what to do about it.
    pub panic_guide: Arc<str>,
    /// What the check said.
    pub check_output: Arc<str>,
    /// When it ran, as written by the target.
    pub last_updated: Arc<str>,
}

/// A target's latest observation, replaced without touching the view.
#[derive(Debug, Default)]
pub struct Cell(ArcSwapOption<Observation>);

impl Cell {
    /// The latest observation.
    #[must_use]
    pub fn load(&self) -> Option<Arc<Observation>> {
        self.0.load_full()
    }

    /// Whether this very observation is still the latest; looks at nothing but where it lies.
    #[must_use]
    pub fn holds(&self, observation: &Arc<Observation>) -> bool {
        self.0.load().as_ref().is_some_and(|latest| Arc::ptr_eq(latest, observation))
    }

    /// Puts a newer one in its place.
    pub fn store(&self, observation: Arc<Observation>) {
        self.0.store(Some(observation));
    }
}
