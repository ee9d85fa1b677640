//! `GET /api/v1/cluster`: this node's region as this node sees it; `GET /api/v1/regions` and `/api/v1/regions/{name}`: what
//! each region says of itself.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{
    model::{
        CategoryName, NodeName, RegionName, StoreState, Timestamp, View,
        cluster::{ClusterStatus, DownTarget, NodeInfo, RegionStatus, Summary},
        duration,
    },
    web::{
        Web, aside,
        problem::Problem,
        respond,
        routes::Call,
        standing::{self, Note, RegionState},
    },
};

#[derive(Serialize)]
struct Cluster<'a> {
    #[serde(flatten)]
    status: &'a ClusterStatus,
    store: StoreState,
    ready: bool,
    degraded: bool,
    /// Why, in words.
    notes: Vec<Note>,
    /// When the newest result came in, on this node's clock.
    newest_result: Option<Timestamp>,
    #[serde(with = "duration::optional_seconds")]
    newest_result_age: Option<Duration>,
}

/// This node's region.
pub(in crate::web) async fn cluster(call: Call) -> Response<Body> {
    let web = Arc::clone(&call.web);
    // It looks at every target's last result.
    let one = move |view: &View| {
        let newest = standing::newest_result(&web, view);
        let cluster = Cluster {
            status: &view.cluster,
            store: view.node.store,
            ready: view.node.ready && !web.draining.is_cancelled(),
            degraded: view.node.degraded,
            notes: standing::notes(&web, view),
            newest_result: newest.map(|(at, _)| at),
            newest_result_age: newest.map(|(_, age)| age),
        };
        respond::json(StatusCode::OK, &cluster)
    };
    aside::answer(call.web.view.load(), one).await
}

#[derive(Serialize)]
struct Region<'a> {
    name: &'a RegionName,
    /// The asked node is one of it.
    own: bool,
    state: RegionState,
    enabled: bool,
    leader: Option<&'a NodeName>,
    term: i64,
    nodes: &'a [NodeInfo],
    summary: Option<&'a Summary>,
    /// When this node saw the summary.
    seen: Option<Timestamp>,
    #[serde(with = "duration::optional_seconds")]
    age: Option<Duration>,
    latched: &'a [CategoryName],
    down: &'a [DownTarget],
}

fn region<'a>(web: &Web, view: &'a View, name: &'a RegionName, status: &'a RegionStatus) -> Region<'a> {
    let now = web.clock.now().wall;
    Region {
        name,
        own: *name == view.node.region,
        state: standing::region_state(status, now),
        enabled: status.enabled,
        leader: status.leader.as_ref(),
        term: status.term,
        nodes: &status.nodes,
        summary: status.summary.as_ref(),
        seen: status.seen,
        age: standing::summary_age(status, now),
        latched: &status.latched,
        down: &status.down,
    }
}

/// All regions that keys name.
pub(in crate::web) async fn regions(call: Call) -> Response<Body> {
    let view = call.web.view.load();
    let all: Vec<_> = view.regions.iter().map(|(name, status)| region(&call.web, &view, name, status)).collect();
    respond::json(StatusCode::OK, &all)
}

/// One region.
pub(in crate::web) async fn one_region(call: Call) -> Response<Body> {
    let view = call.web.view.load();
    match view.regions.get_key_value(call.name.as_str()) {
        Some((name, status)) => respond::json(StatusCode::OK, &region(&call.web, &view, name, status)),
        None => Problem::no_such("region", &call.name, view.regions.keys().map(RegionName::as_str)).response(),
    }
}
