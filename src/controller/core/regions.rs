//! What each region's keys say: nodes, leader, summary, targets that are down, latches. Kept as the keys come, made into
//! `model::cluster::Regions` only when they changed.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::{
    controller::{standing::Whom, status::StatusValue},
    model::{
        Catalog, CategoryName, HealthState, NodeName, RegionName, TargetName, Timestamp,
        cluster::{DownTarget, NodeInfo, RegionStatus, Regions, Summary},
    },
    store::{Event, Pair, keys::NodeKey},
};

/// Most targets of a region that are named as down.
const MAX_DOWN: usize = 100;

/// The leader key's value.
#[derive(Deserialize)]
struct LeaderValue {
    node: NodeName,
    #[serde(default)]
    url: String,
}

/// One region's keys.
#[derive(Debug, Default)]
struct Region {
    leader: Option<Whom>,
    nodes: BTreeMap<NodeName, NodeInfo>,
    summary: Option<Summary>,
    seen: Option<Timestamp>,
    down: BTreeMap<TargetName, DownTarget>,
    latched: BTreeMap<CategoryName, ()>,
}

/// All regions' keys.
#[derive(Debug, Default)]
pub(super) struct RegionKeys {
    regions: BTreeMap<RegionName, Region>,
    built: Arc<Regions>,
    changed: bool,
}

fn value<T: serde::de::DeserializeOwned>(event: &Event) -> Option<(T, &Pair)> {
    match event {
        Event::Put(pair) => serde_json::from_slice(&pair.value).ok().map(|value| (value, pair)),
        Event::Delete { .. } => None,
    }
}

/// Puts or removes; a value that cannot be read leaves what was.
fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, event: &Event, read: Option<V>) {
    match (event, read) {
        (Event::Put(_), Some(new)) => drop(map.insert(key, new)),
        (Event::Put(_), None) => {}
        (Event::Delete { .. }, _) => drop(map.remove(&key)),
    }
}

impl RegionKeys {
    /// Takes one change in; true when it changes what a region says.
    pub fn apply(&mut self, key: &NodeKey, event: &Event, now: Timestamp) -> bool {
        let region = match key {
            NodeKey::Node(region, _)
            | NodeKey::Leader(region)
            | NodeKey::Summary(region)
            | NodeKey::Latch(region, _)
            | NodeKey::TargetStatus(region, _) => region,
            _ => return false,
        };
        if matches!(event, Event::Delete { .. }) && !self.regions.contains_key(region) {
            return false;
        }
        let of = self.regions.entry(region.clone()).or_default();
        match key {
            NodeKey::Node(_, node) => set(&mut of.nodes, node.clone(), event, value(event).map(|(info, _)| info)),
            NodeKey::Leader(_) => {
                of.leader = value::<LeaderValue>(event).map(|(leader, pair)| Whom {
                    node: leader.node,
                    url: leader.url,
                    term: pair.create_revision,
                });
            }
            NodeKey::Summary(_) => {
                if let Some((summary, _)) = value(event) {
                    (of.summary, of.seen) = (Some(summary), Some(now));
                } else if matches!(event, Event::Delete { .. }) {
                    (of.summary, of.seen) = (None, None);
                }
            }
            NodeKey::Latch(_, category) => {
                set(&mut of.latched, category.clone(), event, matches!(event, Event::Put(_)).then_some(()));
            }
            NodeKey::TargetStatus(_, target) => {
                let status: Option<StatusValue> = value(event).map(|(status, _)| status);
                match status.filter(|s| s.health == HealthState::Down) {
                    Some(status) => {
                        let down = DownTarget {
                            target: target.clone(),
                            since: status.since,
                            reason: Arc::from(status.reason),
                        };
                        of.down.insert(target.clone(), down);
                    }
                    None => drop(of.down.remove(target)),
                }
            }
            _ => {}
        }
        self.changed = true;
        true
    }

    /// Forgets everything: the store is another one.
    pub fn clear(&mut self) {
        self.regions.clear();
        self.changed = true;
    }

    /// The catalog's regions or switches may have changed.
    pub const fn catalog_changed(&mut self) {
        self.changed = true;
    }

    /// The leader key of a region.
    pub fn leader(&self, region: &RegionName) -> Option<&Whom> {
        self.regions.get(region)?.leader.as_ref()
    }

    /// What a region's leader wrote last.
    pub fn summary(&self, region: &RegionName) -> Option<&Summary> {
        self.regions.get(region)?.summary.as_ref()
    }

    /// A region's nodes.
    pub fn nodes(&self, region: &RegionName) -> Vec<NodeInfo> {
        self.regions.get(region).map(|r| r.nodes.values().cloned().collect()).unwrap_or_default()
    }

    /// As readers see it; made anew only after a change.
    pub fn view(&mut self, catalog: &Catalog) -> Arc<Regions> {
        if std::mem::take(&mut self.changed) {
            let mut regions: Regions = self.regions.iter().map(|(name, of)| (name.clone(), of.status())).collect();
            for (name, region) in &catalog.regions {
                regions.entry(name.clone()).or_default().enabled = region.enabled;
            }
            self.built = Arc::new(regions);
        }
        Arc::clone(&self.built)
    }
}

impl Region {
    fn status(&self) -> RegionStatus {
        let term = self.leader.as_ref().map(|l| l.term).or_else(|| self.summary.as_ref().map(|s| s.term));
        RegionStatus {
            leader: self.leader.as_ref().map(|l| l.node.clone()),
            term: term.unwrap_or(0),
            nodes: self.nodes.values().cloned().collect(),
            summary: self.summary.clone(),
            seen: self.seen,
            down: self.down.values().take(MAX_DOWN).cloned().collect(),
            latched: self.latched.keys().cloned().collect(),
            // A region without a key of its own is switched on.
            enabled: true,
        }
    }
}
