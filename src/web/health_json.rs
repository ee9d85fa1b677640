//! The health report as JSON: FT's standard v1 and `application/health+json` (draft-inadarei-api-health-check). Written
//! straight into one buffer: a report may hold 10,000 targets.

use std::{fmt, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    fragments::{self, Fragment, Fragments},
    health::Report,
    respond, verdict,
};
use crate::model::{CategoryName, Health, Observation, Severity, Target, TargetVerdict, Timestamp};

/// One target as the report shows it.
struct Row<'a> {
    target: &'a Target,
    verdict: TargetVerdict,
    health: &'a Health,
    seen: Option<Arc<Observation>>,
}

impl Report<'_> {
    /// The targets concerned, sorted by name.
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.combination.members.iter().filter_map(|&member| self.row(member as usize))
    }

    fn row(&self, index: usize) -> Option<Row<'_>> {
        Some(Row {
            target: self.view.catalog.targets.get(index)?,
            verdict: self.judged.target(index),
            health: self.judged.health.get(index)?,
            seen: verdict::observation(self.view, index),
        })
    }

    /// Nothing but the latest result is to be shown of this target, as long as that and its state agree.
    fn is_plain(&self, index: usize) -> bool {
        let health = self.judged.health.get(index);
        !self.judged.target(index).acked && health.is_some_and(|h| !h.stale && !h.flapping)
    }
}

impl Row<'_> {
    /// What the target last said, or, where that and its damped state differ, why it has that state.
    fn said(&self) -> &str {
        match &self.seen {
            Some(seen) if seen.outcome.is_good() == self.verdict.ok => &seen.output,
            _ => &self.health.reason,
        }
    }

    fn updated(&self) -> Timestamp {
        self.seen.as_ref().map_or(self.health.since, |seen| seen.at.wall)
    }
}

impl fmt::Display for Row<'_> {
    /// FT's `checkOutput`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdict.acked {
            f.write_str("ACKED - ")?;
        }
        f.write_str(self.said())?;
        if self.health.stale {
            f.write_str(" (stale: no newer result)")?;
        }
        if self.health.flapping {
            f.write_str(" (flapping)")?;
        }
        Ok(())
    }
}

/// All of FT's document but the checks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FtReport<'a> {
    schema_version: u8,
    system_code: &'static str,
    name: String,
    description: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    disabled_categories: Vec<&'a CategoryName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latched_categories: Vec<&'a CategoryName>,
}

/// An acked check's own fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FtAck<'a> {
    ack: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_until: Option<Timestamp>,
}

/// Bytes of a usual check, to take the room at once.
const USUAL_CHECK: usize = 384;
/// A report over fewer targets than this is not kept: writing it anew costs less than it takes room.
const KEPT_FROM: usize = 500;

fn write_ft(report: &Report<'_>, fragments: &Fragments) -> Result<Bytes, serde_json::Error> {
    let ready = fragments.of(&report.view.catalog)?;
    let head = FtReport {
        schema_version: 1,
        system_code: "bellwether",
        name: report.name(),
        description: report.description(),
        ok: report.ok(),
        severity: if report.verdict.healthy { None } else { report.verdict.severity },
        disabled_categories: report.disabled(),
        latched_categories: report.latched(),
    };
    let members = &report.combination.members;
    // Every target: the report that is asked for again and again, and worth its room.
    let keeps = members.len() >= KEPT_FROM && members.len() == report.view.catalog.targets.len();
    let mut last = ready.take();
    let mut out = Vec::with_capacity((last.len() + last.len() / 8).max(members.len() * USUAL_CHECK) + 1024);
    out.push(b'{');
    fragments::write_fields(&mut out, &head)?;
    out.extend_from_slice(b",\"checks\":[");
    let first = out.len();
    for index in members.iter().map(|&member| member as usize) {
        let before = out.len();
        if before > first {
            out.push(b',');
        }
        let start = out.len();
        let plain = report.is_plain(index);
        let ok = report.judged.target(index).ok;
        let cell = report.view.cells.get(index).filter(|_| plain);
        if !cell.is_some_and(|cell| last.take_over(index, cell, ok, &mut out)) {
            let (Some(row), Some(fragment)) = (report.row(index), ready.get(index)) else {
                out.truncate(before);
                continue;
            };
            write_check(&mut out, &row, fragment)?;
            if keeps {
                last.note(index, row.seen.filter(|seen| plain && seen.outcome.is_good() == ok));
            }
        }
        if keeps {
            last.place(index, start, out.len());
        }
    }
    out.extend_from_slice(b"]}");
    let body = Bytes::from(out);
    if keeps {
        last.finish(body.clone());
    }
    ready.keep(last);
    Ok(body)
}

