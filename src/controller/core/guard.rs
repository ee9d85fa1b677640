//! The guard against this leader's own isolation (design section 4.5), wired: what would turn targets down waits while other
//! nodes are asked. How the guard rules is left to `evaluation::isolation`; the asking itself to the loop.

use std::sync::Arc;

use super::{Core, Effects, Entry, Place};
use crate::{
    evaluation::isolation::{Answer, Ask, Ruling, Sight},
    model::{HealthState, Mono, NodeName, Observation, Target},
};

/// One witness to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Witness {
    /// Which node.
    pub node: NodeName,
    /// Where it is.
    pub url: String,
    /// What it is to probe.
    pub targets: Vec<Arc<Target>>,
}

/// What the loop asks for the guard; it hands the answers to `Core::answered`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Other nodes.
    pub witnesses: Vec<Witness>,
    /// The sentinels too.
    pub sentinels: bool,
}

impl Entry {
    /// Whether this result would turn the target down.
    pub(super) fn would_fall(&self, observation: &Observation) -> bool {
        let bad = self.track.bad().saturating_add(1);
        !observation.outcome.is_good()
            && self.track.health().state != HealthState::Down
            && bad >= self.params.fall.max(1)
    }

    fn sight(&self) -> Sight<'_> {
        let withheld = self.withheld.as_ref().map(|o| o.at.mono);
        Sight { target: &self.target, failing_since: self.track.failing_since().or(withheld) }
    }
}

impl Core {
    /// Results are guarded: this node leads with the store, and other nodes could lead instead.
    pub(super) const fn is_guarded(&self) -> bool {
        matches!(self.roles.place, Place::Leader)
    }

    /// Looks at all targets after bad results. Returns whether what would turn targets down has to wait.
    pub(super) fn look(&mut self, now: Mono, effects: &mut Effects) -> bool {
        let region = &self.identity.region;
        let others: Vec<NodeName> =
            self.regions.nodes(region).into_iter().map(|n| n.node).filter(|n| *n != self.identity.node).collect();
        let sights = self.entries.iter().map(Entry::sight);
        if let Some(ask) = self.guard.look(now, sights, &others, true) {
            tracing::warn!(
                failing = ask.failing,
                of = ask.of,
                "most targets began to fail at once: other nodes are asked"
            );
            effects.question = Some(self.question(ask));
        }
        self.guard.holds()
    }

    fn question(&self, ask: Ask) -> Question {
        let nodes = self.regions.nodes(&self.identity.region);
        let url = |node: &NodeName| nodes.iter().find(|n| n.node == *node).map(|n| n.url.clone()).unwrap_or_default();
        let witness = |(node, targets): (NodeName, Vec<Arc<Target>>)| Witness { url: url(&node), node, targets };
        Question { witnesses: ask.witnesses.into_iter().map(witness).collect(), sentinels: ask.sentinels }
    }

    /// A witness or the sentinels have answered.
    pub fn answered(&mut self, answer: &Answer, now: Mono) -> Effects {
        let mut effects = Effects::default();
        if let Some(ruling) = self.guard.answer(now, answer) {
            self.rule(ruling, &mut effects);
        }
        effects
    }

    /// Time passes for the guard.
    pub(super) fn tick_guard(&mut self, now: Mono, effects: &mut Effects) {
        if !self.is_guarded() {
            return;
        }
        if let Some(ruling) = self.guard.tick(now) {
            self.rule(ruling, effects);
        }
    }

    fn rule(&mut self, ruling: Ruling, effects: &mut Effects) {
        match ruling {
            Ruling::Wait => {}
            Ruling::Flip { why } => {
                tracing::warn!(%why, "the failures count");
                self.release(effects);
            }
            Ruling::HandOver { why } => effects.hand_over = Some(why),
        }
    }

    /// What waited takes effect.
    pub(super) fn release(&mut self, effects: &mut Effects) {
        for index in 0..self.entries.len() {
            let withheld = self.entries.get_mut(index).and_then(|e| e.withheld.take());
            if let Some(observation) = withheld {
                self.settle(index, &observation, effects);
            }
        }
    }

    /// This node leads, or leads no longer: what was asked is over, and what waited with it.
    pub(super) fn guard_anew(&mut self) {
        self.guard.reset();
        for entry in &mut self.entries {
            entry.withheld = None;
        }
    }
}
