//! The decision core, PURE: no I/O, no clock, no tokio. Time comes in as a value, reasons come out as data.
//!
//! `health` turns observations into damped states; `aggregate` turns states, acks, switches and latches into verdicts;
//! `combination` and `raw` judge what a request asks for beyond single categories; `answer` prepares `/__gtg`;
//! `isolation` guards against a leader's own isolation; `invariants` checks an evaluation independently. Gathering the
//! inputs, writing latches and handing the results on is left to `controller`.

pub mod aggregate;
pub mod answer;
pub mod combination;
pub mod health;
pub mod invariants;
pub mod isolation;
pub mod raw;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use aggregate::{Input, evaluate};
pub use combination::{Combination, combine};
pub use health::{Change, Counters, Params, Track};