fn write_check(out: &mut Vec<u8>, row: &Row<'_>, fragment: &Fragment) -> Result<(), serde_json::Error> {
    let (before, after) = fragment.halves();
    out.push(b'{');
    out.extend_from_slice(before);
    out.extend_from_slice(if row.verdict.ok { b",\"ok\":true," } else { b",\"ok\":false," });
    out.extend_from_slice(after);
    out.extend_from_slice(b",\"checkOutput\":");
    if row.verdict.acked || row.health.stale || row.health.flapping {
        serde_json::to_writer(&mut *out, &Shown(row))?;
    } else {
        serde_json::to_writer(&mut *out, row.said())?;
    }
    out.extend_from_slice(b",\"lastUpdated\":");
    write_time(out, row.updated())?;
    if row.verdict.acked
        && let Some(ack) = &row.target.ack
    {
        out.push(b',');
        let ack = FtAck { ack: &ack.message, ack_by: ack.by.as_deref(), ack_until: ack.until };
        fragments::write_fields(out, &ack)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_time(out: &mut Vec<u8>, time: Timestamp) -> Result<(), serde_json::Error> {
    let Some(text) = time.text() else { return serde_json::to_writer(out, &time) };
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
    Ok(())
}

/// Anything that prints, as a JSON string without a string in between.
struct Shown<'a, T>(&'a T);

impl<T: fmt::Display> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self.0)
    }
}

/// FT's JSON, v1.
pub(super) fn ft(report: &Report<'_>, fragments: &Fragments) -> Response<Body> {
    match write_ft(report, fragments) {
        Ok(bytes) => respond::body(StatusCode::OK, respond::JSON, bytes),
        Err(error) => respond::unwritable(&error),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DraftReport<'a> {
    status: &'static str,
    version: &'static str,
    release_id: &'static str,
    service_id: &'static str,
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    checks: DraftChecks<'a>,
}

struct DraftChecks<'a>(&'a Report<'a>);

impl Serialize for DraftChecks<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.rows().map(|row| (row.target.name.clone(), [DraftCheck(row)])))
    }
}

struct DraftCheck<'a>(Row<'a>);

impl DraftCheck<'_> {
    fn status(&self) -> &'static str {
        let row = &self.0;
        match (row.verdict.ok, row.verdict.acked) {
            (true, _) if row.health.stale || row.health.flapping => "warn",
            (true, _) => "pass",
            (false, true) => "warn",
            (false, false) => "fail",
        }
    }
}

impl Serialize for DraftCheck<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let row = &self.0;
        let status = self.status();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("componentId", &row.target.name)?;
        map.serialize_entry("componentType", "component")?;
        map.serialize_entry("status", status)?;
        map.serialize_entry("time", &row.updated())?;
        // The draft wants no output where a check passes.
        if status != "pass" {
            map.serialize_entry("output", &Shown(row))?;
        }
        map.end()
    }
}

/// `application/health+json`.
pub(super) fn draft(report: &Report<'_>) -> Response<Body> {
    let all_pass = || report.rows().all(|row| DraftCheck(row).status() == "pass");
    let status = match report.ok() {
        true if all_pass() => "pass",
        true => "warn",
        false => "fail",
    };
    let mut notes = vec![report.name()];
    notes.extend(report.disabled().into_iter().map(|c| format!("category {c} is disabled")));
    notes.extend(report.latched().into_iter().map(|c| format!("category {c} is latched")));
    let body = DraftReport {
        status,
        version: "1",
        release_id: report.view.node.version,
        service_id: "bellwether",
        description: report.description(),
        notes,
        output: (status == "fail").then(|| reasons(report)),
        checks: DraftChecks(report),
    };
    let mut response = respond::json(StatusCode::OK, &body);
    let content_type = HeaderValue::from_static("application/health+json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

fn reasons(report: &Report<'_>) -> String {
    report.verdict.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
