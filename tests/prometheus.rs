//! The text of `/metrics`: well-formed, and the figures are those of the view.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bellwether::{
    meters::Timings,
    model::{
        CategoryName, CategoryVerdict, Evaluation, Fault, FaultLevel, Health, HealthState, NodeName, Outcome, Role,
        StoreState, TargetVerdict, Timestamp, View,
        cluster::{LeaderStatus, ResultsFrom},
    },
    publish::{
        NodeFigures,
        figures::{StatsdFigures, StoreFigures, Telemetry},
        prometheus::{GraphiteFigures, LateStart, render},
    },
};

#[path = "support/ports.rs"]
mod ports;
#[path = "support/signal.rs"]
mod signal;
#[path = "support/publish.rs"]
mod support;

fn page() -> String {
    page_of(|_| {})
}

/// The page of a view with this change.
fn page_of(change: impl FnOnce(&mut View)) -> String {
    let mut view = support::view(&["a-1", "a-2", "b-1", "b-2"]);
    let of = |state, stale, flapping| Health { state, stale, flapping, ..Health::unknown(Timestamp::default()) };
    view.health = [
        of(HealthState::Up, true, false),
        of(HealthState::Down, false, true),
        of(HealthState::Unknown, false, false),
        of(HealthState::Up, false, false),
    ]
    .into();
    let verdict = |ok| CategoryVerdict {
        healthy: ok,
        ok,
        severity: None,
        reasons: Vec::new(),
        enabled: true,
        latch: None,
        only_unknown: false,
    };
    let name = |n| CategoryName::new(n).unwrap();
    let categories = [("default", false), ("read", true)].map(|(n, ok)| (name(n), verdict(ok)));
    let targets = vec![TargetVerdict { ok: false, acked: true }];
    view.evaluation = Arc::new(Evaluation { categories: categories.into(), targets, ..Evaluation::default() });
    let catalog = Arc::make_mut(&mut view.catalog);
    let fault = |level| Fault {
        key: "k".into(),
        level,
        value: String::new(),
        reason: String::new(),
        expected: String::new(),
        nearest: None,
        since: Timestamp::default(),
    };
    catalog.faults = [fault(FaultLevel::Fault), fault(FaultLevel::Hint), fault(FaultLevel::Hint)].into();
    let figures = NodeFigures {
        probes: vec![(Outcome::Good, 12), (Outcome::Timeout, 3)],
        probes_running: 2,
        probes_queued: 5,
        probes_dropped: 1,
        probe_cpu_seconds: 0.25,
        writes_waiting: 6,
        late_start_seconds: Some(LateStart { p99: 0.004, max: 0.5 }),
        graphite: Some(GraphiteFigures {
            sent: 40,
            dropped: 4,
            waiting: 3,
            failures: 2,
            kept: 7,
            mark: Some(Timestamp::from_millis(3500)),
        }),
        telemetry: telemetry(),
        names: true,
        build_revision: Some("a\"b\\c\nd"),
        draining: false,
        newest_result_age: Some(1.5),
    };
    change(&mut view);
    render(&view, &figures)
}

fn telemetry() -> Telemetry {
    let timings = Timings::default();
    for millis in [2, 30, 40_000] {
        timings.record(Duration::from_millis(millis));
    }
    let took = timings.figures();
    Telemetry {
        requests: vec![("gtg", "200", 9), ("gtg", "503", 0)],
        probe_latency: took.clone(),
        store: vec![StoreFigures { op: "txn", took, failed: 3 }],
        transitions: vec![("up", 4), ("down", 5)],
        category_changes: 6,
        statsd: Some(StatsdFigures { sent: 10, dropped: 2, failures: 1 }),
        ..Telemetry::default()
    }
}

