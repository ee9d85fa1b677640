//! An independent checker of an evaluation: each sentence of design sections 3 and 6 put as a question about the result,
//! slowly and without any of `aggregate`'s code. Property tests and the simulation run it after every step.

use std::collections::BTreeSet;

use super::aggregate::{Input, MAX_REASONS};
use crate::model::{
    Ack, Category, CategoryVerdict, Evaluation, HealthState, Reason, Service, ServiceName, ServiceVerdict, Severity,
    Target,
};

/// Every breach found, one line each; empty when the evaluation keeps all rules.
#[must_use]
pub fn breaches(input: &Input<'_>, evaluation: &Evaluation) -> Vec<String> {
    let mut check = Checker { input, out: Vec::new() };
    check.targets(evaluation);
    check.want(evaluation.categories.keys().eq(input.catalog.categories.keys()), "every known category, no other");
    check.want(evaluation.services.keys().eq(input.catalog.services.keys()), "every known service, no other");
    for (name, category) in &input.catalog.categories {
        if let Some(verdict) = evaluation.categories.get(name) {
            check.category(category, verdict);
            check.latch(category, verdict, evaluation);
        }
    }
    for (name, service) in &input.catalog.services {
        if let Some(verdict) = evaluation.services.get(name) {
            check.service(service, verdict);
        }
    }
    check.clock(evaluation);
    check.out
}

struct Checker<'a> {
    input: &'a Input<'a>,
    out: Vec<String>,
}

