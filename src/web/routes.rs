//! The one table of routes: the router, the `Allow` of a 405, the doors and the OpenAPI check all read it.
//! (`/__gtg` is answered before the router, see `gtg`.)

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawPathParams, Request},
    routing::any,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::{Web, agghealth, api, cluster, doors::Peer, health, node, problem::Problem, requests::Endpoint};

/// One request, read whole.
pub(super) struct Call {
    /// What answers are made from.
    pub(super) web: Arc<Web>,
    /// Path and query.
    pub(super) uri: Uri,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// The name in the path, where the route has one.
    pub(super) name: String,
    /// Its body (edits and questions of other nodes only).
    pub(super) body: Bytes,
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Who may pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Everybody.
    Open,
    /// Who may edit.
    Edit,
    /// Other nodes.
    Cluster,
}

/// What one method of a route does.
struct Action {
    method: Method,
    door: Door,
    run: fn(Call) -> Answer,
}

/// One path and its methods.
struct Route {
    path: &'static str,
    /// Most bytes of a request's body.
    body_limit: usize,
    actions: &'static [Action],
}

const SMALL: usize = 64 * 1024;
const CATALOG: usize = 8 * 1024 * 1024;
/// Most bytes of a body that are read to be thrown away.
const MAX_DISCARDED: u64 = 32 * 1024 * 1024;
/// Longest wait for the body of a request that is refused anyway.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

macro_rules! get {
    ($handler:path) => {
        Action { method: Method::GET, door: Door::Open, run: |call| Box::pin($handler(call)) }
    };
}
macro_rules! edit {
    ($method:ident $handler:path) => {
        Action { method: Method::$method, door: Door::Edit, run: |call| Box::pin($handler(call)) }
    };
}
macro_rules! cluster {
    ($method:ident $handler:path) => {
        Action { method: Method::$method, door: Door::Cluster, run: |call| Box::pin($handler(call)) }
    };
}
macro_rules! route {
    ($path:literal, $limit:expr, $($action:expr),+) => {
        Route { path: $path, body_limit: $limit, actions: &[$($action),+] }
    };
}

static ROUTES: &[Route] = &[
    route!("/", SMALL, get!(health::health)),
    route!("/__health", SMALL, get!(health::health)),
    route!("/__agghealth", SMALL, get!(agghealth::agghealth)),
    route!("/__live", SMALL, get!(node::live)),
    route!("/__ready", SMALL, get!(node::ready)),
    route!("/__ping", SMALL, get!(node::ping)),
    route!("/__build-info", SMALL, get!(node::build_info)),
    route!("/metrics", SMALL, get!(node::metrics)),
    route!("/api/v1/targets", SMALL, get!(api::targets::list)),
    route!("/api/v1/targets/{name}", SMALL, get!(api::targets::one)),
    route!("/api/v1/services", SMALL, get!(api::services::list)),
    route!("/api/v1/services/{name}", SMALL, get!(api::services::one)),
    route!("/api/v1/categories", SMALL, get!(api::categories::list)),
    route!("/api/v1/categories/{name}", SMALL, get!(api::categories::one)),
    route!("/api/v1/categories/{name}/enabled", SMALL, edit!(PUT api::categories::put_enabled)),
    route!("/api/v1/faults", SMALL, get!(api::faults)),
    route!("/api/v1/acks", SMALL, get!(api::acks::list)),
    route!("/api/v1/acks/{name}", SMALL, edit!(PUT api::acks::put), edit!(DELETE api::acks::delete)),
    route!(
        "/api/v1/cluster-ack",
        SMALL,
        get!(api::acks::cluster),
        edit!(PUT api::acks::put_cluster),
        edit!(DELETE api::acks::delete_cluster)
    ),
    route!("/api/v1/catalog", CATALOG, get!(api::catalog::get), edit!(PUT api::catalog::put)),
    route!("/api/v1/node", SMALL, get!(api::node)),
    route!("/api/v1/cluster", SMALL, get!(api::cluster::cluster)),
    route!("/api/v1/regions", SMALL, get!(api::cluster::regions)),
    route!("/api/v1/regions/{name}", SMALL, get!(api::cluster::one_region)),
    route!("/api/v1/events", SMALL, get!(api::events::events)),
    route!("/api/v1/replication/stream", SMALL, cluster!(GET cluster::stream)),
    route!("/api/v1/replication/refresh", CATALOG, cluster!(POST cluster::refresh)),
    route!("/api/v1/replication/witness", SMALL, cluster!(POST cluster::witness)),
    route!("/api/v1/openapi.json", SMALL, get!(api::openapi)),
];

