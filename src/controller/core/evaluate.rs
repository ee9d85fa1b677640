//! Verdicts and the view: the decision core is run over what is known, latches are made and taken back, and all leader writes
//! leave from here.

use std::{collections::BTreeMap, sync::Arc};

use super::{Change, Core, Effects, Entry, Place};
use crate::{
    evaluation::{
        aggregate::{self, Input},
        answer,
    },
    model::{CategoryName, Evaluation, HealthState, Latch, NodeStatus, Now, Reason, View, cluster::ClusterStatus},
};

impl Core {
    /// Runs the decision core and builds the view; all leader writes come from here, latches first, so that they go out
    /// with the transitions that caused them. `combinations` are `categories` values asked for lately.
    pub fn evaluate(&mut self, combinations: &[Box<str>], now: Now) -> (View, Effects) {
        let mut effects = Effects::default();
        let health: Arc<[_]> = self.entries.iter().map(|e| e.track.health().clone()).collect();
        let mut latches = self.latches();
        let mut evaluation = self.run(&health, &latches, now);
        self.unlatch(&evaluation, &mut effects);
        let dropped = self.own_latches.len();
        self.settle_own_latches(&mut effects);
        let dropped = self.own_latches.len() != dropped;
        if self.latch(&evaluation, now, &mut effects) || dropped {
            latches = self.latches();
            evaluation = self.run(&health, &latches, now);
        }
        effects.writes.append(&mut self.pending);
        effects.transitions.append(&mut self.transitions);
        note_verdicts(self.evaluation.as_deref(), &evaluation, &mut effects);
        let evaluation = Arc::new(evaluation);
        self.evaluation = Some(Arc::clone(&evaluation));
        if self.latches_by_itself() {
            self.fresh_leader = false;
        }
        self.dirty = false;
        let source = answer::Source {
            catalog: &self.catalog,
            evaluation: &evaluation,
            health: &health,
            last_results: |index: usize| self.entries.get(index).and_then(|e| e.track.last_result()),
            starting: !self.synced,
        };
        let gtg = source.prepare(combinations);
        let view = View {
            built: now,
            catalog: Arc::clone(&self.catalog),
            health,
            cells: self.entries.iter().map(|e| Arc::clone(&e.cell)).collect(),
            evaluation,
            latches: Arc::new(latches),
            node: self.node_status(),
            cluster: Arc::new(self.cluster_status()),
            regions: self.regions.view(&self.catalog),
            gtg,
        };
        (view, effects)
    }

    fn run(&self, health: &[crate::model::Health], latches: &BTreeMap<CategoryName, Latch>, now: Now) -> Evaluation {
        // Only a written failure has a revision: what is down here and up in the store is not written yet.
        let revision = |e: &Entry| match self.statuses.get(&e.target.name) {
            Some((status, revision)) if status.health == HealthState::Down => *revision,
            _ => 0,
        };
        let failure_revisions: Vec<i64> =
            if self.fresh_leader { self.entries.iter().map(revision).collect() } else { Vec::new() };
        aggregate::evaluate(&Input {
            catalog: &self.catalog,
            health,
            latches,
            previous: if self.fresh_leader { None } else { self.evaluation.as_deref() },
            failure_revisions: &failure_revisions,
            now: self.cluster_now(now).wall,
            starting: !self.synced,
        })
    }

    fn node_status(&self) -> NodeStatus {
        let leader = self.roles.leader.as_ref();
        NodeStatus {
            node: self.identity.node.clone(),
            region: self.identity.region.clone(),
            environment: self.identity.environment.clone(),
            role: self.role(),
            term: self.roles.term,
            leader: leader.map(|l| l.node.clone()),
            leader_url: leader.map(|l| l.url.clone()).filter(|url| !url.is_empty()),
            leader_term: leader.map(|_| self.roles.leader_term),
            static_leader: matches!(self.roles.place, Place::StaticLeader { .. }),
            ready: self.synced && !self.standing.draining,
            degraded: self.degraded(),
            since: self.roles.since,
            store: self.standing.store,
            started: self.identity.started,
            version: self.identity.version,
        }
    }

    fn cluster_status(&self) -> ClusterStatus {
        ClusterStatus {
            region: self.identity.region.clone(),
            node: self.identity.node.clone(),
            role: self.role(),
            static_leader: matches!(self.roles.place, Place::StaticLeader { .. }),
            term: self.roles.term,
            leader: self.roles.leader.clone(),
            transitions: self.roles.transitions,
            last_reason: Arc::clone(&self.roles.reason),
            nodes: self.regions.nodes(&self.identity.region),
            results: self.results(),
        }
    }
}

fn note_verdicts(previous: Option<&Evaluation>, evaluation: &Evaluation, effects: &mut Effects) {
    let Some(previous) = previous else { return };
    for (category, verdict) in &evaluation.categories {
        if previous.categories.get(category).is_none_or(|p| p.ok != verdict.ok) {
            effects.changes.push(Change::Category {
                category: category.clone(),
                ok: verdict.ok,
                nothing_failed: verdict.only_unknown
                    || matches!(verdict.reasons.first(), Some(Reason::NoTargets { .. })),
                reason: verdict.reasons.first().map(ToString::to_string).unwrap_or_default(),
            });
        }
    }
}
