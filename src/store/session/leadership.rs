//! Leadership as people see it: who, since when, how often it changed, and why last.

use std::sync::Arc;

use super::core::Core;
use crate::model::{NodeName, Now, Timestamp, cluster::LeaderStatus};

/// Who leads the region, as this node's session knows it; swapped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, where one is known.
    pub leader: Option<LeaderStatus>,
    /// The leader's term; 0 where there is none.
    pub term: i64,
    /// Changes of the leader, or of its term, that this node has seen since it started; the first leader is none.
    pub transitions: u64,
    /// Why leadership last changed, or why there is none; one line.
    pub last_reason: Arc<str>,
    /// The leader known last, its term, and since when: it is the same one after a time without the store.
    last: Option<(NodeName, i64, Timestamp)>,
}

impl Leadership {
    /// What a session knows now; `before` tells since when, where the leader is the same.
    pub(super) fn of(core: &Core, now: Now, before: Option<&Self>) -> Self {
        let mut last = before.and_then(|b| b.last.clone());
        let known = core.leader(now.mono);
        let leader = known.map(|(node, url, term)| {
            let since =
                last.as_ref().filter(|(n, t, _)| n == node && *t == term).map_or(now.wall, |(_, _, since)| *since);
            last = Some((node.clone(), term, since));
            LeaderStatus { node: node.clone(), url: url.to_owned(), since }
        });
        let term = known.map_or(0, |(_, _, term)| term);
        Self { leader, term, transitions: core.transitions(), last_reason: Arc::clone(core.reason()), last }
    }
}
