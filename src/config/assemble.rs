//! The next catalog from the last one and what changed: indexes are shifted, not counted anew, so that one target's
//! change costs little among ten thousand.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use super::{
    builder::{CatalogBuilder, Dirty},
    faults::Finder,
    problem::{Path, Problem},
    resolve::DEFAULT_PERIOD,
    slots::CategorySlot,
};
use crate::model::{
    Catalog, Category, CategoryName, Fault, Now, Region, RegionName, Service, ServiceName, Target, TargetName,
    catalog::HeldRemoval, spec::RegionSpec,
};

/// Targets that the catalog has to take over; `None`: not in it any more.
type Touched = BTreeMap<TargetName, Option<Arc<Target>>>;

/// Where the old indexes have gone: `GONE` for those that are removed or sorted in anew.
struct Shift(Vec<u32>);

const GONE: u32 = u32::MAX;

impl Shift {
    fn apply(&self, members: &[u32]) -> Vec<u32> {
        let new = |old: &u32| usize::try_from(*old).ok().and_then(|old| self.0.get(old)).copied();
        members.iter().filter_map(new).filter(|index| *index != GONE).collect()
    }
}

impl CatalogBuilder {
    /// Makes everything dirty anew. True when the catalog changed.
    pub(super) fn rebuild(&mut self, now: Now) -> bool {
        self.mark_periods();
        self.mark_region_users();
        let names = mem::take(&mut self.dirty.targets);
        let mut touched: Touched = mem::take(&mut self.dirty.gone).into_iter().map(|name| (name, None)).collect();
        for name in names {
            if let Some(change) = self.resolve(&name, now) {
                touched.insert(name, change);
            }
        }
        if self.dirty.names {
            self.judge_references(now);
        }
        if self.dirty.held {
            self.announce(now);
        }
        let dirty = mem::take(&mut self.dirty);
        self.assemble(touched, &dirty)
    }

    /// A category's period that changed concerns all its targets.
    fn mark_periods(&mut self) {
        let mut changed = BTreeSet::new();
        for name in &self.dirty.categories {
            let period = self.categories.get(name).and_then(CategorySlot::period);
            if self.periods.get(name).copied() != period {
                changed.insert(name.clone());
                match period {
                    Some(period) => self.periods.insert(name.clone(), period),
                    None => self.periods.remove(name),
                };
            }
        }
        if changed.is_empty() {
            return;
        }
        let concerned = self.targets.iter().filter(|(_, slot)| slot.categories.iter().any(|c| changed.contains(c)));
        self.dirty.targets.extend(concerned.map(|(name, _)| name.clone()));
    }

    /// Hints about unknown regions depend on which regions have keys.
    fn mark_region_users(&mut self) {
        if !self.dirty.regions {
            return;
        }
        let users = self.targets.iter().filter(|(_, slot)| slot.spec().is_some_and(|spec| spec.regions.is_some()));
        self.dirty.targets.extend(users.map(|(name, _)| name.clone()));
    }

    fn announce(&mut self, now: Now) {
        let problems: Vec<Problem> = self.removals.announcement().iter().map(|held| self.held_problem(held)).collect();
        self.faults.set("healthcheck", Finder::Removal, &problems, "", now.wall);
    }

    fn held_problem(&self, held: &HeldRemoval) -> Problem {
        let (going, all) = (held.targets.len(), self.targets.len());
        let some: Vec<&str> = held.targets.iter().take(5).map(TargetName::as_str).collect();
        let more = if going > some.len() { ", …" } else { "" };
        let reason = format!(
            "the keys of {going} of {all} targets were removed at once ({}{more}); the removal waits until {}",
            some.join(", "),
            held.until
        );
        Problem::new(&Path::default(), reason, "nothing, where it is meant; otherwise put the keys back before then")
    }

    fn assemble(&mut self, touched: Touched, dirty: &Dirty) -> bool {
        let old = Arc::clone(&self.catalog);
        // Memberships stay where no target came, went, or changed its service or categories.
        let regroup = touched.iter().any(|(name, new)| match (old.target(name.as_str()), new) {
            (Some(old), Some(new)) => old.service != new.service || old.categories != new.categories,
            (None, None) => false,
            _ => true,
        });
        let (targets, shift) = merge(&old.targets, &touched);
        let shift = regroup.then_some(shift);
        let fresh: Vec<(u32, &Arc<Target>)> = if regroup { touched_indexes(&targets, &touched) } else { Vec::new() };
        let mut next = Catalog {
            revision: self.revision,
            region: self.settings.region.clone(),
            categories: self.next_categories(&old, dirty, shift.as_ref(), &fresh),
            services: self.next_services(&old, dirty, shift.as_ref(), &fresh),
            regions: if dirty.regions { self.next_regions() } else { old.regions.clone() },
            targets: Vec::new(),
            cluster_ack: self.cluster_ack.clone(),
            faults: self.next_faults(&old),
            held: if dirty.held { self.removals.announcement() } else { old.held.clone() },
        };
        drop(fresh);
        next.targets = targets;
        let changed = !touched.is_empty()
            || !Arc::ptr_eq(&next.faults, &old.faults)
            || next.held != old.held
            || next.cluster_ack != old.cluster_ack
            || (dirty.regions && next.regions != old.regions)
            || (!dirty.categories.is_empty() && next.categories != old.categories)
            || (!dirty.services.is_empty() && next.services != old.services);
        if changed {
            self.catalog = Arc::new(next);
        }
        changed
    }