/// Every path with its methods as documented (`HEAD` goes with `GET`), `/__gtg`'s included: for the OpenAPI check.
#[must_use]
pub fn table() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all = vec![("/__gtg", vec!["GET"]), ("/__gtg/{name}", vec!["GET"])];
    for route in ROUTES {
        let methods = route.actions.iter().map(|a| match a.method {
            Method::PUT => "PUT",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "GET",
        });
        all.push((route.path, methods.collect()));
    }
    all
}

impl Route {
    /// As which kind a request is counted.
    fn kind(&self, method: &Method) -> Endpoint {
        let reads = method == Method::GET || method == Method::HEAD;
        match self.path {
            "/" | "/__health" => Endpoint::Health,
            "/__agghealth" => Endpoint::AggHealth,
            "/metrics" => Endpoint::Metrics,
            path if path.starts_with("/__") => Endpoint::Node,
            _ if reads => Endpoint::Api,
            _ => Endpoint::Edit,
        }
    }

    /// `GET, HEAD, PUT`.
    fn allow(&self) -> String {
        let mut methods = Vec::new();
        for action in self.actions {
            methods.push(action.method.as_str());
            if action.method == Method::GET {
                methods.push("HEAD");
            }
        }
        methods.join(", ")
    }
}

/// The router over the table.
pub(super) fn router(web: &Arc<Web>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let web = Arc::clone(web);
        let handler = move |params: RawPathParams, request: Request| {
            let web = Arc::clone(&web);
            async move {
                let name = params.iter().next().map(|(_, v)| v.to_owned()).unwrap_or_default();
                let (requests, kind) = (Arc::clone(&web.requests), route.kind(request.method()));
                let answer = answer(web, route, name, request).await.unwrap_or_else(|problem| problem.response());
                requests.count(kind, answer.status());
                answer
            }
        };
        router = router.route(route.path, any(handler));
    }
    let requests = Arc::clone(&web.requests);
    router.fallback(move |request: Request| async move {
        let path = super::respond::one_line(request.uri().path(), 256);
        requests.count(Endpoint::Other, StatusCode::NOT_FOUND);
        Problem::not_found(format!("there is nothing at {path}; see /api/v1/openapi.json")).response()
    })
}

async fn answer(web: Arc<Web>, route: &Route, name: String, request: Request) -> Result<Response<Body>, Problem> {
    let (parts, body) = request.into_parts();
    let wanted = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
    let Some(action) = route.actions.iter().find(|a| a.method == wanted) else {
        let method = super::respond::one_line(parts.method.as_str(), 32);
        return Err(Problem::method(&method, parts.uri.path(), &route.allow()));
    };
    let mut bytes = Bytes::new();
    if action.door != Door::Open {
        let Some(peer) = parts.extensions.get::<Peer>() else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the request's origin is not known"));
        };
        let expects = parts.headers.contains_key(http::header::EXPECT);
        let passed = match action.door {
            Door::Cluster => web.doors.may_replicate(*peer, &parts.uri, &parts.headers),
            _ => web.doors.may_edit(*peer, &parts.uri, &parts.headers),
        };
        if let Err(refused) = passed {
            if !expects {
                discard(body).await;
            }
            return Err(refused);
        }
        bytes = read_body(body, expects, route.body_limit).await?;
    }
    let call = Call { web, uri: parts.uri, headers: parts.headers, name, body: bytes };
    Ok((action.run)(call).await)
}

/// Reads what a refused client is still sending, within bounds: over HTTP/2 a stream that ends before its request does
/// takes the answer with it (seen with curl).
async fn discard(mut body: Body) {
    let read = async {
        let mut seen = 0_u64;
        while let Some(Ok(frame)) = body.frame().await {
            seen = seen.saturating_add(frame.data_ref().map_or(0, |d| d.len() as u64));
            if seen > CATALOG as u64 {
                break;
            }
        }
    };
    // Whoever is slower than this loses the answer; it is only a refusal.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read).await;
}

/// Reads a body whole. One that is too large is read on and thrown away, within bounds: closing on a client that still
/// sends would take the answer from it.
async fn read_body(mut body: Body, expects: bool, limit: usize) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("the body is larger than {limit} bytes"));
    let announced = body.size_hint().lower();
    // A client that waits for leave has sent nothing yet.
    if announced > limit as u64 && (expects || announced > MAX_DISCARDED) {
        return Err(too_large());
    }
    let read = async {
        let mut kept = BytesMut::new();
        let mut seen = 0_u64;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Problem::bad_request(format!("the body cannot be read: {e}")))?;
            let Some(data) = frame.data_ref() else { continue };
            seen = seen.saturating_add(data.len() as u64);
            if seen > MAX_DISCARDED {
                break;
            }
            if seen <= limit as u64 {
                kept.extend_from_slice(data);
            }
        }
        if seen > limit as u64 { Err(too_large()) } else { Ok(kept.freeze()) }
    };
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request's body did not come in time");
    tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| late())?
}
