//! `GET /api/v1/categories`, `/api/v1/categories/{name}` and `PUT /api/v1/categories/{name}/enabled`.

use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

use super::{Explained, fields::Fields, member_names};
use crate::{
    model::{Category, CategoryName, Latch, Severity, TargetName, View, duration},
    web::{aside, port::Edit, problem::Problem, respond, routes::Call},
};

#[derive(Serialize)]
struct Item<'a> {
    name: &'a CategoryName,
    #[serde(with = "duration::seconds")]
    period: Duration,
    resilient: bool,
    sticky: bool,
    enabled: bool,
    latch: Option<&'a Latch>,
    ok: bool,
    healthy: bool,
    severity: Option<Severity>,
    reasons: Vec<Explained<'a>>,
    targets: Vec<&'a TargetName>,
}

fn item<'a>(view: &'a View, category: &'a Category) -> Item<'a> {
    let verdict = view.evaluation.categories.get(&category.name);
    Item {
        name: &category.name,
        period: category.period,
        resilient: category.resilient,
        sticky: category.sticky,
        enabled: category.enabled,
        latch: verdict.and_then(|v| v.latch.as_ref()),
        ok: verdict.is_some_and(|v| v.ok),
        healthy: verdict.is_some_and(|v| v.healthy),
        severity: verdict.and_then(|v| v.severity),
        reasons: verdict.map(|v| Explained::all(&v.reasons)).unwrap_or_default(),
        targets: member_names(view, &category.members),
    }
}

/// All known categories.
pub(in crate::web) async fn list(call: Call) -> Response<Body> {
    let list = |view: &View| {
        let items: Vec<_> = view.catalog.categories.values().map(|c| item(view, c)).collect();
        respond::json(StatusCode::OK, &items)
    };
    aside::answer(call.web.view.load(), list).await
}

/// One category.
pub(in crate::web) async fn one(call: Call) -> Response<Body> {
    // One of them may hold all targets.
    let one = move |view: &View| match view.catalog.categories.get(call.name.as_str()) {
        Some(found) => respond::json(StatusCode::OK, &item(view, found)),
        None => {
            let known = view.catalog.categories.keys().map(CategoryName::as_str);
            Problem::no_such("category", &call.name, known).response()
        }
    };
    aside::answer(call.web.view.load(), one).await
}

#[derive(Serialize)]
struct Switched<'a> {
    category: &'a CategoryName,
    enabled: bool,
}

/// Switches a category: `{"enabled": false, "by", "reason"}`.
pub(in crate::web) async fn put_enabled(call: Call) -> Response<Body> {
    switch(&call).await.unwrap_or_else(|problem| problem.response())
}

async fn switch(call: &Call) -> Result<Response<Body>, Problem> {
    let category = CategoryName::new(&call.name).map_err(|e| Problem::bad_request(e.to_string()))?;
    let fields = Fields::read(call, &["enabled", "by", "reason", "v"])?;
    let enabled = fields.required_bool("enabled")?;
    let (by, reason) = (fields.text("by")?, fields.text("reason")?);
    call.web.port.edit(Edit::Enabled { category: category.clone(), enabled, by, reason }).await?;
    Ok(respond::json(StatusCode::OK, &Switched { category: &category, enabled }))
}
