//! The small JSON objects of edits: unknown fields refused with the nearest known one, wrong kinds with what was expected.

use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::{
    model::Timestamp,
    web::{
        problem::{Problem, nearest},
        respond,
        routes::Call,
    },
};

/// Longest text of a field, in bytes: it becomes a key's value and stands on every page.
const MAX_TEXT: usize = 4096;

/// An object whose fields are all known.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the body.
    ///
    /// # Errors
    /// 415 for another content type, 400 for what is no such object.
    pub(super) fn read(call: &Call, known: &[&str]) -> Result<Self, Problem> {
        if !matches!(media_type(call).as_str(), "application/json" | "") {
            return Err(unsupported(call, "application/json"));
        }
        let value: Value = serde_json::from_slice(&call.body)
            .map_err(|e| Problem::bad_request(format!("the body is no JSON: {e}")))?;
        let Value::Object(map) = value else {
            return Err(Problem::bad_request(format!(
                "the body must be an object with the fields {}",
                known.join(", ")
            )));
        };
        if let Some(field) = map.keys().find(|k| !known.contains(&k.as_str())) {
            let hint = nearest(field, known.iter().copied()).map(|n| format!("; did you mean {n:?}?"));
            return Err(Problem::bad_request(format!(
                "unknown field {:?}{}; expected {}",
                respond::one_line(field, 64),
                hint.unwrap_or_default(),
                known.join(", ")
            )));
        }
        Ok(Self(map))
    }

    /// A text, or none where the field is absent or null.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.clone())),
            Some(Value::String(_)) => Err(wrong(name, &format!("at most {MAX_TEXT} bytes"))),
            Some(_) => Err(wrong(name, "a text")),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| wrong(name, "a text; it is missing"))
    }

    /// A boolean that must be there.
    pub(super) fn required_bool(&self, name: &str) -> Result<bool, Problem> {
        self.0.get(name).and_then(Value::as_bool).ok_or_else(|| wrong(name, "true or false"))
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let text = self.text(name)?;
        text.map(|t| t.parse().map_err(|_| wrong(name, "a time such as 2026-01-31T12:00:00Z"))).transpose()
    }
}

fn wrong(field: &str, expected: &str) -> Problem {
    Problem::bad_request(format!("{field}: expected {expected}"))
}

/// The content type without parameters, in lower case; empty where none is given.
pub(super) fn media_type(call: &Call) -> String {
    let value = call.headers.get(CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?")).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// 415.
pub(super) fn unsupported(call: &Call, expected: &str) -> Problem {
    let detail = format!("Content-Type {:?} is not taken; expected {expected}", media_type(call));
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
}
