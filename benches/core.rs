//! The pure core at 100 to 100,000 targets: `cargo bench --bench core`. Not run in continuous integration.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Duration};

use async_trait::async_trait;
use bellwether::{
    clock::Clock,
    config::{CatalogBuilder, RawEvent, Settings},
    evaluation::{Input, answer::Source, evaluate},
    latest::Latest,
    model::{
        Catalog, Cell, Evaluation, Health, HealthState, Mono, NodeName, NodeStatus, Now, Observation, Outcome,
        RegionName, Role, StoreState, TargetName, Timestamp, View, cluster::ClusterStatus, document::Document,
    },
    publish::{NodeFigures, graphite::points::Points, render_prometheus},
    web::{
        BuildInfo, Doors, Fragments, Web,
        port::{Alone, ApplyOptions, Edit, EditError, KeyChange, Port, Refreshed},
        report_json,
    },
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const NOW: i64 = 1_800_000_000_000;

fn now() -> Now {
    Now { wall: Timestamp::from_millis(NOW), mono: Mono::default() }
}

/// Ten targets a service, twenty categories.
fn keys(size: usize) -> Vec<(String, String)> {
    let pair = |i: usize| {
        let name = format!("svc{:05}-{}", i / 10, i % 10);
        let categories = format!("cat{:02},cat{:02}", i % 20, (i / 20) % 20);
        [
            (format!("healthcheck/{name}/path"), "/__health".to_owned()),
            (format!("healthcheck/{name}/categories"), categories),
        ]
    };
    (0..size).flat_map(pair).collect()
}

fn events(keys: &[(String, String)], revision: i64) -> Vec<RawEvent<'_>> {
    keys.iter().map(|(key, value)| RawEvent { key, value: Some(value.as_bytes()), mod_revision: revision }).collect()
}

fn builder(size: usize) -> CatalogBuilder {
    let mut builder = CatalogBuilder::new(Settings {
        root: "/ft".to_owned(),
        region: RegionName::default_region(),
        gateway: Some("127.0.0.1:80".to_owned()),
        sev_1_apps: Vec::new(),
        mass_removal_hold: Duration::ZERO,
    });
    builder.apply(1, events(&keys(size), 1), now());
    assert_eq!(builder.catalog().targets.len(), size);
    builder
}

/// Each hundredth is down.
fn health(size: usize) -> Arc<[Health]> {
    let state = |i| if i % 100 == 7 { HealthState::Down } else { HealthState::Up };
    (0..size).map(|i| Health { state: state(i), ..Health::unknown(now().wall) }).collect()
}

fn evaluation(catalog: &Catalog, health: &[Health], previous: Option<&Evaluation>) -> Evaluation {
    let latches = BTreeMap::new();
    let now = now().wall;
    evaluate(&Input { catalog, health, latches: &latches, previous, failure_revisions: &[], now, starting: false })
}

fn view(catalog: Arc<Catalog>, health: Arc<[Health]>, evaluation: Arc<Evaluation>, cells: Arc<[Arc<Cell>]>) -> View {
    let last_results = |_| None;
    let gtg = Source { catalog: &catalog, evaluation: &evaluation, health: &health, last_results, starting: false }
        .prepare(&[]);
    let (node, region) = (NodeName::new("n1").unwrap(), RegionName::default_region());
    View {
        built: now(),
        health,
        cells,
        evaluation,
        latches: Arc::default(),
        node: NodeStatus {
            node: node.clone(),
            region: region.clone(),
            environment: "bench".into(),
            role: Role::Leader,
            term: 1,
            leader: None,
            leader_term: Some(1),
            leader_url: None,
            static_leader: false,
            ready: true,
            degraded: false,
            since: now().wall,
            store: StoreState::Ok,
            started: now().wall,
            version: "0",
        },
        cluster: Arc::new(ClusterStatus::unknown(region, node)),
        regions: Arc::default(),
        gtg,
        catalog,
    }
}

fn whole_view(size: usize) -> View {
    let catalog = builder(size).catalog();
    let health = health(size);
    let seen = || Observation::plain(Outcome::Good, Duration::from_millis(3), "HTTP 200", now());
    let cell = |_| {
        let cell = Cell::default();
        cell.store(Arc::new(seen()));
        Arc::new(cell)
    };
    let evaluation = Arc::new(evaluation(&catalog, &health, None));
    view(catalog, health, evaluation, (0..size).map(cell).collect())
}

