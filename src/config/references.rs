//! References between services, regions and categories: names that nothing else names, and services that need each
//! other in a circle.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    builder::CatalogBuilder,
    faults::Finder,
    placement,
    problem::{Path, Problem, Problems},
};
use crate::model::{CategoryName, Now, ServiceName, spec::ServiceSpec};

impl CatalogBuilder {
    /// Judges all references anew. A service in a circle is in force without its dependencies: the same in every region.
    pub(super) fn judge_references(&mut self, now: Now) {
        let specs = self.services.iter().filter_map(|(name, slot)| slot.spec.as_deref().map(|spec| (name, spec)));
        let cycles = placement::cycles(specs);
        let found = self.unknown_names(&cycles);
        let keys: BTreeSet<&String> = found.iter().map(|(key, _)| key).collect();
        for old in self.faults.keys_of(Finder::References) {
            if !keys.contains(&old) {
                self.faults.set(&old, Finder::References, &[], "", now.wall);
            }
        }
        for (key, problems) in &found {
            self.faults.set(key, Finder::References, &problems.0, "", now.wall);
        }
        for (name, slot) in &mut self.services {
            let spec = match &slot.spec {
                Some(spec) if cycles.contains_key(name) => {
                    Some(Arc::new(ServiceSpec { depends_on: None, ..ServiceSpec::clone(spec) }))
                }
                other => other.clone(),
            };
            if slot.in_force != spec {
                slot.in_force = spec;
                self.dirty.services.insert(name.clone());
            }
        }
    }

    fn unknown_names(&self, cycles: &std::collections::BTreeMap<ServiceName, String>) -> Vec<(String, Problems)> {
        let known_service = |name: &str| self.named_services.contains(name) || self.services.contains_key(name);
        let known_category = |name: &str| {
            name == CategoryName::default_category().as_str()
                || self.named_categories.contains(name)
                || self.categories.contains_key(name)
        };
        let all_services =
            || self.named_services.names().chain(self.services.keys()).map(ToString::to_string).collect::<Vec<_>>();
        let regions = self.known_regions();
        let judge_regions = !self.regions.is_empty();
        let at = Path::of("spec");
        let mut found = Vec::new();
        for (name, slot) in &self.services {
            if let Some(spec) = &slot.spec {
                let mut problems = placement::unknown_names(spec, &at, &known_service, &all_services, &regions);
                if !judge_regions {
                    problems.0.retain(|p| p.level == crate::model::FaultLevel::Fault);
                }
                if let Some(way) = cycles.get(name) {
                    let reason = format!("services need each other in a circle: {way}; the dependencies are left out");
                    problems.add(&at.field("depends_on"), reason, "dependencies without a circle, or require: soft");
                }
                found.push((format!("services/{name}/spec"), problems));
            }
            if let Some(region) = slot.failover.as_ref().filter(|_| judge_regions) {
                let hint = placement::unknown_region(region.as_str(), &Path::of("failover"), &regions);
                found.push((format!("services/{name}/failover"), Problems(hint.into_iter().collect::<Vec<Problem>>())));
            }
        }
        for (name, slot) in &self.regions {
            if let Some(spec) = &slot.spec {
                let problems = placement::unknown_minimum(spec, &at, &known_service, &known_category);
                found.push((format!("regions/{name}/spec"), problems));
            }
        }
        found.retain(|(_, problems)| !problems.0.is_empty());
        found
    }
}
