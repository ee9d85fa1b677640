//! Figures of the node that both Prometheus and StatsD tell. Gathering them is left to `runtime::figures`.

use crate::meters::TimingFigures;

/// What the node's rooms have counted since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Answers: kind of endpoint, status, count.
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// How long probes took.
    pub probe_latency: TimingFigures,
    /// How long evaluations took, the view included.
    pub evaluation: TimingFigures,
    /// How long after a result a view showed what it changed.
    pub publish: TimingFigures,
    /// Calls of the store, by kind.
    pub store: Vec<StoreFigures>,
    /// Changes of targets' health, by what they changed to.
    pub transitions: Vec<(&'static str, u64)>,
    /// Changes of categories' verdicts.
    pub category_changes: u64,
    /// Changes of the region's leader that the node has seen.
    pub leader_changes: u64,
    /// The StatsD sender, where there is one.
    pub statsd: Option<StatsdFigures>,
}

/// One kind of store calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Its word.
    pub op: &'static str,
    /// How long they took.
    pub took: TimingFigures,
    /// How many failed.
    pub failed: u64,
}

/// Figures of the StatsD sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsdFigures {
    /// Metrics that were handed to the system.
    pub sent: u64,
    /// Metrics dropped: the server's name did not resolve, or the system did not take them.
    pub dropped: u64,
    /// Failed look-ups of the server's name.
    pub failures: u64,
}
