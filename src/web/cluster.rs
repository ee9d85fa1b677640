//! What other nodes of the cluster get: the leader's stream, fresh results through the leader, and a witness's look at some
//! targets. Who may ask is decided by `doors`; what a line or body holds, by `replication`.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;

use super::{port::ClusterError, problem::Problem, query::Query, respond, routes::Call};
use crate::model::TargetName;

/// Most targets that are refreshed at once.
const MAX_REFRESHED: usize = 20_000;
/// Most targets that a witness is asked for; the guard asks for 5.
const MAX_WITNESSED: usize = 16;
/// Longest wait for the port, whose own bound is 3 s.
const WITHIN: Duration = Duration::from_secs(4);

/// What is asked of `refresh` and `witness`; unknown fields are ignored, as nodes of two versions run side by side.
#[derive(Deserialize)]
struct Asked {
    targets: Vec<TargetName>,
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let detail = error.to_string();
        let later = |slug, detail| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, slug, detail)
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        };
        match error {
            ClusterError::NotServing(_) => later("not-serving", detail),
            ClusterError::TooMany => later("too-many-followers", detail),
            ClusterError::Other(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

/// `GET /api/v1/replication/stream?after=TERM.SEQ`.
pub(super) async fn stream(call: Call) -> Response<Body> {
    subscribe(&call).unwrap_or_else(|problem| problem.response())
}

fn subscribe(call: &Call) -> Result<Response<Body>, Problem> {
    let after = after(call)?;
    let draining = call.web.draining.clone();
    if draining.is_cancelled() {
        return Err(ClusterError::NotServing("this node drains".to_owned()).into());
    }
    let lines = call.web.cluster.subscribe(after)?;
    let lines = lines.take_until(draining.cancelled_owned()).map(Ok::<_, std::convert::Infallible>);
    let mut response =
        respond::body(StatusCode::OK, HeaderValue::from_static("application/x-ndjson"), Body::from_stream(lines));
    // nginx would hold lines back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Where the follower left off.
fn after(call: &Call) -> Result<Option<(i64, u64)>, Problem> {
    let query = Query::parse(call.uri.query());
    let Some(text) = query.last("after") else { return Ok(None) };
    let numbers = text.split_once('.').and_then(|(term, seq)| Some((term.parse().ok()?, seq.parse().ok()?)));
    let wrong = || Problem::bad_request(format!("after={}: expected TERM.SEQ", respond::one_line(text, 64)));
    numbers.map(Some).ok_or_else(wrong)
}

/// `POST /api/v1/replication/refresh`.
pub(super) async fn refresh(call: Call) -> Response<Body> {
    let answer = async {
        let targets = asked(&call.body, MAX_REFRESHED)?;
        within(call.web.cluster.refresh(targets)).await
    };
    answered(answer.await)
}

/// `POST /api/v1/replication/witness`.
pub(super) async fn witness(call: Call) -> Response<Body> {
    let answer = async {
        let targets = asked(&call.body, MAX_WITNESSED)?;
        within(call.web.cluster.witness(targets)).await
    };
    answered(answer.await)
}

fn asked(body: &[u8], most: usize) -> Result<Vec<TargetName>, Problem> {
    let wrong = |e: serde_json::Error| {
        let error = respond::one_line(&e.to_string(), 200);
        Problem::bad_request(format!("expected {{\"targets\": [names]}}: {error}"))
    };
    let Asked { targets } = serde_json::from_slice(body).map_err(wrong)?;
    if targets.len() > most {
        return Err(Problem::bad_request(format!("{} targets are named; at most {most}", targets.len())));
    }
    Ok(targets)
}

async fn within(answer: impl Future<Output = Result<Bytes, ClusterError>>) -> Result<Bytes, Problem> {
    let late = |_| Problem::from(ClusterError::NotServing("no result in time".to_owned()));
    Ok(tokio::time::timeout(WITHIN, answer).await.map_err(late)??)
}

fn answered(answer: Result<Bytes, Problem>) -> Response<Body> {
    match answer {
        Ok(body) => respond::body(StatusCode::OK, respond::JSON, body),
        Err(problem) => problem.response(),
    }
}
