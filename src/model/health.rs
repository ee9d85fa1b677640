//! A target's damped state as every output shows it. How it is damped is left to `evaluation::health`.

use std::sync::Arc;

use serde::Serialize;

use super::Timestamp;

/// Unknown, stale and down are distinct; stale is a mark, not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No (recent) result: counts as failed.
    Unknown,
    /// Enough good results in a row.
    Up,
    /// Enough bad results in a row.
    Down,
}

impl HealthState {
    /// `unknown`, `up` or `down`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One target's health.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Its damped state.
    pub state: HealthState,
    /// Since when it has that state.
    pub since: Timestamp,
    /// Why, for people; bounded, hostile text.
    pub reason: Arc<str>,
    /// No result for 2 × interval + timeout; still counted as last known.
    pub stale: bool,
    /// It changes too often; the worse state holds.
    pub flapping: bool,
    /// Term of the leader that saw the transition.
    pub term: i64,
    /// Grows with each transition of the target.
    pub n: u64,
}

impl Health {
    /// Before the first results.
    #[must_use]
    pub fn unknown(since: Timestamp) -> Self {
        Self {
            state: HealthState::Unknown,
            since,
            reason: Arc::from("not probed yet"),
            stale: false,
            flapping: false,
            term: 0,
            n: 0,
        }
    }
}
