//! Pure: which metrics one look at the node yields, given the look before.

use crate::{
    meters::TimingFigures,
    model::{HealthState, Role, View, cluster::ResultsFrom},
    publish::{NodeFigures, graphite::points::sanitise},
};

/// Most categories that are told by name; FT has a handful.
const MAX_CATEGORIES: usize = 200;

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name below the prefix: dotted words.
    pub name: String,
    /// Kind and value.
    pub value: Value,
}

/// Kind and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// So many more (`c`).
    Count(u64),
    /// The value now (`g`).
    Gauge(f64),
    /// One duration in milliseconds (`ms`).
    Millis(f64),
}

/// What has happened since `before`, and how things are now. Counters that did not move are left out; of the durations of one
/// kind the last 32 are told.
#[must_use]
pub fn metrics(view: &View, before: &NodeFigures, now: &NodeFigures) -> Vec<Metric> {
    let mut list = List(Vec::with_capacity(64));
    counters(&mut list, before, now);
    timers(&mut list, before, now);
    gauges(&mut list, view, now);
    list.0
}

struct List(Vec<Metric>);

impl List {
    fn count(&mut self, name: impl Into<String>, before: u64, now: u64) {
        let more = now.saturating_sub(before);
        if more > 0 {
            self.0.push(Metric { name: name.into(), value: Value::Count(more) });
        }
    }

    fn gauge(&mut self, name: impl Into<String>, value: f64) {
        self.0.push(Metric { name: name.into(), value: Value::Gauge(value) });
    }

    fn flag(&mut self, name: impl Into<String>, on: bool) {
        self.gauge(name, if on { 1.0 } else { 0.0 });
    }

    #[allow(clippy::cast_precision_loss)]
    fn amount(&mut self, name: impl Into<String>, value: u64) {
        self.gauge(name, value as f64);
    }

    fn times(&mut self, name: &str, before: &TimingFigures, now: &TimingFigures) {
        for duration in now.since(before) {
            self.0.push(Metric { name: name.to_owned(), value: Value::Millis(duration.as_secs_f64() * 1000.0) });
        }
    }
}

fn counters(list: &mut List, before: &NodeFigures, now: &NodeFigures) {
    for (outcome, count) in &now.probes {
        let old = before.probes.iter().find(|(o, _)| o == outcome).map_or(0, |(_, n)| *n);
        list.count(format!("probes.{}", outcome.word()), old, *count);
    }
    list.count("probes.dropped", before.probes_dropped, now.probes_dropped);
    let (old, new) = (&before.telemetry, &now.telemetry);
    for (endpoint, code, count) in &new.requests {
        let old = old.requests.iter().find(|(e, c, _)| (e, c) == (endpoint, code)).map_or(0, |(_, _, n)| *n);
        list.count(format!("requests.{endpoint}.{code}"), old, *count);
    }
    for (state, count) in &new.transitions {
        let old = old.transitions.iter().find(|(s, _)| s == state).map_or(0, |(_, n)| *n);
        list.count(format!("transitions.targets.{state}"), old, *count);
    }
    list.count("transitions.categories", old.category_changes, new.category_changes);
    list.count("leader.changes", old.leader_changes, new.leader_changes);
    for calls in &new.store {
        let old = old.store.iter().find(|c| c.op == calls.op);
        list.count(format!("store.{}.calls", calls.op), old.map_or(0, |c| c.took.count), calls.took.count);
        list.count(format!("store.{}.errors", calls.op), old.map_or(0, |c| c.failed), calls.failed);
    }
    if let Some(graphite) = now.graphite {
        let old = before.graphite.unwrap_or_default();
        list.count("graphite.sent", old.sent, graphite.sent);
        list.count("graphite.dropped", old.dropped, graphite.dropped);
        list.count("graphite.failures", old.failures, graphite.failures);
    }
    if let Some(statsd) = new.statsd {
        list.count("statsd.dropped", old.statsd.unwrap_or_default().dropped, statsd.dropped);
    }
}

fn timers(list: &mut List, before: &NodeFigures, now: &NodeFigures) {
    let (old, new) = (&before.telemetry, &now.telemetry);
    list.times("probes.latency", &old.probe_latency, &new.probe_latency);
    list.times("evaluation.time", &old.evaluation, &new.evaluation);
    list.times("publish.latency", &old.publish, &new.publish);
    let none = TimingFigures::default();
    for calls in &new.store {
        let old = old.store.iter().find(|c| c.op == calls.op).map_or(&none, |c| &c.took);
        list.times(&format!("store.{}.latency", calls.op), old, &calls.took);
    }
}

fn gauges(list: &mut List, view: &View, now: &NodeFigures) {
    list.amount("queues.probes_running", now.probes_running);
    list.amount("queues.probes_waiting", now.probes_queued);
    list.amount("queues.leader_writes", now.writes_waiting as u64);
    if let Some(graphite) = now.graphite {
        list.amount("queues.graphite_points", graphite.waiting);
        list.amount("queues.graphite_kept", graphite.kept);
    }
    for state in [HealthState::Up, HealthState::Down, HealthState::Unknown] {
        let count = view.health.iter().filter(|h| h.state == state).count();
        list.amount(format!("targets.{}", state.word()), count as u64);
    }
    list.flag("node.leader", view.node.role == Role::Leader);
    list.flag("node.ready", view.node.ready);
    list.flag("node.degraded", view.node.degraded);
    match view.cluster.results {
        ResultsFrom::Own { followers } => list.amount("stream.followers", followers as u64),
        ResultsFrom::Stream { .. } => {
            if let Some(age) = now.newest_result_age {
                list.gauge("stream.lag_seconds", age);
            }
        }
        ResultsFrom::Kept | ResultsFrom::Store { .. } => {}
    }
    for (name, verdict) in view.evaluation.categories.iter().take(MAX_CATEGORIES) {
        list.flag(format!("categories.{}.ok", sanitise(name.as_str())), verdict.ok);
    }
}
