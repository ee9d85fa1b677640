//! `GET` and `PUT /api/v1/catalog`: the catalog as one document, JSON or YAML. What is one, and what its values mean, is
//! judged by `config::file`, as for a catalog's file.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::fields::{media_type, unsupported};
use crate::{
    config::file::{self, FileFault},
    model::{Fault, FaultLevel, Timestamp, document::Document},
    web::{
        accept, aside,
        port::{ApplyOptions, KeyChange},
        problem::Problem,
        query::Query,
        respond,
        routes::Call,
    },
};

/// What the request's body is called in a fault.
const BODY: &str = "body";
/// A longer text is read beside the threads that answer, in bytes.
const SMALL: usize = 16 * 1024;
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The catalog as it is written.
pub(in crate::web) async fn get(call: Call) -> Response<Body> {
    match call.web.port.document().await {
        Ok(document) if document.targets.len() <= 100 => write(&call, &document),
        Ok(document) => aside::always_answer(move || write(&call, &document)).await,
        Err(error) => Problem::from(error).response(),
    }
}

fn write(call: &Call, document: &Document) -> Response<Body> {
    let form = accept::choose(&call.headers, &[JSON, YAML, "text/yaml", "application/x-yaml"]);
    let mut response = if form == JSON {
        respond::json(StatusCode::OK, document)
    } else {
        match serde_saphyr::to_string(document) {
            Ok(text) => respond::body(StatusCode::OK, HeaderValue::from_static(YAML), text),
            Err(error) => {
                let detail = format!("the catalog cannot be written as YAML: {error}");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).response()
            }
        }
    };
    response.headers_mut().insert(http::header::VARY, HeaderValue::from_static("Accept"));
    response
}

#[derive(Serialize)]
struct Applied {
    dry_run: bool,
    changes: Vec<KeyChange>,
}

/// Applies a document; `?dry_run=true` only says what would change, `?prune=true` deletes what it does not name.
pub(in crate::web) async fn put(call: Call) -> Response<Body> {
    apply(&call).await.unwrap_or_else(|problem| problem.response())
}

async fn apply(call: &Call) -> Result<Response<Body>, Problem> {
    let query = Query::parse(call.uri.query());
    // A misspelt `dry_run` must not apply for real.
    if let Some(name) = query.unknown(&["dry_run", "prune"]) {
        let name = respond::one_line(name, 64);
        return Err(Problem::bad_request(format!("unknown parameter {name:?}; expected dry_run or prune")));
    }
    let options = ApplyOptions { dry_run: flag(&query, "dry_run")?, prune: flag(&query, "prune")? };
    let document = read(call).await?;
    let changes = call.web.port.apply(document, options).await?;
    Ok(respond::json(StatusCode::OK, &Applied { dry_run: options.dry_run, changes }))
}

fn flag(query: &Query, name: &str) -> Result<bool, Problem> {
    match query.last(name) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(_) => Err(Problem::bad_request(format!("{name}: expected true or false"))),
    }
}

async fn read(call: &Call) -> Result<Document, Problem> {
    if !matches!(media_type(call).as_str(), "" | JSON | YAML | "text/yaml" | "application/x-yaml" | "text/x-yaml") {
        return Err(unsupported(call, "application/json or application/yaml"));
    }
    let (body, now) = (call.body.clone(), call.web.clock.now().wall);
    let parse = move || {
        let text =
            std::str::from_utf8(&body).map_err(|e| Problem::bad_request(format!("the body is no UTF-8: {e}")))?;
        file::parse_catalog(BODY, text).map_err(|faults| refused(faults, now))
    };
    // Thousands of targets take long to read.
    if call.body.len() <= SMALL { parse() } else { aside::always(parse).await.map_err(Problem::from)? }
}

fn refused(faults: Vec<FileFault>, since: Timestamp) -> Problem {
    let detail = faults.first().map(ToString::to_string).unwrap_or_default();
    let faults = faults.into_iter().map(|f| fault(f, since)).collect();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).with_faults(faults)
}

/// Its field is the key; where the text cannot be read as a whole there is none.
fn fault(fault: FileFault, since: Timestamp) -> Fault {
    let FileFault { file, line, column, path, reason, expected, nearest } = fault;
    Fault {
        key: if path.is_empty() { file } else { path },
        level: FaultLevel::Fault,
        value: String::new(),
        reason: format!("line {line}, column {column}: {reason}"),
        expected,
        nearest,
        since,
    }
}
