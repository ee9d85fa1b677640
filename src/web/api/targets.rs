//! `GET /api/v1/targets` and `/api/v1/targets/{name}`.

use std::{collections::BTreeMap, time::Duration};

use axum::body::Body;
use http::{Response, StatusCode};
use serde::{Serialize, Serializer};

use crate::{
    model::{
        Ack, CategoryName, Check, DocumentCheck, HealthState, Now, Observation, Outcome, ServiceName, Severity, Target,
        TargetName, TargetVerdict, Timestamp, View, duration,
        secret::Secret,
        target::{Auth, Format, Kind},
    },
    web::{
        aside,
        problem::Problem,
        query::Query,
        respond,
        routes::Call,
        verdict::{self, Judged},
    },
};

#[derive(Serialize)]
struct Item<'a> {
    name: &'a TargetName,
    service: &'a ServiceName,
    categories: &'a [CategoryName],
    path: &'a str,
    ok: bool,
    acked: bool,
    ack: Option<&'a Ack>,
    severity: Severity,
    #[serde(with = "duration::seconds")]
    interval: Duration,
    health: Health<'a>,
    last: Option<Last<'a>>,
}

#[derive(Serialize)]
struct Health<'a> {
    state: HealthState,
    since: Timestamp,
    reason: &'a str,
    stale: bool,
    flapping: bool,
    term: i64,
    n: u64,
}

#[derive(Serialize)]
struct Last<'a> {
    outcome: Outcome,
    output: &'a str,
    at: Timestamp,
    age: u64,
    #[serde(with = "duration::seconds")]
    latency: Duration,
    status: Option<u16>,
    days_left: Option<i64>,
}

/// A target alone is shown with what is asked of it and what its own document says.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    item: Item<'a>,
    business_impact: &'a str,
    technical_summary: &'a str,
    panic_guide: &'a str,
    check: CheckShown<'a>,
    checks: Vec<DocumentCheckShown<'a>>,
    checks_left_out: u32,
    properties: Option<&'a BTreeMap<String, serde_json::Value>>,
}

#[derive(Serialize)]
struct CheckShown<'a> {
    kind: Kind,
    host: &'a str,
    port: u16,
    via_gateway: bool,
    path: &'a str,
    host_header: &'a str,
    method: &'a str,
    headers: BTreeMap<&'a str, &'a Secret>,
    auth: Option<&'static str>,
    format: Format,
    #[serde(with = "duration::seconds")]
    timeout: Duration,
    rise: u32,
    fall: u32,
    #[serde(with = "duration::seconds")]
    fast_interval: Duration,
    connection: &'static str,
    redirects: u8,
}

/// A document's check in this API's own spelling.
#[derive(Serialize)]
struct DocumentCheckShown<'a> {
    id: &'a str,
    name: &'a str,
    ok: bool,
    severity: Severity,
    business_impact: &'a str,
    technical_summary: &'a str,
    panic_guide: &'a str,
    check_output: &'a str,
    last_updated: &'a str,
}

struct Row<'a> {
    target: &'a Target,
    verdict: TargetVerdict,
    health: &'a crate::model::Health,
    seen: Option<std::sync::Arc<Observation>>,
    now: Now,
}

impl<'a> Row<'a> {
    fn of(view: &'a View, index: usize, now: Now) -> Option<Self> {
        Some(Self {
            target: view.catalog.targets.get(index)?,
            verdict: Judged::damped(view).target(index),
            health: view.health.get(index)?,
            seen: verdict::observation(view, index),
            now,
        })
    }

