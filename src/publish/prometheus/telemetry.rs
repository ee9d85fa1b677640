//! Timings, requests, store calls and changes: what `Telemetry` holds, as metric families.

use super::Page;
use crate::{
    meters::TimingFigures,
    publish::figures::{StatsdFigures, Telemetry},
};

/// Appends them.
pub(super) fn render(page: &mut Page, telemetry: &Telemetry) {
    page.family("http_requests_total", "counter", "Answers by kind of endpoint and status.");
    for (endpoint, code, count) in &telemetry.requests {
        page.sample("http_requests_total", &[("endpoint", endpoint), ("code", code)], count);
    }
    for (name, help, timings) in [
        ("probe_duration_seconds", "How long probes took, whatever their outcome.", &telemetry.probe_latency),
        ("evaluation_duration_seconds", "How long evaluations took, the view included.", &telemetry.evaluation),
        ("publish_delay_seconds", "How long after a result the view showed what it changed.", &telemetry.publish),
    ] {
        page.family(name, "histogram", help);
        histogram(page, name, &[], timings);
    }
    page.family("store_call_duration_seconds", "histogram", "How long calls of the store took, failed ones included.");
    for calls in &telemetry.store {
        histogram(page, "store_call_duration_seconds", &[("op", calls.op)], &calls.took);
    }
    page.family("store_errors_total", "counter", "Failed calls of the store.");
    for calls in &telemetry.store {
        page.sample("store_errors_total", &[("op", calls.op)], calls.failed);
    }
    page.family("target_changes_total", "counter", "Changes of targets' health by what they changed to.");
    for (state, count) in &telemetry.transitions {
        page.sample("target_changes_total", &[("to", state)], count);
    }
    let help = "Changes of categories' verdicts.";
    page.one("category_changes_total", "counter", help, telemetry.category_changes);
    if let Some(StatsdFigures { sent, dropped, failures }) = telemetry.statsd {
        page.one("statsd_metrics_sent_total", "counter", "Metrics handed to the system for StatsD.", sent);
        page.one("statsd_metrics_dropped_total", "counter", "Metrics for StatsD that were dropped.", dropped);
        page.one("statsd_lookup_failures_total", "counter", "Failed look-ups of the StatsD server's name.", failures);
    }
}

fn histogram(page: &mut Page, name: &str, labels: &[(&str, &str)], timings: &TimingFigures) {
    let bucket = format!("{name}_bucket");
    let mut sample = |bound: &str, count: u64| {
        let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
        page.sample(&bucket, &labels, count);
    };
    for (bound, count) in &timings.buckets {
        sample(&bound.as_secs_f64().to_string(), *count);
    }
    sample("+Inf", timings.count);
    page.sample(&format!("{name}_sum"), labels, timings.sum.as_secs_f64());
    page.sample(&format!("{name}_count"), labels, timings.count);
}
