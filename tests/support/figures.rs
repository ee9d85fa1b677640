//! Figures: printed, and added to the file that `CHAOS_FIGURES` names, one JSON object a line, for the table of
//! `scripts/chaos`. A bound that is missed is told there; it fails the script, not the test.

use std::{io::Write as _, time::Duration};

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

impl Bound {
    pub const NONE: Self = Self { p50: None, p99: None, max: None };

    pub const fn max(max: f64) -> Self {
        Self { p50: None, p99: None, max: Some(max) }
    }

    pub const fn p50_p99(p50: f64, p99: f64) -> Self {
        Self { p50: Some(p50), p99: Some(p99), max: None }
    }
}

/// Milliseconds of each.
pub fn times(what: &str, samples: &[Duration], bound: Bound) {
    let millis: Vec<f64> = samples.iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    record(what, "ms", &millis, bound);
}

/// Records one row.
pub fn record(what: &str, unit: &str, samples: &[f64], bound: Bound) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    let within = |value: f64, bound: Option<f64>| bound.is_none_or(|b| value <= b);
    let met = !sorted.is_empty() && within(p50, bound.p50) && within(p99, bound.p99) && within(max, bound.max);
    let words = |name: &str, bound: Option<f64>| bound.map(|b| format!("{name} ≤ {b} {unit}"));
    let bound: Vec<_> =
        [words("p50", bound.p50), words("p99", bound.p99), words("max", bound.max)].into_iter().flatten().collect();
    println!("figure: {what}: n {}, p50 {p50:.2}, p99 {p99:.2}, max {max:.2} {unit}", sorted.len());
    let Ok(path) = std::env::var("CHAOS_FIGURES") else { return };
    let row = serde_json::json!({
        "what": what, "unit": unit, "n": sorted.len(), "p50": p50, "p99": p99, "max": max,
        "bound": bound.join(", "), "met": met,
    });
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{row}").unwrap();
}
