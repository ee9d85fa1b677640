//! How this node and its cluster stand, in words that the API, the page and `bellwether status` share. What they mean is
//! decided by `controller`.

use std::time::Duration;

use serde::Serialize;

use super::{
    Web,
    page_rows::{clock_time, human},
    respond,
};
use crate::model::{
    Role, StoreState, Timestamp, View,
    cluster::{RegionStatus, ResultsFrom},
};

/// A summary is written every 5 s: after three that did not come it is stale.
const STALE_AFTER: Duration = Duration::from_secs(15);

/// Something that an operator should know of this node's standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Note {
    /// What is wrong; one line.
    pub(super) what: String,
    /// What that means; one line, may be empty.
    pub(super) meaning: String,
    /// Somebody should look.
    #[serde(skip)]
    pub(super) bad: bool,
}

fn bad(what: impl Into<String>, meaning: &str) -> Note {
    Note { what: what.into(), meaning: meaning.to_owned(), bad: true }
}

fn fair(what: impl Into<String>, meaning: &str) -> Note {
    Note { bad: false, ..bad(what, meaning) }
}

/// Why this node is degraded or not ready; empty where all is well.
pub(super) fn notes(web: &Web, view: &View) -> Vec<Note> {
    let node = &view.node;
    let mut notes = Vec::new();
    if web.draining.is_cancelled() {
        notes.push(bad("This node is draining", "It answers on, and will end."));
    } else if !node.ready && node.role != Role::Starting {
        notes.push(bad("This node is not ready", "It answers from what it knew before it started."));
    }
    if node.store == StoreState::Lost && node.role != Role::Starting {
        notes.push(bad("The store does not answer", "Verdicts go on; edits are refused until it answers."));
    }
    notes.extend(role_note(view));
    notes.extend(results_notes(web, view));
    if notes.is_empty() && node.degraded && node.role != Role::Starting {
        notes.push(fair("This node is degraded", "The faults say why."));
    }
    notes
}

/// A role that is not the usual one.
fn role_note(view: &View) -> Option<Note> {
    let follows = matches!(view.cluster.results, ResultsFrom::Stream { .. });
    if view.node.role != Role::Autonomous {
        return None;
    }
    if view.node.static_leader {
        let what = format!("Static leader: this node led last, and goes on in its old term {}", view.node.term);
        return Some(bad(what, "It probes and sends outputs as before; it writes nothing to the store."));
    }
    let meaning = "It probes for itself and answers for itself; it sends no outputs.";
    (!follows).then(|| bad("Autonomous: neither the store nor a leader is in reach", meaning))
}

/// Results that are not as fresh or as complete as usual.
fn results_notes(web: &Web, view: &View) -> Vec<Note> {
    let mut notes = Vec::new();
    match &view.cluster.results {
        ResultsFrom::Stream { node: leader, degraded, .. } => {
            if view.node.store == StoreState::Lost {
                let meaning = "Its results are this node's; what operators write is not seen before the store answers.";
                notes.push(fair(format!("Follows {leader} without the store"), meaning));
            }
            if *degraded {
                notes.push(fair(format!("{leader}, whom this node follows, has lost the store"), ""));
            }
        }
        ResultsFrom::Store { reason } => {
            let what = format!("No stream from the leader: {}", respond::one_line(reason, 300));
            notes.push(bad(what, "Verdicts come through the store; details of targets may be old."));
        }
        ResultsFrom::Kept => {
            if let Some((at, age)) = newest_result(web, view).filter(|(at, _)| *at < view.node.started) {
                let what = format!("Results are those kept on disk; the newest is {} old", human(age));
                let meaning = format!("It is of {}. Health turns stale, then unknown, as they age.", clock_time(at));
                notes.push(bad(what, &meaning));
            }
        }
        ResultsFrom::Own { .. } => {}
    }
    notes
}

