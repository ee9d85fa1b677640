//! The catalog as one document: what files, `apply -f`, `get catalog` and `/api/v1/catalog` read and write.
//! It is the same schema as the keys: `config::document` turns one into the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Ack,
    spec::{RegionSpec, ServiceSpec, TargetSpec},
};

/// `{"v": 1, "targets": {…}, "categories": {…}, "services": {…}, "regions": {…}, "cluster_ack"}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Version of the value (1); optional in what people write.
    pub v: Option<u32>,
    /// Targets by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, TargetDocument>,
    /// Categories by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub categories: BTreeMap<String, CategoryDocument>,
    /// Services by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceDocument>,
    /// Regions by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, RegionDocument>,
    /// The cluster ack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ack: Option<AckDocument>,
}

/// A text or the JSON form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AckDocument {
    /// Plain text (FT).
    Text(String),
    /// With owner and expiry.
    Full(Ack),
}

/// A target: its keys `path`, `categories`, `ack`, and the fields of its spec beside them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetDocument {
    /// Health path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
    /// The ack. Absent means: leave as it is (acks belong to operators, not to the file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckDocument>,
    /// The rest of the schema. (Unknown fields are refused by `config::document`, serde cannot with `flatten`.)
    #[serde(flatten)]
    pub spec: TargetSpec,
}

/// A category's keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CategoryDocument {
    /// Seconds between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<u64>,
    /// Whole services fail, not single targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_resilient: Option<bool>,
    /// A failure switches it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<bool>,
    /// The switch. Absent means: leave as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// A service's keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceDocument {
    /// Manual failover to this region. Absent means: leave as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<String>,
    /// The fields of its spec.
    #[serde(flatten)]
    pub spec: ServiceSpec,
}

/// A region's keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegionDocument {
    /// False drains it. Absent means: leave as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Overlaid keys (relative to ROOT) and their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overlay: BTreeMap<String, String>,
    /// The fields of its spec.
    #[serde(flatten)]
    pub spec: RegionSpec,
}
