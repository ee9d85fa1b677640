//! What is wrong with a value that somebody wrote: shown by key, never stopping anything.

use serde::Serialize;

use super::Timestamp;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultLevel {
    /// The value was refused; the last good one or the default is in force.
    Fault,
    /// Nothing was refused, but it is probably not what was meant (an unknown key).
    Hint,
}

/// One refused or doubtful value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The whole key (or file and field) that holds the value.
    pub key: String,
    /// Refused or only doubtful.
    pub level: FaultLevel,
    /// The value, cut to 256 characters; secrets replaced.
    pub value: String,
    /// What is wrong.
    pub reason: String,
    /// What would be right.
    pub expected: String,
    /// The nearest known word, where one is near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// Since when it is known.
    pub since: Timestamp,
}
