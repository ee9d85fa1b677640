//! A request over several categories (design section 6): the union of their targets, resilient only if all of them
//! are, off when any of them is. Reading the request's words is left to `answer`.

use super::aggregate::{Groups, Judge};
use crate::model::{Catalog, CategoryName, CategoryVerdict, Evaluation, Health, Reason};

/// What several categories are together.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// The known categories asked for, each once, by name: the order asked does not matter.
    pub known: Vec<CategoryName>,
    /// The words that name no known category, each once, in the order asked. Hostile text.
    pub unknown: Vec<String>,
    /// Every known category asked for is resilient.
    pub resilient: bool,
    /// Indexes of their targets, ascending, each once.
    pub members: Vec<u32>,
    /// The verdict; none where no known category was asked for (400).
    pub verdict: Option<CategoryVerdict>,
}

/// Judges the categories named by `words` together. The evaluation decides acks, switches and latches, so that all
/// answers of one view agree.
#[must_use]
pub fn combine(
    catalog: &Catalog,
    evaluation: &Evaluation,
    health: &[Health],
    words: &[&str],
    starting: bool,
) -> Combination {
    let mut known = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for word in words {
        match catalog.categories.get(*word) {
            Some(category) if known.iter().any(|k: &&crate::model::Category| k.name == category.name) => {}
            Some(category) => known.push(category),
            None if unknown.iter().any(|u| u == word) => {}
            None => unknown.push((*word).to_owned()),
        }
    }
    known.sort_by(|a, b| a.name.cmp(&b.name));
    let resilient = !known.is_empty() && known.iter().all(|c| c.resilient);
    let (members, verdict) = match known.as_slice() {
        [] => (Vec::new(), None),
        [one] => (one.members.clone(), evaluation.categories.get(&one.name).cloned()),
        several => {
            let members = union(several.iter().map(|c| c.members.as_slice()));
            let verdict = together(catalog, evaluation, health, several, &members, resilient, starting);
            (members, Some(verdict))
        }
    };
    let known = known.into_iter().map(|c| c.name.clone()).collect();
    Combination { known, unknown, resilient, members, verdict }
}

fn union<'a>(sets: impl Iterator<Item = &'a [u32]>) -> Vec<u32> {
    let mut all: Vec<u32> = sets.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn together(
    catalog: &Catalog,
    evaluation: &Evaluation,
    health: &[Health],
    several: &[&crate::model::Category],
    members: &[u32],
    resilient: bool,
    starting: bool,
) -> CategoryVerdict {
    let judge = Judge::of(catalog, health, evaluation, starting);
    let judged = judge.judge(members, resilient, &mut Groups::default());
    let verdicts = || several.iter().filter_map(|c| evaluation.categories.get(&c.name));
    let off = |r: &&Reason| matches!(r, Reason::Disabled { .. } | Reason::Latched { .. });
    let switched_off = verdicts().flat_map(|v| v.reasons.iter().filter(off)).cloned();
    judge.verdict(judged, several, switched_off, verdicts().find_map(|v| v.latch.clone()))
}
