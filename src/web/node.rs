//! The node itself: `/__live`, `/__ready`, `/__ping`, `/__build-info`, `/metrics`. None of them depends on the store.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};

use super::{respond, routes::Call};
use crate::model::Role;

/// The process serves requests.
pub(super) async fn live(_: Call) -> Response<Body> {
    respond::text(StatusCode::OK, "OK")
}

/// The node may take requests; a draining one turns this first.
pub(super) async fn ready(call: Call) -> Response<Body> {
    let node = &call.web.view.peek().node;
    let reason = if call.web.draining.is_cancelled() {
        "the node is draining"
    } else if node.ready {
        return respond::text(StatusCode::OK, "OK");
    } else if node.role == Role::Starting {
        "the node is starting"
    } else {
        "the node is not ready: it answers from what it knew before it started"
    };
    respond::text(StatusCode::SERVICE_UNAVAILABLE, reason)
}

/// FT: `pong`.
pub(super) async fn ping(_: Call) -> Response<Body> {
    respond::text(StatusCode::OK, "pong")
}

/// What this program is.
pub(super) async fn build_info(call: Call) -> Response<Body> {
    respond::json(StatusCode::OK, &call.web.build)
}

/// The node's own figures, in Prometheus' text form.
pub(super) async fn metrics(call: Call) -> Response<Body> {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    respond::body(StatusCode::OK, content_type, (call.web.metrics)())
}