#[test]
fn the_figures_are_those_of_the_view() {
    let page = page();
    for line in [
        "bellwether_probes_queued 5",
        "bellwether_probe_results_dropped_total 1",
        "bellwether_probe_cpu_seconds_total 0.25",
        "bellwether_leader_writes_waiting 6",
        "bellwether_node_role{role=\"leader\"} 1",
        "bellwether_node_role{role=\"follower\"} 0",
        "bellwether_node_ready 1",
        "bellwether_store_up 1",
        "bellwether_start_time_seconds 1.5",
        "bellwether_targets{state=\"up\"} 2",
        "bellwether_targets{state=\"down\"} 1",
        "bellwether_targets{state=\"unknown\"} 1",
        "bellwether_targets_stale 1",
        "bellwether_targets_flapping 1",
        "bellwether_targets_acked 1",
        "bellwether_categories{verdict=\"ok\"} 1",
        "bellwether_categories{verdict=\"not_ok\"} 1",
        "bellwether_faults{level=\"hint\"} 2",
        "bellwether_held_removals 0",
        "bellwether_probes_total{outcome=\"good\"} 12",
        "bellwether_probes_total{outcome=\"bad\"} 0",
        "bellwether_probe_late_start_seconds{quantile=\"0.99\"} 0.004",
        "bellwether_graphite_points_sent_total 40",
        "bellwether_graphite_points_waiting 3",
        "bellwether_graphite_points_kept 7",
        "bellwether_graphite_mark_time_seconds 3.5",
        "bellwether_http_requests_total{endpoint=\"gtg\",code=\"200\"} 9",
        "bellwether_probe_duration_seconds_bucket{le=\"0.001\"} 0",
        "bellwether_probe_duration_seconds_bucket{le=\"0.005\"} 1",
        "bellwether_probe_duration_seconds_bucket{le=\"10\"} 2",
        "bellwether_probe_duration_seconds_bucket{le=\"+Inf\"} 3",
        "bellwether_probe_duration_seconds_sum 40.032",
        "bellwether_probe_duration_seconds_count 3",
        "bellwether_store_call_duration_seconds_bucket{op=\"txn\",le=\"0.05\"} 2",
        "bellwether_store_errors_total{op=\"txn\"} 3",
        "bellwether_target_changes_total{to=\"down\"} 5",
        "bellwether_category_changes_total 6",
        "bellwether_statsd_metrics_dropped_total 2",
        "bellwether_target_state{target=\"a-1\",service=\"a\",state=\"up\"} 1",
        "bellwether_target_state{target=\"a-2\",service=\"a\",state=\"down\"} 1",
        "bellwether_target_flapping{target=\"a-2\",service=\"a\"} 1",
        "bellwether_category_ok{category=\"default\"} 0",
        "bellwether_category_ok{category=\"read\"} 1",
        "bellwether_build_info{version=\"0.1.0\",revision=\"a\\\"b\\\\c\\nd\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line}\n{page}");
    }
}

#[track_caller]
fn holds(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|l| l == *line), "{line}\n{page}");
    }
}

#[test]
fn leadership_and_where_results_come_from() {
    let leading = page_of(|view| {
        let cluster = Arc::make_mut(&mut view.cluster);
        cluster.results = ResultsFrom::Own { followers: 2 };
        cluster.transitions = 4;
    });
    holds(
        &leading,
        &[
            "bellwether_leader 1",
            "bellwether_static_leader 0",
            "bellwether_leader_transitions_total 4",
            "bellwether_node_term 3",
            "bellwether_stream_followers 2",
            "bellwether_stream_connected 0",
            "bellwether_results_source{from=\"own\"} 1",
            "bellwether_results_source{from=\"stream\"} 0",
            "bellwether_newest_result_age_seconds 1.5",
        ],
    );
    assert_well_formed(&leading);
    let following = page_of(|view| {
        (view.node.role, view.node.leader) = (Role::Follower, NodeName::new("n2").ok());
        let cluster = Arc::make_mut(&mut view.cluster);
        let since = Timestamp::from_millis(2500);
        let (node, url) = (NodeName::new("n2").unwrap(), "http://n2".to_owned());
        cluster.leader = Some(LeaderStatus { node: node.clone(), url, since });
        cluster.results = ResultsFrom::Stream { node, since, seq: 9, degraded: true };
    });
    holds(
        &following,
        &[
            "bellwether_leader 0",
            "bellwether_leader_known 1",
            "bellwether_leader_since_time_seconds 2.5",
            "bellwether_stream_connected 1",
            "bellwether_stream_sequence 9",
            "bellwether_stream_degraded 1",
        ],
    );
    assert_well_formed(&following);
    let alone = page_of(|view| {
        (view.node.role, view.node.static_leader, view.node.store) = (Role::Autonomous, true, StoreState::Lost);
    });
    holds(&alone, &["bellwether_leader 0", "bellwether_static_leader 1", "bellwether_store_up 0"]);
}

/// Each sample follows its family's HELP and TYPE; a family comes once, a series once; counters end in `_total`.
#[test]
fn the_text_is_well_formed() {
    assert_well_formed(&page());
}

fn assert_well_formed(page: &str) {
    let (mut family, mut families, mut series) = (String::new(), BTreeSet::new(), BTreeSet::new());
    let mut histogram = false;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            histogram = kind == "histogram";
        } else {
            let (one, value) = line.rsplit_once(' ').unwrap();
            let name = one.split('{').next().unwrap();
            let part = name.strip_prefix(family.as_str());
            let expected: &[&str] = if histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(part.is_some_and(|part| expected.contains(&part)), "{name} in {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(one.to_owned()), "{one} twice");
        }
    }
    assert!(families.len() > 20);
}

/// Debian's promtool reads it and has nothing to say.
#[test]
fn promtool_finds_nothing() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian: prometheus)");
    promtool.stdin.take().unwrap().write_all(page().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