impl Checker<'_> {
    fn want(&mut self, holds: bool, sentence: impl Into<String>) {
        if !holds {
            self.out.push(sentence.into());
        }
    }

    fn target(&self, index: u32) -> Option<&Target> {
        self.input.catalog.targets.get(index as usize).map(AsRef::as_ref)
    }

    /// Unknown where nothing is known: fail closed.
    fn state(&self, index: u32) -> HealthState {
        self.input.health.get(index as usize).map_or(HealthState::Unknown, |h| h.state)
    }

    /// An ack counts until it has expired.
    fn acked(&self, ack: Option<&Ack>) -> bool {
        ack.is_some_and(|a| !a.message.is_empty() && a.until.is_none_or(|until| until > self.input.now))
    }

    /// Failed, and nobody has acked it.
    fn counts(&self, index: u32) -> bool {
        self.state(index) != HealthState::Up && !self.acked(self.target(index).and_then(|t| t.ack.as_ref()))
    }

    /// The service that a target is a member of here; its own name where the catalog lists none.
    fn group(&self, index: u32) -> Option<&ServiceName> {
        self.input.catalog.services.values().find(|s| s.members.contains(&index)).map(|s| &s.name)
    }

    fn targets(&mut self, evaluation: &Evaluation) {
        self.want(evaluation.targets.len() == self.input.catalog.targets.len(), "one verdict for each target");
        for (index, verdict) in (0_u32..).zip(&evaluation.targets) {
            self.want(verdict.ok == (self.state(index) == HealthState::Up), format!("target {index}: ok is up"));
            let acked = self.acked(self.target(index).and_then(|t| t.ack.as_ref()));
            self.want(verdict.acked == acked, format!("target {index}: acked while its ack is in force"));
        }
    }

    /// The targets of a set through which it fails. Not resilient: each failure that counts. Resilient: the failures
    /// that count of services of which no target is up. `state` says what each target is taken for.
    fn failures(&self, members: &[u32], resilient: bool, state: &dyn Fn(u32) -> HealthState) -> Vec<u32> {
        let failed = |i: &u32| self.counts(*i) && state(*i) != HealthState::Up;
        if !resilient {
            return members.iter().copied().filter(failed).collect();
        }
        let alive: BTreeSet<&ServiceName> =
            members.iter().filter(|i| state(**i) == HealthState::Up).filter_map(|i| self.group(*i)).collect();
        let dead = |i: &u32| self.group(*i).is_none_or(|g| !alive.contains(g));
        members.iter().copied().filter(failed).filter(dead).collect()
    }

    fn worst(&self, failures: &[u32]) -> Option<Severity> {
        failures.iter().filter_map(|i| self.target(*i)).map(|t| t.severity).min()
    }

    fn region_off(&self) -> bool {
        self.input.catalog.regions.get(&self.input.catalog.region).is_some_and(|r| !r.enabled)
    }

    fn latched(&self, category: &Category) -> bool {
        // An operator's later put of `enabled` true clears it; nothing else does.
        let latch = self.input.latches.get(&category.name);
        latch.is_some_and(|l| !category.enabled || category.enabled_revision <= l.revision)
    }

    fn category(&mut self, category: &Category, verdict: &CategoryVerdict) {
        let name = &category.name;
        let failures = self.failures(&category.members, category.resilient, &|i| self.state(i));
        let optimist = |i| if self.state(i) == HealthState::Unknown { HealthState::Up } else { self.state(i) };
        let down = self.failures(&category.members, category.resilient, &optimist);
        let healthy = failures.is_empty() && !category.members.is_empty();
        self.want(verdict.healthy == healthy, format!("{name}: healthy is: has targets, and no failure counts"));
        let ok = healthy && category.enabled && !self.latched(category) && !self.region_off() && !self.input.starting;
        self.want(verdict.ok == ok, format!("{name}: ok is: healthy, enabled, not latched, not drained, started"));
        self.want(verdict.severity == self.worst(&failures), format!("{name}: severity is the worst that counts"));
        let only_unknown = !failures.is_empty() && down.is_empty();
        self.want(verdict.only_unknown == only_unknown, format!("{name}: bad only because targets are unknown"));
        self.want(verdict.enabled == category.enabled, format!("{name}: the switch is shown"));
        self.want(verdict.latch.is_some() == self.latched(category), format!("{name}: the latch in force is shown"));
        self.reasons(name.as_str(), verdict.ok, &verdict.reasons);
        let disabled = verdict.reasons.iter().any(|r| matches!(r, Reason::Disabled { .. }));
        self.want(disabled != category.enabled, format!("{name}: disabled is said"));
    }

    fn latch(&mut self, category: &Category, verdict: &CategoryVerdict, evaluation: &Evaluation) {
        let name = &category.name;
        let cleared = evaluation.cleared_latches.contains(name);
        let had = self.input.latches.contains_key(name);
        self.want(cleared == (had && !self.latched(category)), format!("{name}: a latch is in force or cleared"));
        if !evaluation.new_latches.contains_key(name) {
            return;
        }
        self.want(category.sticky && category.enabled, format!("{name}: only a sticky, enabled category latches"));
        self.want(
            !verdict.healthy && !verdict.only_unknown,
            format!("{name}: it latches on failure, not on ignorance"),
        );
        self.want(verdict.latch.is_none(), format!("{name}: it latches once"));
        self.want(!self.input.starting, format!("{name}: a starting node does not latch"));
        let before = self.input.previous.and_then(|p| p.categories.get(name));
        let was_bad = before.is_some_and(|b| !b.healthy && !b.only_unknown && b.severity.is_some());
        self.want(!was_bad, format!("{name}: it latches when it turns bad"));
    }

    fn service(&mut self, service: &Service, verdict: &ServiceVerdict) {
        let name = &service.name;
        let ups = service.members.iter().filter(|i| self.state(**i) == HealthState::Up).count();
        let failed = ups == 0 && service.members.iter().any(|i| self.counts(*i));
        let ok = !failed && !service.members.is_empty() && !self.region_off() && !self.input.starting;
        self.want(verdict.ok == ok, format!("service {name}: ok is: a target is up, or all failures are acked"));
        self.want(verdict.up as usize == ups, format!("service {name}: up is counted"));
        self.want(verdict.total as usize == service.members.len(), format!("service {name}: targets are counted"));
        let counted: Vec<u32> = service.members.iter().copied().filter(|i| failed && self.counts(*i)).collect();
        self.want(verdict.severity == self.worst(&counted), format!("service {name}: the worst severity that counts"));
        self.reasons(name.as_str(), verdict.ok, &verdict.reasons);
    }

    /// Not ok has a reason, ok has none; reasons are bounded; targets come worst first, then by name.
    fn reasons(&mut self, name: &str, ok: bool, reasons: &[Reason]) {
        self.want(ok == reasons.is_empty(), format!("{name}: reasons are there exactly when it is not ok"));
        self.want(reasons.len() <= MAX_REASONS, format!("{name}: reasons are bounded"));
        let mut targets = Vec::new();
        for reason in reasons {
            if let Reason::TargetFailed { target, state, .. } = reason {
                let index = self.input.catalog.index_of(target.as_str()).and_then(|i| u32::try_from(i).ok());
                let right = index.is_some_and(|i| self.counts(i) && self.state(i) == *state);
                self.want(right, format!("{name}: {target} is named although it does not count"));
                targets.push((index.and_then(|i| self.target(i)).map(|t| t.severity), target.clone()));
            }
        }
        self.want(targets.is_sorted(), format!("{name}: reasons are sorted by severity, then name"));
    }

    fn clock(&mut self, evaluation: &Evaluation) {
        let catalog = self.input.catalog;
        let acks = catalog.targets.iter().filter_map(|t| t.ack.clone()).chain(catalog.cluster_ack.clone());
        let mut ends: Vec<_> = acks.filter_map(|a| a.until).filter(|until| *until > self.input.now).collect();
        ends.sort();
        self.want(evaluation.next_due == ends.first().copied(), "next_due is when the next ack ends");
        let acked = catalog.cluster_ack.as_ref().is_some_and(|a| a.in_force(self.input.now));
        self.want(evaluation.cluster_acked == acked, "the cluster ack counts until it has expired");
    }
}
