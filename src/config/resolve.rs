//! One target from what its keys say: service, categories, check, interval, severity. What has not changed stays the
//! same `Arc`.

use std::{sync::Arc, time::Duration};

use super::{
    builder::CatalogBuilder,
    check::{self, Surroundings},
    faults::Finder,
    placement,
    problem::{Path, Problem, Problems},
    slots::TargetSlot,
};
use crate::model::{CategoryName, Now, RegionName, ServiceName, Severity, Target, TargetName, spec::TargetSpec};

/// Period of a category that says nothing (FT).
pub const DEFAULT_PERIOD: Duration = Duration::from_secs(60);

/// A target, resolved for this region.
struct Resolved {
    /// `None`: other regions probe it.
    target: Option<Arc<Target>>,
    service: ServiceName,
    categories: Arc<[CategoryName]>,
    problems: Problems,
}

impl CatalogBuilder {
    /// Resolves a target anew. Returns what the catalog has to take over: nothing where it is as before.
    pub(super) fn resolve(&mut self, name: &TargetName, now: Now) -> Option<Option<Arc<Target>>> {
        let slot = self.targets.get(name)?;
        let resolved = self.resolved(name, slot);
        self.faults.set(&format!("healthcheck/{name}"), Finder::Target, &resolved.problems.0, "", now.wall);
        let slot = self.targets.get_mut(name)?;
        let (old_service, old_categories) = (slot.service.take(), std::mem::take(&mut slot.categories));
        slot.service = Some(resolved.service.clone());
        slot.categories = Arc::clone(&resolved.categories);
        let before = std::mem::replace(&mut slot.resolved, resolved.target.clone());
        if old_service.as_ref() != Some(&resolved.service) || old_categories != resolved.categories {
            self.note_uses(&resolved.service, &resolved.categories);
            self.forget_uses(old_service.as_ref(), &old_categories);
        }
        let same = match (&before, &resolved.target) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        (!same).then_some(resolved.target)
    }

    fn note_uses(&mut self, service: &ServiceName, categories: &[CategoryName]) {
        self.dirty.names |= self.named_services.add(service);
        for category in categories {
            if self.named_categories.add(category) {
                self.dirty.categories.insert(category.clone());
                self.dirty.names = true;
            }
        }
    }

    pub(super) fn forget_uses(&mut self, service: Option<&ServiceName>, categories: &[CategoryName]) {
        if let Some(service) = service {
            self.dirty.names |= self.named_services.remove(service);
        }
        for category in categories {
            if self.named_categories.remove(category) {
                self.dirty.categories.insert(category.clone());
                self.dirty.names = true;
            }
        }
    }

    fn resolved(&self, name: &TargetName, slot: &TargetSlot) -> Resolved {
        let nothing = TargetSpec::default();
        let spec = slot.spec().map_or(&nothing, |s| s.as_ref());
        let mut problems = Problems::default();
        let service = spec.service.as_deref().and_then(|s| ServiceName::new(s).ok());
        let service = service.unwrap_or_else(|| ServiceName::of_target(name));
        let categories =
            slot.written_categories().cloned().unwrap_or_else(|| Arc::from([CategoryName::default_category()]));
        self.region_hints(spec, &mut problems);
        let here = self.settings.region.as_str();
        if spec.regions.as_ref().is_some_and(|regions| !regions.iter().any(|r| r == here)) {
            return Resolved { target: None, service, categories, problems };
        }
        let check = self.check(name, slot, spec, &mut problems);
        let written = spec.severity.and_then(Severity::new).unwrap_or(Severity::MEDIUM);
        let is_sev_1 = self.sev_1.contains(name.as_str()) || self.sev_1.contains(service.as_str());
        let target = Target {
            name: name.clone(),
            service: service.clone(),
            path: slot.path().to_owned(),
            interval: self.interval(spec, &categories),
            categories: categories.to_vec(),
            ack: slot.ack().cloned(),
            check,
            // Of the spec and the flag, the more severe holds.
            severity: if is_sev_1 { Severity::HIGH } else { written },
            business_impact: spec.business_impact.clone().unwrap_or_default(),
            technical_summary: spec.technical_summary.clone().unwrap_or_default(),
            panic_guide: spec.panic_guide.clone().unwrap_or_default(),
        };
        let target = match &slot.resolved {
            Some(old) if **old == target => Arc::clone(old),
            _ => Arc::new(target),
        };
        Resolved { target: Some(target), service, categories, problems }
    }

    fn check(
        &self,
        name: &TargetName,
        slot: &TargetSlot,
        spec: &TargetSpec,
        problems: &mut Problems,
    ) -> Arc<crate::model::Check> {
        let gateway = self.gateway.as_ref().ok().and_then(Option::as_ref);
        let around = Surroundings { target: name.as_str(), path: slot.path(), region: &self.settings.region, gateway };
        let Some(check) = check::build(spec, around, &Path::of("spec"), problems) else {
            if problems.is_good() {
                let reason = match &self.gateway {
                    Err(e) => format!("it has no url, and --vulcand cannot be used: {e}"),
                    Ok(_) => "it has no url, and there is no gateway: it is not probed and stays unknown".to_owned(),
                };
                problems.add(&Path::default(), reason, "a url in its spec, or --vulcand host:port");
            }
            return self.keep_check(slot, check::nowhere(slot.path()));
        };
        self.keep_check(slot, Arc::new(check))
    }

    fn keep_check(&self, slot: &TargetSlot, check: Arc<crate::model::Check>) -> Arc<crate::model::Check> {
        match &slot.resolved {
            Some(old) if old.check == check => Arc::clone(&old.check),
            _ => check,
        }
    }

    /// The smallest of its own interval and its categories' periods. The built-in period of `default` counts only where
    /// nothing else says anything: in FT it made every longer period void.
    fn interval(&self, spec: &TargetSpec, categories: &[CategoryName]) -> Duration {
        let default = CategoryName::default_category();
        let periods = categories.iter().filter_map(|category| {
            let written = self.categories.get(category).and_then(super::slots::CategorySlot::period);
            if *category == default { written } else { Some(written.unwrap_or(DEFAULT_PERIOD)) }
        });
        spec.interval.into_iter().chain(periods).min().unwrap_or(DEFAULT_PERIOD)
    }

    /// Names of regions that no key names; only where regions have keys at all.
    fn region_hints(&self, spec: &TargetSpec, problems: &mut Problems) {
        let Some(regions) = spec.regions.as_ref().filter(|_| !self.regions.is_empty()) else { return };
        let known = self.known_regions();
        let at = Path::of("spec").field("regions");
        let hints = regions.iter().enumerate().filter_map(|(n, r)| placement::unknown_region(r, &at.index(n), &known));
        problems.0.extend::<Vec<Problem>>(hints.collect());
    }

    pub(super) fn known_regions(&self) -> std::collections::BTreeSet<&str> {
        self.regions.keys().map(RegionName::as_str).chain([self.settings.region.as_str()]).collect()
    }
}
