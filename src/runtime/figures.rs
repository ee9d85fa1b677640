//! Gathers the node's own figures for `/metrics` and StatsD; what they look like there is left to `publish`.

use std::sync::{Arc, atomic::Ordering};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    controller::{stats::LoopStats, writer},
    latest::Latest,
    model::{Outcome, View},
    probe::Stats,
    publish::{
        figures::{StatsdFigures, StoreFigures, Telemetry},
        graphite::GraphiteStats,
        prometheus::{self, GraphiteFigures, LateStart, NodeFigures},
        statsd::{Look, StatsdStats},
    },
    store::StoreStats,
    web::Requests,
};

/// What `/metrics` is rendered from at each request.
pub struct Sources {
    /// The view.
    pub view: Latest<View>,
    /// The probe engine's figures.
    pub probes: Arc<Stats>,
    /// Leader writes that wait.
    pub writer: writer::Queue,
    /// The Graphite sender's figures, where there is one.
    pub graphite: Option<Arc<GraphiteStats>>,
    /// What the controller counts.
    pub controller: Arc<LoopStats>,
    /// What the store's calls take.
    pub store: Arc<StoreStats>,
    /// Answers.
    pub requests: Arc<Requests>,
    /// The StatsD sender's figures, where there is one.
    pub statsd: Option<Arc<StatsdStats>>,
    /// Series with names as well.
    pub names: bool,
    /// The source revision that was built.
    pub revision: Option<&'static str>,
    /// Time, for ages.
    pub clock: Clock,
    /// Cancelled when the process begins to shut down.
    pub draining: CancellationToken,
}

/// A function that renders all metrics.
#[must_use]
pub fn renderer(sources: Arc<Sources>) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || {
        let view = sources.view.load();
        prometheus::render(&view, &figures(&sources, &view))
    })
}

/// A function that gives the view and the figures at this moment.
#[must_use]
pub fn look(sources: Arc<Sources>) -> Look {
    Arc::new(move || {
        let view = sources.view.load();
        let figures = figures(&sources, &view);
        (view, figures)
    })
}

fn telemetry(sources: &Sources, view: &View) -> Telemetry {
    let calls = |(op, calls): (&'static str, &crate::store::metered::Calls)| StoreFigures {
        op,
        took: calls.took.figures(),
        failed: calls.failed.load(Ordering::Relaxed),
    };
    Telemetry {
        requests: sources.requests.figures(),
        probe_latency: sources.probes.latency.figures(),
        evaluation: sources.controller.evaluation.figures(),
        publish: sources.controller.publish.figures(),
        store: sources.store.all().into_iter().map(calls).collect(),
        transitions: sources.controller.changes().to_vec(),
        category_changes: sources.controller.categories.load(Ordering::Relaxed),
        leader_changes: view.cluster.transitions,
        statsd: sources.statsd.as_deref().map(StatsdFigures::from),
    }
}

fn figures(sources: &Sources, view: &View) -> NodeFigures {
    let stats = &sources.probes;
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    NodeFigures {
        probes: vec![
            (Outcome::Good, count(&stats.good)),
            (Outcome::Bad, count(&stats.bad)),
            (Outcome::Timeout, count(&stats.timeout)),
            (Outcome::Unreachable, count(&stats.unreachable)),
            (Outcome::Protocol, count(&stats.protocol)),
        ],
        probes_running: count(&stats.in_flight),
        probes_queued: count(&stats.queued),
        probes_dropped: count(&stats.dropped_observations),
        probe_cpu_seconds: std::time::Duration::from_nanos(count(&stats.cpu_nanos)).as_secs_f64(),
        writes_waiting: sources.writer.depth(),
        late_start_seconds: (stats.late.count() > 0)
            .then(|| LateStart { p99: stats.late.quantile(0.99).as_secs_f64(), max: stats.late.max().as_secs_f64() }),
        graphite: sources.graphite.as_deref().map(GraphiteFigures::from),
        build_revision: sources.revision,
        telemetry: telemetry(sources, view),
        names: sources.names,
        draining: sources.draining.is_cancelled(),
        newest_result_age: view.newest_result().map(|at| sources.clock.mono().since(at.mono).as_secs_f64()),
    }
}
