//! What an answer is made from: the view's own verdicts, or those that `evaluation` finds from the raw results after
//! `cache=false`. Nothing is decided here.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::query::Query;
use crate::{
    evaluation::{Combination, Input, answer::Source, combination::combine, raw::evaluate_raw},
    model::{Evaluation, GtgAnswer, Health, Mono, Observation, Role, TargetName, TargetVerdict, View},
};

/// A view with the healths and verdicts that an answer shows.
pub(super) struct Judged<'a> {
    /// The view.
    pub(super) view: &'a View,
    /// Aligned with the catalog's targets.
    pub(super) health: Cow<'a, [Health]>,
    /// Their evaluation.
    pub(super) evaluation: Cow<'a, Evaluation>,
    /// Raw results count (`cache=false`), not damped states.
    pub(super) raw: bool,
}

/// The categories that a request asks for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// As asked, each once; `default` where none is named.
    words: Vec<String>,
    /// Some category was named at all.
    pub(super) named: bool,
}

/// A target's latest observation.
pub(super) fn observation(view: &View, index: usize) -> Option<Arc<Observation>> {
    view.cells.get(index).and_then(|cell| cell.load())
}

/// Names of targets by their indexes.
pub(super) fn names(view: &View, members: &[u32]) -> Vec<TargetName> {
    members.iter().filter_map(|&m| view.catalog.targets.get(m as usize)).map(|t| t.name.clone()).collect()
}

/// The node has not read its catalog.
pub(super) fn is_starting(view: &View) -> bool {
    view.node.role == Role::Starting
}

impl Asked {
    /// Reads `categories`.
    pub(super) fn of(query: &Query) -> Self {
        let words = query.words("categories");
        if words.is_empty() {
            Self { words: vec!["default".to_owned()], named: false }
        } else {
            Self { words, named: true }
        }
    }

    /// The words that name no category.
    pub(super) fn unknown(&self, view: &View) -> Vec<String> {
        self.words.iter().filter(|w| !view.catalog.categories.contains_key(w.as_str())).cloned().collect()
    }

    /// The known ones among them as one `categories` value, in the order asked: as a client sends it again.
    pub(super) fn as_value(&self, view: &View) -> String {
        let known = self.words.iter().filter(|w| view.catalog.categories.contains_key(w.as_str()));
        known.map(String::as_str).collect::<Vec<_>>().join(",")
    }
}

impl<'a> Judged<'a> {
    /// By the view's own states.
    pub(super) fn damped(view: &'a View) -> Self {
        Self { view, health: Cow::Borrowed(&view.health), evaluation: Cow::Borrowed(&view.evaluation), raw: false }
    }

    /// By the last result of each of these targets; one that has none counts by its health. What was not refreshed keeps
    /// its mark of being stale.
    pub(super) fn raw(view: &'a View, members: &[u32], not_refreshed: &[TargetName]) -> Self {
        let indexes = members.iter().map(|&m| m as usize);
        let results: BTreeMap<_, _> = indexes.filter_map(|i| Some((i, observation(view, i)?))).collect();
        let input = Input {
            catalog: &view.catalog,
            health: &view.health,
            latches: &view.latches,
            previous: Some(&view.evaluation),
            failure_revisions: &[],
            // The view's own instant: acks count as they do in it.
            now: view.built.wall,
            starting: is_starting(view),
        };
        let (mut health, evaluation) = evaluate_raw(&input, &results);
        for index in not_refreshed.iter().filter_map(|name| view.catalog.index_of(name.as_str())) {
            if let (Some(health), Some(damped)) = (health.get_mut(index), view.health.get(index)) {
                health.stale = damped.stale;
            }
        }
        Self { view, health: Cow::Owned(health), evaluation: Cow::Owned(evaluation), raw: true }
    }

    /// What the categories asked for are together.
    pub(super) fn combine(&self, asked: &Asked) -> Combination {
        let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
        combine(&self.view.catalog, &self.evaluation, &self.health, &words, is_starting(self.view))
    }

    /// `/__gtg`'s answer for a combination.
    pub(super) fn answer(&self, combination: &Combination) -> GtgAnswer {
        self.source().of(combination)
    }

    /// `/__gtg`'s answer for a service; none where there is no such service.
    pub(super) fn service(&self, name: &str) -> Option<GtgAnswer> {
        self.source().service(name)
    }

    fn source(&self) -> Source<'_, impl Fn(usize) -> Option<Mono>> {
        Source {
            catalog: &self.view.catalog,
            evaluation: &self.evaluation,
            health: &self.health,
            last_results: |index| observation(self.view, index).map(|o| o.at.mono),
            starting: is_starting(self.view),
        }
    }

    /// One target's verdict; fails closed.
    pub(super) fn target(&self, index: usize) -> TargetVerdict {
        self.evaluation.targets.get(index).copied().unwrap_or(TargetVerdict { ok: false, acked: false })
    }
}
