//! Spring Boot actuator: `UP` is good; `DOWN`, `OUT_OF_SERVICE`, `UNKNOWN` and every other word are bad; the components
//! that fail are named. Pure.

use super::{Judgement, Reply, document::Word, health_json};
use crate::model::target::Check;

/// Judges by the document's `status`.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    health_json::judge_with(check, reply, read)
}

/// Spring's reading of a status word.
#[must_use]
pub fn read(word: &str) -> Word {
    if word.eq_ignore_ascii_case("up") { Word::Pass } else { Word::Fail }
}