/// Where the results come from, in a line.
pub(super) fn results_words(results: &ResultsFrom) -> String {
    match results {
        ResultsFrom::Kept => "nothing new".to_owned(),
        ResultsFrom::Own { followers: 0 } => "its own probes".to_owned(),
        ResultsFrom::Own { followers: 1 } => "its own probes; 1 node follows".to_owned(),
        ResultsFrom::Own { followers } => format!("its own probes; {followers} nodes follow"),
        ResultsFrom::Stream { node, .. } => format!("the stream of {node}"),
        ResultsFrom::Store { .. } => "the store: verdicts without details".to_owned(),
    }
}

/// When the newest result came in that this node answers with, and its age. Where verdicts come through the store alone,
/// they are as fresh as the leader's summary says.
pub(super) fn newest_result(web: &Web, view: &View) -> Option<(Timestamp, Duration)> {
    let now = web.clock.now();
    let own = view.newest_result().map(|at| (at.wall, now.mono.since(at.mono)));
    let said = matches!(view.cluster.results, ResultsFrom::Store { .. }).then(|| said_by_summary(view, now.wall));
    own.into_iter().chain(said.flatten()).min_by_key(|(_, age)| *age)
}

/// The summary's `probed_at`; its age is what it was to the leader's clock, and the time since.
fn said_by_summary(view: &View, now: Timestamp) -> Option<(Timestamp, Duration)> {
    let region = view.regions.get(&view.node.region)?;
    let summary = region.summary.as_ref()?;
    let probed = summary.probed_at?;
    Some((probed, summary.now.since(probed).saturating_add(summary_age(region, now)?)))
}

/// What is to be thought of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RegionState {
    /// It can take traffic.
    Good,
    /// It cannot.
    Bad,
    /// Its summary is too old to say.
    Stale,
    /// It has written none yet.
    Unknown,
    /// An operator has taken it out.
    Drained,
}

impl RegionState {
    /// The word on the page.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Good => "GOOD",
            Self::Bad => "BAD",
            Self::Stale => "STALE",
            Self::Unknown => "UNKNOWN",
            Self::Drained => "DRAINED",
        }
    }

    /// Its colour there.
    pub(super) const fn colour(self) -> &'static str {
        match self {
            Self::Good => "green",
            Self::Bad => "red",
            Self::Stale | Self::Unknown | Self::Drained => "amber",
        }
    }
}

/// How old a region's summary is: since this node saw it.
pub(super) fn summary_age(region: &RegionStatus, now: Timestamp) -> Option<Duration> {
    region.summary.as_ref()?;
    region.seen.map(|seen| now.since(seen))
}

/// The state of a region as seen at `now`.
pub(super) fn region_state(region: &RegionStatus, now: Timestamp) -> RegionState {
    match (&region.summary, summary_age(region, now)) {
        _ if !region.enabled => RegionState::Drained,
        (None, _) => RegionState::Unknown,
        (Some(_), age) if age.is_none_or(|age| age > STALE_AFTER) => RegionState::Stale,
        (Some(summary), _) if summary.viable => RegionState::Good,
        _ => RegionState::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeName, cluster::Summary};

    #[test]
    fn a_region_is_stale_after_three_summaries_that_did_not_come() {
        let at = Timestamp::from_millis;
        let summary = Summary {
            v: 1,
            node: NodeName::new("a").unwrap(),
            term: 1,
            now: at(0),
            probed_at: None,
            viable: true,
            up: 1,
            down: 0,
            unknown: 0,
            graphite_mark: None,
        };
        let mut region = RegionStatus { enabled: true, ..RegionStatus::default() };
        assert_eq!(region_state(&region, at(0)), RegionState::Unknown);
        (region.summary, region.seen) = (Some(summary), Some(at(1000)));
        assert_eq!(region_state(&region, at(16_000)), RegionState::Good);
        assert_eq!(region_state(&region, at(16_001)), RegionState::Stale);
        region.summary.as_mut().unwrap().viable = false;
        assert_eq!(region_state(&region, at(2000)), RegionState::Bad);
        region.enabled = false;
        assert_eq!(region_state(&region, at(2000)), RegionState::Drained, "an operator's word comes first");
    }
}
