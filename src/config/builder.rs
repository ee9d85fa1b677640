//! `CatalogBuilder`: operators' keys in, one immutable `Catalog` out, step by step. It keeps what each key said last and
//! decodes only what changed: `intake` takes the keys
//! in, `resolve` and `assemble` make the catalog's parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    endpoint::{Gateway, GatewayError},
    faults::FaultBook,
    intake::Entry,
    removal::Removals,
    slots::{CategorySlot, RegionSlot, ServiceSlot, TargetSlot, Uses},
};
use crate::model::{Ack, Catalog, CategoryName, Mono, Now, RegionName, ServiceName, TargetName, spec::ServiceSpec};

/// What the command line says about the catalog.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The prefix of all keys, such as `/ft`; only for messages.
    pub root: String,
    /// The region that the catalog is resolved for.
    pub region: RegionName,
    /// Where targets without a URL are reached: `--vulcand`, `host:port`.
    pub gateway: Option<String>,
    /// `--sev-1-apps`: exact names of targets or services.
    pub sev_1_apps: Vec<String>,
    /// `--mass-removal-hold`; zero: never hold.
    pub mass_removal_hold: Duration,
}

/// One key's change. Not `Debug`: the value may hold secrets.
#[derive(Clone, Copy)]
pub struct RawEvent<'a> {
    /// Relative to ROOT, no leading slash.
    pub key: &'a str,
    /// The new value; `None`: deleted.
    pub value: Option<&'a [u8]>,
    /// Revision of the change.
    pub mod_revision: i64,
}

/// What must be made anew.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub targets: BTreeSet<TargetName>,
    pub categories: BTreeSet<CategoryName>,
    pub services: BTreeSet<ServiceName>,
    pub regions: bool,
    pub cluster_ack: bool,
    /// Names that references may mean came or went.
    pub names: bool,
    pub held: bool,
    /// Targets that were in the catalog and have gone.
    pub gone: BTreeSet<TargetName>,
}

/// Builds catalogs from keys, incrementally.
pub struct CatalogBuilder {
    pub(super) settings: Settings,
    pub(super) gateway: Result<Option<Gateway>, GatewayError>,
    pub(super) sev_1: BTreeSet<String>,
    pub(super) revision: i64,
    pub(super) keys: BTreeMap<String, Entry>,
    pub(super) targets: BTreeMap<TargetName, TargetSlot>,
    pub(super) categories: BTreeMap<CategoryName, CategorySlot>,
    pub(super) services: BTreeMap<ServiceName, ServiceSlot>,
    pub(super) regions: BTreeMap<RegionName, RegionSlot>,
    pub(super) cluster_ack: Option<Ack>,
    pub(super) faults: FaultBook,
    pub(super) named_categories: Uses<CategoryName>,
    pub(super) named_services: Uses<ServiceName>,
    pub(super) removals: Removals,
    pub(super) seeded: BTreeMap<String, Arc<[u8]>>,
    pub(super) periods: BTreeMap<CategoryName, Duration>,
    pub(super) dirty: Dirty,
    pub(super) no_spec: Arc<ServiceSpec>,
    pub(super) catalog: Arc<Catalog>,
}

impl CatalogBuilder {
    /// Starts without keys: the catalog knows the category `default` and its own region.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let gateway = settings.gateway.as_deref().filter(|g| !g.trim().is_empty()).map(Gateway::parse).transpose();
        let sev_1 = settings.sev_1_apps.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        let mut builder = Self {
            gateway,
            sev_1,
            revision: 0,
            keys: BTreeMap::new(),
            targets: BTreeMap::new(),
            categories: BTreeMap::new(),
            services: BTreeMap::new(),
            regions: BTreeMap::new(),
            cluster_ack: None,
            faults: FaultBook::new(&settings.root),
            named_categories: Uses::default(),
            named_services: Uses::default(),
            removals: Removals::new(settings.mass_removal_hold),
            seeded: BTreeMap::new(),
            periods: BTreeMap::new(),
            dirty: Dirty::default(),
            no_spec: Arc::default(),
            catalog: Arc::new(Catalog::empty(settings.region.clone())),
            settings,
        };
        builder.dirty.categories.insert(CategoryName::default_category());
        builder.dirty.regions = true;
        builder.rebuild(Now::default());
        builder
    }

    /// The catalog as it is; cheap.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// The revision up to which events were applied; the catalog carries the one of its last change.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Applies one batch of changes, in their order. True when the catalog changed.
    pub fn apply<'a>(&mut self, revision: i64, events: impl IntoIterator<Item = RawEvent<'a>>, now: Now) -> bool {
        self.revision = revision;
        for event in events {
            match event.value {
                Some(raw) => self.put(event.key, raw, event.mod_revision, now),
                None => self.delete(event.key, now),
            }
        }
        self.bury(now);
        self.rebuild(now)
    }

    /// Does what is due, such as a held removal. True when the catalog changed.
    pub fn tick(&mut self, now: Now) -> bool {
        let due = self.removals.take_due(now.mono);
        if due.is_empty() {
            return false;
        }
        self.dirty.held = true;
        for target in due {
            self.drop_target(&target, now);
        }
        self.rebuild(now)
    }

    /// When `tick` should be called.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.removals.next_due()
    }
}

impl std::fmt::Debug for CatalogBuilder {
    /// Counts only: raw values may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogBuilder")
            .field("revision", &self.revision)
            .field("keys", &self.keys.len())
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}
