//! Errors as `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, and the faults where a value
//! was refused.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{aside::Busy, port::EditError, respond};
use crate::model::Fault;

/// Why a request was refused.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    slug: &'static str,
    detail: String,
    faults: Vec<Fault>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Body9457<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    faults: &'a [Fault],
}

impl Problem {
    /// A problem whose kind is told by a short word.
    pub(super) fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self { status, slug, detail: detail.into(), faults: Vec::new(), headers: Vec::new() }
    }

    /// 400: the request cannot be read; names the field or parameter and what is expected.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 404 for a name, with the nearest known one.
    pub(super) fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let hint = nearest(name, known).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        Self::not_found(format!("there is no {what} named {:?}{hint}", respond::one_line(name, 128)))
    }

    /// 405 with `Allow`.
    pub(super) fn method(method: &str, path: &str, allow: &str) -> Self {
        let detail = format!("{method} is not allowed on {path}; use {allow}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        if let Ok(value) = HeaderValue::from_str(allow) {
            problem.headers.push((header::ALLOW, value));
        }
        problem
    }

    /// With another header.
    pub(super) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the faults found.
    pub(super) fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    /// The answer.
    pub(super) fn response(&self) -> Response<Body> {
        let body = Body9457 {
            r#type: format!("urn:bellwether:problem:{}", self.slug),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            faults: &self.faults,
        };
        let mut response = respond::json(self.status, &body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

impl From<Busy> for Problem {
    fn from(_: Busy) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many large requests at once; ask again later")
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let detail = error.to_string();
        match error {
            EditError::StoreLost(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-lost", detail)
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("5")),
            EditError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "not-found", detail),
            EditError::Invalid { faults } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).with_faults(faults)
            }
            EditError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", detail),
            EditError::Other(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

/// The nearest known word, where one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_NEAREST {
        return None;
    }
    let bound = (word.chars().count() / 3).clamp(1, 3);
    known
        .filter(|k| k.len().abs_diff(word.len()) <= bound && other_letters(word, k) <= 2 * bound)
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, k)| k)
}

/// Longer words than any name are not compared.
const MAX_NEAREST: usize = 128;

/// How many letters one word has more than the other, both ways: a cheap bound that spares the real comparison, which
/// anybody could otherwise have made with 10,000 names by asking for one that is not there.
fn other_letters(a: &str, b: &str) -> usize {
    let mut counts = [0_i32; 128];
    for (word, step) in [(a, 1), (b, -1)] {
        for byte in word.bytes() {
            if let Some(count) = counts.get_mut(usize::from(byte & 0x7f)) {
                *count += step;
            }
        }
    }
    counts.iter().map(|c| c.unsigned_abs() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["message", "by", "until", "interval"];
        for (word, expected) in
            [("mesage", Some("message")), ("untli", Some("until")), ("bye", Some("by")), ("owner", None), ("", None)]
        {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }
}
