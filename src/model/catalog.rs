//! The catalog: everything operators wrote, validated, as one immutable value for one region.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Ack, CategoryName, Fault, RegionName, ServiceName, Target, TargetName, Timestamp,
    spec::{RegionSpec, ServiceSpec},
};

/// What is in force in this region. Made by `config`, never changed, swapped whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// The store revision that it reflects.
    pub revision: i64,
    /// The region that it is resolved for.
    pub region: RegionName,
    /// Targets of this region, sorted by name. Other parts address them by their index here.
    pub targets: Vec<Arc<Target>>,
    /// Known categories, `default` among them.
    pub categories: BTreeMap<CategoryName, Category>,
    /// Services: every one that a target of this region names or that has a key.
    pub services: BTreeMap<ServiceName, Service>,
    /// Regions that have a key, and this one.
    pub regions: BTreeMap<RegionName, Region>,
    /// A person has seen the whole cluster's state.
    pub cluster_ack: Option<Ack>,
    /// Refused and doubtful values, sorted by key.
    pub faults: Arc<[Fault]>,
    /// A mass removal that waits.
    pub held: Option<HeldRemoval>,
}

/// A named set of targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// Its name.
    pub name: CategoryName,
    /// Longest time between probes of its targets.
    pub period: Duration,
    /// A service counts as failed only when all its targets have failed.
    pub resilient: bool,
    /// A failure switches it off until an operator switches it on.
    pub sticky: bool,
    /// The manual switch.
    pub enabled: bool,
    /// Modification revision of the key that decided `enabled` (plain or overlay); 0 where none did.
    pub enabled_revision: i64,
    /// Indexes into `Catalog::targets`, ascending.
    pub members: Vec<u32>,
}

/// A service: its targets here, and what was written about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Indexes into `Catalog::targets`, ascending.
    pub members: Vec<u32>,
    /// The written spec.
    pub spec: Arc<ServiceSpec>,
    /// Manual failover to this region.
    pub failover: Option<RegionName>,
}

/// A region as operators wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// False drains it.
    pub enabled: bool,
    /// The written spec.
    pub spec: Arc<RegionSpec>,
}

/// A removal of over half of the targets that is announced before it is applied.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeldRemoval {
    /// Targets that would go.
    pub targets: Vec<TargetName>,
    /// When it was seen.
    pub since: Timestamp,
    /// When it will be applied, unless the targets come back.
    pub until: Timestamp,
}

impl Catalog {
    /// A catalog without targets: what a node has before its store answered.
    #[must_use]
    pub fn empty(region: RegionName) -> Self {
        Self {
            revision: 0,
            region,
            targets: Vec::new(),
            categories: BTreeMap::new(),
            services: BTreeMap::new(),
            regions: BTreeMap::new(),
            cluster_ack: None,
            faults: Arc::from([]),
            held: None,
        }
    }

    /// The index of a target.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.targets.binary_search_by(|t| t.name.as_str().cmp(name)).ok()
    }

    /// A target by name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.index_of(name).and_then(|i| self.targets.get(i))
    }
}