struct NoPort;

#[async_trait]
impl Port for NoPort {
    async fn edit(&self, _: Edit) -> Result<(), EditError> {
        Ok(())
    }
    async fn document(&self) -> Result<Document, EditError> {
        Ok(Document::default())
    }
    async fn apply(&self, _: Document, _: ApplyOptions) -> Result<Vec<KeyChange>, EditError> {
        Ok(Vec::new())
    }
    async fn refresh(&self, _: Vec<TargetName>) -> Refreshed {
        Refreshed::default()
    }
    fn prepare_combination(&self, _: &str) {}
}

fn web(view: View) -> Web {
    Web {
        view: Latest::new(view),
        port: Arc::new(NoPort),
        cluster: Arc::new(Alone),
        clock: Clock::manual(now().wall),
        doors: Doors::default(),
        build: BuildInfo::default(),
        metrics: Arc::new(String::new),
        requests: Arc::default(),
        fragments: Fragments::default(),
        faults: None,
        draining: tokio_util::sync::CancellationToken::new(),
    }
}

fn catalogs(c: &mut Criterion) {
    let mut group = c.benchmark_group("catalog");
    for size in SIZES {
        group.throughput(Throughput::Elements(size as u64));
        group.sample_size(10);
        let keys = keys(size);
        group.bench_function(BenchmarkId::new("built_anew", size), |b| {
            b.iter(|| black_box(builder(size)));
        });
        // One key of one target: what `etcdctl put` costs.
        let mut builder = builder(size);
        let mut turn = 1_i64;
        group.bench_function(BenchmarkId::new("one_key_changed", size), |b| {
            b.iter(|| {
                turn += 1;
                let value = format!("/health-{turn}");
                let key = &keys[0].0;
                builder.apply(turn, [RawEvent { key, value: Some(value.as_bytes()), mod_revision: turn }], now())
            });
        });
    }
}

fn evaluations(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluation");
    for size in SIZES {
        group.throughput(Throughput::Elements(size as u64));
        group.sample_size(20);
        let (catalog, health) = (builder(size).catalog(), health(size));
        let before = evaluation(&catalog, &health, None);
        group.bench_function(BenchmarkId::new("whole", size), |b| {
            b.iter(|| evaluation(black_box(&catalog), &health, Some(&before)));
        });
    }
}

fn views(c: &mut Criterion) {
    let mut group = c.benchmark_group("view");
    for size in SIZES {
        group.throughput(Throughput::Elements(size as u64));
        group.sample_size(20);
        let (catalog, health) = (builder(size).catalog(), health(size));
        let evaluation = Arc::new(evaluation(&catalog, &health, None));
        let cells: Arc<[Arc<Cell>]> = (0..size).map(|_| Arc::new(Cell::default())).collect();
        group.bench_function(BenchmarkId::new("built", size), |b| {
            b.iter_batched(
                || (Arc::clone(&catalog), Arc::clone(&health), Arc::clone(&evaluation), Arc::clone(&cells)),
                |(catalog, health, evaluation, cells)| black_box(view(catalog, health, evaluation, cells)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn rendering(c: &mut Criterion) {
    let mut group = c.benchmark_group("rendering");
    for size in SIZES {
        group.throughput(Throughput::Elements(size as u64));
        group.sample_size(10);
        let web = web(whole_view(size));
        let view = web.view.load();
        group.bench_function(BenchmarkId::new("health_json", size), |b| {
            b.iter(|| black_box(report_json(&web, &view)));
        });
        group.bench_function(BenchmarkId::new("metrics", size), |b| {
            b.iter(|| black_box(render_prometheus(&view, &NodeFigures::default())));
        });
        let mut points = Points::new("coco.health.bench".to_owned());
        group.bench_function(BenchmarkId::new("graphite_flush", size), |b| {
            b.iter(|| black_box(points.flush(&view, now().wall)));
        });
    }
}

criterion_group!(benches, catalogs, evaluations, views, rendering);
criterion_main!(benches);