    /// The same list again where a fault came and went in one batch.
    fn next_faults(&mut self, old: &Catalog) -> Arc<[Fault]> {
        let next = self.faults.is_changed().then(|| self.faults.take()).filter(|next| *next != old.faults);
        next.unwrap_or_else(|| Arc::clone(&old.faults))
    }

    fn next_categories(
        &self,
        old: &Catalog,
        dirty: &Dirty,
        shift: Option<&Shift>,
        fresh: &[(u32, &Arc<Target>)],
    ) -> BTreeMap<CategoryName, Category> {
        let mut next = old.categories.clone();
        if let Some(shift) = shift {
            next.values_mut().for_each(|category| category.members = shift.apply(&category.members));
        }
        for name in &dirty.categories {
            let slot = self.categories.get(name);
            let known =
                slot.is_some() || self.named_categories.contains(name) || *name == CategoryName::default_category();
            if !known {
                next.remove(name);
                continue;
            }
            let members = next.remove(name).map(|category| category.members).unwrap_or_default();
            next.insert(name.clone(), category(name, slot, members));
        }
        for (index, target) in fresh {
            for name in &target.categories {
                if let Some(category) = next.get_mut(name) {
                    category.members.push(*index);
                }
            }
        }
        if !fresh.is_empty() {
            next.values_mut().for_each(|category| category.members.sort_unstable());
        }
        next
    }

    fn next_services(
        &self,
        old: &Catalog,
        dirty: &Dirty,
        shift: Option<&Shift>,
        fresh: &[(u32, &Arc<Target>)],
    ) -> BTreeMap<ServiceName, Service> {
        let mut next = match shift {
            None => old.services.clone(),
            // Made once, not copied and shifted: there may be thousands.
            Some(shift) => {
                let shifted = |service: &Service| Service {
                    name: service.name.clone(),
                    members: shift.apply(&service.members),
                    spec: Arc::clone(&service.spec),
                    failover: service.failover.clone(),
                };
                old.services.iter().map(|(name, service)| (name.clone(), shifted(service))).collect()
            }
        };
        for (index, target) in fresh {
            let service = next.entry(target.service.clone()).or_insert_with(|| self.service(&target.service));
            let place = service.members.partition_point(|member| member < index);
            service.members.insert(place, *index);
        }
        for name in &dirty.services {
            let members = next.remove(name).map(|service| service.members).unwrap_or_default();
            next.insert(name.clone(), Service { members, ..self.service(name) });
        }
        if shift.is_some() || !dirty.services.is_empty() {
            next.retain(|name, service| !service.members.is_empty() || self.services.contains_key(name));
        }
        next
    }

    fn service(&self, name: &ServiceName) -> Service {
        let slot = self.services.get(name);
        Service {
            name: name.clone(),
            members: Vec::new(),
            spec: slot.and_then(|s| s.in_force.clone()).unwrap_or_else(|| Arc::clone(&self.no_spec)),
            failover: slot.and_then(|s| s.failover.clone()),
        }
    }

    fn next_regions(&self) -> BTreeMap<RegionName, Region> {
        let own = self.settings.region.clone();
        let names: BTreeSet<RegionName> = self.regions.keys().cloned().chain([own]).collect();
        let region = |name: RegionName| {
            let slot = self.regions.get(&name);
            let spec = slot.and_then(|s| s.spec.clone()).unwrap_or_else(|| Arc::new(RegionSpec::default()));
            (name.clone(), Region { name, enabled: slot.and_then(|s| s.enabled).unwrap_or(true), spec })
        };
        names.into_iter().map(region).collect()
    }
}

fn category(name: &CategoryName, slot: Option<&CategorySlot>, members: Vec<u32>) -> Category {
    let (resilient, sticky) = slot.map_or((false, false), CategorySlot::flags);
    let (enabled, enabled_revision) = slot.map_or((true, 0), CategorySlot::enabled);
    let period = slot.and_then(CategorySlot::period).unwrap_or(DEFAULT_PERIOD);
    Category { name: name.clone(), period, resilient, sticky, enabled, enabled_revision, members }
}

/// Sorts the touched targets into the old ones. Touched ones are `GONE` in the shift: they are grouped anew.
fn merge(old: &[Arc<Target>], touched: &Touched) -> (Vec<Arc<Target>>, Shift) {
    let mut next = Vec::with_capacity(old.len().saturating_add(touched.len()));
    let mut shift = Vec::with_capacity(old.len());
    let mut changes = touched.iter().peekable();
    for target in old {
        while let Some((_, new)) = changes.next_if(|(name, _)| **name < target.name) {
            next.extend(new.clone());
        }
        if let Some((_, new)) = changes.next_if(|(name, _)| **name == target.name) {
            shift.push(GONE);
            next.extend(new.clone());
        } else {
            shift.push(u32::try_from(next.len()).unwrap_or(GONE));
            next.push(Arc::clone(target));
        }
    }
    next.extend(changes.filter_map(|(_, new)| new.clone()));
    (next, Shift(shift))
}

fn touched_indexes<'a>(targets: &'a [Arc<Target>], touched: &Touched) -> Vec<(u32, &'a Arc<Target>)> {
    let find = |name: &TargetName| targets.binary_search_by(|t| t.name.cmp(name)).ok();
    touched
        .keys()
        .filter_map(find)
        .filter_map(|index| Some((u32::try_from(index).ok()?, targets.get(index)?)))
        .collect()
}
