//! `/__agghealth`: the checks inside every target's own health document, flat, from the latest observations. A target
//! that gave none, or failed beyond them, appears as a check of its own: nothing vanishes by being dead.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::{Serialize, Serializer, ser::SerializeSeq};

use super::{
    Web, aside, gtg,
    problem::Problem,
    query::Query,
    respond,
    routes::Call,
    verdict::{self, Asked, Judged},
};
use crate::model::{DocumentCheck, Health, Observation, Target, TargetName, View};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema_version: u8,
    aggregation_system_code: &'static str,
    checks: Checks<'a>,
}

struct Checks<'a> {
    view: &'a View,
    members: &'a [u32],
}

/// One check with the system that it belongs to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Check<'a> {
    #[serde(flatten)]
    check: &'a DocumentCheck,
    check_system_code: &'a str,
}

/// What `/__agghealth` answers.
pub(super) async fn agghealth(call: Call) -> Response<Body> {
    let web = Arc::clone(&call.web);
    let view = web.view.load();
    let query = Query::parse(call.uri.query());
    let asked = Asked::of(&query);
    let mut not_refreshed = Vec::new();
    let mut shown = Arc::clone(&view);
    if query.is("cache", "false") {
        let members = Judged::damped(&view).combine(&asked).members;
        not_refreshed = web.port.refresh(verdict::names(&view, &members)).await.not_refreshed;
        shown = web.view.load();
    }
    aside::answer(shown, move |view| render(&web, view, &asked, &not_refreshed)).await
}

fn render(web: &Web, view: &View, asked: &Asked, not_refreshed: &[TargetName]) -> Response<Body> {
    let judged = Judged::damped(view);
    let combination = judged.combine(asked);
    let answer = judged.answer(&combination);
    if combination.known.is_empty() && !verdict::is_starting(view) {
        return Problem::bad_request(String::from_utf8_lossy(&answer.body)).response();
    }
    let report = Report {
        schema_version: 1,
        aggregation_system_code: "aggregate-healthcheck",
        checks: Checks { view, members: &combination.members },
    };
    let mut response = respond::json(StatusCode::OK, &report);
    gtg::name_unknown(&mut response, &combination.unknown);
    gtg::name_not_refreshed(&mut response, not_refreshed);
    if let Some(value) = gtg::stale(answer.stale_since, web) {
        response.headers_mut().insert(respond::STALE, value);
    }
    response
}

impl Serialize for Checks<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut seq = s.serialize_seq(None)?;
        for &member in self.members {
            let index = member as usize;
            let (Some(target), Some(health)) = (self.view.catalog.targets.get(index), self.view.health.get(index))
            else {
                continue;
            };
            let seen = verdict::observation(self.view, index);
            let own: &[DocumentCheck] = seen.as_ref().and_then(|o| o.checks.as_deref()).unwrap_or_default();
            let system = seen.as_ref().and_then(|o| o.system_code.as_deref()).unwrap_or(target.name.as_str());
            for check in own {
                seq.serialize_element(&Check { check, check_system_code: system })?;
            }
            let good = seen.as_ref().is_some_and(|o| o.outcome.is_good());
            let told = if good { !own.is_empty() } else { own.iter().any(|c| !c.ok) };
            if !told {
                let check = of_target(target, health, seen.as_deref());
                seq.serialize_element(&Check { check: &check, check_system_code: system })?;
            }
        }
        seq.end()
    }
}

/// The target itself as a check: it has no document, or one that does not tell why it fails.
fn of_target(target: &Target, health: &Health, seen: Option<&Observation>) -> DocumentCheck {
    let name: Arc<str> = Arc::from(target.name.as_str());
    DocumentCheck {
        id: Arc::clone(&name),
        name,
        ok: seen.is_some_and(|o| o.outcome.is_good()),
        severity: target.severity,
        business_impact: Arc::from(target.business_impact.as_str()),
        technical_summary: Arc::from(target.technical_summary.as_str()),
        panic_guide: Arc::from(target.panic_guide.as_str()),
        check_output: seen.map_or_else(|| Arc::clone(&health.reason), |o| Arc::clone(&o.output)),
        last_updated: Arc::from(seen.map_or(health.since, |o| o.at.wall).to_string()),
    }
}
