//! The keys that nodes write (design section 3, the second table), relative to ROOT: text to value and back. Keys that
//! people write are in `model::key`; what the values mean is left to `controller`.

use std::fmt;

use crate::model::{CategoryName, NodeName, RegionName, ServiceName, TargetName};

/// One key that nodes write, relative to ROOT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKey {
    /// `regions/<region>/nodes/<node>`, on the node's session lease.
    Node(RegionName, NodeName),
    /// `regions/<region>/leader`, on the leader's session lease.
    Leader(RegionName),
    /// `regions/<region>/tenure`, on the region's tenure lease.
    Tenure(RegionName),
    /// `regions/<region>/latches/<category>`
    Latch(RegionName, CategoryName),
    /// `regions/<region>/status/targets/<target>`
    TargetStatus(RegionName, TargetName),
    /// `regions/<region>/status/services/<service>`
    ServiceStatus(RegionName, ServiceName),
    /// `regions/<region>/status/catalog`
    CatalogStatus(RegionName),
    /// `regions/<region>/summary`
    Summary(RegionName),
    /// `placement/<service>/<slot>`, on the tenure lease of the region that holds it.
    Slot(ServiceName, u32),
    /// `events/<region>/<id>`: the outbox.
    OutboxEvent(RegionName, String),
}

/// All nodes of a region.
#[must_use]
pub fn nodes_prefix(region: &RegionName) -> String {
    format!("regions/{region}/nodes/")
}

/// All latches of a region.
#[must_use]
pub fn latches_prefix(region: &RegionName) -> String {
    format!("regions/{region}/latches/")
}

/// Everything that a region's leader tells the other nodes: status of targets, services and the catalog.
#[must_use]
pub fn status_prefix(region: &RegionName) -> String {
    format!("regions/{region}/status/")
}

/// Everything of one region, the operators' keys included.
#[must_use]
pub fn region_prefix(region: &RegionName) -> String {
    format!("regions/{region}/")
}

/// The outbox of a region.
#[must_use]
pub fn outbox_prefix(region: &RegionName) -> String {
    format!("events/{region}/")
}

/// Everything of all regions.
pub const REGIONS_PREFIX: &str = "regions/";

/// All slots of all services.
pub const PLACEMENT_PREFIX: &str = "placement/";

impl NodeKey {
    /// Reads a key relative to ROOT; `None` for keys that are not written by nodes, and for names that are none.
    #[must_use]
    pub fn parse(relative: &str) -> Option<Self> {
        let (room, rest) = relative.split_once('/')?;
        let (name, word) = rest.split_once('/')?;
        match room {
            "regions" => parse_region(RegionName::new(name).ok()?, word),
            "placement" => {
                let slot: u32 = word.parse().ok()?;
                // `+1` and `01` are read as 1, but would not be written so.
                (slot.to_string() == word).then_some(Self::Slot(ServiceName::new(name).ok()?, slot))
            }
            "events" if !word.is_empty() => Some(Self::OutboxEvent(RegionName::new(name).ok()?, word.to_owned())),
            _ => None,
        }
    }
}

fn parse_region(region: RegionName, word: &str) -> Option<NodeKey> {
    Some(match word {
        "leader" => NodeKey::Leader(region),
        "tenure" => NodeKey::Tenure(region),
        "summary" => NodeKey::Summary(region),
        "status/catalog" => NodeKey::CatalogStatus(region),
        _ => {
            if let Some(name) = word.strip_prefix("nodes/") {
                NodeKey::Node(region, NodeName::new(name).ok()?)
            } else if let Some(name) = word.strip_prefix("latches/") {
                NodeKey::Latch(region, CategoryName::new(name).ok()?)
            } else if let Some(name) = word.strip_prefix("status/targets/") {
                NodeKey::TargetStatus(region, TargetName::new(name).ok()?)
            } else {
                NodeKey::ServiceStatus(region, ServiceName::new(word.strip_prefix("status/services/")?).ok()?)
            }
        }
    })
}

impl fmt::Display for NodeKey {
    /// The key relative to ROOT.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(region, node) => write!(f, "regions/{region}/nodes/{node}"),
            Self::Leader(region) => write!(f, "regions/{region}/leader"),
            Self::Tenure(region) => write!(f, "regions/{region}/tenure"),
            Self::Latch(region, category) => write!(f, "regions/{region}/latches/{category}"),
            Self::TargetStatus(region, target) => write!(f, "regions/{region}/status/targets/{target}"),
            Self::ServiceStatus(region, service) => write!(f, "regions/{region}/status/services/{service}"),
            Self::CatalogStatus(region) => write!(f, "regions/{region}/status/catalog"),
            Self::Summary(region) => write!(f, "regions/{region}/summary"),
            Self::Slot(service, slot) => write!(f, "placement/{service}/{slot}"),
            Self::OutboxEvent(region, id) => write!(f, "events/{region}/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key;

    const WRITTEN: [&str; 10] = [
        "regions/eu/nodes/a.1",
        "regions/eu/leader",
        "regions/eu/tenure",
        "regions/eu/latches/read",
        "regions/eu/status/targets/foo-1",
        "regions/eu/status/services/foo",
        "regions/eu/status/catalog",
        "regions/eu/summary",
        "placement/foo/0",
        "events/eu/17/3",
    ];

    #[test]
    fn every_node_key_reads_what_it_writes_and_is_no_operators_key() {
        for text in WRITTEN {
            assert_eq!(NodeKey::parse(text).unwrap().to_string(), text);
            assert_eq!(key::parse(text), key::Parsed::Foreign, "{text}");
        }
    }

    #[test]
    fn every_prefix_holds_its_keys_and_no_other_regions() {
        let eu = RegionName::new("eu").unwrap();
        let prefixes = [
            (nodes_prefix(&eu), 1),
            (latches_prefix(&eu), 1),
            (status_prefix(&eu), 3),
            (outbox_prefix(&eu), 1),
            (region_prefix(&eu), 8),
            (REGIONS_PREFIX.to_owned(), 8),
            (PLACEMENT_PREFIX.to_owned(), 1),
        ];
        for (prefix, keys) in prefixes {
            assert_eq!(WRITTEN.iter().filter(|key| key.starts_with(&prefix)).count(), keys, "{prefix}");
            assert!(!"regions/eu2/leader".starts_with(&prefix) || prefix == REGIONS_PREFIX);
        }
    }

    #[test]
    fn operators_keys_and_misspelt_ones_are_not_read() {
        for text in [
            "regions/eu/spec",
            "regions/eu/overlay/healthcheck/x/ack",
            "regions/eu/nodes/",
            "regions/eu/nodes/a/b",
            "regions/e u/leader",
            "regions/eu/status/targets/a b",
            "placement/foo/01",
            "placement/foo/x",
            "healthcheck/foo/path",
            "events/eu/",
            "leader",
            "",
        ] {
            assert_eq!(NodeKey::parse(text), None, "{text}");
        }
    }
}
