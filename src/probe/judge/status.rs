//! The status alone: 2xx, unless the check expects something else. Pure.

use super::{Judgement, Reply};
use crate::model::target::Check;

/// Whether the status is what is wanted: the check's own ranges, else `default`.
#[must_use]
pub fn is_expected(check: &Check, status: u16, default: (u16, u16)) -> bool {
    let within = |(low, high): &(u16, u16)| (*low..=*high).contains(&status);
    if check.expect_status.is_empty() { within(&default) } else { check.expect_status.iter().any(within) }
}

/// `503 Service Unavailable`, or the number alone.
#[must_use]
pub fn phrase(status: u16) -> String {
    match http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// What was wanted, for people.
#[must_use]
pub fn wanted(check: &Check, default: &str) -> String {
    if check.expect_status.is_empty() {
        return default.to_owned();
    }
    let range = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    check.expect_status.iter().take(8).map(range).collect::<Vec<_>>().join(",")
}

/// Judges by the status.
#[must_use]
pub fn judge(check: &Check, reply: &Reply<'_>) -> Judgement {
    let good = is_expected(check, reply.status, (200, 299));
    let mut output = phrase(reply.status);
    if !good {
        output.push_str(&format!(", expected {}", wanted(check, "2xx")));
    }
    Judgement::new(good, output)
}
