//! `/__gtg` answers, prepared when a view is built (design sections 2 and 6). Routes, methods, header names and the
//! percent-decoding of parameters are left to `web`; what a category or service is worth, to `aggregate`.

use std::collections::HashMap;

use bytes::Bytes;

use super::combination::{Combination, combine};
use crate::model::{Catalog, Evaluation, GtgAnswer, Health, Mono, Reason, view::PreparedGtg};

/// The category that is meant when none is named.
const DEFAULT: &str = "default";
/// Longest body and longest header value, in bytes.
const MAX_LINE: usize = 1024;

/// The category words of a request: values of repeated parameters merged, empty words dropped, `default` where none is
/// left (design section 6). Values are percent-decoded already.
pub fn words<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<&str> =
        values.into_iter().flat_map(|v| v.split(',')).map(str::trim).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        words.push(DEFAULT);
    }
    words
}

/// What answers are made from.
#[derive(Clone, Copy)]
pub struct Source<'a, F> {
    /// What operators wrote.
    pub catalog: &'a Catalog,
    /// Its evaluation.
    pub evaluation: &'a Evaluation,
    /// Aligned with `catalog.targets`.
    pub health: &'a [Health],
    /// When a target (by index) had its last result.
    pub last_results: F,
    /// The catalog is not read yet: every answer is 503.
    pub starting: bool,
}

impl<F> std::fmt::Debug for Source<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("starting", &self.starting).finish_non_exhaustive()
    }
}

impl<F: Fn(usize) -> Option<Mono>> Source<'_, F> {
    /// Every answer that is asked for often: without categories, each category, each service, and `combinations` (raw
    /// `categories` values that were asked for lately, percent-decoded).
    #[must_use]
    pub fn prepare(&self, combinations: &[Box<str>]) -> PreparedGtg {
        let one = |name: &str| (Box::from(name), self.gtg(&[name]));
        let mut categories: HashMap<Box<str>, GtgAnswer> =
            self.catalog.categories.keys().map(|name| one(name.as_str())).collect();
        for raw in combinations {
            categories.entry(raw.clone()).or_insert_with(|| self.gtg(&words([&**raw])));
        }
        let services =
            self.catalog.services.keys().filter_map(|n| Some((n.as_str().into(), self.service(n.as_str())?))).collect();
        PreparedGtg { default: self.gtg(&[DEFAULT]), categories, services }
    }

    /// The answer for these category words.
    #[must_use]
    pub fn gtg(&self, words: &[&str]) -> GtgAnswer {
        if self.starting {
            return GtgAnswer::default();
        }
        self.of(&combine(self.catalog, self.evaluation, self.health, words, self.starting))
    }

    /// The answer for a combination that is already judged.
    #[must_use]
    pub fn of(&self, combination: &Combination) -> GtgAnswer {
        let unknown = (!combination.unknown.is_empty()).then(|| names(&combination.unknown));
        let Some(verdict) = &combination.verdict else {
            let asked = unknown.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let body = line(&format!("no known category among: {asked}"));
            return GtgAnswer { status: 400, body, unknown, stale_since: None, valid_until: None };
        };
        let stale_since = self.stale_since(&combination.members);
        self.answer(verdict.ok, &verdict.reasons, unknown, stale_since)
    }

    /// The answer for a service; none where there is no such service (404).
    #[must_use]
    pub fn service(&self, name: &str) -> Option<GtgAnswer> {
        let service = self.catalog.services.get(name)?;
        if self.starting {
            return Some(GtgAnswer::default());
        }
        let verdict = self.evaluation.services.get(name)?;
        Some(self.answer(verdict.ok, &verdict.reasons, None, self.stale_since(&service.members)))
    }

    fn answer(&self, ok: bool, reasons: &[Reason], unknown: Option<Bytes>, stale_since: Option<Mono>) -> GtgAnswer {
        let (status, body) = if ok {
            (200, Bytes::from_static(b"OK"))
        } else {
            let reason = reasons.first().map_or_else(|| "not good to go".to_owned(), ToString::to_string);
            (503, line(&reason))
        };
        GtgAnswer { status, body, unknown, stale_since, valid_until: None }
    }

    /// The oldest last result among the stale targets.
    fn stale_since(&self, members: &[u32]) -> Option<Mono> {
        let stale = |i: &usize| self.health.get(*i).is_some_and(|h| h.stale);
        members.iter().map(|i| *i as usize).filter(stale).filter_map(&self.last_results).min()
    }
}

/// One bounded line without control characters.
fn line(text: &str) -> Bytes {
    let mut out = String::with_capacity(text.len().min(MAX_LINE));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > MAX_LINE {
            break;
        }
        out.push(c);
    }
    Bytes::from(out)
}

/// Asked-for words as a header value: hostile text, so that all but visible ASCII becomes `?`.
fn names(words: &[String]) -> Bytes {
    let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let mut out = String::new();
    for word in words {
        if out.len() + word.len() >= MAX_LINE {
            break;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(word.chars().map(clean));
    }
    Bytes::from(out)
}
