//! From damped states, acks, switches and latches to verdicts of categories and services (design sections 3 and 6).
//! What a request over several categories means is left to `combination`; writing latches is left to `controller`.

use std::collections::BTreeMap;

use crate::model::{
    Catalog, Category, CategoryName, CategoryVerdict, Evaluation, Health, HealthState, Latch, Reason, Service,
    ServiceVerdict, Severity, TargetVerdict, Timestamp,
};

/// Most reasons of one verdict.
pub const MAX_REASONS: usize = 16;

/// Everything that an evaluation depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What operators wrote.
    pub catalog: &'a Catalog,
    /// Aligned with `catalog.targets`; a missing one counts as unknown.
    pub health: &'a [Health],
    /// Latches in the store, and those made here that are not yet written.
    pub latches: &'a BTreeMap<CategoryName, Latch>,
    /// The evaluation before; none for a new leader or a node that starts.
    pub previous: Option<&'a Evaluation>,
    /// Store revision of each target's last transition, aligned with `catalog.targets`, 0 where it is not written yet.
    /// Asked for only without `previous`: a new leader latches unless `enabled` was put after the newest failure.
    /// A target beyond its end counts as failed after every put.
    pub failure_revisions: &'a [i64],
    /// The leader's wall clock.
    pub now: Timestamp,
    /// The catalog is not read yet: nothing is good to go.
    pub starting: bool,
}

/// One target as the verdicts see it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: HealthState,
    acked: bool,
    severity: Severity,
    /// Index among the catalog's services; `NO_SERVICE` where the catalog has none for it.
    service: u32,
}

const NO_SERVICE: u32 = u32::MAX;

/// The catalog and healths, folded to what judging needs. Made once per evaluation.
pub(super) struct Judge<'a> {
    catalog: &'a Catalog,
    health: &'a [Health],
    seen: Vec<Seen>,
    services: Vec<&'a Service>,
    region_enabled: bool,
    starting: bool,
}

/// Health alone of a set of targets.
pub(super) struct Judged {
    pub healthy: bool,
    pub only_unknown: bool,
    pub severity: Option<Severity>,
    pub reasons: Vec<Reason>,
}

/// What failed of a set: one target, or one service in it.
#[derive(Clone, Copy)]
struct Failure {
    index: u32,
    targets: u32,
}

/// The first failures of each severity; members come sorted by name, so no sorting is needed.
#[derive(Default)]
struct Failures {
    by_severity: [Vec<Failure>; 3],
    real: bool,
}

impl Failures {
    fn add(&mut self, severity: Severity, failure: Failure, real: bool) {
        self.real |= real;
        if let Some(list) = self.by_severity.get_mut(usize::from(severity.get().clamp(1, 3) - 1))
            && list.len() < MAX_REASONS
        {
            list.push(failure);
        }
    }

    fn worst(&self) -> Option<Severity> {
        [Severity::HIGH, Severity::MEDIUM, Severity::LOW]
            .into_iter()
            .zip(&self.by_severity)
            .find_map(|(severity, list)| (!list.is_empty()).then_some(severity))
    }

    fn judged(&self, reason: impl Fn(Failure) -> Option<Reason>) -> Judged {
        let severity = self.worst();
        let reasons = self.by_severity.iter().flatten().take(MAX_REASONS).filter_map(|f| reason(*f)).collect();
        Judged { healthy: severity.is_none(), only_unknown: severity.is_some() && !self.real, severity, reasons }
    }
}

/// A service's targets within one set.
#[derive(Clone, Copy, Default)]
struct Group {
    targets: u32,
    up: u32,
    /// Targets whose state is unknown.
    unknown: u32,
    /// The worst severity among failures that nobody has acked.
    unacked: Option<Severity>,
}

impl Group {
    fn add(&mut self, seen: Seen) {
        self.targets += 1;
        match seen.state {
            HealthState::Up => self.up += 1,
            HealthState::Unknown => self.unknown += 1,
            HealthState::Down => {}
        }
        if seen.state != HealthState::Up && !seen.acked {
            self.unacked = Some(self.unacked.map_or(seen.severity, |s| s.min(seen.severity)));
        }
    }

    /// All its targets have failed, and not all of these failures are acked.
    fn failed(&self) -> Option<Severity> {
        if self.up > 0 { None } else { self.unacked }
    }

