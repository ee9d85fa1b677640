//! The page: one document without outside resources, readable without colours, on a phone and by keyboard. The template
//! escapes everything; what is shown of a target is gathered in `page_rows`.

use askama::Template;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    Web,
    health::Report,
    page_cluster::{self, Cluster},
    page_rows::{self, Mark, Section},
    respond, standing,
};
use crate::model::{CategoryName, FaultLevel, NodeStatus, Role, Severity};

/// Longest list of faults on the page; the rest is in the API.
const MAX_FAULTS: usize = 100;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    title: String,
    description: String,
    word: &'static str,
    colour: &'static str,
    /// Refreshes itself; not after `cache=false`, which would probe again and again.
    live: bool,
    nonce: String,
    path: &'a str,
    node: &'a NodeStatus,
    cluster: Cluster<'a>,
    shown_at: String,
    counts: Vec<Mark>,
    notes: Vec<Note>,
    faults: Vec<FaultRow<'a>>,
    faults_head: String,
    has_faults: bool,
    categories: Vec<CategoryRow<'a>>,
    sections: Vec<Section<'a>>,
}

struct Note {
    head: String,
    text: String,
    bad: bool,
}

struct FaultRow<'a> {
    level: &'static str,
    colour: &'static str,
    key: &'a str,
    value: &'a str,
    reason: &'a str,
    expected: &'a str,
    nearest: Option<&'a str>,
}

struct CategoryRow<'a> {
    name: &'a CategoryName,
    word: &'static str,
    colour: &'static str,
    marks: Vec<Mark>,
    detail: String,
    /// Why it is not good to go, in a line.
    reason: Option<String>,
}

/// Renders the page. `path` is where it was asked for, for its links.
pub(super) fn page(web: &Web, report: &Report<'_>, path: &str) -> Response<Body> {
    let (word, colour) = heading(report);
    let nonce = nonce();
    let node = &report.view.node;
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let faults = &report.view.catalog.faults;
    let page = Page {
        title: report.name(),
        description: report.description(),
        word,
        colour,
        live: !report.judged.raw,
        nonce,
        // Only these two paths lead here; anything else must not get into a link.
        path: if path == "/" { "/" } else { "/__health" },
        node,
        cluster: page_cluster::cluster(web, report),
        shown_at: page_rows::clock_time(report.now.wall),
        counts: page_rows::counts(report),
        notes: notes(web, report),
        faults: fault_rows(report),
        faults_head: faults_head(faults),
        has_faults: faults.iter().any(|f| f.level == FaultLevel::Fault),
        categories: category_rows(report),
        sections: page_rows::sections(report),
    };
    match page.render() {
        Ok(html) => {
            let mut response =
                respond::body(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), html);
            let headers = response.headers_mut();
            if let Ok(policy) = HeaderValue::from_str(&policy) {
                headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        }
        Err(error) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be written: {error}")),
    }
}

fn heading(report: &Report<'_>) -> (&'static str, &'static str) {
    if report.view.node.role == Role::Starting {
        ("STARTING", "amber")
    } else if !report.verdict.healthy {
        if report.verdict.severity == Some(Severity::HIGH) { ("CRITICAL", "red") } else { ("UNHEALTHY", "red") }
    } else if page_rows::any_failure(report) {
        ("HEALTHY, WITH FAILURES THAT DO NOT COUNT", "amber")
    } else {
        ("HEALTHY", "green")
    }
}

fn notes(web: &Web, report: &Report<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |bad: bool, head: String, text: String| notes.push(Note { head, text, bad });
    if let Some(ack) = report.cluster_ack() {
        let by = ack.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        note(false, format!("Cluster acked{by}"), ack.message.clone());
    }
    for said in standing::notes(web, report.view) {
        note(said.bad, said.what, said.meaning);
    }
    if let Some(held) = &report.view.catalog.held {
        let names: Vec<&str> = held.targets.iter().take(20).map(|t| t.as_str()).collect();
        let more = held.targets.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let head =
            format!("A removal of {} targets is held until {}", held.targets.len(), page_rows::clock_time(held.until));
        note(true, head, format!("{}{more}", names.join(", ")));
    }
    if !report.not_refreshed.is_empty() {
        let names: Vec<&str> = report.not_refreshed.iter().take(20).map(|t| t.as_str()).collect();
        note(false, "Some targets did not answer in time; their last result counts".to_owned(), names.join(", "));
    }
    if !report.combination.unknown.is_empty() {
        let names: Vec<String> =
            report.combination.unknown.iter().take(20).map(|n| respond::one_line(n, 128)).collect();
        note(false, "Unknown categories, ignored".to_owned(), names.join(", "));
    }
    notes
}

fn fault_rows<'a>(report: &Report<'a>) -> Vec<FaultRow<'a>> {
    let rows = report.view.catalog.faults.iter().take(MAX_FAULTS).map(|fault| {
        let (level, colour) = match fault.level {
            FaultLevel::Fault => ("FAULT", "red"),
            FaultLevel::Hint => ("HINT", "amber"),
        };
        FaultRow {
            level,
            colour,
            key: &fault.key,
            value: &fault.value,
            reason: &fault.reason,
            expected: &fault.expected,
            nearest: fault.nearest.as_deref(),
        }
    });
    rows.collect()
}

fn faults_head(faults: &[crate::model::Fault]) -> String {
    let count = faults.iter().filter(|f| f.level == FaultLevel::Fault).count();
    let hints = faults.len() - count;
    let part = |n: usize, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts: Vec<String> = part(count, "fault", "faults").into_iter().chain(part(hints, "hint", "hints")).collect();
    format!("{} in written values and files", parts.join(" and "))
}

fn category_rows<'a>(report: &Report<'a>) -> Vec<CategoryRow<'a>> {
    let view = report.view;
    let rows = view.catalog.categories.values().map(|category| {
        let (word, colour) = page_rows::category_word(&report.judged, &category.name);
        let targets = match category.members.len() {
            1 => "1 target".to_owned(),
            n => format!("{n} targets"),
        };
        let rule = if category.resilient { ", resilient" } else { "" };
        let sticky = if category.sticky { ", sticky" } else { "" };
        let period = category.period.as_secs_f64();
        CategoryRow {
            name: &category.name,
            word,
            colour,
            marks: page_rows::category_marks(&report.judged, &category.name),
            detail: format!("{targets}, every {period} s{rule}{sticky}"),
            reason: view.evaluation.categories.get(&category.name).and_then(|v| Some(v.reasons.first()?.to_string())),
        }
    });
    rows.collect()
}

/// Sixteen random bytes in hex: the page's own script and style are known by it.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    // Should the system have no randomness, the page's script is not run: its policy then names a nonce that no
    // element may have.
    if rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).is_err() {
        return String::new();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
