//! `/api/v1/`: JSON in snake_case, times in RFC 3339, durations in seconds, errors as problem+json. One file per kind of
//! thing; what the paths are is in `routes`.

pub(super) mod acks;
pub(super) mod catalog;
pub(super) mod categories;
pub(super) mod cluster;
pub(super) mod events;
mod fields;
pub(super) mod services;
pub(super) mod targets;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

use super::{respond, routes::Call};
use crate::model::{Reason, Role, TargetName, View};

/// The description of this API, kept by hand and checked against the real routes by `tests/web.rs`.
const OPENAPI: &str = include_str!("../openapi.json");

/// `GET /api/v1/faults`: what is wrong with written values.
pub(super) async fn faults(call: Call) -> Response<Body> {
    respond::json(StatusCode::OK, &call.web.view.load().catalog.faults)
}

/// `GET /api/v1/node`: this node (design section 4.1).
pub(super) async fn node(call: Call) -> Response<Body> {
    let view = call.web.view.load();
    let mut node = view.node.clone();
    // A draining node is not ready, whatever the view still says.
    node.ready = node.ready && !call.web.draining.is_cancelled();
    // Role `leader` only while it may write: the view of a process that was frozen is of before.
    if node.role == Role::Leader && !call.web.cluster.may_write() {
        (node.role, node.leader, node.degraded) = (Role::Follower, None, true);
        (node.leader_url, node.leader_term) = (None, None);
    }
    respond::json(StatusCode::OK, &node)
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn openapi(_: Call) -> Response<Body> {
    respond::body(StatusCode::OK, respond::JSON, OPENAPI)
}

/// A reason with its plain line.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    reason: &'a Reason,
    text: String,
}

impl<'a> Explained<'a> {
    fn all(reasons: &'a [Reason]) -> Vec<Self> {
        reasons.iter().map(|reason| Self { reason, text: reason.to_string() }).collect()
    }
}

/// The names of targets by their indexes.
fn member_names<'a>(view: &'a View, members: &[u32]) -> Vec<&'a TargetName> {
    members.iter().filter_map(|&m| view.catalog.targets.get(m as usize)).map(|t| &t.name).collect()
}
