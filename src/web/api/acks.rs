//! Acks of targets (`/api/v1/acks`) and of the whole cluster (`/api/v1/cluster-ack`).

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

use super::fields::Fields;
use crate::{
    model::{Ack, TargetName, View},
    web::{aside, port::Edit, problem::Problem, respond, routes::Call},
};

#[derive(Serialize)]
struct Item<'a> {
    target: &'a TargetName,
    #[serde(flatten)]
    ack: &'a Ack,
}

/// All acks in force.
pub(in crate::web) async fn list(call: Call) -> Response<Body> {
    let now = call.web.clock.now().wall;
    let list = move |view: &View| {
        let acks = view.catalog.targets.iter();
        let items: Vec<_> = acks
            .filter_map(|t| t.ack.as_ref().filter(|a| a.in_force(now)).map(|ack| Item { target: &t.name, ack }))
            .collect();
        respond::json(StatusCode::OK, &items)
    };
    aside::answer(call.web.view.load(), list).await
}

/// Acks a target: `{"message", "by", "until"}`. An empty message is no ack: what was there goes.
pub(in crate::web) async fn put(call: Call) -> Response<Body> {
    put_target(&call).await.unwrap_or_else(|problem| problem.response())
}

async fn put_target(call: &Call) -> Result<Response<Body>, Problem> {
    let target = name(call)?;
    let Some(ack) = ack(call, &["message", "by", "until", "v"])? else {
        call.web.port.edit(Edit::Unack(target)).await?;
        return Ok(gone());
    };
    call.web.port.edit(Edit::Ack(target.clone(), ack.clone())).await?;
    Ok(respond::json(StatusCode::OK, &Item { target: &target, ack: &ack }))
}

/// Removes a target's ack.
pub(in crate::web) async fn delete(call: Call) -> Response<Body> {
    let done = async { Ok(call.web.port.edit(Edit::Unack(name(&call)?)).await?) };
    done.await.map_or_else(|problem: Problem| problem.response(), |()| gone())
}

/// The cluster ack in force, or null.
pub(in crate::web) async fn cluster(call: Call) -> Response<Body> {
    let view = call.web.view.load();
    let now = call.web.clock.now().wall;
    respond::json(StatusCode::OK, &view.catalog.cluster_ack.as_ref().filter(|a| a.in_force(now)))
}

/// Acks the whole cluster: `{"message", "by"}`.
pub(in crate::web) async fn put_cluster(call: Call) -> Response<Body> {
    put_whole(&call).await.unwrap_or_else(|problem| problem.response())
}

async fn put_whole(call: &Call) -> Result<Response<Body>, Problem> {
    let Some(ack) = ack(call, &["message", "by", "v"])? else {
        call.web.port.edit(Edit::ClearClusterAck).await?;
        return Ok(gone());
    };
    call.web.port.edit(Edit::ClusterAck(ack.clone())).await?;
    Ok(respond::json(StatusCode::OK, &ack))
}

/// Removes the cluster ack.
pub(in crate::web) async fn delete_cluster(call: Call) -> Response<Body> {
    match call.web.port.edit(Edit::ClearClusterAck).await {
        Ok(()) => gone(),
        Err(error) => Problem::from(error).response(),
    }
}

fn name(call: &Call) -> Result<TargetName, Problem> {
    TargetName::new(&call.name).map_err(|e| Problem::bad_request(e.to_string()))
}

/// The body as an ack; none where its message is empty.
fn ack(call: &Call, known: &[&str]) -> Result<Option<Ack>, Problem> {
    let fields = Fields::read(call, known)?;
    let message = fields.required_text("message")?.trim().to_owned();
    let (by, until) = (fields.text("by")?, fields.time("until")?);
    if let Some(until) = until
        && until <= call.web.clock.now().wall
    {
        return Err(Problem::bad_request(format!("until: {until} is past; expected a time to come")));
    }
    Ok((!message.is_empty()).then_some(Ack { message, by, until, v: None }))
}

fn gone() -> Response<Body> {
    let mut response = respond::body(StatusCode::NO_CONTENT, respond::JSON, Body::empty());
    response.headers_mut().remove(http::header::CONTENT_TYPE);
    response
}
