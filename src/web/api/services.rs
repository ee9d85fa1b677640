//! `GET /api/v1/services` and `/api/v1/services/{name}`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

use super::{Explained, member_names};
use crate::{
    model::{RegionName, Service, ServiceName, Severity, TargetName, View, spec::ServiceSpec},
    web::{aside, problem::Problem, respond, routes::Call},
};

#[derive(Serialize)]
struct Item<'a> {
    name: &'a ServiceName,
    ok: bool,
    severity: Option<Severity>,
    reasons: Vec<Explained<'a>>,
    up: u32,
    total: u32,
    targets: Vec<&'a TargetName>,
    failover: Option<&'a RegionName>,
    spec: &'a Arc<ServiceSpec>,
}

fn item<'a>(view: &'a View, service: &'a Service) -> Item<'a> {
    let verdict = view.evaluation.services.get(&service.name);
    Item {
        name: &service.name,
        ok: verdict.is_some_and(|v| v.ok),
        severity: verdict.and_then(|v| v.severity),
        reasons: verdict.map(|v| Explained::all(&v.reasons)).unwrap_or_default(),
        up: verdict.map_or(0, |v| v.up),
        total: verdict.map_or(0, |v| v.total),
        targets: member_names(view, &service.members),
        failover: service.failover.as_ref(),
        spec: &service.spec,
    }
}

/// All services.
pub(in crate::web) async fn list(call: Call) -> Response<Body> {
    let list = |view: &View| {
        let items: Vec<_> = view.catalog.services.values().map(|s| item(view, s)).collect();
        respond::json(StatusCode::OK, &items)
    };
    aside::answer(call.web.view.load(), list).await
}

/// One service.
pub(in crate::web) async fn one(call: Call) -> Response<Body> {
    // One of them may hold all targets.
    let one = move |view: &View| match view.catalog.services.get(call.name.as_str()) {
        Some(found) => respond::json(StatusCode::OK, &item(view, found)),
        None => {
            let known = view.catalog.services.keys().map(ServiceName::as_str);
            Problem::no_such("service", &call.name, known).response()
        }
    };
    aside::answer(call.web.view.load(), one).await
}
