//! The node's own figures in Prometheus' text format 0.0.4: base units, low cardinality (no target's or category's
//! name is a label unless it is asked for). Serving them is left to `web`.

mod names;
mod telemetry;

use std::fmt::{Display, Write};

use super::figures::Telemetry;
use crate::model::{FaultLevel, HealthState, Outcome, Role, StoreState, Timestamp, View, cluster::ResultsFrom};

/// The `Content-Type` of what `render` returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures that are not in the view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFigures {
    /// Finished probes, by outcome.
    pub probes: Vec<(Outcome, u64)>,
    /// Probes under way.
    pub probes_running: u64,
    /// Probes that are due and wait for a place.
    pub probes_queued: u64,
    /// Results dropped because their reader was too slow.
    pub probes_dropped: u64,
    /// CPU time of the probing thread, in seconds.
    pub probe_cpu_seconds: f64,
    /// Leader writes that wait for the store.
    pub writes_waiting: usize,
    /// How late probes started lately, in seconds: the 99th percentile and the latest one.
    pub late_start_seconds: Option<LateStart>,
    /// The Graphite sender, where there is one.
    pub graphite: Option<GraphiteFigures>,
    /// The source revision that was built, where known.
    pub build_revision: Option<&'static str>,
    /// What the rooms have counted.
    pub telemetry: Telemetry,
    /// Series with the names of targets, categories and services are told as well (`--metrics-targets`).
    pub names: bool,
    /// The process is shutting down.
    pub draining: bool,
    /// Seconds since the newest result came in that the node answers with.
    pub newest_result_age: Option<f64>,
}

/// Lateness of probe starts against their schedule, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LateStart {
    /// 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Figures of the Graphite sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphiteFigures {
    /// Points that carbon has read.
    pub sent: u64,
    /// Points dropped from a full ring.
    pub dropped: u64,
    /// Points waiting.
    pub waiting: u64,
    /// Failed connections and batches.
    pub failures: u64,
    /// Points kept for the case that the leader is lost.
    pub kept: u64,
    /// Up to when carbon has taken every point.
    pub mark: Option<Timestamp>,
}

impl From<&super::GraphiteStats> for GraphiteFigures {
    fn from(stats: &super::GraphiteStats) -> Self {
        Self {
            sent: stats.sent(),
            dropped: stats.dropped(),
            waiting: stats.waiting(),
            failures: stats.failures(),
            kept: stats.kept(),
            mark: stats.mark(),
        }
    }
}

/// All metrics as one text.
#[must_use]
pub fn render(view: &View, extra: &NodeFigures) -> String {
    let mut page = Page(String::with_capacity(4096));
    node(&mut page, view, extra);
    cluster(&mut page, view, extra);
    verdicts(&mut page, view);
    catalog(&mut page, view);
    shell(&mut page, extra);
    telemetry::render(&mut page, &extra.telemetry);
    if extra.names {
        names::render(&mut page, view);
    }
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP bellwether_{name} {help}\n# TYPE bellwether_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "bellwether_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn node(page: &mut Page, view: &View, extra: &NodeFigures) {
    let node = &view.node;
    page.family("build_info", "gauge", "What was built; always 1.");
    let revision = extra.build_revision.unwrap_or("unknown");
    page.sample("build_info", &[("version", node.version), ("revision", revision)], 1);
    page.family("node_role", "gauge", "1 for the node's role, 0 for the others.");
    for role in [Role::Starting, Role::Follower, Role::Leader, Role::Autonomous] {
        page.sample("node_role", &[("role", role.word())], u8::from(node.role == role));
    }
    page.one("node_term", "gauge", "The highest term seen.", node.term);
    let ready = node.ready && !extra.draining;
    page.one("node_ready", "gauge", "1 while the node may take requests.", u8::from(ready));
    page.one("node_draining", "gauge", "1 while the node shuts down.", u8::from(extra.draining));
    page.one("node_degraded", "gauge", "1 while something that the node needs is missing.", u8::from(node.degraded));
    page.one("store_up", "gauge", "1 while the store answers.", u8::from(node.store == StoreState::Ok));
    page.one("start_time_seconds", "gauge", "When the process started, Unix time.", seconds(node.started));
    page.one("view_built_time_seconds", "gauge", "When the view was built, Unix time.", seconds(view.built.wall));
}