    /// It would be failed even if every unknown target were up.
    const fn real(&self) -> bool {
        self.unknown == 0
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(catalog: &'a Catalog, health: &'a [Health], now: Timestamp, starting: bool) -> Self {
        let acked = |t: &crate::model::Target| t.ack.as_ref().is_some_and(|a| !a.message.is_empty() && a.in_force(now));
        let mut seen: Vec<Seen> = Vec::with_capacity(catalog.targets.len());
        for (index, target) in catalog.targets.iter().enumerate() {
            let state = health.get(index).map_or(HealthState::Unknown, |h| h.state);
            seen.push(Seen { state, acked: acked(target), severity: target.severity, service: NO_SERVICE });
        }
        Self::with(catalog, health, seen, starting)
    }

    /// From verdicts that an evaluation has found already: acks count as they did there.
    pub(super) fn of(catalog: &'a Catalog, health: &'a [Health], evaluation: &Evaluation, starting: bool) -> Self {
        let mut seen: Vec<Seen> = Vec::with_capacity(catalog.targets.len());
        for (index, target) in catalog.targets.iter().enumerate() {
            let state = health.get(index).map_or(HealthState::Unknown, |h| h.state);
            let acked = evaluation.targets.get(index).is_some_and(|v| v.acked);
            seen.push(Seen { state, acked, severity: target.severity, service: NO_SERVICE });
        }
        Self::with(catalog, health, seen, starting)
    }

    fn with(catalog: &'a Catalog, health: &'a [Health], mut seen: Vec<Seen>, starting: bool) -> Self {
        let services: Vec<&Service> = catalog.services.values().collect();
        for (number, service) in (0_u32..).zip(&services) {
            for member in &service.members {
                if let Some(seen) = seen.get_mut(*member as usize) {
                    seen.service = number;
                }
            }
        }
        let region_enabled = catalog.regions.get(catalog.region.as_str()).is_none_or(|r| r.enabled);
        Self { catalog, health, seen, services, region_enabled, starting }
    }

    fn targets(&self) -> Vec<TargetVerdict> {
        self.seen.iter().map(|s| TargetVerdict { ok: s.state == HealthState::Up, acked: s.acked }).collect()
    }

    /// Judges a set of targets (indexes, ascending): every target counts, or whole services.
    pub(super) fn judge(&self, members: &[u32], resilient: bool, groups: &mut Groups) -> Judged {
        if resilient { self.judge_services(members, groups) } else { self.judge_targets(members) }
    }

    fn judge_targets(&self, members: &[u32]) -> Judged {
        let mut failures = Failures::default();
        for index in members {
            let Some(seen) = self.seen.get(*index as usize) else { continue };
            if seen.state != HealthState::Up && !seen.acked {
                let real = seen.state == HealthState::Down;
                failures.add(seen.severity, Failure { index: *index, targets: 1 }, real);
            }
        }
        failures.judged(|failure| self.target_failed(failure.index))
    }

    fn judge_services(&self, members: &[u32], groups: &mut Groups) -> Judged {
        let mut failures = Failures::default();
        groups.reset(self.services.len());
        for index in members {
            let Some(seen) = self.seen.get(*index as usize) else { continue };
            match groups.0.get_mut(seen.service as usize) {
                Some(group) => group.add(*seen),
                // Without a service in the catalog it stands for itself.
                None if seen.state != HealthState::Up && !seen.acked => {
                    failures.add(seen.severity, Failure { index: *index, targets: 0 }, seen.state == HealthState::Down);
                }
                None => {}
            }
        }
        for (index, group) in (0_u32..).zip(&groups.0) {
            if let Some(severity) = group.failed() {
                failures.add(severity, Failure { index, targets: group.targets }, group.real());
            }
        }
        failures.judged(|failure| match failure.targets {
            0 => self.target_failed(failure.index),
            targets => {
                let service = self.services.get(failure.index as usize)?;
                Some(Reason::ServiceFailed { service: service.name.clone(), targets })
            }
        })
    }

    fn target_failed(&self, index: u32) -> Option<Reason> {
        let target = self.catalog.targets.get(index as usize)?;
        let (state, detail) = match self.health.get(index as usize) {
            Some(health) => (health.state, std::sync::Arc::clone(&health.reason)),
            None => (HealthState::Unknown, std::sync::Arc::from("not probed yet")),
        };
        Some(Reason::TargetFailed { target: target.name.clone(), state, detail })
    }

    /// What stands above every category: the node starts, the region is drained.
    pub(super) fn above(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.starting {
            reasons.push(Reason::Starting);
        }
        if !self.region_enabled {
            reasons.push(Reason::RegionDisabled { region: self.catalog.region.clone() });
        }
        reasons
    }

    fn category(&self, category: &Category, latch: Option<&Latch>, groups: &mut Groups) -> CategoryVerdict {
        let judged = self.judge(&category.members, category.resilient, groups);
        self.verdict(judged, &[category], switched_off(category, latch), latch.cloned())
    }

    /// The verdict over one or several categories whose targets are judged: what stands above them, what is switched `off`
    /// and why, and the empty ones come before the targets' own reasons.
    pub(super) fn verdict(
        &self,
        mut judged: Judged,
        categories: &[&Category],
        off: impl Iterator<Item = Reason>,
        latch: Option<Latch>,
    ) -> CategoryVerdict {
        let mut reasons = self.above();
        reasons.extend(off);
        for empty in categories.iter().filter(|c| c.members.is_empty()) {
            // Fail closed: nothing says that it is well.
            judged.healthy = false;
            reasons.push(Reason::NoTargets { category: empty.name.clone() });
        }
        let ok = judged.healthy && reasons.is_empty();
        reasons.append(&mut judged.reasons);
        reasons.truncate(MAX_REASONS);
        CategoryVerdict {
            healthy: judged.healthy,
            ok,
            severity: judged.severity,
            reasons,
            enabled: categories.iter().all(|c| c.enabled),
            latch,
            only_unknown: judged.only_unknown,
        }
    }

    fn service(&self, service: &Service) -> ServiceVerdict {
        let mut group = Group::default();
        for seen in service.members.iter().filter_map(|i| self.seen.get(*i as usize)) {
            group.add(*seen);
        }
        let severity = group.failed();
        let mut reasons = self.above();
        if severity.is_some() || service.members.is_empty() {
            reasons.push(Reason::ServiceFailed { service: service.name.clone(), targets: group.targets });
            reasons.extend(self.judge_targets(&service.members).reasons);
            reasons.truncate(MAX_REASONS);
        }
        ServiceVerdict { ok: reasons.is_empty(), severity, reasons, up: group.up, total: group.targets }
    }
}

/// Room for counting services, used again for each category.
#[derive(Default)]
pub(super) struct Groups(Vec<Group>);

impl Groups {
    fn reset(&mut self, length: usize) {
        self.0.clear();
        self.0.resize(length, Group::default());
    }
}

/// Why a category is off, whatever its health: the latch, which says what failed, then the switch. Without a region the
/// latch puts the switch off as well, and its reason must not be hidden behind that.
fn switched_off(category: &Category, latch: Option<&Latch>) -> impl Iterator<Item = Reason> {
    let disabled = (!category.enabled).then(|| Reason::Disabled { category: category.name.clone() });
    let latched = latch.map(|latch| Reason::Latched {
        category: category.name.clone(),
        by: latch.by.clone(),
        at: latch.at,
        reason: latch.reason.clone(),
    });
    latched.into_iter().chain(disabled)
}

/// The one decision: every verdict from catalog, healths and latches. Equal inputs give equal outputs.
#[must_use]
pub fn evaluate(input: &Input<'_>) -> Evaluation {
    let catalog = input.catalog;
    let judge = Judge::new(catalog, input.health, input.now, input.starting);
    let mut groups = Groups::default();
    let mut evaluation = Evaluation { targets: judge.targets(), ..Evaluation::default() };
    for (name, category) in &catalog.categories {
        let latch = input.latches.get(name);
        let cleared = latch.is_some_and(|l| category.enabled && category.enabled_revision > l.revision);
        if cleared {
            evaluation.cleared_latches.push(name.clone());
        }
        let verdict = judge.category(category, latch.filter(|_| !cleared), &mut groups);
        if let Some(reason) = latches_now(input, category, &verdict) {
            evaluation.new_latches.insert(name.clone(), reason);
        }
        evaluation.categories.insert(name.clone(), verdict);
    }
    evaluation.services = catalog.services.iter().map(|(n, s)| (n.clone(), judge.service(s))).collect();
    let acks = || catalog.targets.iter().filter_map(|t| t.ack.as_ref()).chain(&catalog.cluster_ack);
    evaluation.next_due = acks().filter_map(|a| a.until).filter(|until| *until > input.now).min();
    evaluation.cluster_acked = catalog.cluster_ack.as_ref().is_some_and(|a| a.in_force(input.now));
    evaluation
}

/// A failure that a latch may answer: not merely unknown, and not a category without targets.
fn really_bad(verdict: &CategoryVerdict) -> bool {
    !verdict.healthy && !verdict.only_unknown && verdict.severity.is_some()
}

/// Whether this evaluation latches the category, and why.
fn latches_now(input: &Input<'_>, category: &Category, verdict: &CategoryVerdict) -> Option<String> {
    if input.starting || !category.sticky || !category.enabled || verdict.latch.is_some() || !really_bad(verdict) {
        return None;
    }
    let turned = match input.previous {
        Some(previous) => !previous.categories.get(&category.name).is_some_and(really_bad),
        // A new leader has not seen it turn: it latches unless an operator has switched it on since.
        None => category.enabled_revision <= newest_failure(input, category),
    };
    let why = |r: &&Reason| matches!(r, Reason::TargetFailed { .. } | Reason::ServiceFailed { .. });
    turned.then(|| verdict.reasons.iter().find(why).map_or_else(String::new, ToString::to_string))
}

/// Revision of the newest failure in a category; the highest number where one is not written yet.
fn newest_failure(input: &Input<'_>, category: &Category) -> i64 {
    let down = |i: &&u32| input.health.get(**i as usize).is_some_and(|h| h.state == HealthState::Down);
    let revision = |i: &u32| match input.failure_revisions.get(*i as usize) {
        None | Some(0) => i64::MAX,
        Some(revision) => *revision,
    };
    category.members.iter().filter(down).map(revision).max().unwrap_or(i64::MAX)
}
