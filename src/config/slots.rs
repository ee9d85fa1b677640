//! What the keys of one target, category, service or region say, plain and overlaid, before it becomes part of a catalog.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::values::Value;
use crate::model::{
    Ack, CategoryName, RegionName, ServiceName, Target,
    key::{CategoryField, TargetField},
    spec::{RegionSpec, ServiceSpec, TargetSpec},
};

/// Which of two keys for one field: the one below ROOT, or this region's overlay of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Below ROOT.
    Plain,
    /// Below `regions/<this region>/overlay/`; it wins.
    Overlay,
}

/// Two layers of the same fields.
#[derive(Debug, Default)]
pub struct Layered<T> {
    plain: T,
    overlay: T,
}

impl<T> Layered<T> {
    /// One layer's fields.
    pub const fn of(&mut self, layer: Layer) -> &mut T {
        match layer {
            Layer::Plain => &mut self.plain,
            Layer::Overlay => &mut self.overlay,
        }
    }

    /// The most specific field that is set.
    pub fn get<'a, F>(&'a self, field: impl Fn(&'a T) -> Option<F>) -> Option<F> {
        field(&self.overlay).or_else(|| field(&self.plain))
    }
}

/// What a target's keys say.
#[derive(Debug, Default)]
pub struct TargetFields {
    path: Option<Arc<str>>,
    categories: Option<Arc<[CategoryName]>>,
    ack: Option<Option<Ack>>,
    spec: Option<Arc<TargetSpec>>,
}

/// A key that was deleted with its target, and the raw value that was in force: kept while the removal is held.
/// Not `Debug`: the raw value may hold secrets.
pub struct Doomed {
    /// Relative to ROOT.
    pub key: String,
    /// Its last good value.
    pub raw: Option<Arc<[u8]>>,
    /// Its layer.
    pub layer: Layer,
    /// Its field; `None` for an unknown word.
    pub field: Option<TargetField>,
}

/// One target.
#[derive(Default)]
pub struct TargetSlot {
    fields: Layered<TargetFields>,
    /// How many keys name it.
    pub keys: usize,
    /// Keys deleted in this batch, or held.
    pub doomed: Vec<Doomed>,
    /// What it became, if this region probes it.
    pub resolved: Option<Arc<Target>>,
    /// The service that it counts for, probed here or not.
    pub service: Option<ServiceName>,
    /// The categories that it names.
    pub categories: Arc<[CategoryName]>,
}

impl TargetSlot {
    /// Takes over what a key says; `None`: nothing.
    pub fn assign(&mut self, layer: Layer, field: TargetField, value: Option<Value>) {
        let fields = self.fields.of(layer);
        match (field, value) {
            (TargetField::Path, Some(Value::Path(path))) => fields.path = Some(path),
            (TargetField::Categories, Some(Value::Categories(names))) => fields.categories = Some(names),
            (TargetField::Ack, Some(Value::Ack(ack))) => fields.ack = Some(ack),
            (TargetField::Spec, Some(Value::Target(spec))) => fields.spec = Some(spec),
            (TargetField::Path, _) => fields.path = None,
            (TargetField::Categories, _) => fields.categories = None,
            (TargetField::Ack, _) => fields.ack = None,
            (TargetField::Spec, _) => fields.spec = None,
        }
    }

    /// Forgets everything that held keys said: the target came back.
    pub fn come_back(&mut self) {
        self.fields = Layered::default();
        self.doomed.clear();
    }

    /// The path in force.
    #[must_use]
    pub fn path(&self) -> &str {
        self.fields.get(|f| f.path.as_deref()).unwrap_or("/__health")
    }

    /// The categories in force, as written.
    #[must_use]
    pub fn written_categories(&self) -> Option<&Arc<[CategoryName]>> {
        self.fields.get(|f| f.categories.as_ref())
    }

