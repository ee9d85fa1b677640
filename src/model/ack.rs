//! An ack: a person has seen a failure, and it no longer counts.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A service or cluster ack. Written as plain text (FT) or as JSON `{message, by, until}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Why the failure does not count; never empty.
    pub message: String,
    /// Who acked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the ack ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Version of the value; optional in what people write.
    #[serde(default, skip_serializing)]
    pub v: Option<u32>,
}

impl Ack {
    /// An ack by text alone.
    #[must_use]
    pub fn text(message: impl Into<String>) -> Self {
        Self { message: message.into(), by: None, until: None, v: None }
    }

    /// Whether it still counts at `now`.
    #[must_use]
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}