fn seconds(at: Timestamp) -> f64 {
    std::time::Duration::from_millis(at.as_millis().unsigned_abs()).as_secs_f64()
}

/// Leadership, and where results come from. The role and the highest term seen are the node's.
fn cluster(page: &mut Page, view: &View, extra: &NodeFigures) {
    let (node, cluster) = (&view.node, &view.cluster);
    let leads = node.role == Role::Leader;
    page.one("leader", "gauge", "1 while the node leads its region and may write.", u8::from(leads));
    page.one(
        "static_leader",
        "gauge",
        "1 while it led last and goes on without the store.",
        u8::from(node.static_leader),
    );
    page.one("leader_known", "gauge", "1 while a leader of the region is known.", u8::from(node.leader.is_some()));
    if let Some(leader) = &cluster.leader {
        let help = "Since when the node knows the leader, Unix time.";
        page.one("leader_since_time_seconds", "gauge", help, seconds(leader.since));
    }
    let help = "Changes of the region's leader that the node has seen.";
    page.one("leader_transitions_total", "counter", help, cluster.transitions);
    page.one("region_nodes", "gauge", "Nodes of the region that are known.", cluster.nodes.len());
    page.one("regions", "gauge", "Regions that are known.", view.regions.len());
    page.family("results_source", "gauge", "1 for where the node's results come from, 0 for the others.");
    let from = source(&cluster.results);
    for word in ["kept", "own", "stream", "store"] {
        page.sample("results_source", &[("from", word)], u8::from(word == from));
    }
    if let Some(age) = extra.newest_result_age {
        page.one("newest_result_age_seconds", "gauge", "Age of the newest result that the node answers with.", age);
    }
    match &cluster.results {
        ResultsFrom::Own { followers } => {
            page.one("stream_followers", "gauge", "Nodes that follow the node's stream.", followers);
        }
        ResultsFrom::Stream { since, seq, degraded, .. } => {
            let help = "Since when the leader's stream is connected, Unix time.";
            page.one("stream_connected_time_seconds", "gauge", help, seconds(*since));
            page.one("stream_sequence", "gauge", "Number of the last frame of the leader's stream.", seq);
            page.one("stream_degraded", "gauge", "1 while the followed node has lost the store.", u8::from(*degraded));
        }
        ResultsFrom::Kept | ResultsFrom::Store { .. } => {}
    }
    let connected = u8::from(matches!(cluster.results, ResultsFrom::Stream { .. }));
    page.one("stream_connected", "gauge", "1 while the node follows a leader's stream.", connected);
}

const fn source(results: &ResultsFrom) -> &'static str {
    match results {
        ResultsFrom::Kept => "kept",
        ResultsFrom::Own { .. } => "own",
        ResultsFrom::Stream { .. } => "stream",
        ResultsFrom::Store { .. } => "store",
    }
}

