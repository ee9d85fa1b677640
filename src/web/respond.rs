//! Answers in their common shapes: text, JSON, and the headers that all of them carry.

use std::fmt::Write as _;

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;

/// Content type of plain text.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Content type of JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// No cache may keep an answer.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Categories that were ignored.
pub(super) const UNKNOWN: HeaderName = HeaderName::from_static("bellwether-unknown");
/// Seconds since the oldest stale result.
pub(super) const STALE: HeaderName = HeaderName::from_static("bellwether-stale");
/// Targets that a fresh run did not reach in time.
pub(super) const NOT_REFRESHED: HeaderName = HeaderName::from_static("bellwether-not-refreshed");

/// Most bytes of a header that lists names.
const MAX_LIST: usize = 2048;

/// An answer of a content type; never cached, never sniffed.
pub(super) fn body(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    body(status, TEXT, Body::from(text.into()))
}

/// A value as JSON.
pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => body(status, JSON, bytes),
        // Our own values always serialise; if one day one does not, say so rather than give half an answer.
        Err(error) => unwritable(&error),
    }
}

/// 500: an answer of ours cannot be written.
pub(super) fn unwritable(error: &serde_json::Error) -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer cannot be written: {error}"))
}

/// Names as one header value: each percent-encoded where it has anything but name characters (they may come from a
/// request), cut at a bound.
pub(super) fn list_header<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut out = String::new();
    for name in names {
        if out.len() + name.len() > MAX_LIST {
            out.push_str(",...");
            break;
        }
        if !out.is_empty() {
            out.push(',');
        }
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    if out.is_empty() { None } else { HeaderValue::from_str(&out).ok() }
}

/// Text from outside as one line of bounded length.
pub(super) fn one_line(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_cannot_break_a_header() {
        let value = list_header(["a\r\nSet-Cookie: x", "b,c", "ü"]).unwrap();
        assert_eq!(value, "a%0D%0ASet-Cookie%3A%20x,b%2Cc,%C3%BC");
        assert!(list_header([]).is_none());
        let long = "x".repeat(1000);
        assert!(list_header(std::iter::repeat_n(long.as_str(), 50)).unwrap().len() <= MAX_LIST + 4);
    }
}
