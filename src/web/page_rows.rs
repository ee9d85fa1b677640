//! What the page says of targets, services and categories, in words and one of three colours.

use std::{collections::BTreeMap, time::Duration};

use super::{
    health::Report,
    verdict::{self, Judged},
};
use crate::model::{
    CategoryName, Health, HealthState, Observation, ServiceName, Target, TargetName, TargetVerdict, Timestamp,
};

/// Services of a section that are shown open although all is well.
const OPEN_UP_TO: usize = 12;

/// A word in a colour.
pub(super) struct Mark {
    pub(super) text: String,
    pub(super) colour: &'static str,
}

/// A category, its services in two heaps.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    pub(super) marks: Vec<Mark>,
    pub(super) reasons: Vec<String>,
    pub(super) failing: Vec<ServiceRow<'a>>,
    pub(super) fine: Vec<ServiceRow<'a>>,
    pub(super) fine_head: String,
    pub(super) open: bool,
    /// Only the targets without another category are shown.
    pub(super) rest: bool,
}

/// A service within a category.
pub(super) struct ServiceRow<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    pub(super) up: usize,
    pub(super) total: usize,
    pub(super) targets: Vec<TargetRow<'a>>,
}

/// A target.
pub(super) struct TargetRow<'a> {
    pub(super) name: &'a TargetName,
    pub(super) word: &'static str,
    pub(super) colour: &'static str,
    pub(super) edge: &'static str,
    pub(super) marks: Vec<Mark>,
    pub(super) severity: u8,
    pub(super) output: String,
    pub(super) age: String,
    pub(super) more: String,
    ok: bool,
    notable: bool,
}

/// A word in a colour.
pub(super) fn mark(text: impl Into<String>, colour: &'static str) -> Mark {
    Mark { text: text.into(), colour }
}

/// How many targets are in which state.
pub(super) fn counts(report: &Report<'_>) -> Vec<Mark> {
    let judged = &report.judged;
    let (mut up, mut down, mut unknown, mut acked, mut stale, mut flapping) = (0, 0, 0, 0, 0, 0);
    for &member in &report.combination.members {
        let index = member as usize;
        let Some(health) = judged.health.get(index) else { continue };
        let verdict = judged.target(index);
        match health.state {
            HealthState::Up => up += 1,
            HealthState::Down => down += 1,
            HealthState::Unknown => unknown += 1,
        }
        acked += usize::from(verdict.acked && !verdict.ok);
        stale += usize::from(health.stale);
        flapping += usize::from(health.flapping);
    }
    let mut marks = vec![mark(format!("{} targets", report.combination.members.len()), "plain")];
    let all = [
        (up, "up", "green"),
        (down, "down", "red"),
        (unknown, "unknown", "amber"),
        (acked, "acked", "amber"),
        (stale, "stale", "amber"),
        (flapping, "flapping", "amber"),
    ];
    marks.extend(all.into_iter().filter(|(n, ..)| *n > 0).map(|(n, word, colour)| mark(format!("{n} {word}"), colour)));
    marks
}

/// Whether any target fails, counting or not.
pub(super) fn any_failure(report: &Report<'_>) -> bool {
    report.combination.members.iter().any(|&m| !report.judged.target(m as usize).ok)
}

/// `GOOD TO GO` or not.
pub(super) fn category_word(judged: &Judged<'_>, name: &CategoryName) -> (&'static str, &'static str) {
    match judged.evaluation.categories.get(name) {
        Some(verdict) if verdict.ok => ("GOOD TO GO", "green"),
        Some(verdict) if verdict.healthy => ("SWITCHED OFF", "amber"),
        Some(_) => ("NOT GOOD TO GO", "red"),
        None => ("UNKNOWN", "amber"),
    }
}

/// Switch and latch.
pub(super) fn category_marks(judged: &Judged<'_>, name: &CategoryName) -> Vec<Mark> {
    let mut marks = Vec::new();
    if let Some(verdict) = judged.evaluation.categories.get(name) {
        if !verdict.enabled {
            marks.push(mark("DISABLED", "red"));
        }
        if verdict.latch.is_some() {
            marks.push(mark("LATCHED", "red"));
        }
    }
    marks
}

/// One section for each category asked for; where none is named, for every one, and `default` with what is in no other.
pub(super) fn sections<'a>(report: &'a Report<'a>) -> Vec<Section<'a>> {
    let view = report.view;
    let only_default = matches!(report.combination.known.as_slice(), [one] if one.as_str() == "default");
    let everything = only_default && !report.asked.named;
    let mut names: Vec<&CategoryName> =
        if everything { view.catalog.categories.keys().collect() } else { report.combination.known.iter().collect() };
    // What needs a look comes first; what is in no category of its own, last.
    let fine = |name: &CategoryName| report.judged.evaluation.categories.get(name).is_some_and(|v| v.ok);
    names.sort_by_key(|name| (everything && name.as_str() == "default", fine(name)));
    names.into_iter().filter_map(|name| section(report, name, everything)).collect()
}