    fn item(&self) -> Item<'_> {
        let (target, health) = (self.target, self.health);
        Item {
            name: &target.name,
            service: &target.service,
            categories: &target.categories,
            path: &target.path,
            ok: self.verdict.ok,
            acked: self.verdict.acked,
            ack: target.ack.as_ref().filter(|_| self.verdict.acked),
            severity: target.severity,
            interval: target.interval,
            health: Health {
                state: health.state,
                since: health.since,
                reason: &health.reason,
                stale: health.stale,
                flapping: health.flapping,
                term: health.term,
                n: health.n,
            },
            last: self.seen.as_deref().map(|seen| Last {
                outcome: seen.outcome,
                output: &seen.output,
                at: seen.at.wall,
                age: self.now.mono.since(seen.at.mono).as_secs(),
                latency: seen.latency,
                status: seen.status,
                days_left: seen.days_left,
            }),
        }
    }

    fn detail(&self) -> Detail<'_> {
        let (target, seen) = (self.target, self.seen.as_deref());
        Detail {
            item: self.item(),
            business_impact: &target.business_impact,
            technical_summary: &target.technical_summary,
            panic_guide: &target.panic_guide,
            check: check(&target.check),
            checks: seen.and_then(|o| o.checks.as_deref()).unwrap_or_default().iter().map(document_check).collect(),
            checks_left_out: seen.map_or(0, |o| o.checks_left_out),
            properties: seen.and_then(|o| o.properties.as_deref()),
        }
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.item().serialize(s)
    }
}

fn check(check: &Check) -> CheckShown<'_> {
    CheckShown {
        kind: check.kind,
        host: &check.host,
        port: check.port,
        via_gateway: check.via_gateway,
        path: &check.path,
        host_header: &check.host_header,
        method: check.method.as_str(),
        headers: check.headers.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        auth: check.auth.as_ref().map(|auth| match auth {
            Auth::Basic { .. } => "basic",
            Auth::Bearer(_) => "bearer",
        }),
        format: check.format,
        timeout: check.timeout,
        rise: check.rise,
        fall: check.fall,
        fast_interval: check.fast_interval,
        connection: if check.reuse { "reuse" } else { "fresh" },
        redirects: check.redirects,
    }
}

fn document_check(check: &DocumentCheck) -> DocumentCheckShown<'_> {
    DocumentCheckShown {
        id: &check.id,
        name: &check.name,
        ok: check.ok,
        severity: check.severity,
        business_impact: &check.business_impact,
        technical_summary: &check.technical_summary,
        panic_guide: &check.panic_guide,
        check_output: &check.check_output,
        last_updated: &check.last_updated,
    }
}

/// Which targets a list asks for.
struct Filter {
    categories: Vec<String>,
    services: Vec<String>,
    states: Vec<String>,
}

impl Filter {
    fn takes(&self, row: &Row<'_>) -> bool {
        let any = |words: &[String], test: &dyn Fn(&str) -> bool| words.is_empty() || words.iter().any(|w| test(w));
        any(&self.categories, &|w| row.target.categories.iter().any(|c| c.as_str() == w))
            && any(&self.services, &|w| row.target.service.as_str() == w)
            && any(&self.states, &|w| row.health.state.word() == w)
    }
}

struct List<'a> {
    view: &'a View,
    now: Now,
    filter: Filter,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let rows = (0..self.view.catalog.targets.len()).filter_map(|i| Row::of(self.view, i, self.now));
        s.collect_seq(rows.filter(|row| self.filter.takes(row)))
    }
}

/// All targets, or those of `categories`, `service`, `state`.
pub(in crate::web) async fn list(call: Call) -> Response<Body> {
    let query = Query::parse(call.uri.query());
    if let Some(name) = query.unknown(&["categories", "service", "state"]) {
        let detail =
            format!("unknown parameter {:?}; expected categories, service or state", respond::one_line(name, 64));
        return Problem::bad_request(detail).response();
    }
    let filter = Filter {
        categories: query.words("categories"),
        services: query.words("service"),
        states: query.words("state"),
    };
    if let Some(word) = filter.states.iter().find(|w| !["unknown", "up", "down"].contains(&w.as_str())) {
        let detail = format!("state: {:?} is none; expected unknown, up or down", respond::one_line(word, 64));
        return Problem::bad_request(detail).response();
    }
    let now = call.web.clock.now();
    aside::answer(call.web.view.load(), move |view| respond::json(StatusCode::OK, &List { view, now, filter })).await
}

/// One target.
pub(in crate::web) async fn one(call: Call) -> Response<Body> {
    let view = call.web.view.load();
    let row = view.catalog.index_of(&call.name).and_then(|index| Row::of(&view, index, call.web.clock.now()));
    match row {
        Some(row) => respond::json(StatusCode::OK, &row.detail()),
        None => {
            let known = view.catalog.targets.iter().map(|t| t.name.as_str());
            Problem::no_such("target", &call.name, known).response()
        }
    }
}
