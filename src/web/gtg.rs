//! `/__gtg`: what a load balancer asks. The usual questions are answered straight from the view's prepared answers,
//! before any router and without work; the rest (combinations, fresh results, odd spellings) is worked out here.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;

use super::{
    Web, aside,
    query::Query,
    respond,
    verdict::{self, Asked, Judged},
};
use crate::model::{GtgAnswer, Mono, Reason, Role, TargetName, View};

const PATH: &str = "/__gtg";
const STARTING: &[u8] = b"the node is starting";
const EXPIRED: &[u8] = b"this answer's authority has run out";
/// Longest combination that is kept prepared.
const MAX_COMBINATION: usize = 512;

/// Whether a method is one that `/__gtg` answers.
pub(super) fn answers(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether a path is one of `/__gtg`'s.
pub(super) fn owns(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An answer that needs no work.
pub(super) struct Ready {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// `Bellwether-Unknown`.
    pub(super) unknown: Option<HeaderValue>,
    /// `Bellwether-Stale`.
    pub(super) stale: Option<HeaderValue>,
    /// Not to be given again from this instant on.
    pub(super) until: Option<Mono>,
}

/// The answer to `GET` or `HEAD` where the view has it ready; none: ask `slow`.
pub(super) fn ready(web: &Web, path: &str, query: Option<&str>) -> Option<Ready> {
    if !owns(path) {
        return None;
    }
    let view = web.view.peek();
    if view.node.role == Role::Starting {
        return Some(Ready::unavailable(STARTING));
    }
    let rest = path.strip_prefix(PATH)?;
    let service = rest.strip_prefix('/').filter(|s| !s.is_empty());
    let answer = match (service, query) {
        (None, None) => Some(&view.gtg.default),
        (None, Some(query)) => {
            if let Some(raw) = query.strip_prefix("categories=") {
                view.gtg.categories.get(raw)
            } else {
                query.strip_prefix("service=").and_then(|raw| view.gtg.services.get(raw))
            }
        }
        (Some(service), None) => view.gtg.services.get(service),
        (Some(_), Some(_)) => None,
    }?;
    Some(prepared(web, answer))
}

/// A prepared answer. Its authority is compared with the clock at each request: a process thawed after a pause must not
/// give an old one.
fn prepared(web: &Web, answer: &GtgAnswer) -> Ready {
    if answer.valid_until.is_some_and(|until| web.clock.mono() >= until) {
        return Ready::unavailable(EXPIRED);
    }
    Ready {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        body: answer.body.clone(),
        unknown: answer.unknown.as_ref().and_then(|u| HeaderValue::from_maybe_shared(u.clone()).ok()),
        stale: stale(answer.stale_since, web),
        until: answer.valid_until,
    }
}

/// `Bellwether-Stale`'s value: seconds since then.
pub(super) fn stale(since: Option<Mono>, web: &Web) -> Option<HeaderValue> {
    since.map(|since| HeaderValue::from(web.clock.mono().since(since).as_secs()))
}

impl Ready {
    const fn unavailable(body: &'static [u8]) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, body: Bytes::from_static(body), unknown: None, stale: None, until: None }
    }

    /// All headers but those that HTTP itself adds, in the order in which they are sent.
    pub(super) fn headers(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        static TEXT: HeaderValue = respond::TEXT;
        static NO_STORE: HeaderValue = respond::NO_STORE;
        let all = [
            (header::CONTENT_TYPE, Some(&TEXT)),
            (header::CACHE_CONTROL, Some(&NO_STORE)),
            (respond::UNKNOWN, self.unknown.as_ref()),
            (respond::STALE, self.stale.as_ref()),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// As the HTTP library takes it.
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body.clone()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers().map(|(name, value)| (name, value.clone())));
        response
    }
}

/// Any other question.
pub(super) async fn slow(web: &Arc<Web>, method: &Method, uri: &Uri) -> Response<Body> {
    if !answers(method) {
        return not_allowed(method);
    }
    let view = web.view.load();
    if view.node.role == Role::Starting {
        return starting();
    }
    let query = Query::parse(uri.query());
    let in_path = uri.path().strip_prefix(PATH).and_then(|r| r.strip_prefix('/')).filter(|s| !s.is_empty());
    let mut services = query.words("service");
    services.extend(in_path.map(|s| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned()));
    let asked = Asked::of(&query);
    let fresh = query.is("cache", "false");
    match (services.is_empty(), asked.named) {
        (true, _) => of_categories(web, view, asked, fresh).await,
        (false, false) => of_services(web, &view, &services, fresh).await,
        (false, true) => respond::text(StatusCode::BAD_REQUEST, "ask for service or for categories, not for both"),
    }
}

fn not_allowed(method: &Method) -> Response<Body> {
    let text = format!("{} is not allowed here; use GET or HEAD", respond::one_line(method.as_str(), 32));
    let mut response = respond::text(StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// 503 while the node has not read its catalog.
pub(super) fn starting() -> Response<Body> {
    respond::text(StatusCode::SERVICE_UNAVAILABLE, STARTING)
}

async fn of_categories(web: &Arc<Web>, view: Arc<View>, asked: Asked, fresh: bool) -> Response<Body> {
    let prepared_key = asked.as_value(&view);
    // What a load balancer asks again and again is kept prepared.
    if !fresh && let Some(answer) = view.gtg.categories.get(prepared_key.as_str()) {
        return answered(web, answer, &asked.unknown(&view), &[]);
    }
    let asked_again = asked.clone();
    let damped = aside::run(Arc::clone(&view), move |view| {
        let judged = Judged::damped(view);
        let combination = judged.combine(&asked_again);
        (judged.answer(&combination), combination)
    });
    let (answer, combination) = match damped.await {
        Ok(judged) => judged,
        Err(busy) => return busy.response(),
    };
    if combination.known.len() > 1 && !fresh && prepared_key.len() <= MAX_COMBINATION {
        web.port.prepare_combination(&prepared_key);
    }
    // What is switched off is said before anything else; no probe could change it.
    let failed = |r: &Reason| matches!(r, Reason::TargetFailed { .. } | Reason::ServiceFailed { .. });
    let off = combination.verdict.as_ref().is_none_or(|v| v.reasons.first().is_some_and(|r| !failed(r)));
    if !fresh || off {
        return answered(web, &answer, &combination.unknown, &[]);
    }
    let not_refreshed = web.port.refresh(verdict::names(&view, &combination.members)).await.not_refreshed;
    // The cells have moved on, and perhaps the view as well.
    let raw = aside::run(web.view.load(), move |view| {
        let members = Judged::damped(view).combine(&asked).members;
        let judged = Judged::raw(view, &members, &not_refreshed);
        let combination = judged.combine(&asked);
        (judged.answer(&combination), combination.unknown, not_refreshed)
    });
    match raw.await {
        Ok((answer, unknown, not_refreshed)) => answered(web, &answer, &unknown, &not_refreshed),
        Err(busy) => busy.response(),
    }
}

fn answered(web: &Web, answer: &GtgAnswer, unknown: &[String], not_refreshed: &[TargetName]) -> Response<Body> {
    let mut response = prepared(web, answer).response().map(Body::new);
    name_unknown(&mut response, unknown);
    name_not_refreshed(&mut response, not_refreshed);
    response
}

/// `Bellwether-Unknown`.
pub(super) fn name_unknown(response: &mut Response<Body>, unknown: &[String]) {
    if let Some(value) = respond::list_header(unknown.iter().map(String::as_str)) {
        response.headers_mut().insert(respond::UNKNOWN, value);
    }
}

/// `Bellwether-Not-Refreshed`.
pub(super) fn name_not_refreshed(response: &mut Response<Body>, targets: &[TargetName]) {
    if let Some(value) = respond::list_header(targets.iter().map(TargetName::as_str)) {
        response.headers_mut().insert(respond::NOT_REFRESHED, value);
    }
}

async fn of_services(web: &Arc<Web>, view: &View, services: &[String], fresh: bool) -> Response<Body> {
    let mut known = Vec::new();
    for name in services {
        match view.catalog.services.get(name.as_str()) {
            Some(service) => known.push(service),
            None => {
                let text = format!("no known service: {}", respond::one_line(name, 128));
                return respond::text(StatusCode::NOT_FOUND, text);
            }
        }
    }
    if !fresh {
        // All must be good; the first that is not tells why.
        let mut answer = respond::text(StatusCode::OK, "OK");
        for service in known {
            let Some(ready) = view.gtg.services.get(service.name.as_str()) else { return starting() };
            answer = prepared(web, ready).response().map(Body::new);
            if answer.status() != StatusCode::OK {
                break;
            }
        }
        return answer;
    }
    let members = members(known.iter().map(|s| s.members.as_slice()));
    let not_refreshed = web.port.refresh(verdict::names(view, &members)).await.not_refreshed;
    let services = services.to_vec();
    let raw = aside::run(web.view.load(), move |view| {
        let known = services.iter().filter_map(|s| view.catalog.services.get(s.as_str()));
        let members = self::members(known.map(|s| s.members.as_slice()));
        let judged = Judged::raw(view, &members, &not_refreshed);
        // A service that went meanwhile fails closed.
        let answers: Vec<_> = services.iter().map(|s| judged.service(s).unwrap_or_default()).collect();
        (worst(answers), not_refreshed)
    });
    match raw.await {
        Ok((answer, not_refreshed)) => answered(web, &answer, &[], &not_refreshed),
        Err(busy) => busy.response(),
    }
}

/// The first answer that is not good; where all are good, one that tells of what is stale.
fn worst(answers: Vec<GtgAnswer>) -> GtgAnswer {
    let rank = |a: &GtgAnswer| (a.status == 200, a.stale_since.is_none(), a.stale_since);
    answers.into_iter().min_by_key(rank).unwrap_or_default()
}

fn members<'a>(sets: impl Iterator<Item = &'a [u32]>) -> Vec<u32> {
    let mut all: Vec<u32> = sets.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