fn section<'a>(report: &'a Report<'a>, name: &CategoryName, everything: bool) -> Option<Section<'a>> {
    let view = report.view;
    let category = view.catalog.categories.get(name)?;
    let rest = everything && name.as_str() == "default";
    let mut services: BTreeMap<&ServiceName, Vec<TargetRow<'a>>> = BTreeMap::new();
    for &member in &category.members {
        let Some(target) = view.catalog.targets.get(member as usize) else { continue };
        if rest && target.categories.len() > 1 {
            continue;
        }
        services.entry(&target.service).or_default().extend(row(report, member as usize, target));
    }
    let rows = services.into_iter().map(|(name, targets)| service(name, targets));
    let (failing, fine): (Vec<_>, Vec<_>) = rows.partition(|s| s.targets.iter().any(|t| t.notable));
    let targets: usize = fine.iter().map(|s| s.targets.len()).sum();
    let (word, colour) = category_word(&report.judged, name);
    let reasons =
        report.judged.evaluation.categories.get(name).map(|v| v.reasons.iter().map(ToString::to_string).collect());
    let shown = failing.len() + fine.len();
    if rest && shown == 0 {
        return None;
    }
    let one = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    Some(Section {
        name: category.name.as_str(),
        word,
        colour,
        marks: category_marks(&report.judged, name),
        reasons: if rest { Vec::new() } else { reasons.unwrap_or_default() },
        fine_head: format!("{}, {}", one(fine.len(), "healthy service"), one(targets, "target")),
        open: shown <= OPEN_UP_TO,
        failing,
        fine,
        rest,
    })
}

fn service<'a>(name: &'a ServiceName, mut targets: Vec<TargetRow<'a>>) -> ServiceRow<'a> {
    targets.sort_by_key(|t| !t.notable);
    let up = targets.iter().filter(|t| t.ok).count();
    let counts = targets.iter().any(|t| t.edge == "r");
    let (word, colour) = match (up, counts) {
        (0, true) => ("FAILED", "red"),
        (0, false) => ("FAILED, ACKED", "amber"),
        (up, _) if up == targets.len() => ("OK", "green"),
        _ => ("DEGRADED", "amber"),
    };
    ServiceRow { name, word, colour, up, total: targets.len(), targets }
}

fn row<'a>(report: &'a Report<'a>, index: usize, target: &'a Target) -> Option<TargetRow<'a>> {
    let health = report.judged.health.get(index)?;
    let verdict = report.judged.target(index);
    let seen = verdict::observation(report.view, index);
    let (word, colour, edge) = match (health.state, verdict.acked) {
        (HealthState::Up, _) if health.stale || health.flapping => ("UP", "green", "a"),
        (HealthState::Up, _) => ("UP", "green", "g"),
        (HealthState::Down, true) => ("DOWN", "amber", "a"),
        (HealthState::Down, false) => ("DOWN", "red", "r"),
        (HealthState::Unknown, true) => ("UNKNOWN", "amber", "a"),
        (HealthState::Unknown, false) => ("UNKNOWN", "amber", "r"),
    };
    let mut marks = Vec::new();
    if verdict.acked {
        marks.push(mark("ACKED", "amber"));
    }
    if health.stale {
        marks.push(mark("STALE", "amber"));
    }
    if health.flapping {
        marks.push(mark("FLAPPING", "amber"));
    }
    Some(TargetRow {
        name: &target.name,
        word,
        colour,
        edge,
        marks,
        severity: target.severity.get(),
        output: output(health, seen.as_deref(), verdict),
        age: age(seen.as_deref(), report),
        more: more(target, health, verdict, report),
        ok: verdict.ok,
        notable: edge != "g" || verdict.acked,
    })
}

fn output(health: &Health, seen: Option<&Observation>, verdict: TargetVerdict) -> String {
    match seen {
        Some(seen) if seen.outcome.is_good() == verdict.ok => seen.output.to_string(),
        Some(seen) => format!("{} (last result: {})", health.reason, seen.output),
        None => health.reason.to_string(),
    }
}

fn age(seen: Option<&Observation>, report: &Report<'_>) -> String {
    match seen {
        Some(seen) => {
            let took = match seen.latency.as_millis() {
                0 => "below 1 ms".to_owned(),
                ms => format!("{ms} ms"),
            };
            format!("{} ago, {took}", human(report.now.mono.since(seen.at.mono)))
        }
        None => "no result here".to_owned(),
    }
}

/// Since when it fails, who acked it and until when, and what to do.
fn more(target: &Target, health: &Health, verdict: TargetVerdict, report: &Report<'_>) -> String {
    let mut parts = Vec::new();
    if !verdict.ok {
        let since = human(report.now.wall.since(health.since));
        parts.push(format!("{} for {since}", health.state.word()));
    }
    if verdict.acked
        && let Some(ack) = &target.ack
    {
        let by = ack.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let until = ack.until.map(|until| format!(" until {}", clock_time(until))).unwrap_or_default();
        parts.push(format!("acked{by}{until}: {}", ack.message));
    }
    if !verdict.ok {
        let texts = [("Impact", &target.business_impact), ("What to do", &target.panic_guide)];
        parts.extend(texts.into_iter().filter(|(_, t)| !t.is_empty()).map(|(head, t)| format!("{head}: {t}")));
    }
    parts.join(". ")
}

/// `2026-01-31 12:00:00 UTC`.
pub(super) fn clock_time(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// `3 s`, `5 min`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{minutes} min"),
        7200..172_800 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h 0 min"),
            (90_061, "25 h 1 min"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
        assert_eq!(clock_time(Timestamp::from_millis(0)), "1970-01-01 00:00:00 UTC");
    }
}
