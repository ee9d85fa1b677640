//! `GET /api/v1/events`: server-sent events of what changed from one view to the next: targets' states, categories'
//! verdicts, the node's role. Nothing is queued for a slow reader: it compares with the view that it last saw.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::{
    latest::Changes,
    model::{CategoryName, HealthState, NodeName, NodeStatus, Role, TargetName, Timestamp, View},
    web::{Web, problem::Problem, respond, routes::Call},
};

/// Most streams at once.
const MAX_STREAMS: usize = 256;
/// Most events of one change of view; more become one `many`.
const MAX_BURST: usize = 1000;
/// A comment this often shows both sides that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

static STREAMS: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Event<'a> {
    Target {
        target: &'a TargetName,
        from: HealthState,
        to: HealthState,
        since: Timestamp,
        reason: &'a str,
        stale: bool,
        flapping: bool,
        acked: bool,
    },
    Category {
        category: &'a CategoryName,
        ok: bool,
        healthy: bool,
        enabled: bool,
        latched: bool,
        reason: Option<String>,
    },
    Node {
        node: &'a NodeName,
        role: Role,
        term: i64,
        leader: Option<&'a NodeName>,
        ready: bool,
        degraded: bool,
    },
    /// Targets or categories came or went, or more changed than is told one by one: read them again.
    Many {
        changes: usize,
    },
}

impl Event<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Target { .. } => "target",
            Self::Category { .. } => "category",
            Self::Node { .. } => "node",
            Self::Many { .. } => "many",
        }
    }

    /// `event: …` and `data: …` with the fields alone.
    fn write(&self, out: &mut VecDeque<Bytes>) {
        if let Ok(serde_json::Value::Object(outer)) = serde_json::to_value(self)
            && let Some(fields) = outer.values().next()
        {
            out.push_back(Bytes::from(format!("event: {}\ndata: {fields}\n\n", self.kind())));
        }
    }
}

/// A place among the streams, given back on drop.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = STREAMS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < MAX_STREAMS).then_some(n + 1));
        taken.is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Stream {
    web: Arc<Web>,
    changes: Changes,
    seen: Arc<View>,
    queue: VecDeque<Bytes>,
    _place: Place,
}

/// The stream.
pub(in crate::web) async fn events(call: Call) -> Response<Body> {
    let Some(place) = Place::take() else {
        let detail = format!("{MAX_STREAMS} event streams are open; try again later");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail).response();
    };
    // The wake-up first, then the view: nothing in between is lost.
    let changes = call.web.view.changes();
    let seen = call.web.view.load();
    let mut queue = VecDeque::from([Bytes::from_static(b"retry: 2000\n\n")]);
    node_event(&seen.node).write(&mut queue);
    let stream = Stream { web: call.web, changes, seen, queue, _place: place };
    let frames = futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<_, Infallible>(bytes), stream))
    });
    let mut response =
        respond::body(StatusCode::OK, HeaderValue::from_static("text/event-stream"), Body::from_stream(frames));
    // nginx would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Stream {
    /// The next bytes; none when the node stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Some(bytes);
            }
            tokio::select! {
                biased;
                () = self.web.draining.cancelled() => return None,
                () = self.changes.wait() => {
                    let view = self.web.view.load();
                    differences(&self.seen, &view, &mut self.queue);
                    self.seen = view;
                }
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": alive\n\n")),
            }
        }
    }
}

/// What changed from one view to the next.
fn differences(old: &View, new: &View, out: &mut VecDeque<Bytes>) {
    let same_targets = Arc::ptr_eq(&old.catalog, &new.catalog)
        || old.catalog.targets.iter().map(|t| &t.name).eq(new.catalog.targets.iter().map(|t| &t.name));
    let same_categories = old.catalog.categories.keys().eq(new.catalog.categories.keys());
    if !same_targets || !same_categories {
        let changes = old.catalog.targets.len().abs_diff(new.catalog.targets.len()).max(1);
        Event::Many { changes }.write(out);
    }
    if same_targets && !(Arc::ptr_eq(&old.health, &new.health) && Arc::ptr_eq(&old.evaluation, &new.evaluation)) {
        targets(old, new, out);
    }
    for (name, verdict) in &new.evaluation.categories {
        let Some(before) = old.evaluation.categories.get(name) else { continue };
        let key = |v: &crate::model::CategoryVerdict| (v.ok, v.healthy, v.enabled, v.latch.is_some());
        if key(before) != key(verdict) {
            let reason = verdict.reasons.first().map(ToString::to_string);
            Event::Category {
                category: name,
                ok: verdict.ok,
                healthy: verdict.healthy,
                enabled: verdict.enabled,
                latched: verdict.latch.is_some(),
                reason,
            }
            .write(out);
        }
    }
    let shown = |n: &NodeStatus| (n.role, n.term, n.leader.clone(), n.ready, n.degraded, n.static_leader);
    if shown(&old.node) != shown(&new.node) {
        node_event(&new.node).write(out);
    }
}

fn node_event(node: &NodeStatus) -> Event<'_> {
    let NodeStatus { node, role, term, leader, ready, degraded, .. } = node;
    let (role, term, ready, degraded) = (*role, *term, *ready, *degraded);
    Event::Node { node, role, term, leader: leader.as_ref(), ready, degraded }
}

fn targets(old: &View, new: &View, out: &mut VecDeque<Bytes>) {
    let acked = |view: &View, i: usize| view.evaluation.targets.get(i).is_some_and(|t| t.acked);
    let changed: Vec<usize> = old
        .health
        .iter()
        .zip(new.health.iter())
        .enumerate()
        .filter(|(i, (a, b))| {
            (a.state, a.stale, a.flapping) != (b.state, b.stale, b.flapping) || acked(old, *i) != acked(new, *i)
        })
        .map(|(i, _)| i)
        .collect();
    if changed.len() > MAX_BURST {
        Event::Many { changes: changed.len() }.write(out);
        return;
    }
    for i in changed {
        let (Some(target), Some(a), Some(b)) = (new.catalog.targets.get(i), old.health.get(i), new.health.get(i))
        else {
            continue;
        };
        Event::Target {
            target: &target.name,
            from: a.state,
            to: b.state,
            since: b.since,
            reason: &b.reason,
            stale: b.stale,
            flapping: b.flapping,
            acked: acked(new, i),
        }
        .write(out);
    }
}