fn verdicts(page: &mut Page, view: &View) {
    let count = |f: &dyn Fn(&crate::model::Health) -> bool| view.health.iter().filter(|h| f(h)).count();
    page.family("targets", "gauge", "Targets by state.");
    for state in [HealthState::Up, HealthState::Down, HealthState::Unknown] {
        page.sample("targets", &[("state", state.word())], count(&|h| h.state == state));
    }
    page.one("targets_stale", "gauge", "Targets without a recent result.", count(&|h| h.stale));
    page.one("targets_flapping", "gauge", "Targets that change too often.", count(&|h| h.flapping));
    let evaluation = &view.evaluation;
    let acked = evaluation.targets.iter().filter(|t| t.acked).count();
    page.one("targets_acked", "gauge", "Targets with an ack in force.", acked);
    let services = evaluation.services.values().filter(|s| s.ok).count();
    let categories = evaluation.categories.values().filter(|c| c.ok).count();
    for (name, what, ok, total) in [
        ("categories", "Categories by verdict.", categories, evaluation.categories.len()),
        ("services", "Services by verdict.", services, evaluation.services.len()),
    ] {
        page.family(name, "gauge", what);
        page.sample(name, &[("verdict", "ok")], ok);
        page.sample(name, &[("verdict", "not_ok")], total - ok);
    }
    let latched = evaluation.categories.values().filter(|c| c.latch.is_some()).count();
    page.one("categories_latched", "gauge", "Categories switched off by their sticky latch.", latched);
    page.one("cluster_acked", "gauge", "1 while a cluster ack is in force.", u8::from(evaluation.cluster_acked));
}

fn catalog(page: &mut Page, view: &View) {
    let catalog = &view.catalog;
    page.one("catalog_revision", "gauge", "The store revision that the catalog reflects.", catalog.revision);
    page.family("faults", "gauge", "Refused (fault) and doubtful (hint) values.");
    for (level, word) in [(FaultLevel::Fault, "fault"), (FaultLevel::Hint, "hint")] {
        page.sample("faults", &[("level", word)], catalog.faults.iter().filter(|f| f.level == level).count());
    }
    let held = catalog.held.as_ref().map_or(0, |h| h.targets.len());
    page.one("held_removals", "gauge", "Targets whose mass removal is held.", held);
}

fn shell(page: &mut Page, extra: &NodeFigures) {
    page.family("probes_total", "counter", "Finished probes by outcome.");
    for outcome in [Outcome::Good, Outcome::Bad, Outcome::Timeout, Outcome::Unreachable, Outcome::Protocol] {
        let total: u64 = extra.probes.iter().filter(|(o, _)| *o == outcome).map(|(_, n)| n).sum();
        page.sample("probes_total", &[("outcome", outcome.word())], total);
    }
    page.one("probes_running", "gauge", "Probes under way.", extra.probes_running);
    page.one("probes_queued", "gauge", "Probes that are due and wait for a place.", extra.probes_queued);
    let dropped = "Results dropped because their reader was too slow.";
    page.one("probe_results_dropped_total", "counter", dropped, extra.probes_dropped);
    page.one("probe_cpu_seconds_total", "counter", "CPU time of the probing thread.", extra.probe_cpu_seconds);
    page.one("leader_writes_waiting", "gauge", "Leader writes that wait for the store.", extra.writes_waiting);
    if let Some(late) = extra.late_start_seconds {
        page.family("probe_late_start_seconds", "summary", "How late probes started against their schedule, lately.");
        page.sample("probe_late_start_seconds", &[("quantile", "0.99")], late.p99);
        page.sample("probe_late_start_seconds", &[("quantile", "1")], late.max);
    }
    if let Some(graphite) = extra.graphite {
        page.one("graphite_points_sent_total", "counter", "Points that carbon has read.", graphite.sent);
        page.one("graphite_points_dropped_total", "counter", "Points dropped from a full ring.", graphite.dropped);
        page.one("graphite_points_waiting", "gauge", "Points that wait for carbon.", graphite.waiting);
        page.one("graphite_failures_total", "counter", "Failed connections and batches.", graphite.failures);
        let help = "Points that a follower keeps for the case that the leader is lost.";
        page.one("graphite_points_kept", "gauge", help, graphite.kept);
        if let Some(mark) = graphite.mark {
            let help = "Up to when carbon has taken every point, Unix time.";
            page.one("graphite_mark_time_seconds", "gauge", help, seconds(mark));
        }
    }
}
