//! What a node knows of its cluster: who leads, who is there, how fresh what it follows is, and what each region says of
//! itself (design sections 3, 4.1 and 4.4). How it comes to know is left to `store`, `replication` and `controller`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{NodeName, RegionName, Role, StoreState, Timestamp};

/// `GET /api/v1/cluster`: this node's region as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// The region.
    pub region: RegionName,
    /// This node.
    pub node: NodeName,
    /// Its role.
    pub role: Role,
    /// An autonomous node that led last and goes on in its old term (design section 4.5).
    pub static_leader: bool,
    /// The highest term seen.
    pub term: i64,
    /// Who leads, where one is known.
    pub leader: Option<LeaderStatus>,
    /// Changes of the leader that this node has seen since it started.
    pub transitions: u64,
    /// Why leadership last changed, or why this node does not lead; one line.
    pub last_reason: Arc<str>,
    /// Nodes of the region: those that the store shows, or without it those known last.
    pub nodes: Vec<NodeInfo>,
    /// Where this node's results come from.
    pub results: ResultsFrom,
}

/// The leader of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderStatus {
    /// Its name.
    pub node: NodeName,
    /// Where other nodes reach it.
    pub url: String,
    /// Since when this node knows it as leader.
    pub since: Timestamp,
}

/// One node, from its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub node: NodeName,
    /// Where other nodes reach it.
    pub url: String,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// When its process started.
    #[serde(default)]
    pub started: Timestamp,
}

/// Where the results come from that a node answers with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum ResultsFrom {
    /// Nothing yet, or what was kept on disk.
    #[default]
    Kept,
    /// Its own probes.
    Own {
        /// Nodes that follow its stream.
        followers: usize,
    },
    /// The leader's stream.
    Stream {
        /// Who sends it.
        node: NodeName,
        /// Since when it is connected.
        since: Timestamp,
        /// The last frame's number.
        seq: u64,
        /// The sender has lost the store.
        degraded: bool,
    },
    /// The store alone: verdicts, no details.
    Store {
        /// Why there is no stream; one line.
        reason: Arc<str>,
    },
}

/// The value of `ROOT/regions/<region>/summary`, written by the region's leader every 5 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the value.
    #[serde(default = "one")]
    pub v: u32,
    /// Who wrote it.
    pub node: NodeName,
    /// Its term.
    pub term: i64,
    /// The leader's wall clock when it was written: the cluster's `now`.
    pub now: Timestamp,
    /// When the newest result came in; none before the first.
    #[serde(default)]
    pub probed_at: Option<Timestamp>,
    /// The region can take traffic: it is enabled and `default` is good to go.
    pub viable: bool,
    /// Targets that are up.
    pub up: u32,
    /// Targets that are down.
    pub down: u32,
    /// Targets that are unknown.
    pub unknown: u32,
    /// Up to which minute Graphite has every point of this region.
    #[serde(default)]
    pub graphite_mark: Option<Timestamp>,
}

const fn one() -> u32 {
    1
}

/// One region as its keys show it: `GET /api/v1/regions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionStatus {
    /// Who leads it.
    pub leader: Option<NodeName>,
    /// Its term: the leader key's create revision, or the summary's where nobody leads.
    pub term: i64,
    /// Its nodes.
    pub nodes: Vec<NodeInfo>,
    /// What its leader wrote last.
    pub summary: Option<Summary>,
    /// The age at which the summary was seen is counted from here, on this node's wall clock.
    pub seen: Option<Timestamp>,
    /// Targets that its leader wrote as down, with reasons; sorted, at most 100.
    pub down: Vec<DownTarget>,
    /// Its latched categories.
    pub latched: Vec<super::CategoryName>,
    /// An operator's switch: false drains it.
    pub enabled: bool,
}

/// One target that a region's leader wrote as down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DownTarget {
    /// The target.
    pub target: super::TargetName,
    /// Since when.
    pub since: Timestamp,
    /// Why; hostile text.
    pub reason: Arc<str>,
}

/// All regions that keys name, this node's own among them.
pub type Regions = BTreeMap<RegionName, RegionStatus>;

/// What another node says of itself at `/api/v1/node`, as far as life without the store needs it (design section 4.5).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PeerNode {
    /// Its name.
    pub node: NodeName,
    /// Its region.
    pub region: RegionName,
    /// Its role.
    pub role: Role,
    /// The highest term it has seen.
    pub term: i64,
    /// Whom it takes for the leader.
    #[serde(default)]
    pub leader: Option<NodeName>,
    /// Where that one is.
    #[serde(default)]
    pub leader_url: Option<String>,
    /// In which term that one leads; it may lie below the highest term seen. None: an earlier version, which does not say.
    #[serde(default)]
    pub leader_term: Option<i64>,
    /// Whether its store answers.
    pub store: StoreState,
    /// It led last, and goes on in its old term.
    #[serde(default)]
    pub static_leader: bool,
}

impl ClusterStatus {
    /// Before anything is known.
    #[must_use]
    pub fn unknown(region: RegionName, node: NodeName) -> Self {
        Self {
            region,
            node,
            role: Role::Starting,
            static_leader: false,
            term: 0,
            leader: None,
            transitions: 0,
            last_reason: Arc::from("the store has not answered yet"),
            nodes: Vec::new(),
            results: ResultsFrom::default(),
        }
    }
}
