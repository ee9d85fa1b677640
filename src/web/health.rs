//! `/` and `/__health`: the same report as FT's JSON, as health+json, or as the page, by `Accept`. 200 also when
//! unhealthy: the answer is about the cluster, and giving it worked.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode};

use super::{
    Web, accept, aside, gtg, health_json, page,
    problem::Problem,
    query::Query,
    respond,
    routes::Call,
    verdict::{self, Asked, Judged},
};
use crate::{
    evaluation::Combination,
    model::{Ack, CategoryName, CategoryVerdict, Mono, Now, Reason, Role, TargetName, View},
};

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const HEALTH_JSON: &str = "application/health+json";

/// What the three forms show.
pub(super) struct Report<'a> {
    /// The value they are made from.
    pub(super) view: &'a View,
    /// Its healths and verdicts, or those of raw results after `cache=false`.
    pub(super) judged: Judged<'a>,
    /// The categories.
    pub(super) asked: &'a Asked,
    /// What they are together.
    pub(super) combination: Combination,
    /// The verdict over them.
    pub(super) verdict: CategoryVerdict,
    /// Since when the oldest stale target has had no result.
    pub(super) stale_since: Option<Mono>,
    /// Targets that a fresh run did not reach.
    pub(super) not_refreshed: Vec<TargetName>,
    /// Now.
    pub(super) now: Now,
}

impl<'a> Report<'a> {
    fn new(web: &Web, view: &'a View, asked: &'a Asked, fresh: Option<Vec<TargetName>>) -> Self {
        let damped = Judged::damped(view);
        let (judged, not_refreshed) = match fresh {
            Some(not_refreshed) => {
                let members = damped.combine(asked).members;
                (Judged::raw(view, &members, &not_refreshed), not_refreshed)
            }
            None => (damped, Vec::new()),
        };
        let combination = judged.combine(asked);
        let stale_since = judged.answer(&combination).stale_since;
        let verdict = combination.verdict.clone().unwrap_or_else(nothing_known);
        Self { view, judged, asked, combination, verdict, stale_since, not_refreshed, now: web.clock.now() }
    }

    /// The cluster ack in force.
    pub(super) fn cluster_ack(&self) -> Option<&'a Ack> {
        self.view.catalog.cluster_ack.as_ref().filter(|ack| ack.in_force(self.now.wall))
    }

    /// FT's `ok`: health alone, and the cluster ack makes it true.
    pub(super) fn ok(&self) -> bool {
        self.verdict.healthy || self.cluster_ack().is_some()
    }

    /// FT's heading.
    pub(super) fn name(&self) -> String {
        format!("{} cluster health", self.view.node.environment)
    }

    /// FT's description, the cluster ack after it.
    pub(super) fn description(&self) -> String {
        let how = match (self.view.node.role, self.judged.raw) {
            (Role::Starting, _) => "The node is starting; nothing is known yet.",
            (_, false) => "Health of the whole cluster of the moment served from cache.",
            (_, true) => "Health of the whole cluster of the moment served without cache.",
        };
        match self.cluster_ack() {
            Some(ack) => format!("{how} Cluster ack: {}", ack.message),
            None => how.to_owned(),
        }
    }

    /// Categories asked for whose switch is off.
    pub(super) fn disabled(&self) -> Vec<&CategoryName> {
        self.categories_where(|v| !v.enabled)
    }

    /// Categories asked for that the sticky latch holds.
    pub(super) fn latched(&self) -> Vec<&CategoryName> {
        self.categories_where(|v| v.latch.is_some())
    }

    fn categories_where(&self, test: impl Fn(&crate::model::CategoryVerdict) -> bool) -> Vec<&CategoryName> {
        let verdicts = &self.judged.evaluation.categories;
        self.combination.known.iter().filter(|c| verdicts.get(*c).is_some_and(&test)).collect()
    }
}

/// Before the catalog is read: fails closed.
fn nothing_known() -> CategoryVerdict {
    CategoryVerdict {
        healthy: false,
        ok: false,
        severity: None,
        reasons: vec![Reason::Starting],
        enabled: true,
        latch: None,
        only_unknown: true,
    }
}

/// FT's report over the category `default`, as `/__health` gives it: for benchmarks.
#[must_use]
pub fn report_json(web: &Web, view: &View) -> Response<Body> {
    let asked = Asked::of(&Query::parse(None));
    health_json::ft(&Report::new(web, view, &asked, None), &web.fragments)
}

/// `/` and `/__health`.
pub(super) async fn health(call: Call) -> Response<Body> {
    let web = Arc::clone(&call.web);
    let form = accept::choose(&call.headers, &[HTML, JSON, HEALTH_JSON]);
    let query = Query::parse(call.uri.query());
    let asked = Asked::of(&query);
    let mut view = web.view.load();
    let mut fresh = None;
    if query.is("cache", "false") && !verdict::is_starting(&view) {
        let members = Judged::damped(&view).combine(&asked).members;
        fresh = Some(web.port.refresh(verdict::names(&view, &members)).await.not_refreshed);
        // The cells have moved on, and perhaps the view as well.
        view = web.view.load();
    }
    aside::answer(view, move |view| render(&web, view, &asked, fresh, form, call.uri.path())).await
}

/// The report in the form asked for, with its headers.
fn render(
    web: &Web,
    view: &View,
    asked: &Asked,
    fresh: Option<Vec<TargetName>>,
    form: &str,
    path: &str,
) -> Response<Body> {
    let report = Report::new(web, view, asked, fresh);
    if report.combination.known.is_empty() && !verdict::is_starting(view) {
        let text = report.judged.answer(&report.combination).body;
        return match form {
            HTML => respond::text(StatusCode::BAD_REQUEST, text),
            _ => Problem::bad_request(String::from_utf8_lossy(&text)).response(),
        };
    }
    let mut response = match form {
        JSON => health_json::ft(&report, &web.fragments),
        HEALTH_JSON => health_json::draft(&report),
        _ => page::page(web, &report, path),
    };
    gtg::name_unknown(&mut response, &report.combination.unknown);
    gtg::name_not_refreshed(&mut response, &report.not_refreshed);
    let headers = response.headers_mut();
    if let Some(value) = gtg::stale(report.stale_since, web) {
        headers.insert(respond::STALE, value);
    }
    headers.insert(http::header::VARY, HeaderValue::from_static("Accept"));
    response
}
