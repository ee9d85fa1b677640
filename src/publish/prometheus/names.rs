//! Series with the names of targets, categories and services: many where there are many targets, so only where they are asked
//! for (`--metrics-targets`).

use super::{Page, seconds};
use crate::model::{Health, HealthState, Observation, Target, View};

type Value = fn(&Row<'_>) -> Option<f64>;

struct Row<'a> {
    target: &'a Target,
    health: &'a Health,
    last: Option<std::sync::Arc<Observation>>,
    acked: bool,
}

const fn flag(on: bool) -> Option<f64> {
    Some(if on { 1.0 } else { 0.0 })
}

const FAMILIES: [(&str, &str, Value); 5] = [
    ("target_flapping", "1 while the target changes too often.", |row| flag(row.health.flapping)),
    ("target_stale", "1 while the target has no recent result.", |row| flag(row.health.stale)),
    ("target_acked", "1 while an ack of the target is in force.", |row| flag(row.acked)),
    ("target_last_probe_time_seconds", "When the last result came in, Unix time.", |row| {
        row.last.as_ref().map(|seen| seconds(seen.at.wall))
    }),
    ("target_last_probe_duration_seconds", "How long the last probe took.", |row| {
        row.last.as_ref().map(|seen| seen.latency.as_secs_f64())
    }),
];

/// Appends them.
pub(super) fn render(page: &mut Page, view: &View) {
    let row = |(index, health): (usize, _)| {
        let target = view.catalog.targets.get(index)?;
        let acked = view.evaluation.targets.get(index).is_some_and(|t| t.acked);
        let last = view.cells.get(index).and_then(|cell| cell.load());
        Some(Row { target, health, last, acked })
    };
    let rows: Vec<_> = view.health.iter().enumerate().filter_map(row).collect();
    page.family("target_state", "gauge", "1 for the state of the target, 0 for the others.");
    for Row { target, health, .. } in &rows {
        for state in [HealthState::Up, HealthState::Down, HealthState::Unknown] {
            let labels =
                [("target", target.name.as_str()), ("service", target.service.as_str()), ("state", state.word())];
            page.sample("target_state", &labels, u8::from(health.state == state));
        }
    }
    for (family, help, value) in FAMILIES {
        page.family(family, "gauge", help);
        for row in &rows {
            let labels = [("target", row.target.name.as_str()), ("service", row.target.service.as_str())];
            if let Some(value) = value(row) {
                page.sample(family, &labels, value);
            }
        }
    }
    page.family("category_ok", "gauge", "1 while the category is good to go.");
    for (name, verdict) in &view.evaluation.categories {
        page.sample("category_ok", &[("category", name.as_str())], u8::from(verdict.ok));
    }
    page.family("service_ok", "gauge", "1 while the service is good to go.");
    for (name, verdict) in &view.evaluation.services {
        page.sample("service_ok", &[("service", name.as_str())], u8::from(verdict.ok));
    }
}