    /// The ack in force.
    #[must_use]
    pub fn ack(&self) -> Option<&Ack> {
        self.fields.get(|f| f.ack.as_ref()).and_then(Option::as_ref)
    }

    /// The spec in force.
    #[must_use]
    pub fn spec(&self) -> Option<&Arc<TargetSpec>> {
        self.fields.get(|f| f.spec.as_ref())
    }
}

/// What a category's keys say.
#[derive(Debug, Default)]
pub struct CategoryFields {
    period: Option<Duration>,
    resilient: Option<bool>,
    sticky: Option<bool>,
    enabled: Option<(bool, i64)>,
}

/// One category.
#[derive(Debug, Default)]
pub struct CategorySlot {
    fields: Layered<CategoryFields>,
    /// How many keys name it.
    pub keys: usize,
}

impl CategorySlot {
    /// Takes over what a key says; `None`: nothing.
    pub fn assign(&mut self, layer: Layer, field: CategoryField, value: Option<Value>, mod_revision: i64) {
        let fields = self.fields.of(layer);
        let flag = match value {
            Some(Value::Flag(flag)) => Some(flag),
            _ => None,
        };
        match field {
            CategoryField::PeriodSeconds => {
                fields.period = match value {
                    Some(Value::Period(period)) => Some(period),
                    _ => None,
                }
            }
            CategoryField::IsResilient => fields.resilient = flag,
            CategoryField::Sticky => fields.sticky = flag,
            CategoryField::Enabled => fields.enabled = flag.map(|flag| (flag, mod_revision)),
        }
    }

    /// The period that a key sets.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        self.fields.get(|f| f.period)
    }

    /// The flags in force: resilient, sticky.
    #[must_use]
    pub fn flags(&self) -> (bool, bool) {
        (self.fields.get(|f| f.resilient).unwrap_or(false), self.fields.get(|f| f.sticky).unwrap_or(false))
    }

    /// The switch, and the modification revision of the key that decided it.
    #[must_use]
    pub fn enabled(&self) -> (bool, i64) {
        self.fields.get(|f| f.enabled).unwrap_or((true, 0))
    }
}

/// One service's keys.
#[derive(Debug, Default)]
pub struct ServiceSlot {
    /// Its spec as written.
    pub spec: Option<Arc<ServiceSpec>>,
    /// Its spec as it counts: without dependencies that run in a circle.
    pub in_force: Option<Arc<ServiceSpec>>,
    /// Manual failover.
    pub failover: Option<RegionName>,
    /// How many keys name it.
    pub keys: usize,
}

/// One region's keys.
#[derive(Debug, Default)]
pub struct RegionSlot {
    /// Its spec.
    pub spec: Option<Arc<RegionSpec>>,
    /// The switch.
    pub enabled: Option<bool>,
    /// How many keys name it.
    pub keys: usize,
}

/// How often a name is used.
#[derive(Debug)]
pub struct Uses<N>(BTreeMap<N, usize>);

impl<N: Ord> Default for Uses<N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<N: Ord + Clone> Uses<N> {
    /// One more use; true when it is the first.
    pub fn add(&mut self, name: &N) -> bool {
        match self.0.get_mut(name) {
            Some(n) => {
                *n = n.saturating_add(1);
                false
            }
            None => self.0.insert(name.clone(), 1).is_none(),
        }
    }

    /// One use less; true when it was the last.
    pub fn remove(&mut self, name: &N) -> bool {
        match self.0.get_mut(name) {
            Some(n) if *n > 1 => {
                *n = n.saturating_sub(1);
                false
            }
            Some(_) => self.0.remove(name).is_some(),
            None => false,
        }
    }

    /// Whether it is used.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, name: &Q) -> bool
    where
        N: std::borrow::Borrow<Q>,
    {
        self.0.contains_key(name)
    }

    /// All names in use.
    pub fn names(&self) -> impl Iterator<Item = &N> {
        self.0.keys()
    }
}
